// Package keys is the gateway's one view of private keys that it does not
// hold: a key is asked for by its public half and used through crypto.Signer
// and crypto.Decrypter, each bound to a context, since the work is done on a
// network HSM and must end when the handshake does.
package keys

import (
	"context"
	"crypto"
	"errors"
	"time"

	"moongate/internal/gw/flow"
)

// Provider finds keys. It is safe for concurrent use.
type Provider interface {
	// Key returns the private key that belongs to pub (*rsa.PublicKey or
	// *ecdsa.PublicKey). The error wraps ErrUnavailable when the provider
	// cannot be asked now, and ErrNotFound when it answered that it has no
	// such key.
	Key(ctx context.Context, pub crypto.PublicKey) (Key, error)
	// Status tells whether keys can be used now. It never waits.
	Status() Status
}

// Key is a private key elsewhere. It is safe for concurrent use, and stays
// valid when the connection to its provider comes and goes.
type Key interface {
	Public() crypto.PublicKey
	// Bind returns the key for use under ctx: its deadline ends the call, and
	// its flow's operation id goes into the provider's audit. The value is
	// also a crypto.Decrypter when the key is RSA. Errors wrap ErrUnavailable
	// when the provider could not be reached.
	Bind(ctx context.Context) crypto.Signer
}

var (
	// ErrUnavailable: the provider cannot be reached or does not let us in.
	ErrUnavailable = flow.ErrUnavailable
	// ErrNotFound: the provider holds no such key.
	ErrNotFound = errors.New("key not found")
)

// Status is a provider's state.
type Status struct {
	Ready bool
	// Stage is where it fails when it is not ready: name, tcp, tls,
	// registered, assigned, login.
	Stage string
	// Cause says why in a sentence, with the fix.
	Cause string
	Since time.Time
}
