package intercept

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"moongate/internal/gw/flow"
)

// recordSize is the most that one TLS record holds (RFC 8446, section 5.1);
// crypto/tls never returns more from one Read.
const recordSize = 16 << 10

// recordBuffers are lent for as long as a flow lasts, one for each direction.
var recordBuffers = sync.Pool{New: func() any { return new([recordSize]byte) }}

// leg is one side of a decrypted flow.
type leg struct {
	tls  *tls.Conn
	wire *wire
	name string // client or server
}

// gather adds to a record, in a chunk, those that have arrived behind it, as
// far as there is room.
func (l *leg) gather(record []byte, chunk *[chunkSize]byte) (int, error) {
	n := copy(chunk[:], record)
	for chunkSize-n >= recordSize && l.wire.ready() {
		more, err := l.tls.Read(chunk[n:])
		n += more
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// write writes several records as one.
func (l *leg) write(b []byte) error {
	if len(b) <= recordSize {
		_, err := l.tls.Write(b)
		return err
	}
	l.wire.hold()
	_, err := l.tls.Write(b)
	return cmp.Or(err, l.wire.release())
}

// relay copies both ways until both sides have ended, or one has failed.
func (s *session) relay(client, server *leg) *flow.Failure {
	stopWatch := s.watchIdle()
	defer stopWatch()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.life.endOn(s.pump(server, client, &s.up))
	}()
	s.life.endOn(s.pump(client, server, &s.down))
	<-done
	return s.relayFailure()
}

// endOn cuts the lifeline for an error, so that the other direction ends too.
func (l *lifeline) endOn(err error) {
	if err != nil {
		l.end(err)
	}
}

func (s *session) relayFailure() *flow.Failure {
	if cause := s.life.why(); cause != nil {
		return &flow.Failure{Stage: flow.StageRelay, Err: cause}
	}
	return nil
}

// pump copies one direction. An end of the source is passed on as what it was:
// a close_notify as a close_notify, with the other direction left open (RFC
// 8446, section 6.1), and a connection that ended without one as that, since
// the one who gets it must be able to tell a truncation.
func (s *session) pump(dst, src *leg, count *atomic.Int64) error {
	record := recordBuffers.Get().(*[recordSize]byte)
	defer recordBuffers.Put(record)
	for {
		n, err, failed := pass(dst, src, record)
		if failed != nil {
			return fmt.Errorf("writing to the %s: %w", dst.name, plainError(failed))
		}
		count.Add(int64(n))
		switch {
		case err == nil:
			continue
		case err == io.EOF && !src.wire.ended:
			dst.tls.CloseWrite()
		case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
		case s.halfClosed.Load() && isGone(err):
			// It had our end already and went away instead of answering it.
		default:
			return fmt.Errorf("reading from the %s: %w", src.name, plainError(err))
		}
		s.halfClosed.Store(true)
		// An error means that the other side is gone, which its own direction
		// finds out.
		dst.wire.CloseWrite()
		return nil
	}
}

// pass reads once and writes what came.
func pass(dst, src *leg, record *[recordSize]byte) (n int, readErr, writeErr error) {
	n, err := src.tls.Read(record[:])
	data := record[:n]
	if err == nil && src.wire.ready() {
		chunk := chunks.Get().(*[chunkSize]byte)
		defer chunks.Put(chunk)
		n, err = src.gather(data, chunk)
		data = chunk[:n]
	}
	if n == 0 {
		return 0, err, nil
	}
	return n, err, dst.write(data)
}

// relayRaw copies both ways below TLS: first what was peeked at, then, on
// Linux, by splice, without the bytes ever leaving the kernel.
func (s *session) relayRaw(seen []byte) *flow.Failure {
	s.raw.Store(newRawBytes(s.client, len(seen)))
	stopWatch := s.watchIdle()
	defer stopWatch()
	done := make(chan struct{})
	go func() {
		defer close(done)
		n, err := s.server.Write(seen)
		s.up.Add(int64(n))
		if err == nil {
			err = s.pumpRaw(s.server, s.client, &s.up)
		}
		if err != nil {
			s.life.end(fmt.Errorf("client to server: %w", plainError(err)))
		}
	}()
	if err := s.pumpRaw(s.client, s.server, &s.down); err != nil {
		s.life.end(fmt.Errorf("server to client: %w", plainError(err)))
	}
	<-done
	return s.relayFailure()
}

func (s *session) pumpRaw(dst, src *net.TCPConn, count *atomic.Int64) error {
	n, err := dst.ReadFrom(src)
	count.Add(n)
	if err != nil && !(s.halfClosed.Load() && isGone(err)) {
		return err
	}
	s.halfClosed.Store(true)
	dst.CloseWrite()
	return nil
}

// plainError leaves out the addresses, which a record has of its own.
func plainError(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}
