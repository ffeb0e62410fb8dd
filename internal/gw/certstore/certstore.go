// Package certstore holds the certificates that the configuration names: their
// chains, and the way to the private keys, which are elsewhere.
//
// A store is made from a configuration and never changes; another
// configuration makes another store. It is made without asking the key
// provider anything, so that a gateway starts while its HSM is away, and an
// Entry looks its key up at each use, so that it works as soon as the HSM is
// back.
package certstore

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"moongate/internal/gw/config"
	"moongate/internal/gw/keys"
)

// State is how a certificate's private key stands.
type State string

const (
	Locked      State = "locked"      // on the HSM, and found there
	Missing     State = "missing"     // the HSM has no such key
	Unavailable State = "unavailable" // the HSM cannot be asked now
	NoKey       State = "no-key"      // the configuration names none
)

// Store is the certificates of one configuration, by name. It is safe for
// concurrent use.
type Store struct {
	entries map[string]*Entry
}

// New returns the store of a configuration's certificates, whose keys are
// provider's where the configuration says that they are on the HSM. It relies
// on the configuration's own checks: every chain is one, and names differ.
func New(list []config.Certificate, provider keys.Provider) (*Store, error) {
	s := &Store{entries: make(map[string]*Entry, len(list))}
	for _, c := range list {
		if len(c.Chain) == 0 {
			return nil, fmt.Errorf("certificate %q: it is empty", c.Name)
		}
		if _, twice := s.entries[c.Name]; twice {
			return nil, fmt.Errorf("certificate %q: there are two of the name", c.Name)
		}
		e := &Entry{Name: c.Name, Chain: c.Chain, provider: provider}
		if !c.OnHSM {
			e.provider = noKeys{}
		}
		s.entries[c.Name] = e
	}
	return s, nil
}

// Certificate returns the certificate of the name.
func (s *Store) Certificate(name string) (*Entry, error) {
	e, found := s.entries[name]
	if !found {
		return nil, fmt.Errorf("no certificate is named %q", name)
	}
	return e, nil
}

// State tells how the private key of the named certificate stands. It asks the
// provider, under ctx.
func (s *Store) State(ctx context.Context, name string) (State, error) {
	e, err := s.Certificate(name)
	if err != nil {
		return "", err
	}
	switch _, err := e.Key(ctx); {
	case err == nil:
		return Locked, nil
	case errors.Is(err, errNoKey):
		return NoKey, nil
	case errors.Is(err, keys.ErrNotFound):
		return Missing, nil
	default:
		return Unavailable, nil
	}
}

// Entry is one certificate. It is safe for concurrent use.
type Entry struct {
	Name string
	// Chain is the certificate and its issuers, as configured; read only.
	Chain []*x509.Certificate

	provider keys.Provider
}

// Leaf returns the certificate itself.
func (e *Entry) Leaf() *x509.Certificate { return e.Chain[0] }

// Key looks the certificate's private key up. The error is that of
// keys.Provider, with the certificate's name.
func (e *Entry) Key(ctx context.Context) (keys.Key, error) {
	key, err := e.provider.Key(ctx, e.Leaf().PublicKey)
	if err != nil {
		return nil, fmt.Errorf("private key of certificate %q: %w", e.Name, err)
	}
	return key, nil
}

// Ready tells, without waiting, why the private key cannot be used now: nil,
// or an error that wraps keys.ErrUnavailable and has the provider's cause.
func (e *Entry) Ready() error {
	status := e.provider.Status()
	if status.Ready {
		return nil
	}
	return fmt.Errorf("private key of certificate %q: %w: %s", e.Name, keys.ErrUnavailable, status.Cause)
}

// Presented returns the chain in DER as it is sent to a client: without a
// self-signed root, which the client has or will not believe (RFC 8446,
// section 4.4.2), unless it is the certificate itself.
func (e *Entry) Presented() [][]byte {
	list := [][]byte{e.Leaf().Raw}
	for _, c := range e.Issuers() {
		list = append(list, c.Raw)
	}
	return list
}

// Issuers returns what follows the certificate in its chain, without a
// self-signed root.
func (e *Entry) Issuers() []*x509.Certificate {
	var list []*x509.Certificate
	for _, c := range e.Chain[1:] {
		if !IsRoot(c) {
			list = append(list, c)
		}
	}
	return list
}

// IsRoot reports whether a certificate is its own issuer.
func IsRoot(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) &&
		(len(c.AuthorityKeyId) == 0 || bytes.Equal(c.AuthorityKeyId, c.SubjectKeyId))
}
