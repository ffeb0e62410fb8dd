package plane

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
	"moongate/internal/gw/keys"
	"moongate/internal/gw/keys/keystest"
)

// patience is for what must happen; a test never waits for what must not.
const patience = 20 * time.Second

var serials atomic.Int64

// authority is a CA.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pool *x509.CertPool
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newAuthority(t testing.TB, name string, key crypto.Signer) *authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1)), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{cert: cert, key: key, pool: pool}
}

// leaf makes a server's certificate; change alters its template.
func (a *authority) leaf(t testing.TB, key crypto.Signer, change func(*x509.Certificate), names ...string) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1)), Subject: pkix.Name{CommonName: names[0]},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: names,
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	must(t, err)
	leaf, err := x509.ParseCertificate(der)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// records is a sink that tests read from.
type records chan *flow.Record

func (r records) Write(record *flow.Record) { r <- record }

// link is an HSM in memory.
type link struct {
	*keystest.Provider
	resets atomic.Int64
	closed atomic.Bool
	reset  func(context.Context) error // nil succeeds at once
}

func (l *link) Ready(context.Context) error { return nil }
func (l *link) Close() error                { l.closed.Store(true); return nil }

func (l *link) Reset(ctx context.Context) error {
	l.resets.Add(1)
	if l.reset == nil {
		return nil
	}
	return l.reset(ctx)
}

// world is a plane with its authorities, an HSM, a DNS, and a public PKI.
type world struct {
	testing.TB
	plane          *Plane
	hsm            *link // named "hsm"
	trust, untrust *authority
	public         *authority // whom the gateway trusts
	records        records
	ended          chan error
	stop           func() // ends the plane and waits
}

func newWorld(t testing.TB, change func(*Options)) *world {
	t.Helper()
	w := &world{TB: t, hsm: &link{Provider: &keystest.Provider{}}, records: make(records, 10_000), ended: make(chan error, 1),
		trust: newAuthority(t, "Forward Trust", newKey(t)), untrust: newAuthority(t, "Forward Untrust", newKey(t)),
		public: newAuthority(t, "Public Root", newKey(t))}
	w.hsm.Add(w.trust.key, w.untrust.key)
	o := Options{
		OpenHSM: func(*config.HSM) (keys.Link, error) { return w.hsm, nil },
		Sink:    w.records, Logger: slog.New(slog.DiscardHandler), Roots: w.public.pool, Resolver: resolver(t),
	}
	if change != nil {
		change(&o)
	}
	var err error
	w.plane, err = New(o)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { w.ended <- w.plane.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		w.plane.EndAll(nil)
		if err := <-w.ended; err != nil {
			t.Errorf("running: %v", err)
		}
	})
	t.Cleanup(w.stop)
	return w
}

// snapshot is a configuration with one forward listener, both CAs, and the
// rules.
func (w *world) snapshot(rules ...config.Rule) *config.Snapshot {
	w.Helper()
	s := &config.Snapshot{
		HSM:                 &config.HSM{Provider: config.NetworkHSM, Servers: []config.HSMServer{{Name: "hsm", Address: "192.0.2.50", Port: 1792, SSHPort: 2022}}},
		Forward:             []config.Listener{{Name: "proxy", Listen: w.address()}},
		AllowedDestinations: []config.AllowedDestination{{Network: netip.MustParsePrefix("127.0.0.0/8")}},
		Limits:              config.Limits{MaxConnections: 1000, Handshake: patience, Connect: patience, Idle: time.Hour},
		ForwardTrust:        config.CAPair{ECDSA: "trust"}, ForwardUntrust: config.CAPair{ECDSA: "untrust"},
	}
	w.certificate(s, "trust", w.trust.cert)
	w.certificate(s, "untrust", w.untrust.cert)
	for _, r := range rules {
		r.LogSuccess, r.LogFail = true, true
		if r.Type == "" {
			r.Type = config.ForwardProxy
		}
		if r.Profile == (config.Profile{}) {
			r.Profile = config.DefaultProfile()
		}
		s.Rules = append(s.Rules, r)
	}
	return s
}

// address is one of this host that is free.
func (w *world) address() netip.AddrPort {
	w.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	must(w, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// certificate configures a certificate whose key is on the HSM.
func (w *world) certificate(s *config.Snapshot, name string, chain ...*x509.Certificate) {
	s.Certificates = append(s.Certificates, config.Certificate{Name: name, Chain: chain, OnHSM: true})
}

func (w *world) apply(s *config.Snapshot) {
	w.Helper()
	next, err := w.plane.Prepare(s)
	must(w, err)
	next.Apply()
}

// record is the next flow's.
func (w *world) record() *flow.Record {
	w.Helper()
	select {
	case r := <-w.records:
		return r
	case <-time.After(patience):
		w.Fatal("no record")
		return nil
	}
}

// origin runs a TLS server that sends back what it gets.
func (w *world) origin(cfg *tls.Config) (port string) {
	w.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	must(w, err)
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
				server := tls.Server(conn, cfg)
				if server.Handshake() == nil {
					io.Copy(server, server)
					server.CloseWrite()
				}
			})
		}
	}()
	w.Cleanup(func() { w.stop(); listener.Close(); <-done; handlers.Wait() })
	_, port, err = net.SplitHostPort(listener.Addr().String())
	must(w, err)
	return port
}

// tunnel asks a proxy for a target. The answer is an error where it is not 200.
func tunnel(t testing.TB, proxy netip.AddrPort, target string) (net.Conn, error) {
	t.Helper()
	conn, err := net.Dial("tcp", proxy.String())
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
	response, err := http.ReadResponse(bufio.NewReaderSize(oneByte{conn}, 16), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		return nil, fmt.Errorf("%s: %s", response.Status, bytes.TrimSpace(text))
	}
	return conn, nil
}

// oneByte reads no further than it must: what follows a header is the tunnel's.
type oneByte struct{ io.Reader }

func (o oneByte) Read(b []byte) (int, error) { return o.Reader.Read(b[:min(len(b), 1)]) }

// reach opens a TLS session through a proxy, and sees that bytes come back.
// The certificate that the client was shown is not verified: tests look at it.
func reach(t testing.TB, proxy netip.AddrPort, target string, cfg *tls.Config) (*tls.Conn, error) {
	t.Helper()
	conn, err := tunnel(t, proxy, target)
	if err != nil {
		return nil, err
	}
	return speak(conn, target, cfg)
}

func speak(conn net.Conn, target string, cfg *tls.Config) (*tls.Conn, error) {
	if cfg == nil {
		cfg = &tls.Config{}
	}
	cfg = cfg.Clone()
	host, _, _ := net.SplitHostPort(target)
	cfg.ServerName, cfg.InsecureSkipVerify = cmp.Or(cfg.ServerName, host), true
	client := tls.Client(conn, cfg)
	if err := client.Handshake(); err != nil {
		return nil, err
	}
	return client, echoed(client)
}

// echoed sees that a session is alive.
func echoed(client net.Conn) error {
	if _, err := client.Write([]byte("ping")); err != nil {
		return err
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(client, got); err != nil {
		return err
	}
	if string(got) != "ping" {
		return fmt.Errorf("got %q", got)
	}
	return nil
}

// issuer is who signed what a client was shown.
func issuer(client *tls.Conn) string {
	return client.ConnectionState().PeerCertificates[0].Issuer.CommonName
}

// see reaches a target, looks at who signed what it shows, and ends.
func (w *world) see(proxy netip.AddrPort, target, want string) *flow.Record {
	w.Helper()
	client, err := reach(w, proxy, target, nil)
	if err != nil {
		w.Errorf("%s: %v", target, err)
		return w.record()
	}
	if got := issuer(client); got != want {
		w.Errorf("%s: a certificate of %q, want %q", target, got, want)
	}
	client.Close()
	return w.record()
}

// resolver answers 127.0.0.1 for every name.
func resolver(t testing.TB) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.Additionals = true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
					Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}}}
			}
			if out, err := m.Pack(); err == nil {
				conn.WriteTo(out, from)
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// says checks a record's words.
func says(t testing.TB, what, got, want string) {
	t.Helper()
	if !strings.Contains(got, want) {
		t.Errorf("%s is %q, want %q in it", what, got, want)
	}
}
