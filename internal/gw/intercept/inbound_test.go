package intercept

import (
	"context"
	"crypto"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
	"moongate/internal/gw/policy"
)

// fixed presents one certificate, as inbound inspection does.
type fixed struct{ certificate *tls.Certificate }

func (fixed) Ready(string) error { return nil }

func (f fixed) Certify(_ context.Context, req *flow.CertifyRequest) (*flow.Presented, error) {
	cfg := &tls.Config{GetCertificate: func(info *tls.ClientHelloInfo) (*tls.Certificate, error) {
		flow.MeterFrom(info.Context()).Present("shop", f.certificate.Leaf)
		return f.certificate, nil
	}}
	if req.Protocol != "" {
		cfg.NextProtos = []string{req.Protocol}
	}
	return &flow.Presented{Config: cfg}, nil
}

// gate runs a Gate before a server.
func gate(t *testing.T, rt Runtime) (addr string, sink records, current *atomic.Pointer[Runtime]) {
	t.Helper()
	sink, current = make(records, 100), new(atomic.Pointer[Runtime])
	if rt.Policy == nil {
		rt.Policy = policy.Compile(&config.Snapshot{Rules: []config.Rule{
			{Name: "inbound", Action: config.Decrypt, Type: config.InboundInspection, Profile: config.DefaultProfile(),
				Destination: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}},
		}})
	}
	rt.Limits.Drain = time.Millisecond
	current.Store(&rt)
	g, err := NewGate(Options{Runtime: current, Sink: sink, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	addr, _ = serve(t, g.Serve)
	return addr, sink, current
}

func TestInbound(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "Public Root")
	own, other := ca.leaf(t, "shop.test"), ca.leaf(t, "shop.test")
	port := serveHTTPS(t, http.HandlerFunc(hello), &tls.Config{Certificates: []tls.Certificate{own}, NextProtos: []string{"h2", "http/1.1"}})
	stand := Stand{Certifier: fixed{&own}, Verifier: Pins{other.Leaf, own.Leaf}}
	addr, sink, current := gate(t, Runtime{Server: "127.0.0.1:" + port, ByRule: map[string]Stand{"inbound": stand}})
	get := func() (*http.Response, error) {
		transport := &http.Transport{
			DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				d := tls.Dialer{Config: &tls.Config{RootCAs: ca.pool, ServerName: "shop.test", NextProtos: []string{"http/1.1"}}}
				return d.DialContext(ctx, "tcp", addr)
			},
			DisableKeepAlives: true,
		}
		return (&http.Client{Transport: transport, Timeout: patience}).Get("https://shop.test/")
	}
	response, err := get()
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(response.Body); string(body) != "HTTP/1.1 shop.test" {
		t.Errorf("got %q", body)
	}
	r := sink.next(t)
	fine(t, r)
	if r.Kind != flow.Inbound || r.Action != "decrypt" || r.Rule != "inbound" || r.Authority != "shop" || r.Verdict != flow.Trusted ||
		r.Target != "127.0.0.1:"+port || r.ClientLeg.Certificate == nil || r.ClientLeg.Certificate.Subject != "CN=shop.test" || r.ServerLeg.ALPN != "http/1.1" {
		t.Errorf("record: %+v", r)
	}

	// A server that shows another certificate is not the protected one.
	wrong := *current.Load()
	wrong.ByRule = map[string]Stand{"inbound": {Certifier: fixed{&own}, Verifier: Pins{other.Leaf}}}
	current.Store(&wrong)
	if _, err := get(); alertOf(err) != flow.AlertUnknownCA {
		t.Errorf("got %v, want alert %d", err, flow.AlertUnknownCA)
	}
	r = sink.next(t)
	failed(t, r, flow.StageVerify, "the protected server did not prove itself")
	if r.Action != "block" {
		t.Errorf("action %q", r.Action)
	}

	// A rule without a stand cannot be obeyed, and is not silently passed over.
	none := wrong
	none.ByRule = nil
	current.Store(&none)
	if _, err := get(); alertOf(err) != flow.AlertInternalError {
		t.Errorf("got %v, want alert %d", err, flow.AlertInternalError)
	}
	failed(t, sink.next(t), flow.StageCertify, "nothing is configured to present")

	// Without a rule the connection is passed on as it is.
	raw := none
	raw.Policy = policy.Compile(&config.Snapshot{})
	current.Store(&raw)
	response, err = get()
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, response.Body)
	if r := sink.next(t); r.Action != "no-decrypt" || r.ServerLeg != nil {
		t.Errorf("record: %+v", r)
	}

	// A server that is not there.
	gone := wrong
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	gone.Server = listener.Addr().String()
	current.Store(&gone)
	if _, err := get(); alertOf(err) != flow.AlertInternalError {
		t.Errorf("got %v, want alert %d", err, flow.AlertInternalError)
	}
	failed(t, sink.next(t), flow.StageConnect, "connection refused")
}

// TestInboundServerName: a configured name is what the server is asked for and
// must prove, whatever the client asked for.
func TestInboundServerName(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "Public Root")
	own := ca.leaf(t, "shop.test")
	heard := make(chan string, 1)
	port := listenTLS(t, &tls.Config{GetCertificate: func(info *tls.ClientHelloInfo) (*tls.Certificate, error) {
		heard <- info.ServerName
		return &own, nil
	}}, echo)
	addr, sink, _ := gate(t, Runtime{Server: "127.0.0.1:" + port, ServerName: "backend.test", Stand: Stand{Certifier: fixed{&own}, Verifier: Pins{own.Leaf}}})
	client, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: ca.pool, ServerName: "shop.test"})
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
	if got := <-heard; got != "backend.test" {
		t.Errorf("the server was asked for %q", got)
	}
	if r := sink.next(t); r.SNI != "shop.test" {
		t.Errorf("SNI %q", r.SNI)
	}
}

// awayKey is a key whose HSM does not answer.
type awayKey struct {
	crypto.Signer
	meter *flow.Meter
}

func (k awayKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	k.meter.Fail(hsmAway())
	return nil, errAway
}

// withoutKey presents a certificate whose key is away.
type withoutKey struct{ certificate tls.Certificate }

func (withoutKey) Ready(string) error { return nil }

func (c withoutKey) Certify(ctx context.Context, _ *flow.CertifyRequest) (*flow.Presented, error) {
	bound := c.certificate
	bound.PrivateKey = awayKey{bound.PrivateKey.(crypto.Signer), flow.MeterFrom(ctx)}
	return &flow.Presented{Config: &tls.Config{Certificates: []tls.Certificate{bound}}, Leaf: bound.Leaf, Authority: "shop"}, nil
}

// TestInboundKeyFails: crypto/tls makes a text of a key's error; the record
// names the HSM all the same.
func TestInboundKeyFails(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "Public Root")
	own := ca.leaf(t, "shop.test")
	port := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{own}}, echo)
	addr, sink, _ := gate(t, Runtime{Server: "127.0.0.1:" + port, Stand: Stand{Certifier: withoutKey{own}, Verifier: Pins{own.Leaf}}})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		_, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: ca.pool, ServerName: "shop.test", MaxVersion: version})
		if alertOf(err) == 0 { // which of them is crypto/tls's choice
			t.Errorf("got %v, want an alert", err)
		}
		failed(t, sink.next(t), flow.StageHSM, errAway.Error())
	}
}

// panicking is a certifier with a fault.
type panicking struct{}

func (panicking) Ready(string) error { panic("ready") }

func (panicking) Certify(context.Context, *flow.CertifyRequest) (*flow.Presented, error) {
	panic("certify")
}

// TestPanic: a flow that panics ends alone, and is not recorded as a success.
func TestPanic(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "Public Root")
	own := ca.leaf(t, "shop.test")
	port := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{own}}, echo)
	addr, sink, _ := gate(t, Runtime{Server: "127.0.0.1:" + port, Stand: Stand{Certifier: panicking{}, Verifier: Pins{own.Leaf}}})
	w := newWorld(t, options{})
	next := *w.runtime.Load()
	next.Certifier = panicking{}
	w.runtime.Store(&next)
	for range 2 {
		if _, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true}); err == nil {
			t.Error("a client was served")
		}
		failed(t, sink.next(t), flow.StageRelay, "the gateway itself failed")
		conn := w.dial()
		fmt.Fprintf(conn, "CONNECT a.test:%s HTTP/1.1\r\nHost: x\r\n\r\n", port)
		if b, _ := io.ReadAll(conn); len(b) != 0 {
			t.Errorf("the client got %q", b)
		}
		failed(t, w.records.next(t), flow.StageRelay, "the gateway itself failed")
	}
	w.stop()
	if got := w.proxy.Stats().Active; got != 0 {
		t.Errorf("%d connections are counted as open", got)
	}
}

func TestGateNeedsAServer(t *testing.T) {
	t.Parallel()
	var current atomic.Pointer[Runtime]
	current.Store(&Runtime{Policy: policy.Compile(&config.Snapshot{})})
	if _, err := NewGate(Options{Runtime: &current, Sink: make(records), Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("a gate without a protected server was made")
	}
}
