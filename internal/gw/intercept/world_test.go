package intercept

import (
	"bufio"
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
	"moongate/internal/gw/policy"
	"moongate/internal/gw/verify"
)

// patience is for what must happen; a test never waits for what must not.
const patience = 20 * time.Second

// authority is a CA with its key in software.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pool *x509.CertPool
}

var serials atomic.Int64

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(serials.Add(1)),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageCertSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{cert: cert, key: key, pool: pool}
}

func leafTemplate(names ...string) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1)),
		Subject:      pkix.Name{CommonName: names[0]},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, name := range names {
		if a, err := netip.ParseAddr(name); err == nil {
			template.IPAddresses = append(template.IPAddresses, a.AsSlice())
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return template
}

// sign makes a certificate; a nil authority makes it self-signed.
func (a *authority) sign(t testing.TB, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key := newKey(t)
	cert, err := a.issue(template, key)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (a *authority) issue(template *x509.Certificate, key crypto.Signer) (tls.Certificate, error) {
	parent, signer := template, key
	if a != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

func (a *authority) leaf(t testing.TB, names ...string) tls.Certificate {
	t.Helper()
	return a.sign(t, leafTemplate(names...))
}

// certifier signs leaves with keys in software.
type certifier struct {
	trust, untrust *authority
	key            crypto.Signer
	away           atomic.Pointer[flow.Failure] // what fails, in place of a signature

	mu    sync.Mutex
	cache map[string]*flow.Presented // guarded by mu
}

func newCertifier(t testing.TB) *certifier {
	return &certifier{
		trust: newAuthority(t, "Forward Trust"), untrust: newAuthority(t, "Forward Untrust"),
		key: newKey(t), cache: map[string]*flow.Presented{},
	}
}

func (c *certifier) Ready(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.cache {
		if strings.HasPrefix(key, name+" ") {
			return nil
		}
	}
	if f := c.away.Load(); f != nil {
		return f
	}
	return nil
}

func (c *certifier) Certify(ctx context.Context, req *flow.CertifyRequest) (*flow.Presented, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := fmt.Sprint(req.Name, " ", req.Protocol, req.Trust)
	if p := c.cache[key]; p != nil {
		hit := *p
		hit.Cached = true
		return &hit, nil
	}
	if f := c.away.Load(); f != nil {
		return nil, f
	}
	start := time.Now()
	ca, name := c.untrust, "forward-untrust"
	if req.Trust {
		ca, name = c.trust, "forward-trust"
	}
	leaf, err := ca.issue(leafTemplate(req.Name), c.key)
	if err != nil {
		return nil, &flow.Failure{Stage: flow.StageCertify, Alert: flow.AlertInternalError, Err: err}
	}
	flow.MeterFrom(ctx).Add(time.Since(start))
	cfg := &tls.Config{Certificates: []tls.Certificate{leaf}, MinVersion: tls.VersionTLS12}
	if req.Protocol != "" {
		cfg.NextProtos = []string{req.Protocol}
	}
	p := &flow.Presented{Config: cfg, Leaf: leaf.Leaf, Authority: name}
	c.cache[key] = p
	return p, nil
}

// records is a sink that tests read from.
type records chan *flow.Record

func (r records) Write(record *flow.Record) { r <- record }

func (r records) next(t testing.TB) *flow.Record {
	t.Helper()
	select {
	case record := <-r:
		return record
	case <-time.After(patience):
		t.Fatal("no record")
		return nil
	}
}

// world is a proxy with its authorities, its DNS and a public PKI.
type world struct {
	t         testing.TB
	certifier *certifier
	public    *authority // whom the gateway trusts
	runtime   atomic.Pointer[Runtime]
	records   records
	dns       *dnsServer
	proxy     *Proxy
	addr      string // of the proxy
	stop      func() // ends the proxy and waits
}

type options struct {
	snapshot config.Snapshot
	closed   bool // loopback is refused
	rules    policy.DestinationRules
	limits   Limits
}

func newWorld(t testing.TB, o options) *world {
	t.Helper()
	w := &world{t: t, certifier: newCertifier(t), public: newAuthority(t, "Public Root"), records: make(records, 10_000)}
	if !o.closed {
		o.rules.Allowed = append(o.rules.Allowed, config.AllowedDestination{Network: netip.MustParsePrefix("127.0.0.0/8")})
	}
	verifier, err := verify.New(verify.Options{
		Roots: w.public.pool,
		Own:   []*x509.Certificate{w.certifier.trust.cert, w.certifier.untrust.cert},
	})
	if err != nil {
		t.Fatal(err)
	}
	if o.limits.Drain == 0 {
		o.limits.Drain = time.Millisecond
	}
	w.runtime.Store(&Runtime{
		Policy:       policy.Compile(&o.snapshot),
		Destinations: policy.NewDestinations(o.rules),
		Stand:        Stand{Certifier: w.certifier, Verifier: verifier},
		Limits:       o.limits,
	})
	w.dns = newDNS(t)
	w.proxy, err = NewProxy(Options{Runtime: &w.runtime, Sink: w.records, Log: slog.New(slog.DiscardHandler), Resolver: w.dns.resolver()})
	if err != nil {
		t.Fatal(err)
	}
	w.addr, w.stop = serve(t, w.proxy.Serve)
	return w
}

// serve runs a listener's Serve until the function returned, or the test, ends.
func serve(t testing.TB, run func(context.Context, net.Listener) error) (addr string, stop func()) {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx, listener) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	t.Cleanup(stop)
	return listener.Addr().String(), stop
}

// dnsServer answers for every name but silent.test: 127.0.0.1, or what is set.
type dnsServer struct {
	conn net.PacketConn

	mu      sync.Mutex
	answers map[string][]netip.Addr // guarded by mu; an entry without addresses does not exist
	asked   map[string]int          // guarded by mu
}

func newDNS(t testing.TB) *dnsServer {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &dnsServer{conn: conn, answers: map[string][]netip.Addr{}, asked: map[string]int{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.serve()
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return d
}

func (d *dnsServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "udp", d.conn.LocalAddr().String())
	}}
}

func (d *dnsServer) set(name string, addrs ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answers[name] = []netip.Addr{}
	for _, a := range addrs {
		d.answers[name] = append(d.answers[name], netip.MustParseAddr(a))
	}
}

func (d *dnsServer) serve() {
	buf := make([]byte, 1500)
	for {
		n, from, err := d.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		name := strings.TrimSuffix(q.Name.String(), ".")
		d.mu.Lock()
		d.asked[name]++
		addrs, set := d.answers[name]
		d.mu.Unlock()
		if !set {
			addrs = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
		}
		if name == "silent.test" {
			continue
		}
		m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
		if len(addrs) == 0 {
			m.RCode = dnsmessage.RCodeNameError
		}
		for _, a := range addrs {
			h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
			switch {
			case a.Is4() && q.Type == dnsmessage.TypeA:
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
			case a.Is6() && q.Type == dnsmessage.TypeAAAA:
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
			}
		}
		if out, err := m.Pack(); err == nil {
			d.conn.WriteTo(out, from)
		}
	}
}

// listen runs a server for each connection until the test ends.
func listen(t testing.TB, handle func(net.Conn)) (port string) {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var handlers sync.WaitGroup
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			handlers.Go(func() {
				defer conn.Close()
				handle(conn)
			})
		}
	}()
	t.Cleanup(func() { listener.Close(); <-done; handlers.Wait() })
	_, port, err = net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// listenTLS runs a TLS server whose handshakes may fail.
func listenTLS(t testing.TB, cfg *tls.Config, handle func(*tls.Conn)) (port string) {
	t.Helper()
	return listen(t, func(conn net.Conn) {
		server := tls.Server(conn, cfg)
		if server.Handshake() == nil {
			handle(server)
		}
	})
}

// echo sends back what it gets, until the other side has ended.
func echo(conn *tls.Conn) {
	io.Copy(conn, conn)
	conn.CloseWrite()
}

// origin serves HTTPS under a certificate of the public PKI.
func (w *world) origin(handler http.Handler, names ...string) (port string) {
	w.t.Helper()
	return serveHTTPS(w.t, handler, &tls.Config{
		Certificates: []tls.Certificate{w.public.leaf(w.t, names...)},
		NextProtos:   []string{"h2", "http/1.1"},
	})
}

func serveHTTPS(t testing.TB, handler http.Handler, cfg *tls.Config) (port string) {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if cfg == nil {
			server.Serve(listener)
			return
		}
		server.TLSConfig = cfg
		server.ServeTLS(listener, "", "")
	}()
	t.Cleanup(func() { server.Close(); <-done })
	_, port, err = net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// client is an HTTP client behind the proxy that trusts the forward-trust CA.
func (w *world) client(protocol string) *http.Client {
	w.t.Helper()
	var protocols http.Protocols
	protocols.SetHTTP1(protocol == "http/1.1")
	protocols.SetHTTP2(protocol == "h2")
	transport := &http.Transport{
		Proxy:              http.ProxyURL(&url.URL{Scheme: "http", Host: w.addr}),
		TLSClientConfig:    &tls.Config{RootCAs: w.certifier.trust.pool},
		Protocols:          &protocols,
		DisableCompression: true,
	}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// finish closes a client's connections and returns the record of the last.
// An HTTP/2 connection counts as idle a moment after its last answer was read.
func (w *world) finish(client *http.Client) *flow.Record {
	w.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		client.CloseIdleConnections()
		select {
		case r := <-w.records:
			return r
		case <-time.After(10 * time.Millisecond):
		}
	}
	w.t.Fatal("no record")
	return nil
}

// tunnel asks the proxy for a target and returns the answer, and the
// connection behind it.
func (w *world) tunnel(target string) (net.Conn, *http.Response) {
	w.t.Helper()
	conn := w.dial()
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
	response, err := http.ReadResponse(bufio.NewReaderSize(oneByte{conn}, 16), &http.Request{Method: http.MethodConnect})
	if err != nil {
		w.t.Fatalf("CONNECT %s: %v", target, err)
	}
	return conn, response
}

// oneByte reads no further than it must: what follows a header is the tunnel's.
type oneByte struct{ io.Reader }

func (o oneByte) Read(b []byte) (int, error) { return o.Reader.Read(b[:min(len(b), 1)]) }

// dial connects to the proxy, for at most the test's patience.
func (w *world) dial() net.Conn {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	w.t.Cleanup(func() { conn.Close() })
	return conn
}

// open opens a tunnel that must open.
func (w *world) open(target string) net.Conn {
	w.t.Helper()
	conn, response := w.tunnel(target)
	if response.StatusCode != http.StatusOK {
		w.t.Fatalf("CONNECT %s: %s, %s", target, response.Status, response.Header.Get("Proxy-Status"))
	}
	return conn
}

// handshake opens a tunnel and a TLS session in it. A nil cfg trusts the
// forward-trust CA and asks for the target's host.
func (w *world) handshake(target string, cfg *tls.Config) (*tls.Conn, error) {
	w.t.Helper()
	if cfg == nil {
		cfg = &tls.Config{}
	}
	cfg = cfg.Clone()
	if cfg.RootCAs == nil {
		cfg.RootCAs = w.certifier.trust.pool
	}
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		w.t.Fatal(err)
	}
	cfg.ServerName = cmp.Or(cfg.ServerName, host)
	client := tls.Client(w.open(target), cfg)
	return client, client.Handshake()
}

// alertOf is the alert that a client got; 0 for none.
func alertOf(err error) uint8 {
	alert, _ := remoteAlert(err)
	return alert
}

// failed checks a record's failure.
func failed(t testing.TB, r *flow.Record, stage flow.Stage, cause string) {
	t.Helper()
	if r.FailureStage != stage || !strings.Contains(r.FailureCause, cause) {
		t.Errorf("record: stage %q, cause %q; want stage %q, cause with %q", r.FailureStage, r.FailureCause, stage, cause)
	}
}

// fine checks that a record tells of no failure.
func fine(t testing.TB, r *flow.Record) {
	t.Helper()
	if r.FailureStage != "" || r.FailureCause != "" {
		t.Errorf("record: stage %q, cause %q; want no failure", r.FailureStage, r.FailureCause)
	}
}

var errAway = errors.New("the HSM does not answer on 192.0.2.1:1792")

func hsmAway() *flow.Failure {
	return &flow.Failure{Stage: flow.StageHSM, Alert: flow.AlertInternalError, Err: errAway}
}
