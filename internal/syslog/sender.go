package syslog

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

// Options of a Sender. Address and Logger are required, and with TLS one of
// CAFile, Roots, SystemRoots and Fingerprint.
type Options struct {
	Address   string    // host and port; 6514 is registered for TLS, 514 for UDP
	Transport Transport // TLS by default

	// With TLS only.
	ServerName        string           // in the collector's certificate; the address's host by default
	CAFile            string           // certificates that the collector's must lead to, PEM
	Roots             *x509.CertPool   // or the same, read already
	SystemRoots       bool             // or those that this machine trusts
	Fingerprint       string           // or the SHA-256 of the collector's very certificate, in hexadecimal
	Certificate       string           // our certificate for the collector, PEM; empty for none
	Key               string           // its private key, PEM
	ClientCertificate *tls.Certificate // or the same, read already

	Facility int    // 0 for FacilityAudit
	Hostname string // in each message; this machine's by default
	App      string // the program's name in each message
	Logger   *slog.Logger

	// For tests; the zero values are the defaults.
	settle      time.Duration
	userTimeout time.Duration
	backoff     time.Duration
}

const (
	// defaultUserTimeout is how long the collector may leave data without an
	// acknowledgement by TCP until the connection counts as dead.
	defaultUserTimeout = 10 * time.Second
	// defaultSettle is when a message needs no repetition any more. It is
	// longer than the user timeout: on a connection that still lives then, the
	// collector's machine has it.
	defaultSettle = 15 * time.Second

	dialTimeout = 10 * time.Second
	minBackoff  = 250 * time.Millisecond
	maxBackoff  = 30 * time.Second
)

// ErrLost says that a connection died. Messages behind [Sender.Settled] may
// not have arrived.
var ErrLost = errors.New("connection to the syslog collector was lost")

// A Sender sends messages over one connection at a time, which it makes anew
// when it is needed. Send and Flush are for one goroutine; the other methods
// are safe for concurrent use. It holds 64 KiB of messages and no more.
type Sender struct {
	opts Options
	from identity
	tls  *tls.Config // nil without TLS

	// Owned by the goroutine that sends.
	message, frame []byte
	written        int64         // mark of the newest message in the buffer
	wait           time.Duration // least time between two connections
	dialled        time.Time

	mu      sync.Mutex // guards the fields below
	link    *link
	settled int64
	status  Status
	closed  bool
}

// Status is what there is to know of a Sender.
type Status struct {
	Connected bool
	Since     time.Time // of the connection, or of its loss
	Messages  int64     // written since the start, repetitions included
	Err       error     // why there is no connection
}

// A link is a connection. Its reader closes lost when the collector closed it;
// that of UDP has none.
type link struct {
	conn   net.Conn
	w      *bufio.Writer // not of UDP
	lost   chan struct{}
	ended  chan struct{} // closed when the reader has returned
	marks  []sent        // flushed and not settled, oldest first; guarded by Sender.mu
	failed error         // of the reader; set before lost is closed
}

// sent is the newest message of a flush.
type sent struct {
	mark int64
	at   time.Time
}

// New reads the certificates and makes a Sender. It does not connect.
func New(opts Options) (*Sender, error) {
	config, err := opts.tlsConfig()
	if err != nil {
		return nil, fmt.Errorf("syslog: %w", err)
	}
	if opts.Logger == nil {
		return nil, errors.New("syslog: no logger")
	}
	if opts.Hostname == "" {
		if opts.Hostname, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("syslog: %w", err)
		}
	}
	if opts.Facility == 0 {
		opts.Facility = FacilityAudit
	}
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{{&opts.settle, defaultSettle}, {&opts.userTimeout, defaultUserTimeout}, {&opts.backoff, minBackoff}} {
		if *d.value <= 0 {
			*d.value = d.standard
		}
	}
	return &Sender{
		opts: opts, tls: config, settled: -1, written: -1, wait: opts.backoff,
		from:   identity{facility: opts.Facility, host: opts.Hostname, app: opts.App, proc: strconv.Itoa(os.Getpid())},
		status: Status{Since: time.Now()},
	}, nil
}

// Send writes a message, at the latest when [Sender.Flush] is called. Without
// a connection it makes one, and tries until it has one or ctx ends. It fails
// with an error that matches [ErrLost] when the connection that earlier
// messages went to has died; the message is not sent then, and the caller goes
// back to the one behind Settled.
func (s *Sender) Send(ctx context.Context, m Message) error {
	l, err := s.connected(ctx)
	if err != nil {
		return err
	}
	s.message = appendMessage(s.message[:0], s.from, &m)
	if s.opts.Transport == UDP {
		return s.datagram(l, m.Mark)
	}
	s.frame = appendFrame(s.frame[:0], s.message)
	if l.w.Available() < len(s.frame) {
		if err := s.flush(l); err != nil {
			return err
		}
	}
	if err := l.conn.SetWriteDeadline(time.Now().Add(s.opts.userTimeout)); err != nil {
		return s.drop(l, err)
	}
	if _, err := l.w.Write(s.frame); err != nil {
		return s.drop(l, err)
	}
	s.written = m.Mark
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Messages++
	return nil
}

// Flush writes what Send has kept. It fails as Send does, also if there was
// nothing to write: so the caller learns in time that it must go back.
func (s *Sender) Flush() error {
	s.mu.Lock()
	l := s.link
	s.mu.Unlock()
	if l == nil || s.opts.Transport == UDP {
		return nil
	}
	if err := l.dead(); err != nil {
		return s.drop(l, err)
	}
	return s.flush(l)
}

// markInterval is how far apart the marks are that are waited for.
const markInterval = 100 * time.Millisecond

func (s *Sender) flush(l *link) error {
	if l.w.Buffered() == 0 {
		return nil
	}
	if err := l.conn.SetWriteDeadline(time.Now().Add(s.opts.userTimeout)); err != nil {
		return s.drop(l, err)
	}
	if err := l.w.Flush(); err != nil {
		return s.drop(l, err)
	}
	now := time.Now()
	if now.Sub(s.dialled) > s.opts.settle {
		s.wait = s.opts.backoff // this one lasted
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(l.marks); n > 1 && now.Sub(l.marks[n-2].at) < markInterval {
		l.marks[n-1] = sent{s.written, now}
	} else {
		l.marks = append(l.marks, sent{s.written, now})
	}
	s.settle(l, now)
	return nil
}

// settle moves settled on. The caller holds mu.
func (s *Sender) settle(l *link, now time.Time) {
	for len(l.marks) > 0 && now.Sub(l.marks[0].at) >= s.opts.settle {
		s.settled = l.marks[0].mark
		l.marks = l.marks[1:]
	}
}

// Settled is the mark of the newest message that, like all before it, needs no
// repetition; -1 for none. It lags some 15 seconds behind.
func (s *Sender) Settled() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != nil && s.link.dead() == nil {
		s.settle(s.link, time.Now())
	}
	return s.settled
}

// Status tells how the Sender is.
func (s *Sender) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// connected is the connection, or a new one. A connection that died is told
// of once, before there is a new one.
func (s *Sender) connected(ctx context.Context) (*link, error) {
	s.mu.Lock()
	l, closed := s.link, s.closed
	s.mu.Unlock()
	if closed {
		return nil, net.ErrClosed
	}
	if l != nil {
		if err := l.dead(); err != nil {
			return nil, s.drop(l, err)
		}
		return l, nil
	}
	for {
		if err := s.pause(ctx); err != nil {
			return nil, err
		}
		l, err := s.dial(ctx)
		if err == nil {
			return l, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		s.lose(err)
	}
}

// pause keeps connections apart, the more so the more often they fail; also
// those that a collector accepts and ends at once.
func (s *Sender) pause(ctx context.Context) error {
	if !s.dialled.IsZero() {
		// Jitter, so that many senders do not come back at the same moment.
		left := s.wait/2 + rand.N(s.wait) - time.Since(s.dialled)
		s.wait = min(2*s.wait, maxBackoff)
		if left > 0 {
			timer := time.NewTimer(left)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	s.dialled = time.Now()
	return nil
}

func (s *Sender) dial(ctx context.Context) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	l, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link = l
	s.status.Connected, s.status.Since, s.status.Err = true, time.Now(), nil
	s.opts.Logger.Info("connected to the syslog collector", "address", s.opts.Address)
	return l, nil
}

// watch reads what a collector never sends, to see it go.
func (l *link) watch() {
	defer close(l.ended)
	var b [256]byte
	for {
		if _, err := l.conn.Read(b[:]); err != nil {
			l.failed = err
			close(l.lost)
			return
		}
	}
}

// dead is why the connection is, or nil.
func (l *link) dead() error {
	select {
	case <-l.lost:
		return l.failed
	default:
		return nil
	}
}

// drop gives a connection up.
func (s *Sender) drop(l *link, cause error) error {
	l.conn.Close() // it is dead already
	<-l.ended
	s.mu.Lock()
	s.link = nil
	s.mu.Unlock()
	s.lose(cause)
	return fmt.Errorf("%w: %w", ErrLost, cause)
}

func (s *Sender) lose(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status.Connected || s.status.Err == nil {
		s.status.Since = time.Now()
		s.opts.Logger.Warn("no connection to the syslog collector; trying again", "address", s.opts.Address, "err", err)
	}
	s.status.Connected, s.status.Err = false, err
}

// Close ends the connection. What was not settled should be sent again by
// whoever comes next. The goroutine that sends must have ended.
func (s *Sender) Close() error {
	s.mu.Lock()
	l := s.link
	s.link, s.closed = nil, true
	s.mu.Unlock()
	if l == nil {
		return nil
	}
	err := l.conn.SetWriteDeadline(time.Now().Add(s.opts.userTimeout))
	if err == nil && l.w != nil {
		err = l.w.Flush()
	}
	err = errors.Join(err, l.conn.Close())
	<-l.ended
	return err
}
