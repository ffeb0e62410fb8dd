package mint

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"moongate/internal/gw/certstore"
	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
	"moongate/internal/gw/keys"
)

// TestUntrustedNeverTrusted goes through every set of authorities, kind of
// server and of client: without Trust no leaf verifies to a trusted authority.
func TestUntrustedNeverTrusted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	servers := map[string][]*x509.Certificate{
		"ECDSA": w.server("www.example.com"),
		"RSA":   w.serverWith(testRSA(2), named("www.example.com")),
	}
	hellos := map[string]flow.Hello{
		"unknown": {},
		"both":    {Signatures: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PKCS1WithSHA256}},
		"RSA":     {Signatures: []tls.SignatureScheme{tls.PKCS1WithSHA256}},
		"ECDSA":   {Signatures: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}},
	}
	roots := w.pool(trustRSA, trustECDSA)
	for bits := range 16 {
		pick := func(bit int, name string) *certstore.Entry {
			if bits&bit == 0 {
				return nil
			}
			return w.entry(name)
		}
		m, err := New(Options{
			Trust:   Authorities{RSA: pick(1, trustRSA), ECDSA: pick(2, trustECDSA)},
			Untrust: Authorities{RSA: pick(4, untrustRSA), ECDSA: pick(8, untrustECDSA)},
			Clock:   w.clock,
		})
		if bits&3 == 0 {
			if err == nil {
				t.Errorf("sets %04b: a Mint without forward-trust was made", bits)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		m.leafKeys = w.mint.leafKeys // an RSA key takes long to make
		for kind, chain := range servers {
			for client, hello := range hellos {
				// The trusted leaf first, so that it is in the cache.
				for _, trust := range []bool{true, false} {
					req := &flow.CertifyRequest{Hello: hello, Name: "www.example.com", Upstream: chain, Trust: trust}
					p, err := m.Certify(t.Context(), req)
					if bits&12 == 0 && !trust {
						if err == nil {
							t.Errorf("sets %04b: %s signed for an untrusted server", bits, p.Authority)
						}
						continue
					}
					if err != nil {
						t.Fatalf("sets %04b, %s server, %s client, trust %v: %v", bits, kind, client, trust, err)
					}
					_, err = p.Leaf.Verify(x509.VerifyOptions{DNSName: "www.example.com", Roots: roots, CurrentTime: w.clock()})
					if (err == nil) != trust || strings.HasPrefix(p.Authority, "untrust") == trust {
						t.Errorf("sets %04b, %s server, %s client, trust %v: authority is %s, verifying says %v", bits, kind, client, trust, p.Authority, err)
					}
				}
			}
		}
		m.Close()
	}
}

func TestChoice(t *testing.T) {
	t.Parallel()
	both := newWorld(t)
	onlyRSA := newWorld(t, func(_ *world, o *Options) { o.Trust.ECDSA = nil })
	rsaHello := flow.Hello{Signatures: []tls.SignatureScheme{tls.PSSWithSHA256, tls.PKCS1WithSHA256}}
	ecdsaHello := flow.Hello{Signatures: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}}
	suites12 := flow.Hello{
		Versions:     []uint16{tls.VersionTLS12},
		CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
	}
	for _, test := range []struct {
		name      string
		w         *world
		hello     flow.Hello
		rsa       bool // the server's key
		authority string
		leaf      string // the leaf's key
	}{
		{"ECDSA server", both, flow.Hello{}, false, trustECDSA, "P-256"},
		{"RSA server", both, flow.Hello{}, true, trustRSA, "P-256"},
		{"ECDSA server, RSA client", both, rsaHello, false, trustRSA, "RSA-2048"},
		{"RSA server, ECDSA client", both, ecdsaHello, true, trustECDSA, "P-256"},
		{"ECDSA server, no ECDSA authority", onlyRSA, flow.Hello{}, false, trustRSA, "P-256"},
		{"no ECDSA authority, ECDSA client", onlyRSA, ecdsaHello, false, trustRSA, "P-256"},
		{"TLS 1.2 with RSA suites", both, suites12, true, trustRSA, "RSA-2048"},
		{"TLS 1.3 beside RSA suites", both, flow.Hello{Versions: []uint16{tls.VersionTLS13, tls.VersionTLS12}, CipherSuites: suites12.CipherSuites}, true, trustRSA, "P-256"},
		{"TLS 1.2 without P-256", both, flow.Hello{Versions: []uint16{tls.VersionTLS12}, Groups: []tls.CurveID{tls.X25519}}, true, trustRSA, "RSA-2048"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			chain := test.w.server("www.example.com")
			if test.rsa {
				chain = test.w.serverWith(testRSA(2), named("www.example.com"))
			}
			req := trusted("www.example.com", chain)
			req.Hello = test.hello
			p := test.w.certify(req)
			if p.Authority != test.authority {
				t.Errorf("authority is %s, want %s", p.Authority, test.authority)
			}
			if got := flow.DescribeKey(p.Leaf.PublicKey); got != test.leaf {
				t.Errorf("the leaf's key is %s, want %s", got, test.leaf)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	noCA := w.issue(w.upstream, "no CA", newECDSA(t))
	noSign := w.issue(nil, "no sign", newECDSA(t), func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCRLSign })
	twin := w.issue(nil, "twin", testRSA(0), isCA) // the key of trust-rsa
	store, err := certstore.New([]config.Certificate{
		{Name: "no CA", Chain: []*x509.Certificate{noCA.cert}, OnHSM: true},
		{Name: "no sign", Chain: []*x509.Certificate{noSign.cert}, OnHSM: true},
		{Name: "twin", Chain: []*x509.Certificate{twin.cert}, OnHSM: true},
	}, w.provider)
	if err != nil {
		t.Fatal(err)
	}
	get := func(name string) *certstore.Entry {
		e, err := store.Certificate(name)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	for _, test := range []struct {
		name string
		o    Options
		want string
	}{
		{"nothing", Options{}, "no forward-trust"},
		{"an end entity", Options{Trust: Authorities{ECDSA: get("no CA")}}, "not the certificate of an authority"},
		{"a CA that may not sign", Options{Trust: Authorities{ECDSA: get("no sign")}}, "key usage"},
		{"an RSA certificate for ECDSA", Options{Trust: Authorities{ECDSA: w.entry(trustRSA)}}, "RSA-2048 key"},
		{"one certificate for both", Options{Trust: Authorities{RSA: w.entry(trustRSA)}, Untrust: Authorities{RSA: w.entry(trustRSA)}}, "same key"},
		{"one key for both", Options{Trust: Authorities{RSA: w.entry(trustRSA)}, Untrust: Authorities{RSA: get("twin")}}, "same key"},
		{"versions upside down", Options{Trust: Authorities{RSA: w.entry(trustRSA)}, MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS12}, "below the lowest"},
	} {
		if _, err := New(test.o); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error is %v, want %q in it", test.name, err, test.want)
		}
	}
}

func TestCache(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	chain := w.server("www.example.com", "*.example.com")
	first := w.certify(trusted("www.example.com", chain))
	if first.Cached {
		t.Error("the first leaf says that it was cached")
	}
	again := w.certify(trusted("WWW.example.com.", chain))
	if !again.Cached || again.Leaf != first.Leaf || again.Config != first.Config {
		t.Error("the same request did not get the same leaf")
	}
	if n := w.provider.Uses(); n != 1 {
		t.Errorf("%d signatures were made, want 1", n)
	}
	for name, req := range map[string]*flow.CertifyRequest{
		"another name":             trusted("a.example.com", chain),
		"another chain":            trusted("www.example.com", w.server("www.example.com")),
		"the leaf without the CA":  trusted("www.example.com", chain[:1]),
		"the same chain untrusted": untrusted("www.example.com", chain),
	} {
		if p := w.certify(req); p.Cached || p.Leaf == first.Leaf {
			t.Errorf("%s got the cached leaf", name)
		}
	}
	h2 := trusted("www.example.com", chain)
	h2.Protocol = "h2"
	if p := w.certify(h2); !p.Cached || p.Leaf != first.Leaf || p.Config == first.Config {
		t.Error("another protocol should get the same leaf in another configuration")
	}

	w.advance(freshFor)
	renewed := w.certify(trusted("www.example.com", chain))
	if renewed.Cached || renewed.Leaf == first.Leaf {
		t.Error("after an hour the leaf was not replaced")
	}
	if renewed.Leaf.PublicKey.(*ecdsa.PublicKey).Equal(first.Leaf.PublicKey) {
		t.Error("after an hour the leaf's key was not replaced")
	}
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(_ *world, o *Options) { o.CacheSize = 3 })
	for _, name := range []string{"a", "b", "c", "d", "e", "e"} {
		w.certify(trusted(name+".example", w.server("*.example")))
	}
	if n := w.mint.leaves.leaves.Len(); n != 3 {
		t.Errorf("the cache holds %d leaves, want 3", n)
	}
	names := 0
	for _, leaves := range w.mint.leaves.names {
		names += len(leaves)
	}
	if names != 3 {
		t.Errorf("the index holds %d leaves, want 3", names)
	}

	for _, protocol := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
		req := trusted("z.example", w.server("*.example"))
		req.Protocol = protocol
		if p := w.certify(req); len(p.Config.NextProtos) != 1 || p.Config.NextProtos[0] != protocol {
			t.Errorf("for %q the configuration has %q", protocol, p.Config.NextProtos)
		}
	}
	for _, l := range w.mint.leaves.leaves.Values() {
		if len(l.configs) > maxProtocols {
			t.Errorf("a leaf holds %d configurations", len(l.configs))
		}
	}
}

// TestProviderAway: cached names go on, also beyond the hour; new ones fail
// and say why; all is well again when the provider is.
func TestProviderAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	chain := w.server("www.example.com")
	first := w.certify(trusted("www.example.com", chain))
	if err := w.mint.Ready("new.example.com"); err != nil {
		t.Errorf("with the provider there, Ready says %v", err)
	}

	w.provider.SetAway(true)
	for _, pause := range []time.Duration{0, freshFor + time.Second, 24 * time.Hour} {
		w.advance(pause)
		p := w.certify(trusted("www.example.com", chain))
		if !p.Cached || p.Leaf != first.Leaf {
			t.Errorf("after %v the cached leaf was not used", pause)
		}
		if err := w.mint.Ready("www.example.com"); err != nil {
			t.Errorf("after %v Ready says %v of a cached name", pause, err)
		}
	}
	for name, req := range map[string]*flow.CertifyRequest{
		"a new name":           trusted("new.example.com", w.server("new.example.com")),
		"another chain":        trusted("www.example.com", w.server("www.example.com")),
		"a chain not verified": untrusted("www.example.com", chain),
	} {
		_, err := w.mint.Certify(t.Context(), req)
		failure := flow.FailureOf(err, flow.StageRelay)
		if failure.Stage != flow.StageHSM || failure.Alert != flow.AlertInternalError || !errors.Is(err, keys.ErrUnavailable) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
	err := w.mint.Ready("new.example.com")
	if failure := flow.FailureOf(err, flow.StageRelay); err == nil || failure.Stage != flow.StageHSM || !strings.Contains(err.Error(), "took the provider away") {
		t.Errorf("Ready says %v of a new name", err)
	}

	w.advance(31 * 24 * time.Hour) // beyond the leaf's end
	if _, err := w.mint.Certify(t.Context(), trusted("www.example.com", chain)); err == nil {
		t.Error("an expired leaf was presented")
	}
	if w.mint.Ready("www.example.com") == nil {
		t.Error("Ready counts on an expired leaf")
	}

	w.advance(-31 * 24 * time.Hour)
	w.provider.SetAway(false)
	if p := w.certify(trusted("www.example.com", chain)); p.Cached {
		t.Error("with the provider back the old leaf was not replaced")
	}
}

// TestProviderHangs: the deadline ends the call; a name with an old leaf pays
// it once a minute.
func TestProviderHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testProviderHangs)
}

func testProviderHangs(t *testing.T) {
	w := newWorld(t)
	chain := w.server("www.example.com")
	w.certify(trusted("www.example.com", chain))
	w.provider.SetHang(true)

	_, err := w.mint.Certify(t.Context(), trusted("new.example.com", w.server("new.example.com")))
	if failure := flow.FailureOf(err, flow.StageRelay); failure.Stage != flow.StageHSM || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}

	// One that is known to be away gets as long as it may take to be back.
	w.provider.SetAway(true)
	began := time.Now()
	if _, err := w.mint.Certify(t.Context(), trusted("new.example.com", w.server("new.example.com"))); err == nil || time.Since(began) != awayTimeout {
		t.Errorf("with the provider away the call ended after %v: %v", time.Since(began), err)
	}
	w.provider.SetAway(false)

	w.advance(freshFor)
	before := w.provider.Uses()
	for range 3 {
		if p := w.certify(trusted("www.example.com", chain)); !p.Cached {
			t.Error("a new leaf came from a provider that hangs")
		}
	}
	if n := w.provider.Uses() - before; n != 1 {
		t.Errorf("%d attempts were made to replace the leaf, want 1", n)
	}
	w.advance(retryAfter)
	w.provider.SetHang(false)
	if p := w.certify(trusted("www.example.com", chain)); p.Cached {
		t.Error("the leaf was not replaced after the pause")
	}
}

func TestMeter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	chain := w.server("www.example.com")
	for _, want := range []int64{1, 0} { // minted, then cached
		meter := &flow.Meter{ID: flow.NewID()}
		if _, err := w.mint.Certify(flow.WithMeter(t.Context(), meter), trusted("www.example.com", chain)); err != nil {
			t.Fatal(err)
		}
		if calls, _ := meter.Read(); calls != want {
			t.Errorf("the meter counts %d calls, want %d", calls, want)
		}
	}
}

// TestManyAtOnce: connections that need the same leaf share one signature, and
// the one that asked for it may go.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testManyAtOnce)
}

func testManyAtOnce(t *testing.T) {
	w := newWorld(t)
	chain := w.server("www.example.com")
	release := w.provider.Hold()

	// The one that leads gives up; the others must not notice.
	leading, giveUp := context.WithCancel(t.Context())
	type answer struct {
		p   *flow.Presented
		err error
	}
	led := make(chan answer, 1)
	go func() {
		p, err := w.mint.Certify(leading, trusted("www.example.com", chain))
		led <- answer{p, err}
	}()
	synctest.Wait() // until the signature is under way
	const callers = 20
	answers := make(chan answer, callers)
	for range callers {
		go func() {
			p, err := w.mint.Certify(t.Context(), trusted("www.example.com", chain))
			answers <- answer{p, err}
		}()
	}
	synctest.Wait()
	giveUp()
	if a := <-led; a.err == nil || flow.FailureOf(a.err, flow.StageRelay).Stage != flow.StageHSM || !errors.Is(a.err, context.Canceled) {
		t.Errorf("the caller that gave up got %v", a.err)
	}
	release()
	var leaf *x509.Certificate
	for range callers {
		a := <-answers
		if a.err != nil {
			t.Fatalf("a caller that joined got %v", a.err)
		}
		if leaf == nil {
			leaf = a.p.Leaf
		}
		if a.p.Leaf != leaf || !a.p.Cached {
			t.Error("callers at once got different leaves, or say that they were signed for them")
		}
	}
	if n := w.provider.Uses(); n != 1 {
		t.Errorf("%d signatures were made, want 1", n)
	}
}

func BenchmarkMint(b *testing.B) {
	for _, kind := range []struct{ name, authority string }{{"RSA", trustRSA}, {"ECDSA", trustECDSA}} {
		w := newWorld(b, func(w *world, o *Options) {
			if kind.authority == trustRSA {
				o.Trust.ECDSA = nil
			} else {
				o.Trust.RSA = nil
			}
		})
		chain := w.server("*.example.com")
		b.Run(kind.name+"/cached", func(b *testing.B) {
			req := trusted("www.example.com", chain)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.mint.Certify(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(kind.name+"/uncached", func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				req := trusted("h"+strconv.Itoa(i)+".example.com", chain)
				if p, err := w.mint.Certify(b.Context(), req); err != nil || p.Cached {
					b.Fatal(err)
				}
			}
		})
	}
}
