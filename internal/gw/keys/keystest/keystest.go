// Package keystest is a keys.Provider over keys in memory, for tests: real
// keys that make real signatures, behind a provider that can go away, come
// back, and hang.
package keystest

import (
	"context"
	"crypto"
	"crypto/rsa"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"moongate/internal/gw/flow"
	"moongate/internal/gw/keys"
)

// Provider holds keys. The zero value holds none and is there.
type Provider struct {
	uses atomic.Int64
	away atomic.Bool
	hang atomic.Bool
	// broken: what Status does not know of yet.
	broken atomic.Bool

	mu   sync.Mutex
	held []crypto.Signer // guarded by mu
	gate chan struct{}   // guarded by mu; uses wait for it, if not nil
}

// Add gives the provider keys.
func (p *Provider) Add(list ...crypto.Signer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = append(p.held, list...)
}

// SetAway makes Status say that the provider is away, and every call fail at
// once with keys.ErrUnavailable, or not. A provider that hangs too waits first,
// as a network client that tries to connect again does.
func (p *Provider) SetAway(away bool) { p.away.Store(away) }

// SetBroken makes every use of a key fail at once with keys.ErrUnavailable, or
// not, while Status still says that the provider is there.
func (p *Provider) SetBroken(broken bool) { p.broken.Store(broken) }

// SetHang makes every use of a key wait for the end of its context, or not.
func (p *Provider) SetHang(hang bool) { p.hang.Store(hang) }

// Hold makes uses wait until release is called.
func (p *Provider) Hold() (release func()) {
	gate := make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate = gate
	return sync.OnceFunc(func() {
		p.mu.Lock()
		p.gate = nil
		p.mu.Unlock()
		close(gate)
	})
}

// Uses is the number of signatures and decryptions that were begun.
func (p *Provider) Uses() int64 { return p.uses.Load() }

func (p *Provider) Key(_ context.Context, pub crypto.PublicKey) (keys.Key, error) {
	if err := p.reach(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, held := range p.held {
		if same, ok := held.Public().(interface{ Equal(crypto.PublicKey) bool }); ok && same.Equal(pub) {
			return key{p, held}, nil
		}
	}
	return nil, fmt.Errorf("looking in memory: %w", keys.ErrNotFound)
}

func (p *Provider) Status() keys.Status {
	if p.away.Load() {
		return keys.Status{Stage: "tcp", Cause: "the test took the provider away"}
	}
	return keys.Status{Ready: true}
}

func (p *Provider) reach() error {
	if p.away.Load() && !p.hang.Load() {
		return fmt.Errorf("%w: the test took the provider away", keys.ErrUnavailable)
	}
	return nil
}

// begin counts a use and waits as long as the test wants.
func (p *Provider) begin(ctx context.Context) error {
	p.uses.Add(1)
	if err := p.reach(); err != nil {
		return err
	}
	if p.broken.Load() {
		return fmt.Errorf("%w: the test broke the provider", keys.ErrUnavailable)
	}
	p.mu.Lock()
	gate := p.gate
	p.mu.Unlock()
	if p.hang.Load() {
		<-ctx.Done()
	} else if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", keys.ErrUnavailable, err)
	}
	return nil
}

type key struct {
	provider *Provider
	private  crypto.Signer
}

func (k key) Public() crypto.PublicKey { return k.private.Public() }

func (k key) Bind(ctx context.Context) crypto.Signer {
	bound := signer{ctx, k}
	if _, isRSA := k.private.(*rsa.PrivateKey); isRSA {
		return decrypter{bound}
	}
	return bound
}

type signer struct {
	ctx context.Context
	key key
}

func (s signer) Public() crypto.PublicKey { return s.key.Public() }

func (s signer) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	defer measure(s.ctx)()
	if err := s.key.provider.begin(s.ctx); err != nil {
		return nil, err
	}
	return s.key.private.Sign(rand, digest, opts)
}

type decrypter struct{ signer }

func (d decrypter) Decrypt(rand io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	defer measure(d.ctx)()
	if err := d.key.provider.begin(d.ctx); err != nil {
		return nil, err
	}
	return d.key.private.(crypto.Decrypter).Decrypt(rand, ciphertext, opts)
}

func measure(ctx context.Context) func() {
	began := time.Now()
	return func() { flow.MeterFrom(ctx).Add(time.Since(began)) }
}
