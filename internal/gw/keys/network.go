package keys

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"moongate/client"
	"moongate/internal/gw/flow"
)

// Network returns the Link to the keys on a network HSM, or on a group of them,
// which closes the HSM. Each call's time goes to the context's flow.Meter, whose ID, if it
// has one, becomes the operation id in the HSM's audit.
func Network(h HSM) Link {
	return &network{client: h, found: map[publicID]client.Key{}}
}

// publicID is the SHA-256 of a public key's SubjectPublicKeyInfo.
type publicID [sha256.Size]byte

type network struct {
	client HSM

	mu sync.Mutex
	// found are the keys that were looked up; guarded by mu. What was not
	// found is looked up again each time, since it may have been made since.
	found map[publicID]client.Key
}

func (n *network) Key(ctx context.Context, pub crypto.PublicKey) (Key, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("looking up a key: %w: %w", ErrNotFound, err)
	}
	k := &networkKey{network: n, id: sha256.Sum256(spki), public: pub}
	if _, err := k.find(ctx); err != nil {
		return nil, err
	}
	return k, nil
}

func (n *network) Ready(ctx context.Context) error {
	if err := n.client.Ready(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

func (n *network) Reset(ctx context.Context) error {
	if err := n.client.Reset(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

func (n *network) Close() error { return n.client.Close() }

func (n *network) Status() Status {
	s := n.client.Status()
	status := Status{Ready: s.Connected, Since: s.Since}
	if s.Connected {
		return status
	}
	status.Stage = string(s.Stage)
	status.Cause = "not connected to the HSM yet"
	if s.Err != nil {
		status.Cause = s.Err.Error()
	}
	return status
}

// networkKey is a key of which only the public half is certain: its object on
// the HSM may be replaced, and is then looked up again.
type networkKey struct {
	network *network
	id      publicID
	public  crypto.PublicKey
}

func (k *networkKey) Public() crypto.PublicKey { return k.public }

func (k *networkKey) Bind(ctx context.Context) crypto.Signer {
	bound := boundKey{ctx: ctx, key: k}
	if _, isRSA := k.public.(*rsa.PublicKey); isRSA {
		return boundRSA{bound}
	}
	return bound
}

// find returns the key's object, from memory if it is known.
func (k *networkKey) find(ctx context.Context) (client.Key, error) {
	k.network.mu.Lock()
	known := k.network.found[k.id]
	k.network.mu.Unlock()
	if known != nil {
		return known, nil
	}
	var found client.Key
	err := measure(ctx, func(ctx context.Context) error {
		var err error
		found, err = k.network.client.FindKeyByPublic(ctx, k.public)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("looking up a key: %w", classify(ctx, err))
	}
	k.network.mu.Lock()
	defer k.network.mu.Unlock()
	k.network.found[k.id] = found
	return found, nil
}

// forget drops an object that is gone, unless it was replaced already.
func (k *networkKey) forget(gone client.Key) {
	k.network.mu.Lock()
	defer k.network.mu.Unlock()
	if k.network.found[k.id] == gone {
		delete(k.network.found, k.id)
	}
}

// use runs one operation; when the object is gone, once more on the one that
// has taken its place.
func (k *networkKey) use(ctx context.Context, doing string, operation func(client.Key) ([]byte, error)) ([]byte, error) {
	for again := false; ; again = true {
		object, err := k.find(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", doing, err)
		}
		var out []byte
		err = measure(ctx, func(ctx context.Context) error {
			var err error
			out, err = operation(object.WithContext(ctx))
			return err
		})
		if err == nil {
			return out, nil
		}
		err = classify(ctx, err)
		if !errors.Is(err, ErrNotFound) || again {
			return nil, fmt.Errorf("%s: %w", doing, err)
		}
		k.forget(object)
	}
}

// boundKey is a key under a context.
type boundKey struct {
	ctx context.Context // of the handshake that the key is used for
	key *networkKey
}

func (b boundKey) Public() crypto.PublicKey { return b.key.public }

func (b boundKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return b.key.use(b.ctx, "signing", func(k client.Key) ([]byte, error) { return k.Sign(rand, digest, opts) })
}

// boundRSA is a boundKey that decrypts too.
type boundRSA struct{ boundKey }

func (b boundRSA) Decrypt(rand io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return b.key.use(b.ctx, "decrypting", func(k client.Key) ([]byte, error) {
		decrypter, is := k.(crypto.Decrypter)
		if !is {
			return nil, fmt.Errorf("key %v does not decrypt", k.ID())
		}
		return decrypter.Decrypt(rand, ciphertext, opts)
	})
}

// measure runs a call of the HSM's under the flow's id and adds its time.
func measure(ctx context.Context, call func(context.Context) error) error {
	meter := flow.MeterFrom(ctx)
	if meter.ID != (flow.ID{}) {
		ctx = client.WithOperation(ctx, client.OperationID(meter.ID))
	}
	began := time.Now()
	defer func() { meter.Add(time.Since(began)) }()
	return call(ctx)
}

// classify wraps the client's errors in those of this package. What the
// caller's own end caused, and what the HSM says of a single request, stays as
// it is.
func classify(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	switch client.CodeOf(err) {
	case client.ErrKeyHandle, client.ErrObjectNotFound:
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case client.ErrBusy, client.ErrAuditFailed, client.ErrNotLoggedIn, client.ErrDeadline:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if client.Unavailable(err) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}
