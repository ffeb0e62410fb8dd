package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"strings"

	"moongate/client"
)

// maxInput bounds a file that is read whole: a certificate, a key.
const maxInput = 1 << 20

// readInput reads a small file; - is standard input.
func (t *tool) readInput(file string) ([]byte, error) {
	in := io.Reader(t.con.in)
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	content, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	if len(content) > maxInput {
		return nil, fmt.Errorf("%s is longer than %d bytes", file, maxInput)
	}
	return content, nil
}

// askInput is the file that -inputFile names, or that is asked for.
func (t *tool) askInput(o options) (string, error) {
	file := o.text("inputFile")
	if file == "" {
		var err error
		if file, err = t.con.ask(promptInput); err != nil {
			return "", &fixError{err, "give -inputFile="}
		}
	}
	if file == "" {
		return "", &usageError{"-inputFile is missing"}
	}
	return file, nil
}

// importCertificate is `cmu import`.
func (t *tool) importCertificate(ctx context.Context, o options) error {
	file, err := t.askInput(o)
	if err != nil {
		return err
	}
	content, err := t.readInput(file)
	if err != nil {
		return err
	}
	certificates, err := parseCertificates(content)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
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
	var all []listedObject
	for i, cert := range certificates {
		label := o.text("label")
		if i > 0 {
			label = "" // the label is the first one's
		}
		e, err := s.importOne(ctx, inv, cert, label)
		if err != nil {
			return fmt.Errorf("certificate %d of %d in %s: %w", i+1, len(certificates), file, err)
		}
		all = append(all, e.listed())
		if !o.flag("json", false) {
			t.printImported(e, inv)
		}
	}
	if o.flag("json", false) {
		return t.con.printJSON(all)
	}
	return nil
}

// importOne stores a certificate, under the label and CKA_ID of its key where
// that is on the partition.
func (s *session) importOne(ctx context.Context, inv inventory, cert *x509.Certificate, label string) (*entry, error) {
	var template []client.Attribute
	for _, e := range inv {
		if e.cert != nil && e.cert.Equal(cert) {
			return nil, &fixError{fmt.Errorf("it is on the partition already, %s", e.words()), "nothing needs to be done"}
		}
		if e.class() == client.ClassPrivateKey && bytes.Equal(e.publicInfo(), cert.RawSubjectPublicKeyInfo) {
			if id, ok := e.Attributes.Get(client.AttrID); ok {
				template = append(template, client.BytesAttr(client.AttrID, id))
			}
			if label == "" {
				label = e.label()
			}
		}
	}
	if label == "" {
		label = cert.Subject.CommonName
	}
	template = append(template, client.TextAttr(client.AttrLabel, label))
	id, err := s.StoreCertificate(ctx, cert, client.NewTemplate(template...))
	if err != nil {
		return nil, err
	}
	e, err := s.object(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("the certificate is stored; reading its handle: %w", err)
	}
	return e, nil
}

func (t *tool) printImported(e *entry, inv inventory) {
	t.con.printf("Certificate stored on the HSM, handle=%d\tlabel=%s\n  subject:  %s\n  valid:    %s to %s\n", e.handle, shown(e.label()),
		shown(nameWords(e.cert.Subject)), day(e.cert.NotBefore), day(e.cert.NotAfter))
	for _, p := range inv.pairs() {
		if bytes.Equal(p.private.publicInfo(), e.publicInfo()) {
			t.con.printf("  its key:  private key handle=%d label=%s (%s)\n", p.private.handle, shown(p.private.label()), p.private.kind())
			return
		}
	}
	t.con.note("its private key is not on this partition")
}

// parseCertificates reads one certificate in DER, or one or more in PEM.
func parseCertificates(content []byte) ([]*x509.Certificate, error) {
	if cert, err := x509.ParseCertificate(content); err == nil {
		return []*x509.Certificate{cert}, nil
	}
	var list []*x509.Certificate
	for {
		block, rest := pem.Decode(content)
		if block == nil {
			break
		}
		content = rest
		if block.Type != "CERTIFICATE" {
			fix := "give a file of CERTIFICATE blocks"
			if strings.HasSuffix(block.Type, "PRIVATE KEY") {
				fix = "a private key is imported with `cmu importkey`"
			}
			return nil, &fixError{fmt.Errorf("it holds a block %q, expected CERTIFICATE", block.Type), fix}
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading certificate %d: %w", len(list)+1, err)
		}
		list = append(list, cert)
	}
	if len(list) == 0 {
		return nil, &fixError{fmt.Errorf("it holds no certificate"), "give a certificate as PEM or DER"}
	}
	return list, nil
}
