package server

import (
	"sync"
	"sync/atomic"

	"moongate/internal/hsm/object"
)

// sessions are those of one connection.
type sessions struct {
	limit int
	count *atomic.Int64 // of all connections

	mu   sync.Mutex
	open map[uint32]*session // guarded by mu
	last uint32              // guarded by mu
}

// session is a backend's session with the number of requests that use it: it
// is closed when it is out of the table and the last of them has ended.
type session struct {
	Session
	users  int  // guarded by sessions.mu
	closed bool // out of the table; guarded by sessions.mu
}

var errNoSession = object.Errorf(object.ErrSessionHandle, "no such session on this connection")

// add takes over a session and returns its number.
func (t *sessions) add(s Session) (uint32, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.open) >= t.limit {
		return 0, object.Errorf(object.ErrBusy, "%d sessions are open on this connection, at most %d", len(t.open), t.limit)
	}
	if t.open == nil {
		t.open = map[uint32]*session{}
	}
	t.last++
	t.open[t.last] = &session{Session: s}
	t.count.Add(1)
	return t.last, nil
}

// use returns a session for the length of a request; release ends it.
func (t *sessions) use(id uint32) (*session, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, there := t.open[id]
	if !there {
		return nil, errNoSession
	}
	s.users++
	return s, nil
}

func (t *sessions) release(s *session) {
	t.mu.Lock()
	s.users--
	last := s.closed && s.users == 0
	t.mu.Unlock()
	if last {
		s.Close()
	}
}

// remove takes a session out of the table.
func (t *sessions) remove(id uint32) error {
	t.mu.Lock()
	s, there := t.open[id]
	if !there {
		t.mu.Unlock()
		return errNoSession
	}
	delete(t.open, id)
	t.count.Add(-1)
	s.closed = true
	last := s.users == 0
	t.mu.Unlock()
	if last {
		s.Close()
	}
	return nil
}

// close closes every session. No request is running any more.
func (t *sessions) close() {
	t.mu.Lock()
	open := t.open
	t.open = nil
	t.mu.Unlock()
	t.count.Add(-int64(len(open)))
	for _, s := range open {
		s.Close()
	}
}
