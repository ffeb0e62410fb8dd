package ha

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"moongate/client"
	"moongate/internal/hsm/object"
)

// Group is several HSMs as one. Its methods may be called from many goroutines
// at once.
type Group struct {
	config Config
	log    *slog.Logger
	role   client.Role
	limit  time.Duration // of a call whose context has no deadline

	ctx    context.Context // done when Close is called
	cancel context.CancelFunc
	work   sync.WaitGroup // members' and the keeper's goroutines

	// routing is the members that calls may go to, in the record's order.
	// Replaced under mu.
	routing atomic.Pointer[[]*member]
	next    atomic.Uint32 // where the search for the idlest member begins

	keeper  chan struct{} // wakes the keeper
	metrics *collector

	// syncing is held while objects are copied to bring members up.
	syncing sync.Mutex

	mu        sync.Mutex
	members   []*member     // all that are configured; guarded by mu
	record    object.Group  // Epoch 0 while none is known; guarded by mu
	changed   chan struct{} // closed and replaced when a member's state changes; guarded by mu
	conflicts []Conflict    // the last ones that were resolved; guarded by mu
}

// Open starts a Group and returns at once: members are connected in the
// background, each until it succeeds or its password is refused. The error says
// that the configuration cannot work.
func Open(config Config) (*Group, error) {
	return open(config, object.Group{})
}

func open(config Config, record object.Group) (*Group, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	if record.Epoch == 0 && config.StateFile != "" {
		var err error
		if record, err = readState(config.StateFile, config.Label); err != nil {
			config.Logger.Warn("the HA group's record is not remembered, members tell it", "group", config.Label, "error", err)
		}
	}
	g := &Group{
		config: config, log: config.Logger, role: config.Members[0].Role, limit: config.Members[0].CallTimeout,
		keeper: make(chan struct{}, 1), changed: make(chan struct{}), record: record,
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	for _, m := range config.Members {
		g.members = append(g.members, newMember(g, m))
	}
	g.route()
	if config.Registerer != nil {
		g.metrics = &collector{g}
		if err := config.Registerer.Register(g.metrics); err != nil {
			g.cancel()
			return nil, fmt.Errorf("HA group: registering metrics: %w", err)
		}
	}
	for _, m := range g.members {
		g.start(m)
	}
	g.work.Go(func() { g.keep(g.ctx) })
	return g, nil
}

func (g *Group) start(m *member) {
	g.work.Go(func() {
		defer close(m.ended)
		m.run(m.ctx)
	})
}

// Close ends all connections and everything that the Group started. Calls in
// flight fail with ErrClosed.
func (g *Group) Close() error {
	g.cancel()
	g.work.Wait()
	if g.metrics != nil {
		g.config.Registerer.Unregister(g.metrics)
	}
	return nil
}

// all returns every member that is configured.
func (g *Group) all() []*member {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.members)
}

// maxRouted bounds the members that calls are routed to: those of the record,
// and as many that a configuration names beside them.
const maxRouted = 2 * object.MaxMembers

// route makes the list of members that calls may go to: those of the record, in
// its order, or all while none is known. Called where members or record changed.
func (g *Group) route() {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := slices.Clone(g.members)
	if g.record.Epoch > 0 {
		place := func(m *member) int {
			self, _ := m.self()
			if i := g.placeOf(self); i >= 0 {
				return i
			}
			return len(g.record.Members) // not known yet
		}
		slices.SortStableFunc(list, func(a, b *member) int { return place(a) - place(b) })
	}
	list = list[:min(len(list), maxRouted)]
	g.routing.Store(&list)
}

// placeOf is a partition's place in the record, -1 for none. Called with mu
// held.
func (g *Group) placeOf(self object.Replica) int {
	return slices.IndexFunc(g.record.Members, func(r object.Member) bool { return r.HSM == self.HSM && r.Serial == self.Serial })
}

func (g *Group) broadcast() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.changed)
	g.changed = make(chan struct{})
}

// change is closed when a member's state changes.
func (g *Group) change() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.changed
}

func (g *Group) wakeKeeper() { wake(g.keeper) }

// Ready waits until a member can be used. Its error is that of members that
// refuse, where all do, or else each one's reason with the context's end.
func (g *Group) Ready(ctx context.Context) error {
	ctx, cancel := g.bounded(ctx)
	defer cancel()
	return g.until(ctx, func() bool {
		for _, m := range *g.routing.Load() {
			if v := m.view.Load(); v.usable && !v.blind {
				return true
			}
		}
		return false
	})
}

// ReadyAll waits until all members of the record are live, as after Open, or
// after Recover.
func (g *Group) ReadyAll(ctx context.Context) error {
	ctx, cancel := g.bounded(ctx)
	defer cancel()
	return g.until(ctx, func() bool {
		record := g.Record()
		live := 0
		for _, m := range g.all() {
			if m.state() == Live {
				live++
			}
		}
		return record.Epoch > 0 && live == len(record.Members)
	})
}

// until waits for a state of the members.
func (g *Group) until(ctx context.Context, done func() bool) error {
	for {
		changed := g.change()
		if g.ctx.Err() != nil {
			return ErrClosed
		}
		if done() {
			return nil
		}
		if g.allRefused() {
			return g.standing(nil)
		}
		select {
		case <-changed:
		case <-g.ctx.Done():
			return ErrClosed
		case <-ctx.Done():
			return g.standing(ctx.Err())
		}
	}
}

// allRefused reports whether nobody but an administrator can bring a member
// back.
func (g *Group) allRefused() bool {
	for _, m := range g.all() {
		if s := m.state(); s != Refused && s != Removed {
			return false
		}
	}
	return true
}

// standing is an error that says of each member why it cannot be used.
func (g *Group) standing(waiting error) error {
	e := &CallError{Waiting: waiting}
	for _, m := range g.all() {
		e.Members = append(e.Members, MemberError{m.name, m.why()})
	}
	return e
}

// why is the reason that a member is not live, as an error that
// client.Unavailable knows; nil for one that is.
func (m *member) why() error {
	s := m.snapshot()
	if s.State == Live {
		return nil
	}
	if c := m.client.Load(); c != nil && (s.State == Lost || s.State == Connecting || s.State == Refused) {
		if err := c.Status().Err; err != nil {
			return err
		}
	}
	reason := s.State.String()
	if s.Reason != "" {
		reason += ": " + s.Reason
	}
	return &client.Error{Stage: client.StageAssigned, Err: errors.New(reason), Fix: s.Fix}
}

// away is why a member has no connection that a call could be made on. It is
// never nil: the state of a member says nothing of that, when its connection
// has ended a moment ago, or for good.
func (m *member) away() error {
	if m.g.ctx.Err() != nil {
		return ErrClosed
	}
	if err := m.why(); err != nil {
		return err
	}
	return &client.Error{Stage: client.StageTCP, Err: errors.New("its connection has ended")}
}

// bounded gives a context a deadline where it has none.
func (g *Group) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, g.limit)
}

// Record returns the group's record as far as it is known: Epoch 0 is not yet.
func (g *Group) Record() Record {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.record
	r.Members = slices.Clone(r.Members)
	return r
}

// Members returns how each member stands, in the record's order.
func (g *Group) Members() []MemberStatus {
	var list []MemberStatus
	for _, m := range *g.routing.Load() {
		list = append(list, m.snapshot())
	}
	return list
}

// Conflicts returns the last objects that had been changed apart on two members
// and were made one again, oldest first.
func (g *Group) Conflicts() []Conflict {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.conflicts)
}

// Status is the group as if it were one HSM: connected while a member can be
// used, with the group's label and serial number for the partition's.
func (g *Group) Status() client.Status {
	record := g.Record()
	status := client.Status{Partition: client.PartitionInfo{Label: g.config.Label, Serial: record.Serial}, Serial: record.Serial}
	var newest time.Time
	refused := true
	for _, m := range g.all() {
		s := m.snapshot()
		if s.Since.After(newest) {
			newest = s.Since
		}
		c := m.client.Load()
		if v := m.view.Load(); v.usable && !v.blind {
			if !status.Connected || s.Since.Before(status.Since) {
				status.Since = s.Since
			}
			status.Connected, status.Software = true, s.Software
		} else if c != nil && status.Err == nil {
			last := c.Status()
			status.Stage, status.Err = last.Stage, last.Err
		}
		if c == nil || !c.Status().NeedsLogin {
			refused = false
		}
	}
	if status.Connected {
		status.Stage, status.Err = "", nil
		return status
	}
	status.Since, status.NeedsLogin = newest, refused
	if status.Err == nil {
		status.Stage, status.Err = client.StageAssigned, g.standing(nil)
	}
	return status
}
