package world_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"moongate/e2e/world"
)

// talk sends a word from one host to another and waits for its echo.
func talk(ctx context.Context, from *world.Host, address, word string) error {
	conn, err := from.Dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := conn.Write([]byte(word)); err != nil {
		return err
	}
	echo := make([]byte, len(word))
	_, err = io.ReadFull(conn, echo)
	return err
}

// TestNetwork: hosts reach one another, each from its own address; a cut, a
// block and a slow link are what they say, and end.
func TestNetwork(t *testing.T) {
	t.Parallel()
	n := world.T(t).Network()
	a, b := n.Host("a", "10.164.75.32"), n.Host("b", "10.164.76.45", "10.164.77.45")
	callers := make(chan string, 10)
	serve := func(port int) {
		l, err := a.Listen(port)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				select {
				case callers <- conn.RemoteAddr().String():
				default:
				}
				go func() {
					defer conn.Close()
					io.Copy(conn, conn)
				}()
			}
		}()
	}
	serve(a.SSHPort)
	serve(a.ClientPort)
	say := func(port int, limit time.Duration, word string) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		return talk(ctx, b, a.At(port), word)
	}
	for _, port := range []int{a.SSHPort, a.ClientPort} {
		if err := say(port, 5*time.Second, "hello"); err != nil {
			t.Fatal(err)
		}
		if host, _, _ := net.SplitHostPort(<-callers); host != b.From() {
			t.Errorf("called from %s, expected %s", host, b.From())
		}
	}
	if !n.Namespaces {
		if err := a.Cut(t.Context()); !errors.Is(err, world.ErrNoNamespaces) {
			t.Errorf("a cut between loopback addresses: %v", err)
		}
		return
	}
	do := func(f func(context.Context) error) {
		t.Helper()
		if err := f(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	silent := func(when string, port int) {
		t.Helper()
		// Dropped, and not refused: the attempt lasts until its deadline.
		if err := say(port, 200*time.Millisecond, "hello"); !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
			t.Errorf("%s: %v, expected silence", when, err)
		}
	}
	do(a.Cut)
	silent("cut", a.SSHPort)
	do(a.Mend)
	do(func(ctx context.Context) error { return a.Block(ctx, a.ClientPort) })
	silent("blocked", a.ClientPort)
	if err := say(a.SSHPort, 5*time.Second, "hello"); err != nil {
		t.Errorf("the other port while one is blocked: %v", err)
	}
	do(a.Mend)
	do(func(ctx context.Context) error { return a.Slow(ctx, "64kbit") })
	began := time.Now()
	if err := say(a.ClientPort, 20*time.Second, strings.Repeat("slow", 1000)); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("4,000 bytes each way passed a slow link within %v", took)
	}
	do(a.Mend)
	if err := say(a.ClientPort, 5*time.Second, "hello"); err != nil {
		t.Errorf("mended: %v", err)
	}
	// The second address leaves by its own link.
	var out []byte
	do(func(ctx context.Context) error {
		return b.Do(func() (err error) {
			out, err = exec.CommandContext(ctx, "ip", "route", "get", a.IP(), "from", "10.164.77.45").Output()
			return err
		})
	})
	if !strings.Contains(string(out), "dev eth1") {
		t.Errorf("from the second address packets go by %s", out)
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// TestNetworkOnLoopback: without namespaces the same calls work on addresses of
// the loopback.
func TestNetworkOnLoopback(t *testing.T) {
	t.Setenv("MOONGATE_E2E_NETWORK", "loopback")
	n := world.T(t).Network()
	if n.Namespaces || n.Why == "" {
		t.Fatalf("namespaces %v, because %q", n.Namespaces, n.Why)
	}
	a, b := n.Host("a", "10.164.75.32"), n.Host("b", "10.164.76.45")
	l, err := a.Listen(a.SSHPort)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := b.Dial(t.Context(), "tcp", a.At(a.SSHPort))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if host, _, _ := net.SplitHostPort(conn.LocalAddr().String()); host != b.From() {
		t.Errorf("called from %s, expected %s", host, b.From())
	}
}
