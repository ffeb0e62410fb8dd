package inbound

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"moongate/internal/gw/certstore"
	"moongate/internal/gw/flow"
)

// boundKey is a certificate's private key for one handshake. It is looked up
// when it is used: a handshake that resumes a session never does.
type boundKey struct {
	ctx     context.Context // of the handshake
	entry   *certstore.Entry
	timeout time.Duration
}

func (k boundKey) Public() crypto.PublicKey { return k.entry.Leaf().PublicKey }

func (k boundKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.use(func(key crypto.Signer) ([]byte, error) { return key.Sign(rand, digest, opts) })
}

// boundDecrypter is the boundKey of an RSA certificate that crypto/tls may use
// for RSA key exchange.
type boundDecrypter struct{ boundKey }

// Decrypt passes on what crypto/tls asks with: the length of the premaster
// secret, so that the HSM answers wrong padding with random bytes and nobody
// becomes an oracle. What is no ciphertext of the key at all, which anybody can
// see, is the client's fault and does not reach the HSM.
func (k boundDecrypter) Decrypt(rand io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	public := k.Public().(*rsa.PublicKey)
	if len(ciphertext) != public.Size() || new(big.Int).SetBytes(ciphertext).Cmp(public.N) >= 0 {
		return nil, errors.New("the client's premaster secret is not encrypted under the certificate's key")
	}
	return k.use(func(key crypto.Signer) ([]byte, error) {
		decrypter, can := key.(crypto.Decrypter)
		if !can {
			return nil, errors.New("the key does not decrypt")
		}
		return decrypter.Decrypt(rand, ciphertext, opts)
	})
}

// use runs a key operation under the handshake's context and the deadline, and
// leaves its failure with the flow's meter.
func (k boundKey) use(operation func(crypto.Signer) ([]byte, error)) ([]byte, error) {
	timeout := k.timeout
	if k.entry.Ready() != nil {
		timeout = min(timeout, awayTimeout)
	}
	ctx, cancel := context.WithTimeout(k.ctx, timeout)
	defer cancel()
	key, err := k.entry.Key(ctx)
	if err != nil {
		return nil, k.fail(err)
	}
	out, err := operation(key.Bind(ctx))
	if err != nil {
		return nil, k.fail(fmt.Errorf("key of certificate %q: %w", k.entry.Name, err))
	}
	return out, nil
}

func (k boundKey) fail(err error) error {
	failure := hsmFailure(err)
	flow.MeterFrom(k.ctx).Fail(failure)
	return failure
}
