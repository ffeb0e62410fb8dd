package mgmt

import (
	"context"
	"slices"
	"sync"
	"time"

	"moongate/internal/gw/admin"
)

// LoggedIn is an administrator's session, of a way that has sessions.
type LoggedIn struct {
	Caller
	Since time.Time
	// Active is when the session did something last.
	Active time.Time
}

// visits are the sessions that are open.
type visits struct {
	mu   sync.Mutex
	last int
	open map[int]*LoggedIn
}

// Visit is an open session. Its methods may be called from any goroutine.
type Visit struct {
	m  *Manager
	id int
}

// Enter begins a session of the caller, for who shows those that are logged
// in. It must be left.
func (m *Manager) Enter(c Caller) *Visit {
	v := &m.visits
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.open == nil {
		v.open = map[int]*LoggedIn{}
	}
	v.last++
	v.open[v.last] = &LoggedIn{Caller: c, Since: m.now(), Active: m.now()}
	return &Visit{m, v.last}
}

// Touch says that the session did something.
func (v *Visit) Touch() {
	v.m.visits.mu.Lock()
	defer v.m.visits.mu.Unlock()
	if s := v.m.visits.open[v.id]; s != nil {
		s.Active = v.m.now()
	}
}

// Leave ends the session.
func (v *Visit) Leave() {
	v.m.visits.mu.Lock()
	defer v.m.visits.mu.Unlock()
	delete(v.m.visits.open, v.id)
}

// WhoIsLoggedIn lists the sessions that are open, the oldest first.
func (m *Manager) WhoIsLoggedIn(ctx context.Context, c Caller) ([]LoggedIn, error) {
	if err := m.allow(c, admin.OpReadAdmins, ""); err != nil {
		return nil, err
	}
	m.visits.mu.Lock()
	defer m.visits.mu.Unlock()
	list := make([]LoggedIn, 0, len(m.visits.open))
	for _, s := range m.visits.open {
		list = append(list, *s)
	}
	slices.SortFunc(list, func(a, b LoggedIn) int { return a.Since.Compare(b.Since) })
	return list, nil
}
