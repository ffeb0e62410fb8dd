// Package testca makes the certificates of a benchmark run: an authority that
// lives as long as the run, and leaves under it (X.509 profile of RFC 5280).
//
//	ca, err := testca.New("bench origin CA", key)
//	der, err := ca.Issue(leafKey.Public(), "www.bench.test")
package testca

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"
)

// lifetime bounds every certificate made here: longer than any run.
const lifetime = 24 * time.Hour

// Authority issues leaves. It is safe for concurrent use.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// New makes a self-signed authority with the key given, RSA or ECDSA.
func New(name string, key crypto.Signer) (*Authority, error) {
	template, err := baseTemplate(name)
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	pub, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("encoding the authority's public key: %w", err)
	}
	id := sha256.Sum256(pub)
	template.SubjectKeyId = id[:20]
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("signing the authority's certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parsing the authority's certificate: %w", err)
	}
	return &Authority{cert: cert, key: key}, nil
}

// Issue signs a server certificate for one DNS name and returns its DER.
func (a *Authority) Issue(pub crypto.PublicKey, name string) ([]byte, error) {
	template, err := baseTemplate(name)
	if err != nil {
		return nil, err
	}
	template.DNSNames = []string{name}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, pub, a.key)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate for %s: %w", name, err)
	}
	return der, nil
}

// PEM returns the authority's certificate.
func (a *Authority) PEM() []byte { return EncodeCertificate(a.cert.Raw) }

// EncodeCertificate returns a certificate's DER as a PEM block.
func EncodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// EncodeKey returns a private key as a PEM block (PKCS #8, RFC 5208), for the
// programs under comparison that keep their keys in a file.
func EncodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func baseTemplate(name string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("drawing a serial number: %w", err)
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(lifetime),
	}, nil
}
