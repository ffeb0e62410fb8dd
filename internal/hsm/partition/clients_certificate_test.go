package partition

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"moongate/internal/hsm/object"
)

// TestClientCertificates: what may stand in a file, and what key in it.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	certify := func(key crypto.Signer, err error) []byte {
		t.Helper()
		must(t, err)
		// Signed by another key, which may be what this one is not.
		ca, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(t, err)
		template := &x509.Certificate{SerialNumber: big.NewInt(1)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), ca)
		must(t, err)
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	curve := func(c elliptic.Curve) []byte {
		key, err := ecdsa.GenerateKey(c, rand.Reader)
		return certify(key, err)
	}
	modulus := func(bits int) []byte { // nobody signs with it: any odd number will do
		n := new(big.Int).SetBit(big.NewInt(1), bits-1, 1)
		return certify(&rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: 65537}}, nil)
	}
	good := curve(elliptic.P256())
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	block, _ := pem.Decode(good)
	block.Headers = map[string]string{"Proc-Type": "4,ENCRYPTED"}
	broken := bytes.Replace(curve(elliptic.P256()), []byte("MII"), []byte("M!I"), 1)
	for name, test := range map[string]struct {
		file []byte
		want string // part of the refusal; empty is none
	}{
		"P-256":                       {good, ""},
		"P-384":                       {curve(elliptic.P384()), ""},
		"P-521":                       {curve(elliptic.P521()), ""},
		"Ed25519":                     {certify(edwards, nil), ""},
		"RSA-2048":                    {modulus(2048), ""},
		"RSA-8192":                    {modulus(8192), ""},
		"text before":                 {append([]byte("Certificate:\n    Data:\n"), good...), ""},
		"lines end as on Windows":     {bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")), ""},
		"P-224":                       {curve(elliptic.P224()), "P-224"},
		"RSA-1024":                    {modulus(1024), "1024 bits"},
		"RSA-2047":                    {modulus(2047), "2047 bits"},
		"RSA-16384":                   {modulus(16384), "16384 bits"},
		"a broken one before":         {append(broken, good...), "not one PEM"},
		"a broken one after":          {append(bytes.Clone(good), broken...), "not one PEM"},
		"another after":               {append(bytes.Clone(good), good...), "not one PEM"},
		"a beginning before":          {append([]byte("-----BEGIN CERTIFICATE-----\n"), good...), "not one PEM"},
		"headers":                     {pem.EncodeToMemory(block), "not one PEM"},
		"text after":                  {append(bytes.Clone(good), "and so on"...), "not one PEM"},
		"a key":                       {bytes.ReplaceAll(good, []byte("CERTIFICATE"), []byte("PRIVATE KEY")), "not one PEM"},
		"trailing bytes in the block": {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: append(bytes.Clone(block.Bytes), 0)}), "does not parse"},
	} {
		r := Registration{Name: "c", Address: "192.0.2.7", Certificate: test.file}
		_, err := r.record(time.Now())
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case test.want != "" && (object.CodeOf(err) != object.ErrArgumentsBad || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v, want a refusal with %q", name, err, test.want)
		}
	}
}
