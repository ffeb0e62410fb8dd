package hsmlink

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"moongate/client"
	"moongate/internal/durable"
)

// Imported is what became of a server certificate that was imported.
type Imported struct {
	Pin Pin
	// Unchanged: it was the newest one before.
	Unchanged bool
	// Old are the others that are still accepted, for a while.
	Old []Pin
}

// pins returns the certificates that are accepted of a server, the newest first:
// not those whose time has run out. The error matches fs.ErrNotExist where none
// was ever imported.
func (s *store) pins(server string) ([]*x509.Certificate, []Pin, error) {
	certificates, err := s.pinnedOf(server)
	if err != nil {
		return nil, nil, err
	}
	known := s.get(server).Pins
	var accepted []*x509.Certificate
	var pins []Pin
	for i, cert := range certificates {
		pin := pinOf(cert)
		if at := slices.IndexFunc(known, func(p pinState) bool { return p.Fingerprint == pin.Fingerprint }); at >= 0 {
			pin.Imported, pin.Until = known[at].Imported, known[at].Until
		}
		if i > 0 && !pin.Until.IsZero() && !s.now().Before(pin.Until) {
			continue
		}
		accepted, pins = append(accepted, cert), append(pins, pin)
	}
	return accepted, pins, nil
}

// pinnedOf is what a server's file holds, from memory unless it has changed.
type pinnedOf struct {
	of           string
	certificates []*x509.Certificate
}

func (s *store) pinnedOf(server string) ([]*x509.Certificate, error) {
	now := s.signature(filepath.Base(s.serverFile(server)))
	s.mu.Lock()
	known := s.pinned[server]
	s.mu.Unlock()
	if known.certificates != nil && known.of == now {
		return known.certificates, nil
	}
	certificates, err := client.LoadCertificates(s.serverFile(server))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pinned[server] = pinnedOf{now, certificates}
	return certificates, nil
}

func pinOf(cert *x509.Certificate) Pin {
	return Pin{Fingerprint: client.Fingerprint(cert.Raw), Subject: cert.Subject.String(), NotAfter: cert.NotAfter}
}

// parseServerCertificate accepts one certificate, in PEM or DER.
func parseServerCertificate(text []byte) (*x509.Certificate, error) {
	if bytes.Contains(text, []byte("PRIVATE KEY")) {
		return nil, errors.New("the HSM server certificate: it holds a private key, expected the HSM's server.pem alone")
	}
	der := text
	if block, rest := pem.Decode(text); block != nil {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("the HSM server certificate: a %s in PEM, expected the HSM's server.pem", block.Type)
		}
		if len(bytes.TrimSpace(rest)) > 0 {
			return nil, errors.New("the HSM server certificate: more follows the certificate, expected the HSM's server.pem alone")
		}
		der = block.Bytes
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, errors.New("the HSM server certificate: neither PEM nor DER of a certificate, expected the HSM's server.pem (`scp admin@HSM:server.pem .`)")
	}
	return cert, nil
}

// importPin makes a certificate the newest pin of a server. Those before it stay
// accepted for OldPin, so that the HSM can change to the new one at any time.
func (s *store) importPin(server string, cert *x509.Certificate) (Imported, error) {
	before, pins, err := s.pins(server)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Imported{}, fmt.Errorf("reading the pinned certificates of HSM server %s: %w", server, err)
	}
	if len(before) > 0 && before[0].Equal(cert) {
		return Imported{Pin: pins[0], Unchanged: true, Old: pins[1:]}, nil
	}
	now := s.now().UTC()
	done := Imported{Pin: pinOf(cert)}
	done.Pin.Imported = now
	text := encodePin(cert)
	states := []pinState{{Fingerprint: done.Pin.Fingerprint, Imported: now}}
	for i, old := range before {
		if old.Equal(cert) {
			continue
		}
		pin := pins[i]
		if pin.Until.IsZero() {
			pin.Until = now.Add(OldPin)
		}
		text = append(text, encodePin(old)...)
		states = append(states, pinState{pin.Fingerprint, pin.Imported, pin.Until})
		done.Old = append(done.Old, pin)
	}
	return done, s.writePins(server, text, states)
}

// forgetPin stops accepting an old certificate of a server.
func (s *store) forgetPin(server, fingerprint string) error {
	before, pins, err := s.pins(server)
	if err != nil {
		return fmt.Errorf("reading the pinned certificates of HSM server %s: %w", server, err)
	}
	at := slices.IndexFunc(pins, func(p Pin) bool { return p.Fingerprint == fingerprint })
	if at < 0 {
		return fmt.Errorf("HSM server %s: no certificate with SHA-256 %s is pinned", server, fingerprint)
	}
	if len(pins) == 1 {
		return fmt.Errorf("HSM server %s: SHA-256 %s is the only certificate that is pinned; import the other one first", server, fingerprint)
	}
	var text []byte
	var states []pinState
	for i, cert := range before {
		if i != at {
			text = append(text, encodePin(cert)...)
			states = append(states, pinState{pins[i].Fingerprint, pins[i].Imported, pins[i].Until})
		}
	}
	states[0].Until = time.Time{} // the newest has no end
	return s.writePins(server, text, states)
}

// writePins writes what is known of the pins before the pins: a certificate is
// never accepted for longer than was meant.
func (s *store) writePins(server string, text []byte, states []pinState) error {
	if err := s.change(server, func(state *serverState) { state.Pins = states }); err != nil {
		return err
	}
	if err := durable.WriteFile(s.serverFile(server), text, 0o644); err != nil {
		return fmt.Errorf("pinning the certificate of HSM server %s: %w", server, err)
	}
	return nil
}

func encodePin(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}
