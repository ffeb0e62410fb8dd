package config

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"
)

// now is when the tests take place.
var now = time.Date(2030, 6, 15, 12, 0, 0, 0, time.UTC)

// Keys are made once: RSA takes its time.
var (
	rsaKey   = sync.OnceValue(func() crypto.Signer { return made(rsa.GenerateKey(rand.Reader, 2048)) })
	shortKey = sync.OnceValue(func() crypto.Signer { return made(rsa.GenerateKey(rand.Reader, 1024)) })
	ecKey    = sync.OnceValue(func() crypto.Signer { return made(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	otherKey = sync.OnceValue(func() crypto.Signer { return made(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	thirdKey = sync.OnceValue(func() crypto.Signer { return made(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	edKey    = sync.OnceValue(func() crypto.Signer {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return made(key, err)
	})
)

func made[K crypto.Signer](key K, err error) crypto.Signer {
	if err != nil {
		panic(err)
	}
	return key
}

// certificate makes one for key, signed by itself unless change sets an issuer.
type request struct {
	x509.Certificate
	issuer    *x509.Certificate
	issuerKey crypto.Signer
}

func certificate(t testing.TB, key crypto.Signer, change func(*request)) *x509.Certificate {
	t.Helper()
	r := request{Certificate: x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "Example"},
		NotBefore:             now.AddDate(-1, 0, 0),
		NotAfter:              now.AddDate(1, 0, 0),
		BasicConstraintsValid: true,
		IsCA:                  true,
		KeyUsage:              x509.KeyUsageCertSign,
	}, issuerKey: key}
	if change != nil {
		change(&r)
	}
	if r.issuer == nil {
		r.issuer = &r.Certificate
	}
	der, err := x509.CreateCertificate(rand.Reader, &r.Certificate, r.issuer, key.Public(), r.issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func inPEM(chain ...*x509.Certificate) string {
	var b strings.Builder
	for _, c := range chain {
		if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			panic(err) // a Builder takes anything
		}
	}
	return b.String()
}

// leafOnly makes an end entity of a request.
func leafOnly(r *request) {
	r.IsCA, r.KeyUsage, r.DNSNames = false, x509.KeyUsageDigitalSignature, []string{"www.example.com"}
}

const (
	hsmPath = providerPath + "/safenet-network/hsm-server/entry[@name='luna-1']"
	trust   = decryptPath + "/forward-trust-certificate"
	untrust = decryptPath + "/forward-untrust-certificate"
)

func certPath(name string) string { return below(certificatesPath, name) }
func rulePath(name string) string { return below(rulesPath, name) }

// gateway begins a configuration that is accepted: an HSM and a CA on it.
func gateway(t testing.TB) *Builder {
	t.Helper()
	b := NewBuilder()
	b.Set(hsmPath+"/server-address", "127.0.0.1")
	onHSM(b, "trust", certificate(t, ecKey(), nil))
	onHSM(b, "untrust", certificate(t, otherKey(), nil))
	b.Set(trust+"/ecdsa", "trust")
	b.Set(untrust+"/ecdsa", "untrust")
	return b
}

func onHSM(b *Builder, name string, chain ...*x509.Certificate) {
	b.Set(certPath(name)+"/public-key", inPEM(chain...))
	b.Set(certPath(name)+"/private-key-on-hsm", "yes")
}

// lines splits an error into its problems.
func lines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}
