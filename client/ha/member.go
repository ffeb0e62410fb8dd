package ha

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"moongate/client"
	"moongate/internal/hsm/object"
)

// member is one partition of a Group. Its run goroutine watches the connection
// and decides the state, but for Live and Behind, which the Group's keeper
// decides by comparing contents, and Suspect, which a call may find.
type member struct {
	g    *Group
	name string

	// ctx ends with the Group, or when the member is taken out of it.
	ctx   context.Context
	end   context.CancelFunc
	ended chan struct{} // closed when run has returned

	// software is the HSM's version as it told it last; nil before.
	software atomic.Pointer[string]
	// client is replaced by run alone, and closed by it.
	client atomic.Pointer[client.Client]
	// view is what routing looks at; replaced under mu.
	view atomic.Pointer[view]

	// ailing is what the member refused last for a reason of its own; nil where
	// it is well.
	ailing atomic.Pointer[complaint]

	outstanding atomic.Int64
	answers     atomic.Uint64 // of calls and probes, good ones and refusals
	failovers   atomic.Uint64
	hedges      atomic.Uint64

	// kick wakes run before its time; recover is for Recover's.
	kick    chan struct{}
	recover chan struct{}
	// admitted is when the connection was made on which the partition was found
	// to be of this group; of run.
	admitted time.Time

	mu       sync.Mutex
	config   client.Config      // password changes by Relogin; guarded by mu
	status   MemberStatus       // guarded by mu
	before   State              // the state before Suspect; guarded by mu
	replica  object.Replica     // of the last connection; guarded by mu
	known    bool               // replica is of this connection, and of this group; guarded by mu
	compared bool               // the contents, on this connection; guarded by mu
	arrived  time.Time          // when replica was told; guarded by mu
	outdated bool               // its record is older than ours; guarded by mu
	mute     bool               // it does not say what it holds; guarded by mu
	stale    map[ID]struct{}    // where it was found to differ from the others; guarded by mu
	pending  map[ID]struct{}    // changes through this Group that it missed; guarded by mu
	gone     context.CancelFunc // of alive; guarded by mu
	alive    context.Context    // ends when the member is neither live nor behind; guarded by mu
}

// complaint is a member's refusal of a call that others might do.
type complaint struct {
	refusal *client.HSMError
	until   time.Time // calls go to others first
}

// complain remembers a refusal for a while: a member that fails fast would have
// the least outstanding work of all.
func (m *member) complain(refusal *client.HSMError) {
	m.ailing.Store(&complaint{refusal, time.Now().Add(m.g.config.Probe)})
}

// ails reports whether calls should go to others first.
func (m *member) ails() bool {
	c := m.ailing.Load()
	return c != nil && time.Now().Before(c.until)
}

// view is what routing needs to know of a member: immutable.
type view struct {
	usable  bool // it gets calls
	suspect bool // it gets calls when there is nobody else
	blind   bool // its contents were not compared yet: no keys
	stale   map[ID]struct{}
	// generation changes when the member becomes usable again: a call that failed
	// on it before may try it once more.
	generation uint32
}

// need is what a call needs of a member.
type need struct {
	key  ID   // the object that it is about; zero for none
	also ID   // a second one; zero for none
	all  bool // the member's view of all objects
	none bool // nothing of its contents
}

func (v *view) serves(n need) bool {
	switch {
	case n.none:
		return true
	case v.blind:
		return false
	case n.all:
		return len(v.stale) == 0
	}
	if len(v.stale) == 0 {
		return true
	}
	_, stale := v.stale[n.key]
	_, also := v.stale[n.also]
	return !stale && !also
}

func newMember(g *Group, config Member) *member {
	m := &member{
		g: g, name: config.Name, config: config.Config,
		kick: make(chan struct{}, 1), recover: make(chan struct{}, 1), ended: make(chan struct{}),
		status: MemberStatus{Name: config.Name, Address: config.Address, Since: g.config.Now(), Behind: -1},
	}
	if m.config.Logger == nil {
		m.config.Logger = g.log.With("member", m.name)
	}
	m.ctx, m.end = context.WithCancel(g.ctx)
	m.alive, m.gone = context.WithCancel(m.ctx)
	m.gone()
	m.view.Store(&view{blind: true})
	return m
}

// set changes the state and tells everybody.
func (m *member) set(state State, reason, fix string) {
	m.become(func(State) bool { return true }, state, reason, fix)
}

// transition is set, if the state is still from.
func (m *member) transition(from, state State, reason, fix string) {
	m.become(func(is State) bool { return is == from }, state, reason, fix)
}

// become is set, if the state is one that it may be set from.
func (m *member) become(may func(State) bool, state State, reason, fix string) {
	m.mu.Lock()
	from := m.status.State
	if !may(from) {
		m.mu.Unlock()
		return
	}
	changed := from != state || m.status.Reason != reason
	if from != state {
		m.status.Since = m.g.config.Now()
	}
	if state == Suspect && from != Suspect {
		m.before = from
	}
	m.status.State, m.status.Reason, m.status.Fix = state, reason, fix
	m.publish()
	m.mu.Unlock()
	if changed {
		m.logState(from, state, reason, fix)
	}
	m.g.broadcast()
}

func (m *member) logState(from, to State, reason, fix string) {
	level := slog.LevelWarn
	if to == Live || to == Behind || to == Connecting {
		level = slog.LevelInfo
	}
	attrs := []any{"group", m.g.config.Label, "member", m.name, "state", to.String(), "from", from.String()}
	if reason != "" {
		attrs = append(attrs, "reason", reason)
	}
	if fix != "" {
		attrs = append(attrs, "fix", fix)
	}
	m.g.log.Log(context.Background(), level, "HA member", attrs...)
}

// publish makes the view that the state asks for. Called with mu held.
func (m *member) publish() {
	old := m.view.Load()
	v := &view{generation: old.generation}
	there := m.status.State == Live || m.status.State == Behind
	v.usable = there && m.known
	v.suspect = m.status.State == Suspect && m.known
	v.blind = !m.compared
	if len(m.stale)+len(m.pending) > 0 {
		v.stale = maps.Clone(m.stale)
		if v.stale == nil {
			v.stale = map[ID]struct{}{}
		}
		maps.Copy(v.stale, m.pending)
	}
	if v.usable && (!old.usable || old.blind && !v.blind) {
		v.generation++
	}
	m.view.Store(v)
	m.status.Pending = len(m.pending)
	if there && m.alive.Err() != nil {
		m.alive, m.gone = context.WithCancel(m.ctx)
	} else if !there {
		m.gone()
	}
}

// retire ends the use of a member and waits for it.
func (m *member) retire() {
	m.end()
	<-m.ended
}

// missed remembers that changes of objects did not reach the member.
func (m *member) missed(ids []ID, why error) {
	m.mu.Lock()
	if m.pending == nil {
		m.pending = map[ID]struct{}{}
	}
	for _, id := range ids {
		if len(m.pending) < maxPending {
			m.pending[id] = struct{}{}
		}
	}
	m.publish()
	state := m.status.State
	m.mu.Unlock()
	if state == Live {
		m.transition(Live, Behind, fmt.Sprintf("a change did not reach it: %v", why), "")
	}
	if state == Live || state == Behind {
		m.g.wakeKeeper()
	}
}

// maxPending bounds what is remembered of a member that is away; when it
// returns everything is compared.
const maxPending = 16 << 10

// reached is the end of missed for objects that the member has now.
func (m *member) reached(ids []ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		delete(m.pending, id)
		delete(m.stale, id)
	}
	m.publish()
}

// reachedFrom is reached for objects that another member gave, but for those
// that the other was itself known not to have as they should be.
func (m *member) reachedFrom(from *member, ids []ID) {
	v := from.view.Load()
	var good []ID
	for _, id := range ids {
		if _, stale := v.stale[id]; !stale {
			good = append(good, id)
		}
	}
	m.reached(good)
}

// while returns a context that ends with ctx, or when the member can not be
// counted upon any more.
func (m *member) while(ctx context.Context) (context.Context, context.CancelFunc) {
	m.mu.Lock()
	alive := m.alive
	m.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(alive, func() { cancel(errMemberGone) })
	return ctx, func() { stop(); cancel(nil) }
}

var errMemberGone = errors.New("the member stopped answering")

func (m *member) state() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status.State
}

// reachable reports whether the member is there and is one of this group's.
func (m *member) reachable() bool {
	v := m.view.Load()
	return v.usable
}

// self is what the partition said of itself; false where it said nothing on
// this connection.
func (m *member) self() (object.Replica, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.replica, m.known
}

func (m *member) snapshot() MemberStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.status
	s.Outstanding = int(m.outstanding.Load())
	s.Failovers = m.failovers.Load()
	s.Hedges = m.hedges.Load()
	if c := m.ailing.Load(); c != nil && s.State == Live && s.Reason == "" && time.Since(c.until) < m.g.config.Probe {
		s.Reason = "it refuses calls: " + c.refusal.Error()
	}
	return s
}

// settled reports whether the first attempt to connect has ended, one way or
// the other, and the contents need not be waited for.
func (m *member) settled() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch m.status.State {
	case Connecting:
		return m.status.Retries > 0
	case Behind:
		return m.compared || m.mute
	}
	return true
}

// suspectNow is what a call finds that waited in vain while nobody else was
// answered either.
func (m *member) suspectNow(why string) {
	s := m.state()
	if s == Live || s == Behind {
		m.transition(s, Suspect, why, "look at the HSM and the network between; it gets no calls until it answers a probe")
		wake(m.kick)
	}
}

func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
