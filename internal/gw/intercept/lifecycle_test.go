package intercept

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
	"moongate/internal/gw/policy"
)

// TestNothingLeft runs flows of every kind and end, stops the proxy, and looks
// for goroutines of this package. It is not parallel: the tests that are wait
// for it, so that theirs are not there yet.
func TestNothingLeft(t *testing.T) {
	w := newWorld(t, options{snapshot: config.Snapshot{Exclusions: []config.Exclusion{{Pattern: "raw.test", Excluded: true}}}})
	port := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, "deep.test", "raw.test")}}, echo)
	plain := serveHTTPS(t, http.HandlerFunc(hello), nil)
	flows := 0
	for range 5 {
		for _, host := range []string{"deep.test", "raw.test"} {
			client, _ := w.handshake(host+":"+port, &tls.Config{InsecureSkipVerify: true})
			client.Write([]byte("x"))
			flows++
			if flows%2 == 0 {
				client.NetConn().(*net.TCPConn).SetLinger(0)
				client.NetConn().Close()
			} // else it is open at the end
		}
		w.open("deep.test:" + port)
		w.tunnel("127.0.0.1:1")
		flows += 2
		client := w.client("http/1.1")
		if response, err := client.Get("http://plain.test:" + plain); err == nil {
			io.Copy(io.Discard, response.Body)
			flows++
		}
	}
	w.stop()
	if got := len(w.records); got != flows {
		t.Errorf("%d flows left %d records", flows, got)
	}
	if got := w.proxy.Stats().Active; got != 0 {
		t.Errorf("%d connections are counted as open", got)
	}
	var ours []string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		ours = nil
		for stack := range strings.SplitSeq(string(stacks()), "\n\n") {
			for _, name := range []string{"(*session)", "(*core)", "(*Proxy)", "(*Gate)", "crypto/tls", "net/http.(*persistConn)", "httputil"} {
				if strings.Contains(stack, name) && !strings.Contains(stack, "intercept.listen") && !strings.Contains(stack, "TestNothingLeft") {
					ours = append(ours, stack)
					break
				}
			}
		}
		if len(ours) == 0 {
			return
		}
		// Idle clients of the plain proxy are the test's own.
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	}
	t.Errorf("%d goroutines are left:\n%s", len(ours), strings.Join(ours, "\n\n"))
}

func stacks() []byte {
	buf := make([]byte, 1<<20)
	return buf[:runtime.Stack(buf, true)]
}

func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{limits: Limits{Connections: 2, HalfClosed: time.Minute}})
	port := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, "many.test")}}, echo)
	one, two := w.open("many.test:"+port), w.open("many.test:"+port)
	_, response := w.tunnel("many.test:" + port)
	refusal(t, w, response, http.StatusServiceUnavailable, "connection_limit_reached", flow.StageRequest, "too many connections")
	if got := w.proxy.Stats().Refused; got != 1 {
		t.Errorf("%d are counted as refused", got)
	}
	// Far beyond, connections are closed without a word.
	for range spare + 10 {
		w.dial()
	}
	last := w.dial()
	if n, err := last.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("a connection far beyond the limit got %d bytes, %v", n, err)
	}
	one.Close()
	two.Close()
	w.records.next(t)
	w.records.next(t)
	w.stop()
	if got := w.proxy.Stats().Active; got != 0 {
		t.Errorf("%d connections are counted as open", got)
	}
}

func TestGateTooManyConnections(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "Public Root")
	own := ca.leaf(t, "shop.test")
	port := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{own}}, echo)
	addr, sink, current := gate(t, Runtime{Server: "127.0.0.1:" + port, Stand: Stand{Certifier: fixed{&own}, Verifier: Pins{own.Leaf}}})
	next := *current.Load()
	next.Limits.Connections = 1
	current.Store(&next)
	first, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: ca.pool, ServerName: "shop.test"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: ca.pool, ServerName: "shop.test"}); err == nil {
		t.Error("the second connection was taken")
	}
	failed(t, sink.next(t), flow.StageRequest, "too many connections")
	first.Close()
	fine(t, sink.next(t))
}

func TestIdle(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{
		limits:   Limits{IdleTimeout: time.Second, HalfClosed: time.Second},
		snapshot: config.Snapshot{Exclusions: []config.Exclusion{{Pattern: "raw.test", Excluded: true}}},
	})
	port := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, "deep.test", "raw.test")}}, echo)
	for _, host := range []string{"deep.test", "raw.test"} {
		client, err := w.handshake(host+":"+port, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		// A byte now and then is enough: the whole takes longer than is
		// allowed without any.
		for range 6 {
			client.Write([]byte("x"))
			if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
				t.Fatalf("%s: %v", host, err)
			}
			time.Sleep(250 * time.Millisecond)
		}
		if _, err := client.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: got a byte from nowhere", host)
		}
		failed(t, w.records.next(t), flow.StageRelay, "idle for 1s")
	}
}

// TestDrain: flows under way end in their own time, as long as there is some.
func TestDrain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{limits: Limits{Drain: time.Minute}})
	port := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, "drain.test")}}, echo)
	client, err := w.handshake("drain.test:"+port, nil)
	if err != nil {
		t.Fatal(err)
	}
	var stopping sync.WaitGroup
	stopping.Go(w.stop)
	for deadline := time.Now().Add(patience); ; {
		conn, err := net.Dial("tcp", w.addr)
		if err != nil {
			break
		}
		conn.Close()
		if time.Now().After(deadline) {
			t.Fatal("the listener is still open")
		}
	}
	client.Write([]byte("still here"))
	got := make([]byte, 10)
	if _, err := io.ReadFull(client, got); err != nil || string(got) != "still here" {
		t.Errorf("got %q, %v", got, err)
	}
	client.Close()
	stopping.Wait()
	fine(t, w.records.next(t))
}

// TestShutdownCuts: what does not end in time is ended, and told so.
func TestShutdownCuts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{limits: Limits{Drain: 10 * time.Millisecond}})
	port := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, "cut.test")}}, echo)
	client, err := w.handshake("cut.test:"+port, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.stop()
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still open")
	}
	failed(t, w.records.next(t), flow.StageRelay, "the gateway shuts down")
}

// TestRuntimeSwap: a connection keeps the runtime that it started with.
func TestRuntimeSwap(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	own := w.public.leaf(t, "swap.test")
	port := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{own}}, echo)
	before := w.open("swap.test:" + port)
	next := *w.runtime.Load()
	next.Policy = policy.Compile(&config.Snapshot{Exclusions: []config.Exclusion{{Pattern: "swap.test", Excluded: true}}})
	w.runtime.Store(&next)
	after := w.open("swap.test:" + port)
	for conn, root := range map[net.Conn]*authority{before: w.certifier.trust, after: w.public} {
		client := tls.Client(conn, &tls.Config{ServerName: "swap.test", RootCAs: root.pool})
		if err := client.Handshake(); err != nil {
			t.Errorf("not under %v: %v", root.cert.Subject, err)
		}
		client.Close()
		w.records.next(t)
	}
}

func TestWiring(t *testing.T) {
	t.Parallel()
	var empty, half atomic.Pointer[Runtime]
	half.Store(&Runtime{Policy: policy.Compile(&config.Snapshot{})})
	log := slog.New(slog.DiscardHandler)
	for name, o := range map[string]Options{
		"nothing":       {},
		"no runtime":    {Runtime: &empty, Sink: make(records), Log: log},
		"half of one":   {Runtime: &half, Sink: make(records), Log: log},
		"no sink":       {Runtime: &half, Log: log},
		"no logger":     {Runtime: &half, Sink: make(records)},
		"nil everwhere": {Runtime: &half},
	} {
		if _, err := NewProxy(o); err == nil {
			t.Errorf("%s: a proxy was made", name)
		}
	}
}

// TestServeFails: a listener that breaks ends Serve with the reason.
func TestServeFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	for name, run := range map[string]func(context.Context, net.Listener) error{
		"proxy": func(ctx context.Context, l net.Listener) error {
			p, err := NewProxy(w.proxy.options)
			if err != nil {
				return err
			}
			return p.Serve(ctx, l)
		},
		"gate": func(ctx context.Context, l net.Listener) error {
			rt := *w.runtime.Load()
			rt.Server = "127.0.0.1:1"
			var current atomic.Pointer[Runtime]
			current.Store(&rt)
			g, err := NewGate(Options{Runtime: &current, Sink: w.records, Log: w.proxy.options.Log})
			if err != nil {
				return err
			}
			return g.Serve(ctx, l)
		},
	} {
		listener, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listener.Close()
		if err := run(t.Context(), listener); err == nil || !strings.Contains(err.Error(), "accepting") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// FuzzHello: whatever a client begins with, nothing of it is lost or made up,
// and a hello is the same in one piece and in many.
func FuzzHello(f *testing.F) {
	hello := captureHello(f, "fuzz.test")
	f.Add(hello, uint16(1))
	f.Add(hello[:60], uint16(7))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint16(3))
	f.Add([]byte{recordHandshake, 3, 1, 0, 1, 1}, uint16(2))
	f.Add(append(bytes.Clone(hello), "early data"...), uint16(500))
	f.Add(append(bytes.Clone(hello), bytes.Repeat([]byte("x"), 3000)...), uint16(65535))
	f.Fuzz(func(t *testing.T, sent []byte, cut uint16) {
		if len(sent) > 20_000 {
			return
		}
		early := min(int(cut), len(sent))
		client, server := pair(t)
		var writing sync.WaitGroup
		writing.Go(func() {
			client.Write(sent[early:])
			client.CloseWrite()
		})
		p, alert, err := peek(server, sent[:early])
		seen := p.bytes
		writing.Wait()
		if !bytes.HasPrefix(sent, seen) {
			t.Fatalf("saw %x of %x", seen, sent)
		}
		if err != nil {
			if len(alert) != 0 && len(alert) != 7 {
				t.Fatalf("wanted to send %x", alert)
			}
			return
		}
		if len(seen) < early {
			t.Fatalf("%d bytes of %d that came early are lost", early-len(seen), early)
		}
		again, _, err := peek(server, sent)
		if err != nil || fmt.Sprint(again.hello, again.earlyData) != fmt.Sprint(p.hello, p.earlyData) {
			t.Fatalf("in one piece %+v, %v; in two %+v", again, err, p)
		}
		checkServerName(p.hello.ServerName)
	})
}

// pair returns two ends of a TCP connection.
func pair(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client.(*net.TCPConn), server.(*net.TCPConn)
}
