package partition

import (
	"fmt"
	"sync"
	"time"
)

// strangersPerMinute is how many refusals of strangers are recorded in a
// minute. Nobody has to be known here to be refused, the audit log is never
// cut, and an HSM whose disk is full uses no key: who records all of them lets
// anybody who reaches the port stop it.
const strangersPerMinute = 60

// strangers counts refusals of those who are not registered, or call from
// another address than they are registered for.
type strangers struct {
	mu       sync.Mutex
	minute   time.Time // when the current one began; guarded by mu
	recorded int       // in it; guarded by mu
	passed   uint64    // not recorded and not told of yet; guarded by mu
}

// admit reports whether a refusal is recorded, and what its record says of
// those that are not.
func (s *strangers) admit(now time.Time) (note string, recorded bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if age := now.Sub(s.minute); age < 0 || age >= time.Minute {
		s.minute, s.recorded = now, 0
	}
	if s.recorded >= strangersPerMinute {
		s.passed++
		return "", false
	}
	s.recorded++
	if s.passed > 0 {
		note = fmt.Sprintf("; %d refusals before this one are not recorded", s.passed)
		s.passed = 0
	}
	if s.recorded == strangersPerMinute {
		note += "; more of this minute are counted and not recorded"
	}
	return note, true
}

// outsiders counts refusals of registered clients before a login, each
// client's by itself: a certificate alone must not fill the audit log either.
type outsiders struct {
	mu      sync.Mutex
	clients map[string]*strangers // by name; guarded by mu
}

// admit is strangers.admit for one client.
func (o *outsiders) admit(client string, now time.Time) (string, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.clients[client]
	if s == nil {
		// Names of clients that are gone are forgotten some time.
		if o.clients == nil || len(o.clients) >= 2*MaxClients {
			o.clients = map[string]*strangers{}
		}
		s = &strangers{}
		o.clients[client] = s
	}
	return s.admit(now)
}
