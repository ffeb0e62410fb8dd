//go:debug rsa1024min=0
package verify

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"moongate/internal/gw/flow"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// party is a certificate with its key.
type party struct {
	cert *x509.Certificate
	key  crypto.Signer
}

var serial atomic.Int64

// issue makes a certificate for a subject, signed by issuer or, where that is
// nil, by its own key; edit changes the template.
func issue(t testing.TB, issuer *party, subject string, key crypto.Signer, edit ...func(*x509.Certificate)) *party {
	t.Helper()
	if key == nil {
		key = newKey(t)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(serial.Add(1)),
		Subject:               pkix.Name{CommonName: subject},
		NotBefore:             now.AddDate(0, -1, 0),
		NotAfter:              now.AddDate(0, 1, 0),
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
		t.Fatalf("issuing %s: %v", subject, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("parsing %s: %v", subject, err)
	}
	return &party{cert, key}
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rsaKey(t testing.TB, bits int) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ca(c *x509.Certificate) {
	c.IsCA = true
	c.KeyUsage = x509.KeyUsageCertSign
}

func server(names ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
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

func usage(u x509.ExtKeyUsage) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{u} }
}

// expired and early are what is not valid now.
var (
	expired = valid(now.AddDate(-1, 0, 0), now.AddDate(0, 0, -1))
	early   = valid(now.AddDate(0, 0, 1), now.AddDate(1, 0, 0))
)

// withSHA1 returns the certificate as if it were signed with SHA-1, which
// crypto/x509 no longer does. The signature does not verify; nobody may look.
func withSHA1(t *testing.T, c *x509.Certificate) *x509.Certificate {
	t.Helper()
	var shell struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(c.Raw, &shell); err != nil {
		t.Fatal(err)
	}
	ecdsaWithSHA256 := []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02}
	ecdsaWithSHA1 := []byte{0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01}
	var inner []asn1.RawValue
	if _, err := asn1.Unmarshal(shell.TBS.FullBytes, &inner); err != nil {
		t.Fatal(err)
	}
	for i, v := range inner {
		if string(v.Bytes) == string(ecdsaWithSHA256) {
			inner[i] = asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: ecdsaWithSHA1}
		}
	}
	tbs, err := asn1.Marshal(inner)
	if err != nil {
		t.Fatal(err)
	}
	shell.TBS = asn1.RawValue{FullBytes: tbs}
	shell.Algorithm.Algorithm = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}
	der, err := asn1.Marshal(shell)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if weak.SignatureAlgorithm != x509.ECDSAWithSHA1 {
		t.Fatalf("signature algorithm is %v", weak.SignatureAlgorithm)
	}
	return weak
}

func chainOf(list ...*party) []*x509.Certificate {
	var chain []*x509.Certificate
	for _, p := range list {
		chain = append(chain, p.cert)
	}
	return chain
}

func newVerifier(t testing.TB, o Options) *Verifier {
	t.Helper()
	if o.Roots == nil {
		o.Roots = x509.NewCertPool()
	}
	if o.Clock == nil {
		o.Clock = func() time.Time { return now }
	}
	v, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVerify(t *testing.T) {
	t.Parallel()
	const name = "www.example.com"

	root := issue(t, nil, "root", nil, ca)
	middle := issue(t, root, "middle", nil, ca)
	other := issue(t, nil, "other root", nil, ca)
	ownTrust := issue(t, nil, "own trust", nil, ca)
	ownUntrust := issue(t, nil, "own untrust", nil, ca)
	// The corporation's root, trusted upstream, that certified our authority.
	ownSub := issue(t, root, "own sub", nil, ca)
	// The same key under another certificate and name, trusted as a root.
	ownAlias := issue(t, nil, "alias", ownTrust.key, ca)

	// other's key, certified by root as well.
	cross := issue(t, root, "other root", other.key, ca)
	expiredMiddle := issue(t, root, "middle", middle.key, ca, expired)
	expiredRoot := issue(t, nil, "old root", nil, ca, expired)
	notCA := issue(t, root, "not a CA", nil)
	clientCA := issue(t, root, "client CA", nil, ca, usage(x509.ExtKeyUsageClientAuth))
	shallow := issue(t, root, "shallow", nil, ca, func(c *x509.Certificate) { c.MaxPathLenZero = true })
	below := issue(t, shallow, "below", nil, ca)
	constrained := issue(t, root, "constrained", nil, ca, func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.org"}, true
	})
	critical := func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
	}
	criticalCA := issue(t, root, "critical", nil, ca, critical)
	weakCA := issue(t, root, "weak CA", rsaKey(t, 1024), ca)
	weakRoot := issue(t, nil, "weak root", rsaKey(t, 1024), ca)

	self := issue(t, nil, name, nil, server(name))
	leaf := issue(t, middle, name, nil, server(name))
	pinned := issue(t, nil, "pinned", nil, server(name))

	extra := chainOf(root, ownAlias, expiredRoot, weakRoot, pinned)
	v := newVerifier(t, Options{Extra: extra, Own: chainOf(ownTrust, ownUntrust, ownSub)})

	tests := []struct {
		name   string
		host   string // name where empty
		chain  []*x509.Certificate
		faults []flow.Status // empty is trusted
		detail []string      // parts of Detail
	}{
		{name: "trusted", chain: chainOf(leaf, middle)},
		{name: "trusted with the root sent", chain: chainOf(leaf, middle, root)},
		{name: "trusted with intermediates out of order and strangers", chain: chainOf(leaf, other, self, middle)},
		{name: "trusted directly by the root", chain: chainOf(issue(t, root, name, nil, server(name)))},
		{name: "trusted over a cross-signed root", chain: chainOf(issue(t, other, name, nil, server(name)), other, cross)},
		{name: "trusted beside an expired twin of the intermediate", chain: chainOf(leaf, expiredMiddle, middle)},
		{name: "trusted by itself", chain: chainOf(pinned)},
		{name: "trusted RSA", chain: chainOf(issue(t, middle, name, rsaKey(t, 2048), server(name)), middle)},
		{name: "host in capitals with a dot", host: "WWW.Example.com.", chain: chainOf(leaf, middle)},
		{name: "wildcard", chain: chainOf(issue(t, middle, "w", nil, server("*.example.com")), middle)},
		{name: "IP address", host: "192.0.2.7", chain: chainOf(issue(t, middle, "ip", nil, server("192.0.2.7")), middle)},
		{name: "IPv6 address", host: "2001:db8::7", chain: chainOf(issue(t, middle, "ip", nil, server("2001:db8:0::7")), middle)},
		{name: "inside name constraints", host: "a.example.org", chain: chainOf(issue(t, constrained, "c", nil, server("a.example.org")), constrained)},

		{name: "expired leaf", chain: chainOf(issue(t, middle, name, nil, server(name), expired), middle),
			faults: []flow.Status{flow.Expired}, detail: []string{"CN=" + name, "expired on 2026-02-28 12:00 UTC"}},
		{name: "leaf not valid yet", chain: chainOf(issue(t, middle, name, nil, server(name), early), middle),
			faults: []flow.Status{flow.Expired}, detail: []string{"not valid before 2026-03-02 12:00 UTC"}},
		{name: "expired intermediate", chain: chainOf(leaf, expiredMiddle),
			faults: []flow.Status{flow.Expired}, detail: []string{`"CN=middle" expired`}},
		{name: "expired root", chain: chainOf(issue(t, expiredRoot, name, nil, server(name), valid(now.AddDate(0, -2, 0), now.AddDate(0, 1, 0)))),
			faults: []flow.Status{flow.Expired}, detail: []string{`"CN=old root" expired`}},

		{name: "self-signed", chain: chainOf(self), faults: []flow.Status{flow.SelfSigned}, detail: []string{"its own issuer"}},
		{name: "self-signed with a trusted chain behind it", chain: chainOf(self, middle, root), faults: []flow.Status{flow.SelfSigned}},
		{name: "self-signed, expired, wrong name", host: "other.example.com", chain: chainOf(issue(t, nil, name, nil, server(name), expired)),
			faults: []flow.Status{flow.SelfSigned, flow.WrongName, flow.Expired}},
		{name: "self-signed with SHA-1", chain: []*x509.Certificate{withSHA1(t, self.cert)}, faults: []flow.Status{flow.SelfSigned}},

		{name: "unknown root", chain: chainOf(issue(t, other, name, nil, server(name)), other),
			faults: []flow.Status{flow.UnknownIssuer}, detail: []string{`ends in "CN=other root"`}},
		{name: "unknown root, not sent", chain: chainOf(issue(t, other, name, nil, server(name))),
			faults: []flow.Status{flow.UnknownIssuer}, detail: []string{`"CN=other root", is neither trusted nor sent`}},
		{name: "missing intermediate", chain: chainOf(leaf), faults: []flow.Status{flow.UnknownIssuer}, detail: []string{"CN=middle"}},
		{name: "issuer of the same name and another key", chain: chainOf(issue(t, issue(t, nil, "middle", nil, ca), name, nil, server(name)), middle),
			faults: []flow.Status{flow.UnknownIssuer}},
		{name: "unknown and expired", chain: chainOf(issue(t, other, name, nil, server(name), expired), other),
			faults: []flow.Status{flow.UnknownIssuer, flow.Expired}},

		{name: "wrong name", host: "other.example.com", chain: chainOf(leaf, middle),
			faults: []flow.Status{flow.WrongName}, detail: []string{`not for "other.example.com", but for "www.example.com"`}},
		{name: "wildcard over two labels", host: "a.b.example.com", chain: chainOf(issue(t, middle, "w", nil, server("*.example.com")), middle),
			faults: []flow.Status{flow.WrongName}},
		{name: "IP address in a DNS name", host: "192.0.2.7", chain: chainOf(issue(t, middle, "ip", nil, server(), func(c *x509.Certificate) { c.DNSNames = []string{"192.0.2.7"} }), middle),
			faults: []flow.Status{flow.WrongName}},
		{name: "common name alone", chain: chainOf(issue(t, middle, name, nil, server()), middle),
			faults: []flow.Status{flow.WrongName}, detail: []string{"no subject alternative name"}},
		{name: "wrong name and expired", host: "other.example.com", chain: chainOf(issue(t, middle, name, nil, server(name), expired), middle),
			faults: []flow.Status{flow.WrongName, flow.Expired}, detail: []string{"not for", "; ", "expired on"}},
		{name: "no name", host: ".", chain: chainOf(leaf, middle), faults: []flow.Status{flow.WrongName}},

		{name: "issued by our authority", chain: chainOf(issue(t, ownTrust, name, nil, server(name))),
			faults: []flow.Status{flow.OwnAuthority, flow.UnknownIssuer}, detail: []string{`issued by "CN=own trust"`}},
		{name: "issued by our authority, which is sent", chain: chainOf(issue(t, ownUntrust, name, nil, server(name)), ownUntrust),
			faults: []flow.Status{flow.OwnAuthority, flow.UnknownIssuer}},
		{name: "issued by our authority, which a trusted root certified", chain: chainOf(issue(t, ownSub, name, nil, server(name)), ownSub),
			faults: []flow.Status{flow.OwnAuthority}},
		{name: "issued by our authority, whose key is a trusted root", chain: chainOf(issue(t, ownAlias, name, nil, server(name))),
			faults: []flow.Status{flow.OwnAuthority}},
		{name: "our authority itself", chain: chainOf(ownUntrust), faults: []flow.Status{flow.OwnAuthority, flow.SelfSigned, flow.WrongName}},
		{name: "below an intermediate that our authority issued",
			chain: func() []*x509.Certificate {
				sub := issue(t, ownTrust, "sub", nil, ca)
				return chainOf(issue(t, sub, name, nil, server(name)), sub)
			}(), faults: []flow.Status{flow.OwnAuthority, flow.UnknownIssuer}},
		{name: "our authority sent along without having signed", chain: chainOf(leaf, middle, ownTrust)},
		{name: "our authority's name with another key", chain: chainOf(issue(t, issue(t, nil, "own trust", nil, ca), name, nil, server(name))),
			faults: []flow.Status{flow.UnknownIssuer}},

		{name: "no certificate", faults: []flow.Status{flow.Invalid}},
		{name: "too many certificates", chain: slices.Repeat(chainOf(leaf, middle), maxChain), faults: []flow.Status{flow.Invalid}},
		{name: "RSA-1024 leaf", chain: chainOf(issue(t, middle, name, rsaKey(t, 1024), server(name)), middle),
			faults: []flow.Status{flow.Invalid}, detail: []string{"1024 bits"}},
		{name: "RSA-1024 intermediate", chain: chainOf(issue(t, weakCA, name, nil, server(name)), weakCA),
			faults: []flow.Status{flow.Invalid}, detail: []string{"weak CA"}},
		{name: "RSA-1024 root", chain: chainOf(issue(t, weakRoot, name, nil, server(name))),
			faults: []flow.Status{flow.Invalid}, detail: []string{"weak root"}},
		{name: "SHA-1 leaf", chain: []*x509.Certificate{withSHA1(t, leaf.cert), middle.cert},
			faults: []flow.Status{flow.Invalid, flow.UnknownIssuer}, detail: []string{"ECDSA-SHA1"}},
		{name: "SHA-1 intermediate", chain: []*x509.Certificate{leaf.cert, withSHA1(t, middle.cert)},
			faults: []flow.Status{flow.Invalid, flow.UnknownIssuer}, detail: []string{`"CN=middle" is signed with ECDSA-SHA1`}},
		{name: "issuer is no CA", chain: chainOf(issue(t, notCA, name, nil, server(name)), notCA),
			faults: []flow.Status{flow.Invalid, flow.UnknownIssuer}, detail: []string{"not a certificate authority"}},
		{name: "path too long", chain: chainOf(issue(t, below, name, nil, server(name)), below, shallow),
			faults: []flow.Status{flow.Invalid, flow.UnknownIssuer}, detail: []string{"allows 0 authorities"}},
		{name: "client certificate", chain: chainOf(issue(t, middle, name, nil, server(name), usage(x509.ExtKeyUsageClientAuth)), middle),
			faults: []flow.Status{flow.Invalid}, detail: []string{"not for server authentication"}},
		{name: "issuer for clients alone", chain: chainOf(issue(t, clientCA, name, nil, server(name)), clientCA),
			faults: []flow.Status{flow.Invalid}, detail: []string{"not for server authentication"}},
		{name: "client certificate, expired", chain: chainOf(issue(t, middle, name, nil, server(name), usage(x509.ExtKeyUsageClientAuth), expired), middle),
			faults: []flow.Status{flow.Invalid, flow.Expired}},
		{name: "outside name constraints", chain: chainOf(issue(t, constrained, name, nil, server(name)), constrained),
			faults: []flow.Status{flow.Invalid}, detail: []string{"name constraints"}},
		{name: "critical extension", chain: chainOf(issue(t, middle, name, nil, server(name), critical), middle),
			faults: []flow.Status{flow.Invalid}, detail: []string{"critical extension"}},
		{name: "critical extension in the issuer", chain: chainOf(issue(t, criticalCA, name, nil, server(name)), criticalCA),
			faults: []flow.Status{flow.Invalid, flow.UnknownIssuer}, detail: []string{"critical extension", "1.2.3.4"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			host := test.host
			if host == "" {
				host = name
			}
			got := v.Verify(host, test.chain)
			status := flow.Trusted
			if len(test.faults) > 0 {
				status = test.faults[0]
			}
			if got.Status != status {
				t.Errorf("status is %s (%s), want %s", got.Status, got.Detail, status)
			}
			if diff := cmp.Diff(test.faults, got.Faults); diff != "" {
				t.Errorf("faults (-want +got):\n%s%s", diff, got.Detail)
			}
			for _, part := range test.detail {
				if !strings.Contains(got.Detail, part) {
					t.Errorf("detail is %q, want %q in it", got.Detail, part)
				}
			}
			if (got.Status == flow.Trusted) != (got.Detail == "" && len(got.Chain) > 0 && got.Chain[0] == test.chain[0]) {
				t.Errorf("a %s verdict has detail %q and a chain of %d", got.Status, got.Detail, len(got.Chain))
			}
			if got.Revocation != notChecked {
				t.Errorf("revocation is %q", got.Revocation)
			}
		})
	}
}

// TestDetailIsOneLine: a server's own words must not forge lines of a log.
func TestDetailIsOneLine(t *testing.T) {
	t.Parallel()
	evil := issue(t, nil, "a\nb\x1b[31m"+strings.Repeat("x", 500), nil, server(strings.Repeat("n", 200)))
	got := newVerifier(t, Options{}).Verify("www.example.com", chainOf(evil))
	if strings.ContainsAny(got.Detail, "\n\x1b") || len(got.Detail) > 1000 {
		t.Errorf("detail is %q", got.Detail)
	}
}

// TestManyIssuersOfOneName: a server cannot make us check signatures for long.
func TestManyIssuersOfOneName(t *testing.T) {
	t.Parallel()
	signer := issue(t, nil, "many", nil, ca)
	chain := chainOf(issue(t, signer, "www.example.com", nil, server("www.example.com")))
	for len(chain) < maxChain {
		chain = append(chain, issue(t, signer, "many", nil, ca).cert)
	}
	began := time.Now()
	got := newVerifier(t, Options{}).Verify("www.example.com", chain)
	if got.Status == flow.Trusted {
		t.Error("trusted")
	}
	t.Logf("%s after %v: %s", got.Status, time.Since(began), got.Detail)
}

func TestCache(t *testing.T) {
	t.Parallel()
	root := issue(t, nil, "root", nil, ca)
	start := now
	clock := start
	v := newVerifier(t, Options{Extra: chainOf(root), Clock: func() time.Time { return clock }, CacheTTL: time.Hour})

	soon := issue(t, root, "soon", nil, server("a.example"), valid(start.Add(-time.Hour), start.Add(10*time.Minute)))
	first := v.Verify("a.example", chainOf(soon))
	if again := v.Verify("a.example", chainOf(soon)); again != first {
		t.Error("the second verdict was made afresh")
	}
	if v.Verify("b.example", chainOf(soon)).Status != flow.WrongName {
		t.Error("another name got the cached verdict")
	}
	clock = start.Add(10*time.Minute + time.Second)
	if got := v.Verify("a.example", chainOf(soon)); got.Status != flow.Expired {
		t.Errorf("after the leaf's end the verdict is %s", got.Status)
	}
	clock = start
	if got := v.Verify("a.example", chainOf(soon)); got.Status != flow.Trusted {
		t.Errorf("with the clock put back the verdict is %s", got.Status)
	}

	later := issue(t, root, "later", nil, server("a.example"), valid(start.Add(time.Minute), start.Add(time.Hour)))
	if got := v.Verify("a.example", chainOf(later)); got.Status != flow.Expired {
		t.Errorf("before the leaf's beginning the verdict is %s", got.Status)
	}
	clock = start.Add(time.Minute)
	if got := v.Verify("a.example", chainOf(later)); got.Status != flow.Trusted {
		t.Errorf("at the leaf's beginning the verdict is %s", got.Status)
	}

	long := issue(t, root, "long", nil, server("a.example"))
	first = v.Verify("a.example", chainOf(long))
	clock = clock.Add(time.Hour + time.Second)
	if v.Verify("a.example", chainOf(long)) == first {
		t.Error("a verdict was used beyond its time")
	}
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	root := issue(t, nil, "root", nil, ca)
	leaf := chainOf(issue(t, root, "leaf", nil, server("*.example")))
	v := newVerifier(t, Options{Extra: chainOf(root), CacheSize: 2})
	for _, name := range []string{"a.example", "b.example", "c.example"} {
		v.Verify(name, leaf)
	}
	if n := v.cache.Len(); n != 2 {
		t.Errorf("the cache holds %d verdicts, want 2", n)
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, kind := range []struct {
		name string
		key  func() crypto.Signer
	}{
		{"ECDSA", func() crypto.Signer { return newKey(b) }},
		{"RSA", func() crypto.Signer { return rsaKey(b, 2048) }},
	} {
		root := issue(b, nil, "root", kind.key(), ca)
		middle := issue(b, root, "middle", kind.key(), ca)
		chain := chainOf(issue(b, middle, "leaf", kind.key(), server("www.example.com")), middle)
		for _, cache := range []struct {
			name string
			size int
		}{{"afresh", -1}, {"cached", 0}} {
			b.Run(kind.name+"/"+cache.name, func(b *testing.B) {
				v := newVerifier(b, Options{Extra: chainOf(root), CacheSize: cache.size})
				for b.Loop() {
					if v.Verify("www.example.com", chain).Status != flow.Trusted {
						b.Fatal("not trusted")
					}
				}
			})
		}
	}
}
