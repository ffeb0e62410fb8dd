package p11_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/server"
)

// signer is a P-256 key on the token as crypto.Signer.
type signer struct {
	t      *testing.T
	s      server.Session
	id     object.ID
	public crypto.PublicKey
}

func (k signer) Public() crypto.PublicKey { return k.public }

func (k signer) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	out, _, err := k.s.Sign(k.t.Context(), op, k.id, object.Mechanism{Type: object.MechECDSA}, digest)
	if err != nil {
		return nil, err
	}
	half := len(out) / 2
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(out[:half]), new(big.Int).SetBytes(out[half:])})
}

// certificateOf writes a self-signed certificate of a key to a file, DER, and
// returns its path.
func certificateOf(t *testing.T, s server.Session, id object.ID, public crypto.PublicKey) string {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "half"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, signer{t, s, id, public})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "certificate.der")
	if err := os.WriteFile(path, der, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
