// Package certstore holds the certificates that the configuration names: their
// chains, and the way to the private keys, which are on the HSM or, sealed by
// the vault, in the configuration.
//
// A [Store] is what the data plane has of them. It is made from a configuration and never changes; another
// configuration makes another store. It is made without asking the key
// provider anything, so that a gateway starts while its HSM is away, and an
// Entry looks its key up at each use, so that it works as soon as the HSM is
// back.
package certstore

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"

	"moongate/internal/gw/config"
	"moongate/internal/gw/keys"
)

// State is how a certificate's private key stands.
type State string

const (
	Locked      State = "locked"      // on the HSM, and found there
	Software    State = "software"    // here, sealed, and it opens
	Unreadable  State = "unreadable"  // here, and it does not open, or is another certificate's
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
// provider's where the configuration says that they are on the HSM. Software
// keys need a Keys for a provider; with another they are Unreadable. It relies
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
		e := &Entry{Name: c.Name, Chain: c.Chain, OnHSM: c.OnHSM, provider: provider}
		switch {
		case c.OnHSM:
		case c.PrivateKey != "":
			maker, can := provider.(softwareProvider)
			if !can {
				maker = &Keys{} // which says that there is no vault
			}
			e.provider = maker.software(c.PrivateKey, e.Leaf().PublicKey)
		default:
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
	case err == nil && e.OnHSM:
		return Locked, nil
	case err == nil:
		return Software, nil
	case errors.Is(err, errUnreadable):
		return Unreadable, nil
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
	OnHSM bool // its private key is; otherwise it is here, or there is none

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

// TLS returns the certificate for a server of the gateway's own, its key bound
// to no handshake.
func (e *Entry) TLS(ctx context.Context) (*tls.Certificate, error) {
	key, err := e.Key(ctx)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: e.Presented(), PrivateKey: key.Bind(context.Background()), Leaf: e.Leaf()}, nil
}

// CheckSoftware opens every software key, so that one that does not open is
// found when it is committed and not in a handshake.
func (s *Store) CheckSoftware(ctx context.Context) error {
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(s.entries)) {
		e := s.entries[name]
		if _, is := e.provider.(*software); !is {
			continue
		}
		if _, err := e.Key(ctx); err != nil {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
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
