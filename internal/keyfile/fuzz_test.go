package keyfile

import (
	"crypto/x509"
	"errors"
	"testing"

	pkcs12 "software.sslmate.com/src/go-pkcs12"
)

// seeds are files of every form, with few rounds.
func seeds(f *testing.F) {
	f.Helper()
	leaf, middle, root := newParties(f)
	rest := []*x509.Certificate{middle.cert, root.cert}
	for _, e := range []*pkcs12.Encoder{pkcs12.LegacyRC2, pkcs12.LegacyDES, pkcs12.Modern2023, pkcs12.Modern2026} {
		data, err := e.WithIterations(1).Encode(leaf.key, leaf.cert, rest, "secret")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	data, err := pkcs12.Passwordless.Encode(leaf.key, leaf.cert, rest, "")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(leaf.cert.Raw)
	f.Add(leaf.keyDER(f))
	f.Add(append(EncodePEM(leaf.cert, middle.cert), leaf.keyPEM(f)...))
	f.Add([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"))
}

// FuzzRead: whatever comes, it is read or refused, quickly, and what is read is
// within the bounds.
func FuzzRead(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Read(data, "", []byte("secret"))
		if err != nil {
			return
		}
		if len(c.Certificates) > MaxCertificates || len(c.Certificates) == 0 && c.Key == nil {
			t.Fatalf("%d certificates, key %v", len(c.Certificates), c.Key != nil)
		}
		if c.Key != nil {
			if err := CheckPublic(c.Key.Public()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Read(data, "", nil); err != nil && !errors.Is(err, ErrPassphraseMissing) {
			t.Fatalf("without its passphrase: %v", err)
		}
		if len(c.Certificates) > 0 {
			_, _ = Chain(c.Certificates, nil)
		}
	})
}

// FuzzDER: what toDER makes is DER, and stays as it is.
func FuzzDER(f *testing.F) {
	seeds(f)
	f.Add([]byte{0x30, 0x80, 0x24, 0x80, 4, 1, 1, 4, 1, 2, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		der, err := toDER(data)
		if err != nil {
			return
		}
		again, err := toDER(der)
		if err != nil || string(again) != string(der) {
			t.Fatalf("%x became %x, and then %x, %v", data, der, again, err)
		}
	})
}
