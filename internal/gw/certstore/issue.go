package certstore

import (
	"bytes"
	"context"
	"crypto/x509"

	"errors"
	"fmt"
	"slices"

	"moongate/internal/gw/config"
	"moongate/internal/keyfile"
	"moongate/internal/selfsign"
)

// authority is a CA of the configuration that can sign.
type authority struct {
	issuer selfsign.Issuer
	chain  []*x509.Certificate // its certificate and its issuers
}

// authority finds the CA of a name; for a CA below it where forCA.
func (e *Editor) authority(ctx context.Context, root *config.Node, name string, forCA bool) (*authority, error) {
	f, err := findEntry(root, name)
	if err != nil {
		return nil, fmt.Errorf("the CA that signs: %w", err)
	}
	if err := e.maySign(f, forCA); err != nil {
		return nil, fmt.Errorf("certificate %q cannot sign: %w", name, err)
	}
	key, err := e.key(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("the CA that signs: %w", err)
	}
	return &authority{selfsign.Issuer{Certificate: f.chain[0], Key: key}, f.chain}, nil
}

func (e *Editor) maySign(f found, forCA bool) error {
	if len(f.chain) == 0 {
		return errors.New("it is a request, not a certificate yet")
	}
	c, now := f.chain[0], e.now()
	switch {
	case f.revoked:
		return errors.New("it is revoked")
	case !c.BasicConstraintsValid || !c.IsCA:
		return errors.New("it is no CA's")
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("its key usage does not have keyCertSign")
	case now.Before(c.NotBefore):
		return fmt.Errorf("it is not valid before %s", c.NotBefore.UTC().Format(opensslTime))
	case now.After(c.NotAfter):
		return fmt.Errorf("it expired on %s: renew it first", c.NotAfter.UTC().Format(opensslTime))
	case forCA && c.MaxPathLen == 0 && c.MaxPathLenZero:
		return errors.New("its path length allows no CA below it")
	case f.key.none():
		return errors.New("it has no private key here")
	}
	return nil
}

// Renew makes the edits that give a certificate new dates: the same key, the
// same subject, a new serial number, signed by what signed it before, which
// must be here. days 0 is 365.
func (e *Editor) Renew(ctx context.Context, root *config.Node, name string, days int) ([]config.Edit, error) {
	f, err := findEntry(root, name)
	if err != nil {
		return nil, err
	}
	edits, err := e.renew(ctx, root, f, days)
	if err != nil {
		return nil, fmt.Errorf("renewing certificate %q: %w", name, err)
	}
	return edits, nil
}

func (e *Editor) renew(ctx context.Context, root *config.Node, f found, days int) ([]config.Edit, error) {
	switch {
	case len(f.chain) == 0:
		return nil, errors.New("it is a request: import the certificate that the CA made of it")
	case f.revoked:
		return nil, errors.New("it is revoked: generate another, with another key")
	}
	notBefore, notAfter, err := e.dates(days)
	if err != nil {
		return nil, err
	}
	old := f.chain[0]
	var der []byte
	var issuers []*x509.Certificate
	if bytes.Equal(old.RawSubject, old.RawIssuer) && signedBy(old, old) {
		key, err := e.key(ctx, f)
		if err != nil {
			return nil, err
		}
		der, err = selfsign.Renewal(old, notBefore, notAfter, key, nil)
		if err != nil {
			return nil, err
		}
	} else {
		ca, err := e.issuerOf(ctx, root, f)
		if err != nil {
			return nil, err
		}
		issuers = ca.chain
		if der, err = selfsign.Renewal(old, notBefore, notAfter, nil, &ca.issuer); err != nil {
			return nil, err
		}
	}
	return certified(f.name, der, issuers, f.key)
}

// certified makes the edits that take in a certificate that was signed here.
func certified(name string, der []byte, issuers []*x509.Certificate, key keyPlace) ([]config.Edit, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate that was signed: %w", err)
	}
	chain := slices.Concat([]*x509.Certificate{cert}, issuers)
	if err := chainFits(chain); err != nil {
		return nil, err
	}
	return put(certificateEntry(name, chain, key)), nil
}

// issuerOf finds the CA of the configuration that signed a certificate, the
// newest that can sign.
func (e *Editor) issuerOf(ctx context.Context, root *config.Node, f found) (*authority, error) {
	list, err := all(root)
	if err != nil {
		return nil, err
	}
	var newest *found
	var why error
	for i := range list {
		c := &list[i]
		if len(c.chain) == 0 || c.name == f.name || !bytes.Equal(c.chain[0].RawSubject, f.chain[0].RawIssuer) || !signedBy(f.chain[0], c.chain[0]) {
			continue
		}
		if err := e.maySign(*c, f.chain[0].IsCA); err != nil {
			why = fmt.Errorf("its CA, certificate %q, cannot sign: %w", c.name, err)
		} else if newest == nil || c.chain[0].NotAfter.After(newest.chain[0].NotAfter) {
			newest = c
		}
	}
	if newest != nil {
		return e.authority(ctx, root, newest.name, f.chain[0].IsCA)
	}
	if why != nil {
		return nil, why
	}
	return nil, fmt.Errorf("it was signed by %q, which is not here: export a request (csr), have it signed there, and import the answer under the same name", f.chain[0].Issuer)
}

// signedBy reports that a CA's key made a certificate's signature.
func signedBy(c, ca *x509.Certificate) bool {
	return ca.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// CSR returns a signing request (PKCS #10) for a certificate in PEM: the one
// that it was generated with, or one for what the certificate says.
func (e *Editor) CSR(ctx context.Context, root *config.Node, name string) ([]byte, error) {
	f, err := findEntry(root, name)
	if err != nil {
		return nil, err
	}
	if f.request != nil {
		return keyfile.RequestPEM(f.request.Raw), nil
	}
	key, err := e.key(ctx, f)
	if err != nil {
		return nil, err
	}
	der, err := selfsign.SigningRequest(f.chain[0], key)
	if err != nil {
		return nil, fmt.Errorf("request for certificate %q: %w", name, err)
	}
	return keyfile.RequestPEM(der), nil
}

// Revoke makes the edits that mark a certificate as revoked: nothing may refer
// to it from then on, so nothing may do now. An error is a *config.RefError
// where something does.
func (e *Editor) Revoke(root *config.Node, name string) ([]config.Edit, error) {
	f, err := findEntry(root, name)
	if err != nil {
		return nil, err
	}
	if f.revoked {
		return nil, fmt.Errorf("certificate %q is revoked already", name)
	}
	if users := config.References(root, ListPath, name); len(users) > 0 {
		return nil, &config.RefError{Path: entryPath(name), Users: users}
	}
	return []config.Edit{{Op: config.OpSet, Path: entryPath(name), Elements: []*config.Node{
		{Name: "status", Text: statusRevoked},
		{Name: "revoke-date-epoch", Text: epoch(e.now())},
	}}}, nil
}
