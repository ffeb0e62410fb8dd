package mint

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"moongate/internal/gw/flow"
)

// TestMirror: what a leaf takes from the server's, and what it does not.
func TestMirror(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	uri, err := url.Parse("https://www.example.com/")
	if err != nil {
		t.Fatal(err)
	}
	chain := w.serverWith(newECDSA(t), named("www.example.com", "*.Example.org", "192.0.2.1", "2001:db8::1"), func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: "www.example.com", Organization: []string{"Exämple"}, Country: []string{"CH"}}
		c.EmailAddresses = []string{"root@example.com"}
		c.URIs = []*url.URL{uri}
		c.OCSPServer = []string{"http://ocsp.example"}
		c.IssuingCertificateURL = []string{"http://ca.example"}
		c.CRLDistributionPoints = []string{"http://crl.example"}
		c.Policies = []x509.OID{mustOID(t, "2.23.140.1.2.1")}
		c.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageCodeSigning}
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, Value: []byte{4, 0}}} // SCTs
	})
	server := chain[0]
	issuer := w.entry(trustECDSA).Leaf()
	leaf := w.certify(trusted("www.example.com", chain)).Leaf

	if diff := cmp.Diff(server.RawSubject, leaf.RawSubject); diff != "" {
		t.Errorf("subject (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(server.DNSNames, leaf.DNSNames); diff != "" {
		t.Errorf("DNS names (-want +got):\n%s", diff)
	}
	if !slices.EqualFunc(server.IPAddresses, leaf.IPAddresses, net.IP.Equal) {
		t.Errorf("IP addresses are %v, want %v", leaf.IPAddresses, server.IPAddresses)
	}
	if !leaf.NotBefore.Equal(server.NotBefore) || !leaf.NotAfter.Equal(server.NotAfter) {
		t.Errorf("valid from %v until %v, want %v and %v", leaf.NotBefore, leaf.NotAfter, server.NotBefore, server.NotAfter)
	}
	if diff := cmp.Diff(issuer.RawSubject, leaf.RawIssuer); diff != "" {
		t.Errorf("issuer (-want +got):\n%s", diff)
	}
	if leaf.KeyUsage != x509.KeyUsageDigitalSignature || !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) {
		t.Errorf("key usage is %v, %v", leaf.KeyUsage, leaf.ExtKeyUsage)
	}
	if leaf.IsCA || !leaf.BasicConstraintsValid || leaf.Version != 3 {
		t.Errorf("version %d, CA %v", leaf.Version, leaf.IsCA)
	}
	// SubjectPublicKeyInfo of P-256 has 26 bytes before the point.
	if sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo[26:]); !slices.Equal(leaf.SubjectKeyId, sum[:20]) {
		t.Errorf("subject key identifier is %x", leaf.SubjectKeyId)
	}
	if !slices.Equal(leaf.AuthorityKeyId, issuer.SubjectKeyId) {
		t.Errorf("authority key identifier is %x, want %x", leaf.AuthorityKeyId, issuer.SubjectKeyId)
	}
	if leaf.SerialNumber.Cmp(server.SerialNumber) == 0 || leaf.SerialNumber.BitLen() != 127 {
		t.Errorf("serial number is %x", leaf.SerialNumber)
	}
	var got []string
	for _, e := range leaf.Extensions {
		got = append(got, e.Id.String())
	}
	slices.Sort(got)
	want := []string{"2.5.29.14", "2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.35", "2.5.29.37"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("extensions (-want +got):\n%s", diff)
	}
	if len(leaf.EmailAddresses) != 0 || len(leaf.URIs) != 0 {
		t.Errorf("e-mail addresses %v and URIs %v were copied", leaf.EmailAddresses, leaf.URIs)
	}
}

func mustOID(t *testing.T, s string) x509.OID {
	t.Helper()
	oid, err := x509.ParseOID(s)
	if err != nil {
		t.Fatal(err)
	}
	return oid
}

// TestNames: what becomes of a server's names that are few, many or odd.
func TestNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	many := func(c *x509.Certificate) {
		for i := range maxNames {
			c.DNSNames = append(c.DNSNames, fmt.Sprintf("h%d.example.com", i))
		}
		c.DNSNames = append(c.DNSNames, "*.example.com")
	}
	noSubject := func(c *x509.Certificate) { c.Subject = pkix.Name{} }
	for _, test := range []struct {
		name   string
		server []func(*x509.Certificate)
		host   string
		trust  bool
		want   []string
		err    string
	}{
		{name: "common name alone", host: "server"},
		{name: "common name alone, trusted", host: "server", trust: true, err: "not for"},
		{name: "another name", server: []func(*x509.Certificate){named("other.example.com")}, host: "www.example.com", want: []string{"other.example.com"}},
		{name: "another name, trusted", server: []func(*x509.Certificate){named("other.example.com")}, host: "www.example.com", trust: true, err: "not for"},
		{name: "no name", server: []func(*x509.Certificate){noSubject}, host: "www.example.com", err: "no name to mirror"},
		{name: "no subject", server: []func(*x509.Certificate){noSubject, named("www.example.com")}, host: "www.example.com", trust: true, want: []string{"www.example.com"}},
		{name: "names that are none", server: []func(*x509.Certificate){named("a b.example", "www.example.com", "-", "..", "*", "a.*.example", "x@y", "_dmarc.example.com")},
			host: "www.example.com", trust: true, want: []string{"www.example.com", "-", "_dmarc.example.com"}},
		{name: "too many", server: []func(*x509.Certificate){many}, host: "h7.example.com", trust: true, want: []string{"h7.example.com", "*.example.com"}},
		{name: "the issuer's subject", server: []func(*x509.Certificate){named("www.example.com"), func(c *x509.Certificate) {
			c.Subject = pkix.Name{CommonName: trustECDSA}
		}}, host: "www.example.com", trust: true, err: "issuer's own subject"},
		{name: "a huge subject", server: []func(*x509.Certificate){named("www.example.com"), func(c *x509.Certificate) {
			c.Subject.OrganizationalUnit = slices.Repeat([]string{strings.Repeat("x", 60)}, 100)
		}}, host: "www.example.com", err: "at most 4096"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			req := &flow.CertifyRequest{Name: test.host, Upstream: w.serverWith(newECDSA(t), test.server...), Trust: test.trust}
			p, err := w.mint.Certify(t.Context(), req)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || flow.FailureOf(err, "").Stage != flow.StageCertify {
					t.Errorf("error is %v, want %q in it", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, p.Leaf.DNSNames); diff != "" {
				t.Errorf("DNS names (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidity(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	day := func(n int) time.Time { return now.AddDate(0, 0, n) }
	for _, test := range []struct {
		name           string
		server, issuer [2]int // days from now
		want           [2]int
	}{
		{"inside the issuer's", [2]int{-10, 10}, [2]int{-100, 100}, [2]int{-10, 10}},
		{"around the issuer's", [2]int{-100, 100}, [2]int{-10, 10}, [2]int{-10, 10}},
		{"beginning before", [2]int{-100, 10}, [2]int{-10, 100}, [2]int{-10, 10}},
		{"ending after", [2]int{-10, 100}, [2]int{-100, 10}, [2]int{-10, 10}},
		{"expired", [2]int{-20, -10}, [2]int{-100, 100}, [2]int{-20, -10}},
		{"expired before the issuer began", [2]int{-200, -150}, [2]int{-100, 100}, [2]int{-200, -150}},
		{"not yet valid", [2]int{10, 20}, [2]int{-100, 100}, [2]int{10, 20}},
		{"as long as may be", [2]int{-100, 297}, [2]int{-1000, 1000}, [2]int{-100, 297}},
		{"too long", [2]int{-900, 900}, [2]int{-1000, 1000}, [2]int{-7, 390}},
		{"too long and near its end", [2]int{-900, 5}, [2]int{-1000, 1000}, [2]int{-7, 5}},
		{"too long and young", [2]int{-2, 900}, [2]int{-1000, 1000}, [2]int{-2, 395}},
		{"too long and expired", [2]int{-900, -1}, [2]int{-1000, 1000}, [2]int{-900, -1}},
	} {
		server := &x509.Certificate{NotBefore: day(test.server[0]), NotAfter: day(test.server[1])}
		issuer := &x509.Certificate{NotBefore: day(test.issuer[0]), NotAfter: day(test.issuer[1])}
		from, until := validity(server, issuer, now)
		if !from.Equal(day(test.want[0])) || !until.Equal(day(test.want[1])) {
			t.Errorf("%s: from %v until %v, want %v and %v", test.name, from, until, day(test.want[0]), day(test.want[1]))
		}
	}
}

// TestExpiredServer: it is presented as expired, and never by forward-trust.
func TestExpiredServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	now := w.clock()
	chain := w.serverWith(newECDSA(t), named("www.example.com"), valid(now.AddDate(-10, 0, 0), now.AddDate(-9, 0, 0)))
	p := w.certify(untrusted("www.example.com", chain))
	if !p.Leaf.NotAfter.Equal(chain[0].NotAfter) {
		t.Errorf("the leaf ends at %v, the server's certificate at %v", p.Leaf.NotAfter, chain[0].NotAfter)
	}
	if again := w.certify(untrusted("www.example.com", chain)); !again.Cached {
		t.Error("the expired server's leaf was not kept")
	}
	if _, err := w.mint.Certify(t.Context(), trusted("www.example.com", chain)); err == nil || flow.FailureOf(err, "").Stage != flow.StageCertify {
		t.Errorf("forward-trust signed for an expired server: %v", err)
	}
}

func TestExpiredAuthority(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.advance(32 * 24 * time.Hour)
	for _, trust := range []bool{true, false} {
		req := &flow.CertifyRequest{Name: "www.example.com", Upstream: w.server("www.example.com"), Trust: trust}
		if _, err := w.mint.Certify(t.Context(), req); err == nil || !strings.Contains(err.Error(), "signing certificate is valid") {
			t.Errorf("trust %v: error is %v", trust, err)
		}
	}
}

// TestCheck breaks a good template in each way that check must see.
func TestCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer := w.entry(trustECDSA).Leaf()
	req := trusted("www.example.com", w.server("www.example.com", "192.0.2.1"))
	key, err := w.mint.leafKeys.get(leafECDSA)
	if err != nil {
		t.Fatal(err)
	}
	template := func() *x509.Certificate { return prepare(req, issuer, key, w.clock()) }
	if err := check(template(), req, issuer, w.clock()); err != nil {
		t.Fatalf("a good template is refused: %v", err)
	}
	for name, spoil := range map[string]func(*x509.Certificate){
		"a CA":                     func(c *x509.Certificate) { c.IsCA = true },
		"no basic constraints":     func(c *x509.Certificate) { c.BasicConstraintsValid = false },
		"a path length":            func(c *x509.Certificate) { c.MaxPathLen = 1 },
		"signing certificates":     func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign },
		"client authentication":    func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) },
		"no extended usage":        func(c *x509.Certificate) { c.ExtKeyUsage = nil },
		"an unknown usage":         func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2}} },
		"an extension":             func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{{}} },
		"a policy":                 func(c *x509.Certificate) { c.Policies = make([]x509.OID, 1) },
		"an e-mail address":        func(c *x509.Certificate) { c.EmailAddresses = []string{"a@b"} },
		"a small serial number":    func(c *x509.Certificate) { c.SerialNumber = big.NewInt(1) },
		"a negative serial number": func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Neg(c.SerialNumber) },
		"a huge serial number":     func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Lsh(c.SerialNumber, 64) },
		"no subject key id":        func(c *x509.Certificate) { c.SubjectKeyId = nil },
		"another authority key id": func(c *x509.Certificate) { c.AuthorityKeyId = []byte{1} },
		"the issuer's subject":     func(c *x509.Certificate) { c.RawSubject = issuer.RawSubject },
		"another subject":          func(c *x509.Certificate) { c.RawSubject = w.upstream.cert.RawSubject },
		"one more name":            func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "bank.example") },
		"one more address":         func(c *x509.Certificate) { c.IPAddresses = append(c.IPAddresses, net.IPv4(192, 0, 2, 9)) },
		"no names":                 func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, nil },
		"not the requested name":   func(c *x509.Certificate) { c.DNSNames = nil },
		"ending after the server":  func(c *x509.Certificate) { c.NotAfter = req.Upstream[0].NotAfter.Add(time.Second) },
		"ending before it begins":  func(c *x509.Certificate) { c.NotAfter = c.NotBefore },
		"ended":                    func(c *x509.Certificate) { c.NotAfter = w.clock().Add(-time.Second) },
		"not begun":                func(c *x509.Certificate) { c.NotBefore = w.clock().Add(time.Second) },
		"beginning before issuer":  func(c *x509.Certificate) { c.NotBefore = issuer.NotBefore.Add(-time.Second) },
	} {
		spoiled := template()
		spoil(spoiled)
		if check(spoiled, req, issuer, w.clock()) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestOpenSSLVerifies: another implementation reads our leaves as we do.
func TestOpenSSLVerifies(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl")
	}
	w := newWorld(t)
	dir := t.TempDir()
	write := func(name string, c *x509.Certificate) string {
		path := filepath.Join(dir, name+".pem")
		data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, name := range []string{trustRSA, trustECDSA} {
		chain := w.server("www.example.com")
		if name == trustRSA {
			chain = w.serverWith(testRSA(2), named("www.example.com"))
		}
		p := w.certify(trusted("www.example.com", chain))
		if p.Authority != name {
			t.Fatalf("authority is %s, want %s", p.Authority, name)
		}
		out, err := exec.Command(openssl, "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "www.example.com",
			"-CAfile", write(name, w.entry(name).Leaf()), write("leaf-"+name, p.Leaf)).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
