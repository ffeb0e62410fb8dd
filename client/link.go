package client

import (
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
	err     error           // of the first failure; guarded by mu
	lastID  uint64          // guarded by mu
	taken   uint64          // ids up to it are the writer's, or sent; guarded by mu
	quiet   time.Time       // of the last answer, or of the first request since there was none to wait for; guarded by mu
	waiting map[uint64]call // requests without an answer; guarded by mu
	room    room            // for large requests; guarded by mu
	out     []byte          // frames for the writer; guarded by mu
	asked   *question       // the Ping that is on its way; guarded by mu
}

type session struct {
	id   uint32
	info PartitionInfo
}

// call is a request that waits for its answer.
type call struct {
	to    chan<- answer // nil where the caller has left
	large int           // what it has of the room
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
		waiting: map[uint64]call{},
		room:    room{free: largeRoom},
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
	for id, c := range waiting {
		switch {
		case c.to == nil:
		case id > taken:
			c.to <- answer{err: errNotSent}
		default:
			c.to <- answer{err: fmt.Errorf("%w: %w", errLost, err)}
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
		c, known := l.waiting[head.ID]
		delete(l.waiting, head.ID)
		l.room.give(c.large)
		l.quiet = time.Now()
		l.mu.Unlock()
		if !known {
			l.fail(fmt.Errorf("an answer to request %d, which is not in flight", head.ID))
			return
		}
		if c.to != nil {
			c.to <- answer{code: head.Code, body: body}
		}
		if head.ID != pingID {
			<-l.slots
		}
	}
}
