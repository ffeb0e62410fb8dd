package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// writeTimeout is how long the HSM may leave what we send unread.
const writeTimeout = 20 * time.Second

// body appends a request's body; session is the session of the connection
// that the request goes out on.
type body func(b []byte, session uint32) []byte

func empty(b []byte, _ uint32) []byte { return b }

// link is one connection: it sends requests of many callers and hands each its
// answer. Two goroutines belong to it; close waits for both.
type link struct {
	conn  net.Conn
	hello wire.HelloAnswer

	// slots holds a token for each request in flight. One fewer than the HSM
	// takes: the last is the keep-alive's.
	slots chan struct{}

	// session is where requests go; Client.run replaces it.
	session atomic.Pointer[session]
	// heard counts the answers that came.
	heard atomic.Uint64

	wake chan struct{} // tells the writer that out is not empty
	done chan struct{} // closed, under mu, when err is set
	wg   sync.WaitGroup

	mu      sync.Mutex
	err     error                    // of the first failure; guarded by mu
	lastID  uint64                   // guarded by mu
	taken   uint64                   // ids up to it are the writer's, or sent; guarded by mu
	quiet   time.Time                // of the last answer, or of the first request since there was none to wait for; guarded by mu
	waiting map[uint64]chan<- answer // nil for one whose caller has left; guarded by mu
	out     []byte                   // frames for the writer; guarded by mu
}

type session struct {
	id   uint32
	info PartitionInfo
}

type answer struct {
	code object.Code
	body []byte
	err  error
}

// newLink takes over a connection whose Hello is done. reader may have
// buffered bytes of it.
func newLink(conn net.Conn, reader *wire.Reader, hello wire.HelloAnswer) *link {
	l := &link{
		conn:    conn,
		hello:   hello,
		slots:   make(chan struct{}, max(1, min(int(hello.MaxInFlight), maxInFlight)-1)),
		wake:    make(chan struct{}, 1),
		done:    make(chan struct{}),
		waiting: map[uint64]chan<- answer{},
	}
	l.wg.Add(2)
	go func() { defer l.wg.Done(); l.read(reader) }()
	go func() { defer l.wg.Done(); l.write() }()
	return l
}

// maxInFlight bounds what an HSM may have us keep in flight.
const maxInFlight = 1024

// close breaks the link and waits for its goroutines.
func (l *link) close(err error) {
	l.fail(err)
	l.wg.Wait()
}

// fail breaks the link once: every caller that waits gets errLost, or errNotSent
// where the writer had not come to its request.
func (l *link) fail(err error) {
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return
	}
	l.err = err
	waiting, taken := l.waiting, l.taken
	l.waiting = nil
	clear(l.out)
	l.out = nil
	close(l.done)
	l.mu.Unlock()
	for id, to := range waiting {
		switch {
		case to == nil:
		case id > taken:
			to <- answer{err: errNotSent}
		default:
			to <- answer{err: fmt.Errorf("%w: %w", errLost, err)}
		}
	}
	l.conn.Close()
}

// broken reports whether the link has failed.
func (l *link) broken() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// failure is why the link broke.
func (l *link) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *link) write() {
	var spare []byte
	for {
		select {
		case <-l.wake:
		case <-l.done:
			return
		}
		// Let callers that are about to send join this write.
		runtime.Gosched()
		l.mu.Lock()
		out := l.out
		l.out, l.taken = spare[:0], l.lastID
		l.mu.Unlock()
		if len(out) == 0 {
			spare = out
			continue
		}
		l.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := l.conn.Write(out); err != nil {
			l.fail(fmt.Errorf("writing: %w", err))
			return
		}
		clear(out) // it may hold a password
		spare = out
		if cap(spare) > keepBuffer {
			spare = nil
		}
	}
}

// keepBuffer is the largest buffer that is kept for the next write.
const keepBuffer = 256 << 10

func (l *link) read(frames *wire.Reader) {
	for {
		frame, err := frames.Next()
		if err != nil {
			l.fail(fmt.Errorf("reading: %w", err))
			return
		}
		l.heard.Add(1)
		head, body, err := wire.ParseAnswer(frame)
		if err != nil {
			l.fail(err)
			return
		}
		l.mu.Lock()
		to, known := l.waiting[head.ID]
		delete(l.waiting, head.ID)
		l.quiet = time.Now()
		l.mu.Unlock()
		if !known {
			l.fail(fmt.Errorf("an answer to request %d, which is not in flight", head.ID))
			return
		}
		if to != nil {
			to <- answer{code: head.Code, body: body}
		}
		if head.ID != pingID {
			<-l.slots
		}
	}
}

// pingID is the id of keep-alives, which need no slot.
const pingID = 0

var errNotSent = errors.New("not sent")

// patience is how long a call waits.
type patience struct {
	ctx     context.Context
	end     time.Time // zero: as long as ctx
	timeout <-chan time.Time
	timer   *time.Timer
	atOnce  bool // does not wait for a connection
}

var timers = sync.Pool{New: func() any {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}}

// newPatience bounds ctx by limit where it has no deadline of its own. A timer
// costs a fraction of what a context with one does.
func newPatience(ctx context.Context, limit time.Duration) patience {
	if end, bounded := ctx.Deadline(); bounded {
		return patience{ctx: ctx, end: end}
	}
	timer := timers.Get().(*time.Timer)
	timer.Reset(limit)
	return patience{ctx: ctx, end: time.Now().Add(limit), timeout: timer.C, timer: timer}
}

func (p patience) release() {
	if p.timer != nil {
		p.timer.Stop()
		timers.Put(p.timer)
	}
}

// left is the time that is left in milliseconds, as a request's header has it:
// rounded up, so that the HSM does not give up first.
func (p patience) left() uint32 {
	ms := time.Until(p.end).Milliseconds() + 1
	return uint32(max(1, min(ms, 1<<31)))
}

// err is why the patience has ended.
func (p patience) err() error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	return context.DeadlineExceeded
}

var answers = sync.Pool{New: func() any { return make(chan answer, 1) }}

// roundTrip sends a request and waits for its answer. An error that is
// errNotSent left nothing to the HSM; one that is errLost, or the patience's,
// leaves open whether the request was carried out. A refusal is an
// *object.Error.
func (l *link) roundTrip(p patience, op wire.Op, operation object.OperationID, fill body) ([]byte, error) {
	select {
	case l.slots <- struct{}{}:
	default:
		select {
		case l.slots <- struct{}{}:
		case <-l.done:
			return nil, errNotSent
		case <-p.ctx.Done():
			return nil, fmt.Errorf("%w: %w", errNotSent, p.err())
		case <-p.timeout:
			return nil, fmt.Errorf("%w: %w", errNotSent, p.err())
		}
	}
	return l.exchange(p, op, operation, fill, false)
}

func (l *link) exchange(p patience, op wire.Op, operation object.OperationID, fill body, ping bool) ([]byte, error) {
	to := answers.Get().(chan answer)
	id, err := l.send(wire.Request{Op: op, Deadline: p.left(), Operation: operation}, fill, to, ping)
	if err != nil {
		answers.Put(to)
		if !ping {
			<-l.slots
		}
		return nil, err
	}
	var a answer
	select {
	case a = <-to:
	case <-p.ctx.Done():
		if l.leave(id) {
			answers.Put(to)
			return nil, p.err()
		}
		a = <-to
	case <-p.timeout:
		if l.leave(id) {
			answers.Put(to)
			return nil, p.err()
		}
		a = <-to
	}
	answers.Put(to)
	switch {
	case a.err != nil:
		return nil, a.err
	case a.code != object.OK:
		return nil, refusal(a.code, a.body)
	}
	return a.body, nil
}

// send queues a request for the writer.
func (l *link) send(r wire.Request, fill body, to chan<- answer, ping bool) (uint64, error) {
	var in uint32
	if s := l.session.Load(); s != nil {
		in = s.id
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return 0, errNotSent
	}
	if !ping {
		l.lastID++
		r.ID = l.lastID
	}
	start := len(l.out)
	out := fill(wire.BeginRequest(l.out, r), in)
	if !wire.End(out, start) || len(out)-start > int(l.hello.MaxFrame) {
		l.out = out[:start]
		return 0, object.Errorf(ErrDataLength, "the request has %d bytes, the HSM takes %d", len(out)-start, l.hello.MaxFrame)
	}
	l.out = out
	if len(l.waiting) == 0 {
		l.quiet = time.Now()
	}
	l.waiting[r.ID] = to
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return r.ID, nil
}

// leave gives up waiting for an answer. It reports false when the answer, or
// the link's end, is already on its way to the caller. The request keeps its
// slot until the HSM answers it.
func (l *link) leave(id uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, there := l.waiting[id]; !there {
		return false
	}
	l.waiting[id] = nil
	return true
}

// owed is how many requests have no answer, and since when the HSM has given
// none; zero where it owes none.
func (l *link) owed() (int, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		return 0, time.Time{}
	}
	return len(l.waiting), l.quiet
}

// ping asks whether the HSM is there.
func (l *link) ping(ctx context.Context, limit time.Duration) error {
	p := newPatience(ctx, limit)
	defer p.release()
	_, err := l.exchange(p, wire.OpPing, object.OperationID{}, empty, true)
	return err
}
