package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"testing"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// TestManyConnectionsAndSessions is a tenth of what one HSM is for: 1,000
// connections and 10,000 sessions, within the default limits.
func TestManyConnectionsAndSessions(t *testing.T) {
	t.Parallel()
	clients, each, sessions := 10, 10, 10
	if testing.Short() {
		clients = 2
	}
	r := start(t, Options{Backend: newDevice(t)})
	var opening sync.WaitGroup
	peers := make(chan *peer, clients*each)
	for range clients {
		certificate := newCertificate(t, "c")
		for range each {
			opening.Go(func() {
				p := r.connect(t, certificate)
				for range sessions - 1 {
					p.send(wire.OpOpenSession, &wire.OpenSessionRequest{})
					p.want(object.OK)
				}
				peers <- p
			})
		}
	}
	opening.Wait()
	close(peers)
	if s := r.Stats(); s.Connections != clients*each || s.Sessions != clients*each*sessions || s.Handshakes != 0 {
		t.Errorf("Stats: %+v", s)
	}
	for p := range peers {
		request := sign(1)
		request.Session = uint32(sessions)
		p.send(wire.OpSign, request)
		p.want(object.OK)
		p.conn.Close()
	}
	for deadline := time.Now().Add(patience); r.Stats().Connections+r.Stats().Sessions > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after their end: %+v", r.Stats())
		}
	}
}

// TestOthersDoNotSlowAClient: beside connections that flood, stall, say nothing
// and send garbage, a client's signatures are answered. The bound is loose, for
// machines that do other things; bench measures.
func TestOthersDoNotSlowAClient(t *testing.T) {
	t.Parallel()
	r := start(t, Options{Backend: newDevice(t), MaxHandshakesPerAddress: 64})
	p := r.connect(t, newCertificate(t, "good"))
	ctx, cancel := context.WithCancel(t.Context())
	var others sync.WaitGroup
	t.Cleanup(func() { cancel(); others.Wait() })
	nuisance := func(c interface{ Close() error }, f func() error) {
		context.AfterFunc(ctx, func() { c.Close() })
		others.Go(func() {
			for ctx.Err() == nil && f() == nil {
			}
		})
	}
	frame := func(op wire.Op, m answer) []byte {
		b := m.Append(wire.BeginRequest(nil, wire.Request{ID: 1, Op: op}))
		wire.End(b, 0)
		return b
	}
	bad := newCertificate(t, "bad")
	flood, stall := r.connect(t, bad), r.connect(t, bad)
	signature, random := frame(wire.OpSign, sign(1)), frame(wire.OpRandom, &wire.RandomRequest{Session: 1, N: wire.MaxRandom})
	nuisance(flood.conn, func() error { _, err := flood.conn.Write(signature); return err })
	nuisance(flood.conn, func() error { _, err := io.CopyN(io.Discard, flood.conn, 1000); return err })
	nuisance(stall.conn, func() error { _, err := stall.conn.Write(random); return err })
	for range 100 {
		r.silence(t)
	}
	nuisance(io.NopCloser(nil), func() error {
		c, err := net.Dial("tcp", r.address)
		if err == nil {
			c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
			c.SetReadDeadline(time.Now().Add(time.Millisecond))
			c.Read(make([]byte, 10))
			c.Close()
		}
		return err
	})

	var slowest time.Duration
	for range 50 {
		began := time.Now()
		p.send(wire.OpSign, sign(2))
		p.want(object.OK)
		slowest = max(slowest, time.Since(began))
	}
	// How long is for bench/capacity to say: this machine may be busy.
	t.Logf("the slowest signature took %v", slowest)
	// And somebody new is let in.
	r.connect(t, newCertificate(t, "new"))
}

// idleEnv makes the test binary a client that holds idle connections.
const idleEnv = "SERVER_TEST_IDLE"

func TestMain(m *testing.M) {
	if address := os.Getenv(idleEnv); address != "" {
		fmt.Fprintln(os.Stderr, holdConnections(address))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// holdConnections makes connections, a session each, until its input ends.
func holdConnections(address string) error {
	count, err := strconv.Atoi(os.Getenv(idleEnv + "_COUNT"))
	if err != nil {
		return err
	}
	var t testing.T // for the certificate's failures alone, of which there are none
	var certificate tls.Certificate
	var held []*peer // or they would be collected, and closed
	for i := range count {
		if i%16 == 0 {
			certificate = newCertificate(&t, "idle")
		}
		p := (&running{address: address}).connect(&benchPeer{}, certificate)
		p.send(wire.OpSign, sign(1))
		p.want(object.OK)
		p.conn.SetDeadline(time.Time{})
		held = append(held, p)
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(held)
	return err
}

// benchPeer is a testing.TB outside of a test: its failures end the process.
type benchPeer struct{ testing.TB }

func (*benchPeer) Helper()        {}
func (*benchPeer) Cleanup(func()) {}
func (*benchPeer) Fatal(args ...any) {
	fmt.Fprintln(os.Stderr, args...)
	os.Exit(1)
}
func (b *benchPeer) Fatalf(format string, args ...any) { b.Fatal(fmt.Sprintf(format, args...)) }

// BenchmarkIdleConnection reports the server's memory for each connection that
// is admitted, has a session, has signed once, and does nothing.
func BenchmarkIdleConnection(b *testing.B) {
	const count = 1000
	d := newDevice(b)
	r := start(b, Options{Backend: d})
	go func() { // nobody else listens
		for range d.changed {
		}
	}()
	memory := func() uint64 {
		debug.FreeOSMemory()
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before := memory()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), idleEnv+"="+r.address, fmt.Sprintf("%s_COUNT=%d", idleEnv, count))
	child.Stderr = os.Stderr
	stdin, err := child.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := child.Start(); err != nil {
		b.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		b.Fatalf("the client says %q, %v", line, err)
	}
	if got := r.Stats(); got.Connections != count || got.Sessions != count {
		b.Fatalf("%+v", got)
	}
	for b.Loop() {
	}
	b.ReportMetric(float64(memory()-before)/count, "B/connection")
	stdin.Close()
	child.Wait()
}
