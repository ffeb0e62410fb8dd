package hsmlink

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"moongate/client"
	"moongate/internal/durable"
	"moongate/internal/gw/vault"
)

// identities are the gateway's own certificates with their keys.
type identities struct {
	current tls.Certificate
	next    *tls.Certificate // made by a renewal; nil without one
}

// fingerprint is that of a pair's certificate.
func fingerprint(pair *tls.Certificate) string { return client.Fingerprint(pair.Certificate[0]) }

// find returns the pair of that fingerprint, or else the current one.
func (i *identities) find(of string) *tls.Certificate {
	if i.next != nil && fingerprint(i.next) == of {
		return i.next
	}
	return &i.current
}

// identities returns the gateway's certificates, which nobody alters; from memory
// unless the files have changed. The error matches fs.ErrNotExist where there is
// none yet.
func (s *store) identities() (*identities, error) {
	now := s.signature(certificateFile, keyFile, nextCertificate, nextKey)
	s.mu.Lock()
	known, of := s.own, s.ownOf
	s.mu.Unlock()
	if known != nil && of == now {
		return known, nil
	}
	all, err := s.readIdentities()
	if err != nil {
		return nil, err
	}
	now = s.signature(certificateFile, keyFile, nextCertificate, nextKey) // reading may have sealed one
	s.mu.Lock()
	defer s.mu.Unlock()
	s.own, s.ownOf = all, now
	return all, nil
}

// signature tells files from what they were before.
func (s *store) signature(names ...string) string {
	text := ""
	for _, name := range names {
		info, err := os.Stat(s.path(name))
		if err != nil {
			text += "none;"
			continue
		}
		var inode uint64
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			inode = stat.Ino
		}
		text += fmt.Sprintf("%d %d %d;", inode, info.Size(), info.ModTime().UnixNano())
	}
	return text
}

func (s *store) readIdentities() (*identities, error) {
	current, err := s.pair(certificateFile, keyFile)
	if err != nil {
		// The end of a renewal replaces the key, then the certificate.
		finished, failed := s.pair(nextCertificate, keyFile)
		if failed != nil {
			return nil, fmt.Errorf("the gateway's certificate for HSMs: %w", err)
		}
		if err := durable.Rename(s.path(nextCertificate), s.path(certificateFile)); err != nil {
			return nil, fmt.Errorf("finishing the renewal of the gateway's certificate for HSMs: %w", err)
		}
		return &identities{current: finished}, nil
	}
	all := &identities{current: current}
	next, err := s.pair(nextCertificate, nextKey)
	switch {
	case err == nil:
		all.next = &next
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("the gateway's next certificate for HSMs: %w; remove %s and %s to give the renewal up", err, s.path(nextCertificate), s.path(nextKey))
	}
	return all, nil
}

// pair reads a certificate with its key.
func (s *store) pair(certificate, key string) (tls.Certificate, error) {
	public, err := os.ReadFile(s.path(certificate))
	if err != nil {
		return tls.Certificate{}, err
	}
	if err := s.device.Protect(s.path(key), vault.HSMClientKey); err != nil {
		return tls.Certificate{}, err
	}
	private, err := s.device.ReadFile(s.path(key), vault.HSMClientKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	defer clear(private)
	return tls.X509KeyPair(public, private)
}

// makeIdentity makes the gateway's certificate where it has none.
func (s *store) makeIdentity(name string) error {
	if _, err := s.identities(); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(s.path(certificateFile)); err == nil {
		return fmt.Errorf("the gateway's certificate for HSMs: %s is there, and its key %s is missing; restore it, or remove the certificate for a new one", s.path(certificateFile), s.path(keyFile))
	}
	return s.writePair(name, certificateFile, keyFile)
}

// renew makes the next certificate, beside the current one.
func (s *store) renew(name string) error {
	all, err := s.identities()
	if err != nil {
		return err
	}
	if all.next != nil {
		return fmt.Errorf("the gateway's next certificate for HSMs was made already (SHA-256 %s); register it with every HSM, and the gateway changes to it", fingerprint(all.next))
	}
	return s.writePair(name, nextCertificate, nextKey)
}

// writePair makes a pair: the key is there before the certificate.
func (s *store) writePair(name, certificate, key string) error {
	public, private, err := client.NewCertificate(name)
	if err != nil {
		return err
	}
	defer clear(private)
	if err := s.device.WriteFile(s.path(key), vault.HSMClientKey, private); err != nil {
		return fmt.Errorf("keeping the gateway's key for HSMs: %w", err)
	}
	if err := durable.WriteFile(s.path(certificate), public, 0o644); err != nil {
		return fmt.Errorf("writing the gateway's certificate for HSMs: %w", err)
	}
	return nil
}

// promote makes the next certificate the current one.
func (s *store) promote() error {
	if err := durable.Rename(s.path(nextKey), s.path(keyFile)); err != nil {
		return fmt.Errorf("ending the renewal of the gateway's certificate for HSMs: %w", err)
	}
	if err := durable.Rename(s.path(nextCertificate), s.path(certificateFile)); err != nil {
		return fmt.Errorf("ending the renewal of the gateway's certificate for HSMs: %w", err)
	}
	return nil
}

// certificateOf describes one of the gateway's certificates.
func certificateOf(pair *tls.Certificate, next bool) ClientCertificate {
	c := ClientCertificate{Fingerprint: fingerprint(pair), Next: next}
	if leaf, err := x509.ParseCertificate(pair.Certificate[0]); err == nil {
		c.Subject, c.NotAfter = leaf.Subject.String(), leaf.NotAfter
	}
	return c
}

func inPEM(pair *tls.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})
}
