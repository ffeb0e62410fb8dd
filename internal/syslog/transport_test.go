package syslog

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func plainOptions(addr string, transport Transport) Options {
	return Options{
		Address: addr, Transport: transport, Hostname: "gw.example", App: "moongate", Logger: slog.New(slog.DiscardHandler),
		settle: 200 * time.Millisecond, userTimeout: 5 * time.Second, backoff: time.Millisecond,
	}
}

// TestTCP: messages with their size before them, and losses told, as with TLS.
func TestTCP(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	s := newSender(t, plainOptions(listener.Addr().String(), TCP))
	receive := func(from, to int) net.Conn {
		t.Helper()
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(conn)
		for i := from; i < to; i++ {
			var size int
			if _, err := fmt.Fscanf(in, "%d ", &size); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, size)
			if _, err := io.ReadFull(in, b); err != nil || !syntax.Match(b) || !strings.Contains(string(b), fmt.Sprintf(`seq="%d"] hello`, i)) {
				t.Fatalf("message %d is %q, %v", i, b, err)
			}
		}
		return conn
	}
	send(t, s, 0, 100)
	conn := receive(0, 100)
	waitSettled(t, s, 99)
	send(t, s, 100, 101)
	conn.Close()
	for limit := time.Now().Add(10 * time.Second); err == nil && time.Now().Before(limit); time.Sleep(time.Millisecond) {
		err = s.Flush()
	}
	if !errors.Is(err, ErrLost) || s.Settled() != 99 {
		t.Errorf("Flush: %v; settled up to %d", err, s.Settled())
	}
	send(t, s, 100, 110)
	receive(100, 110).Close()
}

// TestUDP: a datagram for each message, cut where it is too long; a machine on
// which nobody listens is noticed.
func TestUDP(t *testing.T) {
	t.Parallel()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newSender(t, plainOptions(socket.LocalAddr().String(), UDP))
	b := make([]byte, 64<<10)
	receive := func() string {
		t.Helper()
		if err := socket.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, _, err := socket.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	for i := range 10 {
		send(t, s, i, i+1)
		if got := receive(); !syntax.MatchString(got) || !strings.Contains(got, fmt.Sprintf(`seq="%d"] hello`, i)) {
			t.Errorf("message %d is %q", i, got)
		}
		if s.Settled() != int64(i) {
			t.Errorf("settled up to %d, want %d", s.Settled(), i)
		}
	}
	long := message(10)
	long.Text = strings.Repeat("é", maxText/2)
	if err := s.Send(t.Context(), long); err != nil {
		t.Fatal(err)
	}
	if got := receive(); len(got) > MaxDatagram || len(got) < MaxDatagram-3 || !utf8.ValidString(got) {
		t.Errorf("%d bytes, valid UTF-8: %v", len(got), utf8.ValidString(got))
	}
	address := socket.LocalAddr().String()
	socket.Close()
	for limit := time.Now().Add(10 * time.Second); err == nil && time.Now().Before(limit); time.Sleep(time.Millisecond) {
		err = s.Send(t.Context(), message(11))
	}
	if st := s.Status(); !errors.Is(err, ErrLost) || st.Connected {
		t.Errorf("Send to nobody: %v, %+v", err, st)
	}
	if socket, err = net.ListenPacket("udp", address); err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	send(t, s, 12, 13)
	for !strings.Contains(receive(), `seq="12"`) {
	}
}

func TestPlainRefuses(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Options){
		"use TLS or leave them out": func(o *Options) { o.SystemRoots = true },
		"given for UDP":             func(o *Options) { o.Transport, o.CAFile = UDP, "ca.pem" },
		"transport 7: expected":     func(o *Options) { o.Transport = 7 },
		"expected host and port":    func(o *Options) { o.Address = "collector" },
	} {
		opts := plainOptions("127.0.0.1:514", TCP)
		change(&opts)
		if _, err := New(opts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
}
