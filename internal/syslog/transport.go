package syslog

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
	"unicode/utf8"
)

// Transport is how messages get to the collector.
type Transport int

const (
	TLS Transport = iota // RFC 5425
	TCP                  // RFC 6587, section 3.4.1; anybody on the way can read and change them
	UDP                  // RFC 5426; so they can, and send others in our name
)

func (t Transport) String() string {
	switch t {
	case TLS:
		return "TLS"
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	}
	return fmt.Sprintf("transport %d", int(t))
}

// MaxDatagram bounds a message by UDP, in bytes: it is cut. RFC 5426, section
// 3.2 has receivers take 480 and recommends 2048; those in use take 8 KiB.
const MaxDatagram = 8 << 10

// resolveAfter is when a name is looked up again, which UDP never gives cause
// to otherwise.
const resolveAfter = 5 * time.Minute

// plain refuses what only TLS has.
func (o *Options) plain() error {
	switch {
	case o.Transport != TCP && o.Transport != UDP:
		return fmt.Errorf("%v: expected TLS, TCP or UDP", o.Transport)
	case o.ServerName != "" || o.CAFile != "" || o.Roots != nil || o.SystemRoots || o.Fingerprint != "" || o.Certificate != "" || o.Key != "" || o.ClientCertificate != nil:
		return fmt.Errorf("certificates, or a server's name in one, are given for %v, which has none; use TLS or leave them out", o.Transport)
	}
	return nil
}

// connect makes a connection, and starts its reader.
func (s *Sender) connect(ctx context.Context) (*link, error) {
	l := &link{lost: make(chan struct{}), ended: make(chan struct{})}
	if s.opts.Transport == UDP {
		conn, err := new(net.Dialer).DialContext(ctx, "udp", s.opts.Address)
		if err != nil {
			return nil, err
		}
		l.conn = conn
		close(l.ended)
		return l, nil
	}
	dialer := net.Dialer{Control: userTimeout(s.opts.userTimeout)}
	conn, err := dialer.DialContext(ctx, "tcp", s.opts.Address)
	if err != nil {
		return nil, err
	}
	l.conn = conn
	if s.tls != nil {
		secure := tls.Client(conn, s.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("TLS with %s: %w", s.opts.Address, err), conn.Close())
		}
		l.conn = secure
	}
	l.w = bufio.NewWriterSize(l.conn, 64<<10)
	go l.watch()
	return l, nil
}

// datagram sends the message at once. What was sent is settled: nothing will
// ever be known of it. An error is of an earlier message, whose machine said that
// nobody listens; this one is not sent then.
func (s *Sender) datagram(l *link, mark int64) error {
	b := s.message
	if len(b) > MaxDatagram {
		n := MaxDatagram
		for n > 0 && !utf8.RuneStart(b[n]) {
			n--
		}
		b = b[:n]
	}
	if err := l.conn.SetWriteDeadline(time.Now().Add(s.opts.userTimeout)); err != nil {
		return s.drop(l, err)
	}
	if _, err := l.conn.Write(b); err != nil {
		return s.drop(l, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settled = mark
	s.status.Messages++
	now := time.Now()
	if now.Sub(s.dialled) > s.opts.settle {
		s.wait = s.opts.backoff // this one lasted
	}
	if now.Sub(s.dialled) > resolveAfter {
		s.link = nil // the next message has a new one
		return l.conn.Close()
	}
	return nil
}
