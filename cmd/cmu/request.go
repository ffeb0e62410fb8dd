package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"moongate/internal/durable"
)

// request is `cmu requestcertificate`: a PKCS#10 request (RFC 2986), signed in
// the HSM.
func (t *tool) request(ctx context.Context, o options) error {
	file := o.text("outputFile")
	if file != "" {
		if err := mayWrite(file, o); err != nil {
			return err
		}
	}
	template, err := t.requestTemplate(o)
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
	key, err := s.Key(ctx, p.private.ID)
	if err != nil {
		return err
	}
	if err := fits(template.SignatureAlgorithm, key.Public()); err != nil {
		return err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("signing the request with key handle=%d: %w", p.private.handle, err)
	}
	if file == "" {
		if file, err = t.con.ask(promptFile); err != nil {
			return &fixError{err, "give -outputFile="}
		}
		if file == "" {
			return &usageError{"-outputFile is missing"}
		}
		if err := mayWrite(file, o); err != nil {
			return err
		}
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	if file == "-" {
		t.con.printf("%s", text)
		return nil
	}
	if err := durable.WriteFile(file, text, 0o644); err != nil {
		return err
	}
	t.con.printf("Certificate request for %s, signed by %s, written to %s\n", shown(template.Subject.String()), p.words(), file)
	t.con.printf("When the certificate comes back: cmu import -inputFile=FILE\n")
	return nil
}

func (t *tool) requestTemplate(o options) (*x509.CertificateRequest, error) {
	if o.text("CN") == "" {
		cn, err := t.con.ask(promptCN)
		if err != nil {
			return nil, &fixError{err, "give -CN="}
		}
		if cn == "" {
			return nil, &usageError{"-CN is missing"}
		}
		o["CN"] = cn
	}
	// A request's names and algorithm are written as a server certificate's.
	o["ca"] = "F"
	if !o.has("san") && !isServerName(o.text("CN")) {
		o["ca"] = "T" // it names no host, as a CA's does not
	}
	r, err := requestOf(o, t.now())
	if err != nil {
		return nil, err
	}
	template := &x509.CertificateRequest{Subject: r.Subject, SignatureAlgorithm: r.Algorithm, DNSNames: r.Names, IPAddresses: r.Addresses}
	return template, nil
}
