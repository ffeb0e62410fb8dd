package selfsign

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"
)

func TestCertificates(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, test := range []struct {
		name  string
		key   crypto.Signer
		ca    bool
		usage x509.KeyUsage
	}{
		{"RSA CA", rsaKey, true, x509.KeyUsageCertSign | x509.KeyUsageCRLSign},
		{"EC CA", ecKey, true, x509.KeyUsageCertSign | x509.KeyUsageCRLSign},
		{"RSA server", rsaKey, false, x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment},
		{"EC server", ecKey, false, x509.KeyUsageDigitalSignature},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			request := Request{Subject: pkix.Name{CommonName: "x"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), CA: test.ca}
			if !test.ca {
				request.Names = []string{"x.example"}
			}
			der, err := Certificate(test.key, request)
			if err != nil {
				t.Fatal(err)
			}
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			if cert.IsCA != test.ca || cert.KeyUsage != test.usage {
				t.Errorf("CA %v with key usage %b, want %v and %b", cert.IsCA, cert.KeyUsage, test.ca, test.usage)
			}
			if len(cert.SubjectKeyId) != 20 || string(cert.AuthorityKeyId) != string(cert.SubjectKeyId) {
				t.Errorf("key identifiers %x and %x", cert.SubjectKeyId, cert.AuthorityKeyId)
			}
			roots := x509.NewCertPool()
			roots.AddCert(cert)
			if !test.ca {
				if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: "x.example"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestEndBeforeBeginningIsRefused(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if _, err := Certificate(key, Request{NotBefore: now, NotAfter: now.Add(-time.Hour)}); err == nil {
		t.Error("a certificate that ends before it begins was made")
	}
}
