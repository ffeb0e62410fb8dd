package intercept

import (
	"fmt"
	"net"
	"sync"
	"time"
)

// idleWatch ends a relay on which nothing moves. It asks the kernel how many
// bytes the client's socket has taken and given, four times in the time
// allowed, and costs the data path nothing: also where the bytes go by splice
// and nobody here could count them.
type idleWatch struct {
	s *session

	mu      sync.Mutex
	timer   *time.Timer // guarded by mu
	stopped bool        // guarded by mu
	last    uint64      // guarded by mu
	since   time.Time   // guarded by mu; when last changed
}

// watchIdle starts the watch; the function returned ends it.
func (s *session) watchIdle() func() {
	w := &idleWatch{s: s, since: time.Now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(w.interval(), w.look)
	return w.stop
}

func (w *idleWatch) limit() time.Duration {
	if w.s.halfClosed.Load() {
		return min(w.s.limits.HalfClosed, w.s.limits.IdleTimeout)
	}
	return w.s.limits.IdleTimeout
}

// interval is short enough for the half-closed state, which comes unannounced.
func (w *idleWatch) interval() time.Duration {
	return min(w.s.limits.HalfClosed, w.s.limits.IdleTimeout) / 4
}

func (w *idleWatch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	now := time.Now()
	if n, known := moved(w.s.client); !known || n != w.last {
		w.last, w.since = n, now
	}
	if limit := w.limit(); now.Sub(w.since) >= limit {
		w.s.life.end(fmt.Errorf("idle for %v", limit))
		return
	}
	w.timer.Reset(w.interval())
}

func (w *idleWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}

// moved is the number of bytes that a connection has received, and that its
// peer has acknowledged; not known where the system does not tell.
func moved(c *net.TCPConn) (uint64, bool) {
	received, acked, known := counters(c)
	return received + acked, known
}

func counters(c *net.TCPConn) (received, acked uint64, known bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, 0, false
	}
	if err := raw.Control(func(fd uintptr) { received, acked, known = bytesMoved(int(fd)) }); err != nil {
		return 0, 0, false
	}
	return received, acked, known
}
