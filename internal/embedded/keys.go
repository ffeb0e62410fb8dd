package embedded

import (
	"bytes"
	"context"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"time"

	"moongate/client"
	"moongate/internal/durable"
	"moongate/internal/gw/config"
	"moongate/internal/selfsign"
)

// certificateSpec is a key pair on the HSM with a self-signed certificate
// beside it, both by the same label.
type certificateSpec struct {
	label   string
	subject string
	ec      bool // P-256; otherwise RSA-2048
	ca      bool
	years   int
}

// specs are what the first start makes. The names of the published files are
// the labels.
var specs = []certificateSpec{
	{label: "forward-trust", subject: "Moongate forward trust CA", ca: true, years: 10},
	{label: "forward-trust-ecdsa", subject: "Moongate forward trust CA (ECDSA)", ec: true, ca: true, years: 10},
	{label: "forward-untrust", subject: "Moongate forward UNTRUST CA", ca: true, years: 10},
	{label: "forward-untrust-ecdsa", subject: "Moongate forward UNTRUST CA (ECDSA)", ec: true, ca: true, years: 10},
	{label: "inbound-demo", subject: "localhost", years: 2},
	{label: "inbound-demo-ecdsa", subject: "localhost", ec: true, years: 2},
}

// ensureCertificates makes what is missing of specs and publishes every
// certificate as PEM. It may be interrupted anywhere and called again.
func ensureCertificates(ctx context.Context, c *client.Client, l layout) (map[string][]byte, error) {
	published := map[string][]byte{}
	for _, spec := range specs {
		der, err := spec.ensure(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("making %s on the HSM: %w", spec.label, err)
		}
		if published[spec.label], err = publish(l, spec.label, der); err != nil {
			return nil, err
		}
	}
	return published, nil
}

// republish publishes the certificates of the gateway's configuration again,
// where somebody removed them.
func republish(l layout, snapshot *config.Snapshot) error {
	for _, spec := range specs {
		if c, found := snapshot.Certificate(spec.label); found && !exists(l.published(spec.label)) {
			if _, err := publish(l, spec.label, c.Leaf().Raw); err != nil {
				return err
			}
		}
	}
	return nil
}

// publish writes a certificate as PEM, unless it is there, and returns that.
func publish(l layout, label string, der []byte) ([]byte, error) {
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if old, err := os.ReadFile(l.published(label)); err == nil && bytes.Equal(old, text) {
		return text, nil
	}
	if err := durable.WriteFile(l.published(label), text, 0o644); err != nil {
		return nil, fmt.Errorf("publishing %s: %w", label, err)
	}
	return text, nil
}

func (s certificateSpec) ensure(ctx context.Context, c *client.Client) ([]byte, error) {
	label := client.TextAttr(client.AttrLabel, s.label)
	certs, err := c.Find(ctx, client.NewTemplate(client.NumberAttr(client.AttrClass, uint64(client.ClassCertificate)), label), client.AttrValue)
	if err != nil {
		return nil, err
	}
	if len(certs) > 0 {
		der, _ := certs[0].Attributes.Get(client.AttrValue)
		return der, nil
	}
	key, err := s.ensureKey(ctx, c, label)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	request := selfsign.Request{
		Subject:   pkix.Name{CommonName: s.subject, Organization: []string{"Moongate"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(s.years, 0, 0), CA: s.ca,
	}
	if !s.ca {
		request.Names, request.Addresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	der, err := selfsign.Certificate(key.WithContext(ctx), request)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if _, err := c.StoreCertificate(ctx, cert, client.NewTemplate(label)); err != nil {
		return nil, err
	}
	return der, nil
}

func (s certificateSpec) ensureKey(ctx context.Context, c *client.Client, label client.Attribute) (client.Key, error) {
	found, err := c.Find(ctx, client.NewTemplate(client.NumberAttr(client.AttrClass, uint64(client.ClassPrivateKey)), label))
	if err != nil {
		return nil, err
	}
	if len(found) > 0 {
		return c.Key(ctx, found[0].ID)
	}
	private := client.NewTemplate(label, client.BoolAttr(client.AttrSign, true))
	var pair client.KeyPair
	if s.ec {
		pair, err = c.GenerateEC(ctx, elliptic.P256(), client.NewTemplate(label), private)
	} else {
		// A server's RSA key also decrypts, for the RSA key exchange.
		private = private.With(client.BoolAttr(client.AttrDecrypt, !s.ca))
		pair, err = c.GenerateRSA(ctx, 2048, client.NewTemplate(label), private)
	}
	if err != nil {
		return nil, err
	}
	return c.Key(ctx, pair.Private)
}
