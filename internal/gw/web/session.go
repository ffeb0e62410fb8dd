package web

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"sync"
	"time"

	"moongate/internal/gw/mgmt"
)

// cookieName's prefix binds it to this host, HTTPS and the path / (RFC 6265bis,
// section 4.1.3.2).
const cookieName = "__Host-moongate"

const (
	longest     = 12 * time.Hour // from the login on, however busy
	maxSessions = 256            // of all administrators; the one that was idle longest goes
	maxOwn      = 32             // of one administrator, likewise
)

// session is an administrator who has logged in.
type session struct {
	key    [sha256.Size]byte // of the cookie's value, which is not kept
	token  string            // that forms carry
	caller mgmt.Caller
	visit  *mgmt.Visit
	since  time.Time

	mu      sync.Mutex
	used    time.Time // guarded by mu
	notices []Notice  // to be shown on the next page; guarded by mu
}

// Notice is what became of something, on the page after it.
type Notice struct {
	Kind string // good, bad, info
	Text string
}

// sessions are those that are open.
type sessions struct {
	now  func() time.Time
	idle func() time.Duration // how long one may be unused; 0 for no bound

	mu   sync.Mutex
	open map[[sha256.Size]byte]*session // guarded by mu
}

func newSessions(now func() time.Time, idle func() time.Duration) *sessions {
	return &sessions{now: now, idle: idle, open: map[[sha256.Size]byte]*session{}}
}

// begin opens a session under a new name, which is the cookie's value. What
// name the browser came with does not matter.
func (all *sessions) begin(c mgmt.Caller, visit *mgmt.Visit) (name string, s *session) {
	name = rand.Text()
	now := all.now()
	s = &session{key: sha256.Sum256([]byte(name)), token: rand.Text(), caller: c, visit: visit, since: now, used: now}
	all.mu.Lock()
	defer all.mu.Unlock()
	all.expire(now)
	all.makeRoom(maxOwn, func(o *session) bool { return o.caller.Name == c.Name })
	all.makeRoom(maxSessions, func(*session) bool { return true })
	all.open[s.key] = s
	return name, s
}

// makeRoom drops the session that was idle longest, where those that count are
// as many as may be; mu is held.
func (all *sessions) makeRoom(most int, counts func(*session) bool) {
	n := 0
	var oldest *session
	for _, o := range all.open {
		if !counts(o) {
			continue
		}
		if n++; oldest == nil || o.lastUsed().Before(oldest.lastUsed()) {
			oldest = o
		}
	}
	if n >= most {
		all.drop(oldest)
	}
}

// find returns the session of a request, nil where it has none.
func (all *sessions) find(r *http.Request) *session {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return nil
	}
	now := all.now()
	all.mu.Lock()
	defer all.mu.Unlock()
	all.expire(now)
	s := all.open[sha256.Sum256([]byte(cookie.Value))]
	if s == nil {
		return nil
	}
	// What a page asks for by itself does not keep a session open.
	if r.Header.Get("X-Live") == "" {
		s.mu.Lock()
		s.used = now
		s.mu.Unlock()
		s.visit.Touch()
	}
	return s
}

// end closes a session.
func (all *sessions) end(s *session) {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.drop(s)
}

func (all *sessions) drop(s *session) {
	if all.open[s.key] == s {
		delete(all.open, s.key)
		s.visit.Leave()
	}
}

// expire drops those that ended; mu is held.
func (all *sessions) expire(now time.Time) {
	idle := all.idle()
	for _, s := range all.open {
		if now.Sub(s.since) > longest || idle > 0 && now.Sub(s.lastUsed()) > idle {
			all.drop(s)
		}
	}
}

func (s *session) lastUsed() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// says reports whether a form carries the session's token.
func (s *session) says(token string) bool {
	return subtle.ConstantTimeCompare([]byte(s.token), []byte(token)) == 1
}

func (s *session) note(n Notice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notices = append(s.notices, n)
}

func (s *session) takeNotices() []Notice {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.notices
	s.notices = nil
	return list
}
