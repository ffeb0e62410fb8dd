package sshd

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func TestIdleConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Limits{Idle: time.Second}, nil)
	begun := time.Now()
	if err := w.dial().Wait(); err == nil || time.Since(begun) > 5*time.Second {
		t.Errorf("a connection without a session: %v after %v", err, time.Since(begun))
	}
	c := w.dial()
	s, err := c.NewSession()
	must(t, err)
	in, err := s.StdinPipe()
	must(t, err)
	must(t, s.Start("swallow"))
	for range 15 { // what is typed keeps it
		time.Sleep(100 * time.Millisecond)
		_, err := io.WriteString(in, "x")
		must(t, err)
	}
	start := time.Now()
	if err := c.Wait(); err == nil || time.Since(start) > 5*time.Second {
		t.Errorf("an idle connection: %v after %v", err, time.Since(start))
	}
}

func TestLoginGrace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Limits{LoginGrace: 100 * time.Millisecond}, func(_ *Options, h *house) { h.slow = make(chan struct{}) })
	for _, begin := range []func(net.Conn){
		func(net.Conn) {},
		func(c net.Conn) { io.WriteString(c, "SSH-2.0-x\r\n") },
		func(c net.Conn) { io.WriteString(c, strings.Repeat("x", 100)) },
	} {
		conn, err := net.Dial("tcp", w.addr)
		must(t, err)
		begin(conn)
		must(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a connection that does not log in is kept")
		}
		conn.Close()
	}
	if _, err := ssh.Dial("tcp", w.addr, w.config(ssh.Password("right"))); err == nil {
		t.Error("a login that takes too long succeeded")
	}
}

func TestPasswordChecksAreBounded(t *testing.T) {
	t.Parallel()
	slow := make(chan struct{})
	w := newWorld(t, Limits{PasswordChecks: 2, PendingPerAddress: 10}, func(_ *Options, h *house) { h.slow = slow })
	var clients sync.WaitGroup
	for range 6 {
		clients.Go(func() {
			if c, err := ssh.Dial("tcp", w.addr, w.config(ssh.Password("right"))); err != nil {
				t.Error(err)
			} else {
				c.Close()
			}
		})
	}
	eventually(t, "two passwords are being checked", func() bool {
		w.house.mu.Lock()
		defer w.house.mu.Unlock()
		return w.house.checking == 2
	})
	time.Sleep(50 * time.Millisecond) // for a third one to come
	close(slow)
	clients.Wait()
	w.house.mu.Lock()
	defer w.house.mu.Unlock()
	if w.house.most != 2 {
		t.Errorf("%d passwords were checked at a time", w.house.most)
	}
}

func TestAuthTriesAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Limits{AuthTries: 3}, nil)
	tries := 0
	_, err := ssh.Dial("tcp", w.addr, w.config(ssh.RetryableAuthMethod(ssh.PasswordCallback(func() (string, error) {
		tries++
		return "wrong", nil
	}), 100)))
	if err == nil || tries != 3 {
		t.Errorf("%d tries, %v", tries, err)
	}
}

func TestConnectionsOfAnAccountAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Limits{ConnectionsPerUser: 2}, nil)
	first := w.dial()
	w.dial()
	told := ""
	config := w.config(ssh.PublicKeys(w.ann))
	config.BannerCallback = func(text string) error { told += text; return nil }
	if _, err := ssh.Dial("tcp", w.addr, config); err == nil || !strings.Contains(told, "too many connections") {
		t.Errorf("a third connection: %v, told %q", err, told)
	}
	first.Close()
	eventually(t, "there is room again", func() bool {
		c, err := ssh.Dial("tcp", w.addr, w.config(ssh.PublicKeys(w.ann)))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// TestDoor: a flood is in its own way, not in that of others.
func TestDoor(t *testing.T) {
	t.Parallel()
	d := newDoor(Limits{Pending: 6, PendingPerAddress: 3}.withDefaults())
	closed := map[net.Conn]bool{}
	knock := func(addr string) (*visitor, *closer) {
		c := &closer{closed: closed}
		return d.knock(c, netip.MustParseAddr(addr)), c
	}
	admin, adminConn := knock("192.0.2.1") // the oldest of all
	_, first := knock("2001:db8::1")
	knock("2001:db8::2")
	knock("2001:db8::3")
	if v, _ := knock("2001:db8::ffff"); v != nil {
		t.Error("a fourth of one network came in")
	}
	knock("2001:db8:0:1::1")
	knock("2001:db8:0:1::2")
	// Now it is full: room is made by those of whom there are most.
	if v, _ := knock("198.51.100.1"); v == nil || !closed[first] || len(closed) != 1 {
		t.Errorf("a new address came in: %v; closed: %d", v != nil, len(closed))
	}
	for range 10 {
		knock("2001:db8:0:1::3")
		knock("2001:db8::4")
	}
	if closed[adminConn] || len(d.pending) != 6 {
		t.Errorf("the administrator was pushed out: %v; %d pending", closed[adminConn], len(d.pending))
	}
	d.leave(admin)
	if len(d.pending) != 5 {
		t.Errorf("%d pending", len(d.pending))
	}
}

type closer struct {
	net.Conn
	closed map[net.Conn]bool
}

func (c *closer) Close() error { c.closed[c] = true; return nil }
