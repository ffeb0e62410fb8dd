package server

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// silence opens a connection and says nothing.
func (r *running) silence(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// wantClosed expects the server to hang up.
func wantClosed(t *testing.T, c net.Conn, what string) {
	t.Helper()
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s: %v, want the connection's end", what, err)
	}
}

// waitFor polls until a number of handshakes is in progress.
func (r *running) waitForHandshakes(t *testing.T, want int) {
	t.Helper()
	for deadline := time.Now().Add(patience); r.Stats().Handshakes != want; {
		if time.Now().After(deadline) {
			t.Fatalf("%d handshakes, want %d", r.Stats().Handshakes, want)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestSilenceKeepsNobodyOut: connections that say nothing fill an address's
// places, and the HSM's, and a client is admitted at once all the same.
func TestSilenceKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"of an address": {MaxHandshakesPerAddress: 3},
		"of the HSM":    {MaxHandshakes: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o.Backend, o.HandshakeTimeout = newDevice(t), time.Hour
			r := start(t, o)
			var silent []net.Conn
			for range 5 {
				silent = append(silent, r.silence(t))
			}
			r.waitForHandshakes(t, 3)
			// The oldest gave way.
			wantClosed(t, silent[0], "the first")
			wantClosed(t, silent[1], "the second")
			r.connect(t, newCertificate(t, "c"))
			wantClosed(t, silent[2], "the third")
			if n := r.Stats().Refused; n != 3 {
				t.Errorf("%d connections count as refused, want 3", n)
			}
		})
	}
}

func TestHandshakesThatSpeakKeepTheirPlace(t *testing.T) {
	t.Parallel()
	h := newHandshakes(10, 2, 1)
	a, b := netip1(1), netip1(2)
	pipe := func() net.Conn {
		c, other := net.Pipe()
		t.Cleanup(func() { c.Close(); other.Close() })
		return c
	}
	now := time.Now()
	first, second := h.begin(pipe(), a, now), h.begin(pipe(), a, now)
	first.spoke.Store(true)
	second.spoke.Store(true)
	if h.begin(pipe(), a, now.Add(honest)) != nil {
		t.Error("a third displaced one that is at work")
	}
	if h.begin(pipe(), b, now) == nil {
		t.Error("another address found no place")
	}
	third := h.begin(pipe(), a, now.Add(honest+1))
	if third == nil || !first.evicted.Load() || second.evicted.Load() {
		t.Error("what takes too long kept its place, or the newer one lost it")
	}
	for _, p := range []*pending{first, first, second, third} { // once too often does no harm
		h.end(p)
	}
	if h.count() != 1 || len(h.from) != 1 || h.from[b] != 1 {
		t.Errorf("%d handshakes are left of %v", h.count(), h.from)
	}
}

func TestHandshakesEndInTime(t *testing.T) {
	t.Parallel()
	r := start(t, Options{Backend: newDevice(t), HandshakeTimeout: 50 * time.Millisecond})
	wantClosed(t, r.silence(t), "a silent connection")
	r.waitForHandshakes(t, 0)
}

// TestHandshakesTakeTurns: who waits for its peer holds no turn.
func TestHandshakesTakeTurns(t *testing.T) {
	t.Parallel()
	h := newHandshakes(10, 10, 1)
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	first, second := h.begin(here, netip1(1), time.Now()), h.begin(here, netip1(1), time.Now())
	if err := first.compute(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := second.compute(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("two compute at a time: %v", err)
	}
	go there.Read(make([]byte, 1))
	if _, err := first.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if err := second.compute(t.Context()); err != nil {
		t.Error(err)
	}
	h.end(first)
	h.end(second)
	if len(h.turns) != 0 {
		t.Error("a turn was not given back")
	}
}
