package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"strconv"
	"strings"

	"moongate/client"
	"moongate/internal/selfsign"
)

// madeCertificate is what `cmu selfSign` made.
type madeCertificate struct {
	Handle        uint64    `json:"handle"`
	UUID          client.ID `json:"uuid"`
	Label         string    `json:"label"`
	PrivateHandle uint64    `json:"private_handle"`
	PrivateUUID   client.ID `json:"private_uuid"`
	listedCertificate
}

func (t *tool) selfSign(ctx context.Context, o options) error {
	// The HSM would let the Crypto User sign, and refuse to store.
	if role, err := roleOf(o.text("role")); err == nil && role != client.RoleCryptoOfficer {
		return &usageError{"the certificate is stored on the HSM, which the Crypto Officer alone may do; leave -role out"}
	}
	if o.text("CN") == "" {
		cn, err := t.con.ask(promptCN)
		if err != nil {
			return &fixError{err, "give -CN="}
		}
		if cn == "" {
			return &usageError{"-CN is missing"}
		}
		o["CN"] = cn
	}
	r, err := requestOf(o, t.now())
	if err != nil {
		return err
	}
	s, err := t.connect(ctx, o)
	if err != nil {
		return err
	}
	defer s.Close()
	inv, err := s.inventory(ctx, nil)
	if err != nil {
		return err
	}
	p, err := t.choosePair(inv, o)
	if err != nil {
		return err
	}
	cert, err := s.sign(ctx, p, r)
	if err != nil {
		return err
	}
	t.warnOfDates(r)
	made, err := s.storeNext(ctx, p, cert, o.text("label"))
	if err != nil {
		return err
	}
	if o.flag("json", false) {
		return t.con.printJSON(made)
	}
	t.printCertificate(made, p)
	return nil
}

// sign makes the certificate; the HSM makes the signature.
func (s *session) sign(ctx context.Context, p *pair, r selfsign.Request) (*x509.Certificate, error) {
	key, err := s.Key(ctx, p.private.ID)
	if err != nil {
		return nil, err
	}
	if err := fits(r.Algorithm, key.Public()); err != nil {
		return nil, err
	}
	der, err := selfsign.Certificate(key.WithContext(ctx), r)
	if err != nil {
		return nil, fmt.Errorf("with key handle=%d: %w", p.private.handle, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate that was signed: %w", err)
	}
	return cert, nil
}

// storeNext stores the certificate under the key's CKA_ID, and its label where
// none is given.
func (s *session) storeNext(ctx context.Context, p *pair, cert *x509.Certificate, label string) (madeCertificate, error) {
	if label == "" {
		label = p.private.label()
	}
	id, _ := p.private.Attributes.Get(client.AttrID)
	stored, err := s.StoreCertificate(ctx, cert, client.NewTemplate(
		client.TextAttr(client.AttrLabel, label), client.BytesAttr(client.AttrID, id)))
	if err != nil {
		return madeCertificate{}, fmt.Errorf("the certificate is signed; storing it: %w", err)
	}
	e, err := s.object(ctx, stored)
	if err != nil {
		return madeCertificate{}, fmt.Errorf("the certificate is stored; reading its handle: %w", err)
	}
	return madeCertificate{
		Handle: e.handle, UUID: e.ID, Label: e.label(), PrivateHandle: p.private.handle, PrivateUUID: p.private.ID,
		listedCertificate: *e.listed().Certificate,
	}, nil
}

// choosePair returns the key pair that the command line names, the only one,
// or the one that is chosen.
func (t *tool) choosePair(inv inventory, o options) (*pair, error) {
	pairs := inv.pairs()
	if len(pairs) == 0 {
		return nil, &fixError{fmt.Errorf("the partition has no key pair"), "make one with `cmu gen`"}
	}
	var named *pair
	for _, by := range []struct {
		option string
		class  client.Class
	}{{"privatehandle", client.ClassPrivateKey}, {"publichandle", client.ClassPublicKey}} {
		if !o.has(by.option) {
			continue
		}
		e, err := inv.byHandle(o.number(by.option, 0))
		if err != nil {
			return nil, err
		}
		if e.class() != by.class {
			return nil, fmt.Errorf("-%s=%d is a %v object, expected a %v key", by.option, e.handle, e.class(), by.class)
		}
		p := pairOf(pairs, e)
		if p == nil {
			return nil, fmt.Errorf("-%s=%d has no private key on this partition", by.option, e.handle)
		}
		if named != nil && named != p {
			return nil, fmt.Errorf("-privatehandle=%d and -publichandle=%d are not of one key pair", named.private.handle, e.handle)
		}
		named = p
	}
	switch {
	case named != nil:
		return named, nil
	case len(pairs) == 1:
		return pairs[0], nil
	}
	return t.askPair(pairs)
}

func pairOf(pairs []*pair, e *entry) *pair {
	for _, p := range pairs {
		if p.private == e || p.public == e {
			return p
		}
	}
	return nil
}

// askPair offers the newest pair without a certificate, or the newest.
func (t *tool) askPair(pairs []*pair) (*pair, error) {
	best := pairs[0]
	for _, p := range pairs {
		if len(p.certificates) == 0 {
			best = p
			break
		}
	}
	if !t.con.terminal {
		t.con.note("%d key pairs; taking %s; another one is chosen with -privatehandle=", len(pairs), best.words())
		return best, nil
	}
	t.con.errorf("Key pairs on this partition, the newest first:\n")
	for _, p := range pairs {
		t.con.errorf("  %s\n", p.words())
	}
	answer, err := t.con.askOr("Handle of the private key", strconv.FormatUint(best.private.handle, 10))
	if err != nil {
		return nil, err
	}
	for _, p := range pairs {
		if strconv.FormatUint(p.private.handle, 10) == answer {
			return p, nil
		}
	}
	return nil, &usageError{fmt.Sprintf("%q is none of these private keys", answer)}
}

func (p *pair) words() string {
	what := "no certificate yet"
	if n := len(p.certificates); n > 0 {
		handles := make([]string, n)
		for i, c := range p.certificates {
			handles[i] = fmt.Sprintf("handle=%d", c.handle)
		}
		what = "certificate " + strings.Join(handles, ", ")
	}
	return fmt.Sprintf("handle=%d label=%s (%s, %s)", p.private.handle, shown(p.private.label()), p.private.kind(), what)
}

func (t *tool) warnOfDates(r selfsign.Request) {
	switch now := t.now(); {
	case now.After(r.NotAfter):
		t.con.warn("the certificate ended on %s: nobody will accept it; give a later -endDate", day(r.NotAfter))
	case now.Before(r.NotBefore):
		t.con.warn("the certificate begins on %s: nobody will accept it before", day(r.NotBefore))
	}
}

func (t *tool) printCertificate(m madeCertificate, p *pair) {
	what := "CA certificate (may sign certificates; -ca=F makes a server's)"
	if !m.CA {
		what = "server certificate for " + strings.Join(m.Names, ", ")
	}
	t.con.printf(`Self-signed certificate stored on the HSM, handle=%d	label=%s
  what it is:  %s
  subject:     %s
  valid:       %s to %s
  serial:      %s
  SHA-256:     %s
  signed by:   %s
`, m.Handle, shown(m.Label), what, shown(m.Subject), day(m.NotBefore), day(m.NotAfter), m.Serial, m.Fingerprint,
		fmt.Sprintf("private key handle=%d label=%s (%s)", p.private.handle, shown(p.private.label()), p.private.kind()))
}
