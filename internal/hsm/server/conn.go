package server

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// conn is one connection. Its own goroutine (serve) reads; a second one
// writes; requests run in the server's pools.
type conn struct {
	server *Server
	log    *slog.Logger
	raw    *pending
	tls    *tls.Conn
	remote netip.AddrPort

	// Set by serve before any request runs, and not changed after.
	peer   Peer
	tenant *tenant
	client Client

	// Of serve's goroutine.
	frames   *wire.Reader
	admitted bool
	cost     int // of the frame that is being read

	// ctx ends when nobody waits for answers any more.
	ctx    context.Context
	cancel context.CancelCauseFunc

	sessions sessions
	requests sync.WaitGroup // those that are queued or run
	draining atomic.Bool    // no frame is read any more

	wake chan struct{} // tells the writer that out is not empty

	// inFlight is how many requests were read whose answers are not written; it
	// changes with mu held.
	inFlight atomic.Int64

	mu       sync.Mutex
	room     sync.Cond // signalled when inFlight or buffered fall, and at the end; uses mu
	buffered int       // bytes that they may need; guarded by mu
	out      *buffer   // answers for the writer, nil while there are none; guarded by mu
	outCount int       // answers in out; guarded by mu
	outCost  int       // what they give back of buffered; guarded by mu
	last     bool      // no answer follows those in out; guarded by mu
	ended    bool      // the connection is cut; guarded by mu
}

func newConn(s *Server, raw *pending, from netip.AddrPort) *conn {
	c := &conn{
		server:   s,
		log:      s.log.With("remote", from),
		raw:      raw,
		tls:      tls.Server(raw, s.tls),
		remote:   from,
		sessions: sessions{limit: s.options.MaxSessions, count: &s.metrics.sessions},
		wake:     make(chan struct{}, 1),
	}
	c.room.L = &c.mu
	return c
}

// serve runs the connection from its handshake to its end.
func (c *conn) serve(ctx context.Context) {
	// A context of its own: requests in flight outlive the server's by Grace.
	c.ctx, c.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	defer c.cancel(nil)
	defer c.raw.Close()
	stop := context.AfterFunc(ctx, func() { c.drain() })
	defer stop()

	c.raw.SetDeadline(time.Now().Add(c.server.options.HandshakeTimeout))
	c.frames = wire.NewReader(timedReader{c}, wire.MaxHelloFrame)
	err := c.admit(ctx)
	c.server.handshakes.end(c.raw)
	if c.tenant != nil {
		defer c.server.remove(c)
	}
	if err != nil {
		c.refused(err)
		return
	}
	defer c.client.Close()
	defer c.sessions.close()
	c.server.metrics.admitted.Inc()
	c.raw.SetDeadline(time.Time{})
	c.frames.SetLimit(wire.MaxFrame)
	c.frames.SetAdmit(c.admitFrame)
	c.admitted = true
	defer context.AfterFunc(c.ctx, c.tenant.budget.wake)()

	var writer sync.WaitGroup
	writer.Go(c.write)
	err = c.read()
	if !c.draining.Load() {
		c.cut(err) // nobody is there to be answered
	}
	c.requests.Wait()
	c.endOutput()
	writer.Wait()
	if c.out != nil { // nobody took it
		c.settle(c.out)
		c.drop(c.out)
	}
	c.tenant.budget.release(c.buffered) // of answers that nobody took
	if cause := context.Cause(c.ctx); cause != nil {
		err = cause
	}
	c.log.Info("client disconnected", "reason", err)
}

// refused notes that the connection was not admitted, and why.
func (c *conn) refused(err error) {
	if c.raw.evicted.Load() {
		err = refusedError{refusedEvicted, errors.New("silent, and another connection wanted its place")}
	}
	c.server.metrics.refuse(err)
	if c.peer.Certificate == nil { // anybody can come this far, as often as he likes
		c.server.strangers.warn(c.remote, err)
		return
	}
	c.log.Warn("client refused", "error", err)
}

var (
	errGrace   = errors.New("requests took too long to end")
	errDrained = errors.New("the server ended the connection")
)

// drain stops reading; requests in flight have Grace to end and be answered.
func (c *conn) drain() {
	if c.draining.Swap(true) {
		return
	}
	c.raw.SetReadDeadline(past)
	limit := time.AfterFunc(c.server.options.Grace, func() { c.cut(errGrace) })
	context.AfterFunc(c.ctx, func() { limit.Stop() })
}

var past = time.Unix(1, 0)

// cut ends the connection and its requests at once. The first cause stays. The
// requests end last: what they still answer is not sent.
func (c *conn) cut(cause error) {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return
	}
	c.ended = true
	c.room.Broadcast()
	c.mu.Unlock()
	c.raw.Close()
	c.cancel(cause)
	c.wakeWriter()
}

// admit is the handshake, Hello and the backend's word on the peer.
func (c *conn) admit(ctx context.Context) error {
	if err := c.tls.HandshakeContext(ctx); err != nil {
		return refusedError{refusedTLS, fmt.Errorf("handshake: %w", err)}
	}
	state := c.tls.ConnectionState()
	if state.NegotiatedProtocol != wire.ALPN {
		return refusedError{refusedTLS, fmt.Errorf("handshake: the client does not speak %s", wire.ALPN)}
	}
	der := state.PeerCertificates[0].Raw
	c.peer = Peer{Certificate: der, Fingerprint: sha256.Sum256(der), Remote: c.remote}
	c.log = c.log.With("certificate", c.peer.Fingerprint.String(), "name", state.PeerCertificates[0].Subject.CommonName)

	frame, err := c.frames.Next()
	if err != nil {
		return refusedError{refusedHello, fmt.Errorf("reading Hello: %w", err)}
	}
	head, body, err := wire.ParseRequest(frame)
	if err != nil {
		return refusedError{refusedHello, fmt.Errorf("reading Hello: %w", err)}
	}
	if head.Op != wire.OpHello {
		return c.refuse(head.ID, object.Errorf(object.ErrProtocol, "%v before Hello", head.Op))
	}
	var hello wire.HelloRequest
	if err := hello.Decode(body); err != nil {
		return c.refuse(head.ID, object.Errorf(object.ErrProtocol, "%v", err))
	}
	if hello.Min > wire.Version || hello.Max < wire.Version {
		return c.refuse(head.ID, object.Errorf(object.ErrVersion, "the client speaks %d to %d, the HSM %d", hello.Min, hello.Max, wire.Version))
	}
	c.log = c.log.With("software", hello.Software)
	if err := c.server.add(c); err != nil {
		return c.refuse(head.ID, object.Errorf(object.ErrBusy, "%v", err))
	}
	if c.client, err = c.server.options.Backend.Attach(c.ctx, c.peer); err != nil {
		return c.refuse(head.ID, err)
	}
	out := wire.BeginAnswer(nil, wire.Answer{ID: head.ID})
	out = (&wire.HelloAnswer{
		Version:     wire.Version,
		Software:    c.server.options.Software,
		Serial:      c.server.options.Serial,
		MaxFrame:    wire.MaxFrame,
		MaxInFlight: uint32(c.server.options.MaxInFlight),
	}).Append(out)
	wire.End(out, 0)
	if _, err := c.tls.Write(out); err != nil {
		c.client.Close()
		return fmt.Errorf("answering Hello: %w", err)
	}
	c.log.Info("client connected")
	return nil
}

// refuse answers Hello with an error, which it returns, and says goodbye.
func (c *conn) refuse(id uint64, why error) error {
	code, detail := c.outcome(why, wire.Request{Op: wire.OpHello})
	c.tls.Write(wire.AppendRefusal(nil, id, code, detail))
	c.tls.Close()
	return why
}

// timedReader bounds each wait for bytes: long between frames, short within
// one. Before the client is admitted one deadline holds for all.
type timedReader struct{ c *conn }

func (r timedReader) Read(b []byte) (int, error) {
	c := r.c
	if c.admitted {
		limit := c.server.options.FrameTimeout
		if c.frames.Idle() {
			limit = c.server.options.IdleTimeout
		}
		c.raw.SetReadDeadline(time.Now().Add(limit))
		// Ours must not undo drain's.
		if c.draining.Load() {
			c.raw.SetReadDeadline(past)
		}
	}
	return c.tls.Read(b)
}

// read takes requests until the client goes, or drain.
func (c *conn) read() error {
	for {
		frame, err := c.frames.Next()
		switch {
		case err == nil:
		case c.draining.Load():
			return errDrained
		case errors.Is(err, os.ErrDeadlineExceeded):
			return errors.New("the client was silent for too long")
		case err == io.EOF:
			return errors.New("the client closed the connection")
		default:
			return err
		}
		head, body, err := wire.ParseRequest(frame)
		if err != nil {
			return err
		}
		r := &request{conn: c, head: head, body: body, cost: c.cost, pace: paceOf(head.Op, len(body)), arrived: time.Now(), mechanism: noMechanism}
		if head.Deadline > 0 {
			r.end = r.arrived.Add(time.Duration(head.Deadline) * time.Millisecond)
		}
		c.requests.Add(1)
		if head.Op == wire.OpPing {
			r.run() // says that the connection is alive, however busy the HSM
			continue
		}
		c.server.pools[r.pace].submit(&c.tenant.lanes[r.pace], r)
	}
}

// reply queues a request's answer for the writer.
func (c *conn) reply(r *request, a answer, err error) {
	var code object.Code
	var detail string
	if err != nil {
		code, detail = c.outcome(err, r.head)
	}
	c.mu.Lock()
	if c.out == nil {
		c.out = c.server.buffers.Get().(*buffer)
	}
	out := c.out.b
	start := len(out)
	if err == nil {
		out = a.Append(wire.BeginAnswer(out, wire.Answer{ID: r.head.ID}))
		if !wire.End(out, start) {
			out = out[:start]
			code, detail = object.ErrDataLength, "the answer does not fit a frame; ask for less"
		}
	}
	if code != object.OK {
		out = wire.AppendRefusal(out, r.head.ID, code, detail)
	}
	c.out.b = out
	held := code == object.OK && r.receipt != nil
	if held {
		c.out.held = append(c.out.held, heldAnswer{r, start, len(out)})
	}
	if beyond := len(out) - start - r.cost; beyond > 0 {
		r.cost += beyond
		c.buffered += beyond
		c.tenant.budget.take(beyond)
	}
	c.outCount++
	c.outCost += r.cost
	c.mu.Unlock()
	if !held {
		c.server.metrics.ended(r, code, time.Since(r.began))
	}
	c.wakeWriter()
}

func (c *conn) wakeWriter() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// endOutput tells the writer that no answer follows.
func (c *conn) endOutput() {
	c.mu.Lock()
	c.last = true
	c.mu.Unlock()
	c.wakeWriter()
}

// write sends answers, all that are ready in one write, until the last.
func (c *conn) write() {
	for range c.wake {
		// Let requests that are about to end join this write.
		runtime.Gosched()
		c.mu.Lock()
		out, count, cost, last, ended := c.out, c.outCount, c.outCost, c.last, c.ended
		c.out, c.outCount, c.outCost = nil, 0, 0
		c.mu.Unlock()
		if out != nil {
			c.settle(out)
		}
		if ended {
			if out != nil {
				c.drop(out)
			}
			return
		}
		if out != nil {
			if err := c.send(out); err != nil {
				c.cut(fmt.Errorf("writing answers: %w", err))
				return
			}
			c.mu.Lock()
			c.inFlight.Add(int64(-count))
			c.buffered -= cost
			c.room.Signal()
			c.mu.Unlock()
			c.tenant.budget.release(cost)
		}
		if last {
			c.tls.Close()
			return
		}
	}
}

// send writes a buffer and gives it back.
func (c *conn) send(out *buffer) error {
	c.raw.SetWriteDeadline(time.Now().Add(c.server.options.WriteTimeout))
	_, err := c.tls.Write(out.b)
	c.drop(out)
	return err
}
