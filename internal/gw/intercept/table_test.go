package intercept

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
	"moongate/internal/gw/policy"
)

// TestHold: a handshake that waits goes on at the release, and fails as one
// whose key is out of reach when it takes too long; its client's end is another
// matter.
func TestHold(t *testing.T) {
	t.Parallel()
	table, cause := NewTable(), errors.New("HSM sessions reset")
	release, err := table.Hold(time.Hour, cause)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := table.Hold(time.Hour, cause); err == nil {
		t.Error("two holds at a time")
	}
	ended := make(chan *flow.Failure, 1)
	patient := &session{}
	go func() { ended <- table.pass(t.Context(), patient, true) }()
	for table.Waiting() == 0 {
		time.Sleep(time.Millisecond)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if f := table.pass(gone, &session{}, true); f == nil || !errors.Is(f, context.Canceled) {
		t.Errorf("a client that is gone: %v", f)
	}
	if patient.inspected.Load() {
		t.Error("it counts as inspected while it waits")
	}
	if waited, refused := release(); waited != 2 || refused != 1 {
		t.Errorf("%d waited, %d were refused", waited, refused)
	}
	if f := <-ended; f != nil || !patient.inspected.Load() {
		t.Errorf("after the release: %v", f)
	}
	if f := table.pass(t.Context(), &session{}, true); f != nil || table.Waiting() != 0 {
		t.Errorf("without a hold: %v", f)
	}

	release, err = table.Hold(time.Millisecond, cause)
	if err != nil {
		t.Fatal(err)
	}
	s := &session{}
	f := table.pass(t.Context(), s, true)
	if f == nil || f.Stage != flow.StageHSM || !errors.Is(f, cause) || !errors.Is(f, flow.ErrUnavailable) || s.inspected.Load() {
		t.Errorf("one that waited too long: %v", f)
	}
	release()
	release() // once is enough
}

// TestRetire: a listener that is retired takes nobody, and what it took goes on
// until it ends.
func TestRetire(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "Public Root")
	own := ca.leaf(t, "a.test")
	port := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{own}}, echo)
	var current atomic.Pointer[Runtime]
	rt := Runtime{Policy: policy.Compile(&config.Snapshot{}), Server: "127.0.0.1:" + port,
		Destinations: policy.NewDestinations(policy.DestinationRules{}), Stand: Stand{Certifier: fixed{&own}, Verifier: Pins{own.Leaf}},
		Limits: Limits{Drain: time.Millisecond}}
	current.Store(&rt)
	g, err := NewGate(Options{Runtime: &current, Sink: make(records, 10), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- g.Serve(t.Context(), listener) }()
	client, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{RootCAs: ca.pool, ServerName: "a.test"})
	if err != nil {
		t.Fatal(err)
	}
	g.Retire()
	g.Retire()
	for deadline := time.Now().Add(patience); ; {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			break
		}
		conn.Close()
		if time.Now().After(deadline) {
			t.Fatal("the listener is still open")
		}
	}
	// Well beyond Drain, which is for the end of the whole.
	time.Sleep(20 * time.Millisecond)
	if _, err := client.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if n, err := client.Read(make([]byte, 1)); n != 1 {
		t.Errorf("the flow has ended: %v", err)
	}
	select {
	case err := <-done:
		t.Errorf("Serve returned before its last flow: %v", err)
	default:
	}
	client.Close()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}
