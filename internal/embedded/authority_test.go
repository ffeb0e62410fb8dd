package embedded

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"path/filepath"
	"testing"
	"time"
)

// TestAuthorityVouchesForLoopbackAlone: whoever reads the key of the
// demonstration origin's CA can fake no other site with it.
func TestAuthorityVouchesForLoopbackAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "origin.pem")
	a, err := loadOrMakeAuthority(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := loadOrMakeAuthority(path)
	if err != nil {
		t.Fatal(err)
	}
	if !again.cert.Equal(a.cert) {
		t.Error("the CA is made anew at each start")
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	own, err := a.issue()
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(own, roots, "localhost"); err != nil {
		t.Errorf("the origin's own certificate: %v", err)
	}
	if err := verify(own, roots, "127.0.0.1"); err != nil {
		t.Errorf("the origin's own certificate by address: %v", err)
	}
	leaf, err := x509.ParseCertificate(own.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	forged := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"bank.example"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, forged, a.cert, leaf.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(tls.Certificate{Certificate: [][]byte{der}}, roots, "bank.example"); err == nil {
		t.Error("the demonstration origin's CA can vouch for bank.example")
	}
}

func verify(c tls.Certificate, roots *x509.CertPool, name string) error {
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return err
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name})
	return err
}
