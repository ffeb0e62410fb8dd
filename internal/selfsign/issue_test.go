package selfsign

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"
)

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func parsed(t *testing.T, der []byte, err error) *x509.Certificate {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestIssueAndRenew(t *testing.T) {
	t.Parallel()
	now := time.Now().Truncate(time.Second)
	days := func(n int) time.Time { return now.AddDate(0, 0, n) }
	caKey, key := newKey(t), newKey(t)
	der, err := Certificate(caKey, Request{Subject: pkix.Name{CommonName: "CA"}, NotBefore: now, NotAfter: days(100), CA: true})
	ca := parsed(t, der, err)
	issuer := Issuer{ca, caKey}
	request := Request{
		Subject: pkix.Name{CommonName: "server", Organization: []string{"O"}}, NotBefore: now, NotAfter: days(10),
		Names: []string{"server.example"}, Addresses: []net.IP{net.IPv4(192, 0, 2, 1)}, Emails: []string{"a@server.example"},
	}
	der, err = Issue(key.Public(), request, issuer)
	cert := parsed(t, der, err)
	check := func(c *x509.Certificate) {
		t.Helper()
		roots := x509.NewCertPool()
		roots.AddCert(ca)
		if _, err := c.Verify(x509.VerifyOptions{Roots: roots, DNSName: "server.example", CurrentTime: now.Add(time.Hour)}); err != nil {
			t.Error(err)
		}
		if !key.PublicKey.Equal(c.PublicKey) || c.VerifyHostname("192.0.2.1") != nil || c.EmailAddresses[0] != "a@server.example" {
			t.Errorf("made %+v", c)
		}
	}
	check(cert)

	der, err = Renewal(cert, now, days(20), nil, &issuer)
	renewed := parsed(t, der, err)
	check(renewed)
	if renewed.SerialNumber.Cmp(cert.SerialNumber) == 0 || !renewed.NotAfter.Equal(days(20)) || len(renewed.Extensions) != len(cert.Extensions) {
		t.Errorf("renewed to %s, serial number %d, %d extensions", renewed.NotAfter, renewed.SerialNumber, len(renewed.Extensions))
	}
	der, err = Renewal(ca, now, days(200), caKey, nil)
	newCA := parsed(t, der, err)
	if err := cert.CheckSignatureFrom(newCA); err != nil || newCA.KeyUsage != ca.KeyUsage || !newCA.IsCA || !reflect.DeepEqual(newCA.SubjectKeyId, ca.SubjectKeyId) {
		t.Errorf("the CA, renewed: %v, %+v", err, newCA)
	}

	der, err = SigningRequest(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := NewSigningRequest(key, request)
	if err != nil {
		t.Fatal(err)
	}
	for _, der := range [][]byte{der, fresh} {
		csr, err := x509.ParseCertificateRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		if csr.CheckSignature() != nil || csr.Subject.String() != cert.Subject.String() || len(csr.DNSNames) != 1 || len(csr.IPAddresses) != 1 || len(csr.Extensions) != 4 {
			t.Errorf("the request is %+v", csr)
		}
	}

	for word, make := range map[string]func() ([]byte, error){
		"after its CA does": func() ([]byte, error) { return Renewal(cert, now, days(101), nil, &issuer) },
		"before it begins":  func() ([]byte, error) { return Renewal(cert, now, days(-1), nil, &issuer) },
		"match parent":      func() ([]byte, error) { return Issue(key.Public(), request, Issuer{ca, key}) },
		"does not belong":   func() ([]byte, error) { return SigningRequest(cert, caKey) },
	} {
		if _, err := make(); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", word, err)
		}
	}
}
