package keyfile

import (
	"crypto/x509"
	"testing"
)

// BenchmarkExport is what an administrator waits for.
func BenchmarkExport(b *testing.B) {
	leaf, middle, root := newParties(b)
	chain := []*x509.Certificate{leaf.cert, middle.cert, root.cert}
	passphrase := []byte("correct horse")
	data, err := EncodePKCS12(leaf.key, chain, passphrase)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("write PKCS12", func(b *testing.B) {
		for b.Loop() {
			if _, err := EncodePKCS12(leaf.key, chain, passphrase); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read PKCS12", func(b *testing.B) {
		for b.Loop() {
			if _, err := Read(data, PKCS12, passphrase); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("write PKCS8", func(b *testing.B) {
		for b.Loop() {
			if _, err := EncryptKey(leaf.key, passphrase); err != nil {
				b.Fatal(err)
			}
		}
	})
}
