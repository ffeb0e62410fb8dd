package intercept

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
)

func hello(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s %s", r.Proto, r.Host)
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"http/1.1", "h2"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options{})
			port := w.origin(http.HandlerFunc(hello), "web.test")
			client := w.client(protocol)
			response, err := client.Get("https://web.test:" + port + "/")
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if want := map[string]string{"http/1.1": "HTTP/1.1", "h2": "HTTP/2.0"}[protocol]; !strings.HasPrefix(string(body), want) || response.Proto != want {
				t.Errorf("the client saw %s, the server said %q; want %s", response.Proto, body, want)
			}
			if issuer := response.TLS.PeerCertificates[0].Issuer.CommonName; issuer != "Forward Trust" {
				t.Errorf("the leaf's issuer is %q", issuer)
			}
			r := w.finish(client)
			fine(t, r)
			if r.Kind != flow.Forward || r.Action != "decrypt" || r.Reason != "default" || r.Target != "web.test:"+port ||
				r.Server != "127.0.0.1:"+port || r.SNI != "web.test" || r.Verdict != flow.Trusted || r.Authority != "forward-trust" ||
				r.HSMCalls != 1 || r.HSMTime == 0 || r.Cached || r.BytesUp == 0 || r.BytesDown == 0 || len(r.ID) != 32 || r.Duration == 0 {
				t.Errorf("record: %+v", r)
			}
			alpn := map[string]string{"h2": "h2"}[protocol] // net/http offers nothing for HTTP/1.1 alone
			for name, leg := range map[string]*flow.Leg{"client": r.ClientLeg, "server": r.ServerLeg} {
				if leg == nil {
					t.Fatalf("no %s leg", name)
				}
				if leg.Version != "TLS 1.3" || leg.ALPN != alpn || leg.Group != "X25519MLKEM768" || leg.Certificate == nil {
					t.Errorf("%s leg: %+v", name, leg)
				}
			}
			if r.ClientLeg.Certificate.Issuer != "CN=Forward Trust" || r.ServerLeg.Certificate.Issuer != "CN=Public Root" {
				t.Errorf("certificates: %+v, %+v", r.ClientLeg.Certificate, r.ServerLeg.Certificate)
			}
		})
	}
}

func TestWebSocket(t *testing.T) {
	t.Parallel()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		for {
			kind, message, err := conn.Read(r.Context())
			if err != nil || conn.Write(r.Context(), kind, message) != nil {
				return
			}
		}
	})
	for _, scheme := range []string{"wss", "ws"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options{})
			var port string
			if scheme == "wss" {
				port = w.origin(handler, "chat.test")
			} else {
				port = serveHTTPS(t, handler, nil)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			conn, _, err := websocket.Dial(ctx, scheme+"://chat.test:"+port+"/", &websocket.DialOptions{HTTPClient: &http.Client{Transport: w.client("http/1.1").Transport}})
			if err != nil {
				t.Fatal(err)
			}
			for _, size := range []int{0, 5, 30_000} {
				sent := bytes.Repeat([]byte("x"), size)
				if err := conn.Write(ctx, websocket.MessageBinary, sent); err != nil {
					t.Fatal(err)
				}
				if _, got, err := conn.Read(ctx); err != nil || !bytes.Equal(got, sent) {
					t.Fatalf("%d bytes came back as %d: %v", size, len(got), err)
				}
			}
			if err := conn.Close(websocket.StatusNormalClosure, ""); err != nil {
				t.Errorf("closing: %v", err)
			}
			r := w.records.next(t)
			fine(t, r)
			if want := map[string]string{"wss": "decrypt", "ws": "plain"}[scheme]; r.Action != want {
				t.Errorf("action %q, want %q", r.Action, want)
			}
			if r.BytesUp < 30_000 || r.BytesDown < 30_000 || r.Server != "127.0.0.1:"+port {
				t.Errorf("record: %+v", r)
			}
		})
	}
}

// TestBigBodies sends 32 MB up and gets as many back, at once.
func TestBigBodies(t *testing.T) {
	t.Parallel()
	const size = 32 << 20
	w := newWorld(t, options{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		io.Copy(sum, r.Body)
		w.Header().Set("Sum", hex.EncodeToString(sum.Sum(nil)))
		io.Copy(w, io.LimitReader(rand.NewChaCha8([32]byte{2}), size))
	})
	ports := map[string]string{"https": w.origin(handler, "big.test"), "http": serveHTTPS(t, handler, nil)}
	digest := func(seed byte) string {
		sum := sha256.New()
		io.Copy(sum, io.LimitReader(rand.NewChaCha8([32]byte{seed}), size))
		return hex.EncodeToString(sum.Sum(nil))
	}
	up, down := digest(1), digest(2)
	for name, test := range map[string]struct{ protocol, scheme string }{
		"http/1.1": {"http/1.1", "https"}, "h2": {"h2", "https"}, "plain": {"http/1.1", "http"},
	} {
		client := w.client(test.protocol)
		client.Timeout = 0
		response, err := client.Post(test.scheme+"://big.test:"+ports[test.scheme]+"/", "", io.LimitReader(rand.NewChaCha8([32]byte{1}), size))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sum := sha256.New()
		if n, err := io.Copy(sum, response.Body); n != size || err != nil {
			t.Errorf("%s: %d bytes came: %v", name, n, err)
		}
		if got := hex.EncodeToString(sum.Sum(nil)); got != down {
			t.Errorf("%s: down: SHA-256 %s, want %s", name, got, down)
		}
		if got := response.Header.Get("Sum"); got != up {
			t.Errorf("%s: up: SHA-256 %s, want %s", name, got, up)
		}
		r := w.finish(client)
		fine(t, r)
		if r.BytesUp < size || r.BytesDown < size {
			t.Errorf("%s: record has %d bytes up, %d down", name, r.BytesUp, r.BytesDown)
		}
	}
}

// TestHalfClose: a client that has ended still gets its answer, and what says
// that it has ended is a close_notify on both legs.
func TestHalfClose(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options{})
			truncated := make(chan bool, 1)
			leaf := w.public.leaf(t, "half.test")
			port := listen(t, func(conn net.Conn) {
				below := newWire(conn.(*net.TCPConn), nil)
				server := tls.Server(below, &tls.Config{Certificates: []tls.Certificate{leaf}, MaxVersion: version})
				request, _ := io.ReadAll(server)
				truncated <- below.ended
				server.Write(append([]byte("you said "), request...))
				server.CloseWrite()
			})
			below := newWire(w.open("half.test:"+port).(*net.TCPConn), nil)
			client := tls.Client(below, &tls.Config{RootCAs: w.certifier.trust.pool, ServerName: "half.test"})
			client.Write([]byte("that is all"))
			client.CloseWrite()
			answer, err := io.ReadAll(client)
			if err != nil || string(answer) != "you said that is all" || below.ended {
				t.Errorf("the client got %q, %v, truncated: %t", answer, err, below.ended)
			}
			if <-truncated {
				t.Error("the server heard no close_notify")
			}
			below.TCPConn.Close()
			fine(t, w.records.next(t))
		})
	}
}

// TestTruncation: an end without close_notify must not become one with.
func TestTruncation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	port := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, "cut.test")}}, func(conn *tls.Conn) {
		conn.Write([]byte("the first half"))
		conn.NetConn().(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, conn.NetConn())
	})
	below := newWire(w.open("cut.test:"+port).(*net.TCPConn), nil)
	client := tls.Client(below, &tls.Config{RootCAs: w.certifier.trust.pool, ServerName: "cut.test"})
	answer, err := io.ReadAll(client)
	if err != nil || string(answer) != "the first half" || !below.ended {
		t.Errorf("the client got %q, %v, truncated: %t; want a truncation", answer, err, below.ended)
	}
	below.TCPConn.Close()
	fine(t, w.records.next(t))
}

// TestSlowReader: what a slow client has not read yet waits at the server.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	const size = 64 << 20
	w := newWorld(t, options{})
	sent := make(chan int64, 1)
	port := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, "slow.test")}}, func(conn *tls.Conn) {
		conn.SetWriteDeadline(time.Now().Add(time.Second))
		n, _ := io.Copy(conn, io.LimitReader(rand.NewChaCha8([32]byte{}), size))
		sent <- n
	})
	client, err := w.handshake("slow.test:"+port, nil)
	if err != nil {
		t.Fatal(err)
	}
	n := <-sent
	if n >= size {
		t.Errorf("the server got rid of all of %d bytes though nobody read any", n)
	}
	if got, _ := io.Copy(io.Discard, client); got > n || got < n-recordSize {
		t.Errorf("%d bytes came of %d", got, n)
	}
	client.Close()
	w.records.next(t)
}

// fragment writes a hello in many TLS records, or segments.
type fragment struct {
	net.Conn
	record  int // bytes of a record's payload; 0 leaves records as they are
	segment int // bytes of one write
	done    bool
}

func (f *fragment) Write(b []byte) (int, error) {
	if f.done {
		return f.Conn.Write(b)
	}
	f.done = true
	out := b
	if f.record > 0 {
		out = nil
		for piece := range slices.Chunk(b[5:], f.record) {
			out = append(out, b[0], b[1], b[2], byte(len(piece)>>8), byte(len(piece)))
			out = append(out, piece...)
		}
	}
	for piece := range slices.Chunk(out, f.segment) {
		if _, err := f.Conn.Write(piece); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

func TestHelloInPieces(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{snapshot: config.Snapshot{Exclusions: []config.Exclusion{{Pattern: "raw.test", Excluded: true}}}})
	port := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, "pieces.test", "raw.test")}}, echo)
	for _, f := range []fragment{
		{segment: 1}, {record: 1, segment: 1 << 20}, {record: 1, segment: 1},
		{record: 700, segment: 1 << 20}, {record: 3, segment: 7},
	} {
		for _, host := range []string{"pieces.test", "raw.test"} {
			t.Run(fmt.Sprintf("%s/records %d segments %d", host, f.record, f.segment), func(t *testing.T) {
				roots := w.certifier.trust.pool
				if host == "raw.test" {
					roots = w.public.pool
				}
				f := f
				f.Conn = w.open(host + ":" + port)
				client := tls.Client(&f, &tls.Config{ServerName: host, RootCAs: roots})
				if err := client.Handshake(); err != nil {
					t.Fatal(err)
				}
				client.Write([]byte("ping"))
				client.CloseWrite()
				if got, err := io.ReadAll(client); err != nil || string(got) != "ping" {
					t.Errorf("got %q, %v", got, err)
				}
				client.Close()
				fine(t, w.records.next(t))
			})
		}
	}
}

// TestNamesAndALPN: the server hears what the client said, the client what the
// server chose.
func TestNamesAndALPN(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	heard := make(chan *tls.ClientHelloInfo, 1)
	port := listenTLS(t, &tls.Config{
		Certificates: []tls.Certificate{w.public.leaf(t, "host.test", "other.test", "127.0.0.1")},
		NextProtos:   []string{"b", "a"},
		GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
			heard <- info
			return nil, nil
		},
	}, echo)
	tests := []struct {
		name, host, sni string
		alpn            []string
		wantSNI, want   string
	}{
		{"the first choice of the server", "host.test", "host.test", []string{"a", "b"}, "host.test", "b"},
		{"no protocols", "host.test", "host.test", nil, "host.test", ""},
		{"another name than the host", "host.test", "other.test", []string{"a"}, "other.test", "a"},
		{"no name", "127.0.0.1", "127.0.0.1", []string{"a"}, "", "a"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			client, err := w.handshake(test.host+":"+port, &tls.Config{ServerName: test.sni, NextProtos: test.alpn})
			if err != nil {
				t.Fatal(err)
			}
			info := <-heard
			if info.ServerName != test.wantSNI || !slices.Equal(info.SupportedProtos, test.alpn) {
				t.Errorf("the server heard %q, %q", info.ServerName, info.SupportedProtos)
			}
			if got := client.ConnectionState().NegotiatedProtocol; got != test.want {
				t.Errorf("the client got protocol %q, want %q", got, test.want)
			}
			client.Close()
			r := w.records.next(t)
			fine(t, r)
			if r.SNI != test.wantSNI || r.Verdict != flow.Trusted {
				t.Errorf("record: SNI %q, verdict %s", r.SNI, r.Verdict)
			}
		})
	}
}

// TestResumption: sessions are resumed on both legs, and a server is judged
// anew each time.
func TestResumption(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options{})
			port := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, "again.test")}, MaxVersion: version}, echo)
			cache := tls.NewLRUClientSessionCache(8)
			visit := func() *flow.Record {
				client, err := w.handshake("again.test:"+port, &tls.Config{ClientSessionCache: cache, MaxVersion: version})
				if err != nil {
					t.Fatal(err)
				}
				client.Write([]byte("x"))
				io.ReadFull(client, make([]byte, 1))
				client.CloseWrite()
				io.Copy(io.Discard, client)
				client.Close()
				return w.records.next(t)
			}
			if r := visit(); r.ClientLeg.Resumed || r.ServerLeg.Resumed {
				t.Errorf("resumed what was not begun: %+v, %+v", r.ClientLeg, r.ServerLeg)
			}
			r := visit()
			if !r.ClientLeg.Resumed || !r.ServerLeg.Resumed || r.Verdict != flow.Trusted || r.ServerLeg.Certificate == nil || !r.Cached {
				t.Errorf("not resumed: %+v, %+v, %s", r.ClientLeg, r.ServerLeg, r.Verdict)
			}
			// The root is trusted no more: neither session helps.
			next := *w.runtime.Load()
			next.Verifier = Pins(nil)
			w.runtime.Store(&next)
			if _, err := w.handshake("again.test:"+port, &tls.Config{ClientSessionCache: cache, MaxVersion: version}); err == nil {
				t.Error("the client resumed its trusted session with a server that is trusted no more")
			}
			r = w.records.next(t)
			if r.Verdict != flow.UnknownIssuer || r.Authority != "forward-untrust" || !r.ServerLeg.Resumed {
				t.Errorf("record: %+v", r)
			}
		})
	}
}

func TestNoDecrypt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{snapshot: config.Snapshot{Exclusions: []config.Exclusion{{Pattern: "*.private.test", Excluded: true}}}})
	own := w.public.leaf(t, "a.private.test")
	port := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{own}}, echo)
	client, err := w.handshake("a.private.test:"+port, &tls.Config{RootCAs: w.public.pool})
	if err != nil {
		t.Fatal(err)
	}
	if got := client.ConnectionState().PeerCertificates[0]; !got.Equal(own.Leaf) {
		t.Errorf("the client saw %v, not the server's own certificate", got.Subject)
	}
	client.Write([]byte("secret"))
	client.CloseWrite()
	if got, err := io.ReadAll(client); err != nil || string(got) != "secret" {
		t.Errorf("got %q, %v", got, err)
	}
	client.Close()
	r := w.records.next(t)
	fine(t, r)
	if r.Action != "no-decrypt" || r.Reason != `exclusion "*.private.test"` || r.Verdict != flow.Unverified || r.ClientLeg != nil ||
		r.ServerLeg != nil || r.HSMCalls != 0 || r.SNI != "a.private.test" || r.BytesUp < 200 || r.BytesDown < 200 {
		t.Errorf("record: %+v", r)
	}

	// The same server name with another host is looked at: the client would
	// have to trust the gateway.
	if _, err := w.handshake("elsewhere.test:"+port, &tls.Config{ServerName: "a.private.test", RootCAs: w.public.pool}); err == nil {
		t.Error("a client talked a host out of inspection")
	}
	if r := w.records.next(t); r.Action != "decrypt" {
		t.Errorf("action %q, want decrypt", r.Action)
	}
}

// TestNoDecryptIsExact: a stranger's bytes pass as they are, in both directions.
func TestNoDecryptIsExact(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{snapshot: config.Snapshot{Exclusions: []config.Exclusion{{Pattern: "exact.test", Excluded: true}}}})
	got := make(chan []byte, 1)
	port := listen(t, func(conn net.Conn) {
		b, _ := io.ReadAll(conn)
		got <- b
		conn.Write(b)
	})
	sent := append(captureHello(t, "exact.test"), bytes.Repeat([]byte("not TLS at all\x00\xff"), 100_000)...)
	conn := w.open("exact.test:" + port)
	go func() {
		conn.Write(sent)
		conn.(*net.TCPConn).CloseWrite()
	}()
	back, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(back, sent) {
		t.Errorf("%d bytes came back of %d: %v", len(back), len(sent), err)
	}
	if b := <-got; !bytes.Equal(b, sent) {
		t.Errorf("the server got %d bytes of %d", len(b), len(sent))
	}
	r := w.records.next(t)
	fine(t, r)
	if r.BytesUp != int64(len(sent)) || r.BytesDown != int64(len(sent)) {
		t.Errorf("record has %d up, %d down, want %d", r.BytesUp, r.BytesDown, len(sent))
	}
}

// captureHello returns the ClientHello that crypto/tls sends for a name.
func captureHello(t testing.TB, name string) []byte {
	t.Helper()
	client, server := net.Pipe()
	go func() {
		tls.Client(client, &tls.Config{ServerName: name}).Handshake()
		client.Close()
	}()
	defer server.Close()
	header := make([]byte, 5)
	if _, err := io.ReadFull(server, header); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, int(header[3])<<8|int(header[4]))
	if _, err := io.ReadFull(server, body); err != nil {
		t.Fatal(err)
	}
	return append(header, body...)
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	strict := config.DefaultProfile()
	strict.Name, strict.BlockExpired, strict.BlockUntrustedIssuer, strict.BlockSNIMismatch = "strict", true, true, true
	rules := []config.Rule{{Name: "all", Action: config.Decrypt, Type: config.ForwardProxy, Profile: strict}}
	open, closed := newWorld(t, options{}), newWorld(t, options{snapshot: config.Snapshot{Rules: rules}})

	expired := leafTemplate("bad.test")
	expired.NotAfter = time.Now().Add(-time.Minute)
	stranger := newAuthority(t, "Nobody's Root")
	tests := []struct {
		name   string
		issuer func(*world) *authority
		leaf   *x509.Certificate
		want   flow.Status
		alert  uint8
	}{
		{"trusted", func(w *world) *authority { return w.public }, leafTemplate("bad.test"), flow.Trusted, 0},
		{"expired", func(w *world) *authority { return w.public }, expired, flow.Expired, flow.AlertCertificateExpired},
		{"self-signed", func(*world) *authority { return nil }, leafTemplate("bad.test"), flow.SelfSigned, flow.AlertUnknownCA},
		{"unknown issuer", func(*world) *authority { return stranger }, leafTemplate("bad.test"), flow.UnknownIssuer, flow.AlertUnknownCA},
		{"wrong name", func(w *world) *authority { return w.public }, leafTemplate("good.test"), flow.WrongName, flow.AlertBadCertificate},
		{"the gateway's own", func(w *world) *authority { return w.certifier.trust }, leafTemplate("bad.test"), flow.OwnAuthority, flow.AlertUnknownCA},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, w := range []*world{open, closed} {
				port := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{test.issuer(w).sign(t, test.leaf)}}, echo)
				for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
					client, err := w.handshake("bad.test:"+port, &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
					if w == closed && test.alert != 0 {
						if got := alertOf(err); got != test.alert {
							t.Errorf("closed: alert %d (%v), want %d", got, err, test.alert)
						}
						r := w.records.next(t)
						failed(t, r, flow.StageVerify, `profile "strict" blocks it`)
						if r.Action != "block" || r.Verdict != test.want || r.Rule != "all" || r.ServerLeg == nil || r.ClientLeg != nil {
							t.Errorf("closed: record %+v", r)
						}
						continue
					}
					if err != nil {
						t.Fatal(err)
					}
					want := w.certifier.untrust
					if test.want == flow.Trusted {
						want = w.certifier.trust
					}
					if err := client.ConnectionState().PeerCertificates[0].CheckSignatureFrom(want.cert); err != nil {
						t.Errorf("not signed by %v: %v", want.cert.Subject, err)
					}
					client.Close()
					r := w.records.next(t)
					fine(t, r)
					if r.Verdict != test.want || (r.VerdictDetail == "") != (test.want == flow.Trusted) {
						t.Errorf("verdict %s (%s), want %s", r.Verdict, r.VerdictDetail, test.want)
					}
				}
			}
		})
	}
}
