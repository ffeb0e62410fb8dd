package intercept

import (
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

var recordBuffers = sync.Pool{New: func() any { return new([recordSize]byte) }}

// leg is one side of a decrypted flow.
type leg struct {
	tls  *tls.Conn
	wire *wire
	name string // client or server
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
	buffer := recordBuffers.Get().(*[recordSize]byte)
	defer recordBuffers.Put(buffer)
	for {
		n, err := src.tls.Read(buffer[:])
		if n > 0 {
			if _, err := dst.tls.Write(buffer[:n]); err != nil {
				return fmt.Errorf("writing to the %s: %w", dst.name, plainError(err))
			}
			count.Add(int64(n))
		}
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

// relayRaw copies both ways below TLS: first what was peeked at, then, on
// Linux, by splice, without the bytes ever leaving the kernel.
func (s *session) relayRaw(seen []byte) *flow.Failure {
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
