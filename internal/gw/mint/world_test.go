package mint

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"moongate/internal/gw/certstore"
	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
	"moongate/internal/gw/keys/keystest"
)

// world is a Mint with its authorities, whose keys are with a provider, and
// the authority of the servers to mirror.
type world struct {
	t        testing.TB
	mint     *Mint
	provider *keystest.Provider
	store    *certstore.Store
	upstream *party // signs servers' certificates

	mu  sync.Mutex
	now time.Time // guarded by mu
}

// party is a certificate with its key.
type party struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// Names of the world's authorities in its certificate store.
const (
	trustRSA     = "trust-rsa"
	trustECDSA   = "trust-ecdsa"
	untrustRSA   = "untrust-rsa"
	untrustECDSA = "untrust-ecdsa"
)

// newWorld returns a world whose clock stands at the present until it is
// moved. Edit changes the options of its Mint.
func newWorld(t testing.TB, edit ...func(*world, *Options)) *world {
	t.Helper()
	w := &world{t: t, provider: &keystest.Provider{}, now: time.Now().Truncate(time.Second)}
	w.upstream = w.issue(nil, "Upstream CA", newECDSA(t), isCA)
	var list []config.Certificate
	for name, key := range map[string]crypto.Signer{
		trustRSA: testRSA(0), trustECDSA: newECDSA(t), untrustRSA: testRSA(1), untrustECDSA: newECDSA(t),
	} {
		ca := w.issue(nil, name, key, isCA)
		w.provider.Add(key)
		list = append(list, config.Certificate{Name: name, Chain: []*x509.Certificate{ca.cert}, OnHSM: true})
	}
	store, err := certstore.New(list, w.provider)
	if err != nil {
		t.Fatal(err)
	}
	w.store = store
	o := Options{
		Trust:   Authorities{RSA: w.entry(trustRSA), ECDSA: w.entry(trustECDSA)},
		Untrust: Authorities{RSA: w.entry(untrustRSA), ECDSA: w.entry(untrustECDSA)},
		Clock:   w.clock,
	}
	for _, e := range edit {
		e(w, &o)
	}
	if w.mint, err = New(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.mint.Close)
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) entry(name string) *certstore.Entry {
	w.t.Helper()
	e, err := w.store.Certificate(name)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// pool trusts the named authorities.
func (w *world) pool(names ...string) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, name := range names {
		pool.AddCert(w.entry(name).Leaf())
	}
	return pool
}

// testRSA returns one of a few RSA keys that all tests share, since making one
// takes long.
var testRSA = func() func(int) crypto.Signer {
	var once [3]func() crypto.Signer
	for i := range once {
		once[i] = sync.OnceValue(func() crypto.Signer {
			key, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				panic(err) // crypto/rand does not fail
			}
			return key
		})
	}
	return func(i int) crypto.Signer { return once[i]() }
}()

func newECDSA(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var serial atomic.Int64

// issue makes a certificate that is valid from a month before to a month after
// the world's time.
func (w *world) issue(issuer *party, subject string, key crypto.Signer, edit ...func(*x509.Certificate)) *party {
	w.t.Helper()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(serial.Add(1)),
		Subject:               pkix.Name{CommonName: subject},
		NotBefore:             w.clock().AddDate(0, -1, 0),
		NotAfter:              w.clock().AddDate(0, 1, 0),
		BasicConstraintsValid: true,
	}
	for _, e := range edit {
		e(template)
	}
	parent, signer := template, key
	if issuer != nil {
		parent, signer = issuer.cert, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		w.t.Fatalf("issuing %s: %v", subject, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		w.t.Fatalf("parsing %s: %v", subject, err)
	}
	return &party{cert, key}
}

func isCA(c *x509.Certificate) {
	c.IsCA = true
	c.KeyUsage = x509.KeyUsageCertSign
}

func named(names ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		for _, name := range names {
			if ip := net.ParseIP(name); ip != nil {
				c.IPAddresses = append(c.IPAddresses, ip)
			} else {
				c.DNSNames = append(c.DNSNames, name)
			}
		}
	}
}

func valid(from, until time.Time) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = from, until }
}

// server is the chain of a server with an ECDSA key and the names.
func (w *world) server(names ...string) []*x509.Certificate {
	return w.serverWith(newECDSA(w.t), named(names...))
}

func (w *world) serverWith(key crypto.Signer, edit ...func(*x509.Certificate)) []*x509.Certificate {
	return []*x509.Certificate{w.issue(w.upstream, "server", key, edit...).cert, w.upstream.cert}
}

// certify asks for a leaf and fails the test where there is none.
func (w *world) certify(req *flow.CertifyRequest) *flow.Presented {
	w.t.Helper()
	p, err := w.mint.Certify(context.Background(), req)
	if err != nil {
		w.t.Fatalf("certifying %s: %v", req.Name, err)
	}
	return p
}

// trusted is a request for a server whose chain was verified.
func trusted(name string, chain []*x509.Certificate) *flow.CertifyRequest {
	return &flow.CertifyRequest{Name: name, Upstream: chain, Trust: true}
}

func untrusted(name string, chain []*x509.Certificate) *flow.CertifyRequest {
	return &flow.CertifyRequest{Name: name, Upstream: chain}
}

// add makes a store entry of a chain whose key is with the provider.
func (w *world) add(name string, chain ...*x509.Certificate) *certstore.Entry {
	w.t.Helper()
	store, err := certstore.New([]config.Certificate{{Name: name, Chain: chain, OnHSM: true}}, w.provider)
	if err != nil {
		w.t.Fatal(err)
	}
	e, err := store.Certificate(name)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}
