package server

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

func TestBudget(t *testing.T) {
	t.Parallel()
	never := func() bool { return false }
	b := newBudget(100)
	if !b.reserve(200, never, never) {
		t.Error("an idle client was refused a large request")
	}
	admitted := make(chan bool, 1)
	go func() { admitted <- b.reserve(1, never, never) }()
	select {
	case <-admitted:
		t.Error("a client over its budget was given more")
	case <-time.After(20 * time.Millisecond):
	}
	b.take(50) // does not wait
	b.release(200)
	if !wait(t, admitted, "room") || b.used != 51 {
		t.Errorf("%d bytes are used, want 51", b.used)
	}
	// Who needs no room any more is seen when others give theirs back.
	var exempt atomic.Bool
	go func() { admitted <- b.reserve(60, exempt.Load, never) }()
	exempt.Store(true)
	b.release(1)
	if !wait(t, admitted, "an exemption") || b.used != 110 {
		t.Errorf("%d bytes are used, want 110", b.used)
	}
	b.release(59)
	// Whoever waits for nothing any more is let go.
	var ended atomic.Bool
	go func() { admitted <- b.reserve(60, never, ended.Load) }()
	ended.Store(true)
	b.wake()
	if wait(t, admitted, "the end of waiting") || b.used != 51 {
		t.Errorf("a connection that is gone reserved: %d bytes are used", b.used)
	}
}

// heldBy is what a client's connections hold together.
func (r *running) heldBy(f Fingerprint) int {
	r.mu.Lock()
	tenant := r.clients[f]
	r.mu.Unlock()
	if tenant == nil {
		return 0
	}
	tenant.budget.mu.Lock()
	defer tenant.budget.mu.Unlock()
	return tenant.budget.used
}

// TestClientsShareABudget: connections that are never read hold what their
// client may hold, however many there are, and neither other clients nor the
// client's own small requests wait for them.
func TestClientsShareABudget(t *testing.T) {
	t.Parallel()
	m := &wire.UseRequest{Session: 1, Data: make([]byte, 400<<10)}
	frame := m.Append(wire.BeginRequest(nil, wire.Request{ID: 9, Op: wire.OpEncrypt}))
	wire.End(frame, 0)
	budget := 7 * wire.Charge(wire.OpSign, len(frame)-4) // so that nothing is left of it
	r := start(t, Options{Backend: newDevice(t), MaxBuffered: 1 << 20, MaxBufferedPerClient: budget, WriteTimeout: time.Hour})
	certificate := newCertificate(t, "stalls")
	var writers sync.WaitGroup
	for range 8 {
		p := r.connect(t, certificate)
		writers.Go(func() {
			p.conn.SetDeadline(time.Time{})
			for {
				if _, err := p.conn.Write(frame); err != nil {
					return // the test's end closes the connection
				}
			}
		})
		t.Cleanup(func() { p.conn.Close() })
	}
	t.Cleanup(func() { r.Disconnect(fingerprintOf(certificate)); writers.Wait() })
	most := 0
	for deadline := time.Now().Add(300 * time.Millisecond); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		most = max(most, r.heldBy(fingerprintOf(certificate)))
	}
	if most > budget {
		t.Errorf("one client held %d bytes, at most %d", most, budget)
	}
	if most < budget {
		t.Errorf("one client held %d bytes alone: the test does not fill its budget of %d", most, budget)
	}
	for name, p := range map[string]*peer{"another client": r.connect(t, newCertificate(t, "other")), "its own other connection": r.connect(t, certificate)} {
		for range 20 {
			p.send(wire.OpSign, sign(1))
			if head, _ := p.receive(); head.Code != object.OK {
				t.Errorf("%s: %v", name, head.Code)
			}
		}
		p.send(wire.OpPing, done)
		p.want(object.OK)
	}
}

// TestBudgetIsGivenBack, whatever becomes of the connections.
func TestBudgetIsGivenBack(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	d.sign = func(ctx context.Context, digest []byte) error {
		if digest[0] == 1 {
			<-ctx.Done()
		}
		return ctx.Err()
	}
	r := start(t, Options{Backend: d})
	certificate := newCertificate(t, "c")
	stays := r.connect(t, certificate)
	for range 5 {
		p := r.connect(t, certificate)
		p.send(wire.OpSign, sign(2))
		p.want(object.OK)
		p.send(wire.OpSign, sign(1)) // is cancelled
		p.send(wire.OpFind, &wire.FindRequest{Session: 1, Limit: 1})
		p.want(object.OK)
		if _, err := p.conn.Write([]byte{0, 1, 0, 0, 0}); err != nil { // half a frame
			t.Fatal(err)
		}
		p.conn.Close()
	}
	for deadline := time.Now().Add(patience); r.heldBy(fingerprintOf(certificate)) != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes were not given back", r.heldBy(fingerprintOf(certificate)))
		}
	}
	stays.send(wire.OpPing, done)
	stays.want(object.OK)
}
