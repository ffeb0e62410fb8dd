package ha

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"moongate/client"
	"moongate/internal/hsm/object"
)

// Progress is how far a synchronization is: of one copy from a member to
// another.
type Progress struct {
	From, To    string
	Done, Total int // objects and tombstones
}

// Version is what one member held of an object.
type Version struct {
	Member string
	Stamp  Stamp
	Label  string // CKA_LABEL; empty where it could not be read
}

// Conflict is an object that was changed apart on two members. The content with
// the later stamp (count, then replica) is on both now, with both histories.
type Conflict struct {
	ID         ID
	Kept, Lost Version
	At         time.Time // when it was resolved, by Config.Now
}

func (c Conflict) String() string {
	return fmt.Sprintf("object %v was changed apart: %q of %s (change %d of %v) stays, %q of %s (change %d of %v) does not",
		c.ID, c.Kept.Label, c.Kept.Member, c.Kept.Stamp.Count, c.Kept.Stamp.Replica, c.Lost.Label, c.Lost.Member, c.Lost.Stamp.Count, c.Lost.Stamp.Replica)
}

// Refusal is an object that a member did not take.
type Refusal struct {
	Member string
	ID     ID
	Err    error
}

// MemberReport is what a synchronization did to one member.
type MemberReport struct {
	Name                              string
	Added, Updated, Destroyed, Merged int
	Refused                           int
	Objects, Tombstones               uint64 // that it has now
}

// Report is what a synchronization did.
type Report struct {
	Members   []MemberReport // those that were there, in the record's order
	Away      []string       // members of the record that were not
	Conflicts []Conflict
	Refusals  []Refusal
	// Equal: all members that were there hold the same now.
	Equal bool
	Took  time.Duration
}

// Complete reports whether all members of the record hold the same now.
func (r Report) Complete() bool { return r.Equal && len(r.Away) == 0 && len(r.Refusals) == 0 }

func (r Report) changes() int {
	n := 0
	for _, m := range r.Members {
		n += m.Added + m.Updated + m.Destroyed + m.Merged + m.Refused
	}
	return n
}

func (r Report) String() string {
	var parts []string
	for _, m := range r.Members {
		s := fmt.Sprintf("%s: %d added, %d updated, %d destroyed, %d merged", m.Name, m.Added, m.Updated, m.Destroyed, m.Merged)
		if m.Refused > 0 {
			s += fmt.Sprintf(", %d refused", m.Refused)
		}
		parts = append(parts, s)
	}
	if len(r.Away) > 0 {
		parts = append(parts, "away: "+strings.Join(r.Away, ", "))
	}
	if !r.Equal {
		parts = append(parts, "members still differ")
	}
	return strings.Join(parts, "; ")
}

// Synchronize brings all members that are there to the same contents: what any
// of them has goes to all, what any of them destroyed is destroyed on all, and
// of an object that was changed apart the later change stays, as the report
// says. Needs the Crypto Officer. progress may be nil; it is called from
// several goroutines, one call at a time. Calling it again where nothing
// differs costs each member a digest.
func (g *Group) Synchronize(ctx context.Context, progress func(Progress)) (Report, error) {
	if g.role != officer {
		return Report{}, errNotOfficer
	}
	g.syncing.Lock()
	defer g.syncing.Unlock()
	within, cancel := g.bounded(ctx)
	defer cancel()
	g.calm(within)
	report, err := g.together(ctx, progress)
	for err != nil && len(report.Members) == 0 {
		// Nobody was there: all may be suspect for a moment, or just returning.
		if g.until(within, func() bool { return len(g.there()) > 0 }) != nil || !rest(within, g.settle()) {
			break
		}
		report, err = g.together(ctx, progress)
	}
	g.compare(ctx)
	return report, err
}

// calm waits a moment for members that are just being connected or probed.
func (g *Group) calm(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, forbearance)
	defer cancel()
	for {
		changed := g.change()
		unsure := slices.ContainsFunc(g.all(), func(m *member) bool {
			s := m.snapshot()
			return s.State == Suspect || s.State == Connecting || s.State == Lost && s.Retries == 0
		})
		if !unsure {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// rounds bounds how often members are compared again after they were brought
// together, while others change them.
const rounds = 4

// together is Synchronize with syncing held: everything is pulled to one
// member, and pushed from there to the others.
func (g *Group) together(ctx context.Context, progress func(Progress)) (Report, error) {
	s := &synchronization{g: g, ctx: ctx, progress: progress, members: map[*member]*MemberReport{}}
	began := time.Now()
	holdings := g.digests(ctx, g.there())
	g.healRecords(ctx, holdings)
	if holdings = g.ofOneDomain(holdings); len(holdings) == 0 {
		return Report{}, g.standing(ctx.Err())
	}
	for _, h := range holdings {
		s.report.Members = append(s.report.Members, MemberReport{Name: h.m.name})
	}
	for i, h := range holdings {
		s.members[h.m] = &s.report.Members[i]
	}
	var err error
	for range rounds {
		if alike(holdings) {
			break
		}
		if err = s.round(holdings); err != nil {
			break
		}
		holdings = g.digests(ctx, holdings)
		if len(holdings) < len(s.members) {
			err = errMemberGone
			break
		}
		if len(s.report.Refusals) > 0 {
			break // it would be refused again
		}
	}
	for _, h := range holdings {
		r := s.members[h.m]
		r.Objects, r.Tombstones = h.digest.Objects, h.digest.Tombstones
	}
	s.report.Equal = err == nil && alike(holdings)
	s.report.Away = g.away(holdings)
	s.report.Took = time.Since(began)
	return s.report, err
}

// away names the members of the record that are not among those that were
// there.
func (g *Group) away(holdings []*holding) []string {
	var names []string
	for _, r := range g.Record().Members {
		there := slices.ContainsFunc(holdings, func(h *holding) bool {
			self, _ := h.m.self()
			return self.HSM == r.HSM && self.Serial == r.Serial
		})
		if !there {
			names = append(names, r.Name)
		}
	}
	return names
}

// synchronization is one under way.
type synchronization struct {
	g        *Group
	ctx      context.Context
	progress func(Progress)

	mu      sync.Mutex
	report  Report                    // guarded by mu
	members map[*member]*MemberReport // in report; what they point to is guarded by mu
}

// round pulls and pushes once.
func (s *synchronization) round(holdings []*holding) error {
	if !s.g.readAll(s.ctx, holdings) {
		return errMemberGone
	}
	hub := holdings[0]
	for _, h := range holdings {
		if !h.m.ails() {
			hub = h
			break
		}
	}
	var failures []error
	for _, h := range holdings {
		if h == hub {
			continue
		}
		var ids []ID
		for id, theirs := range h.states {
			mine := hub.states[id]
			if has(mine, theirs) {
				continue
			}
			ids = append(ids, id)
			if apartFrom(mine, theirs) {
				s.conflict(hub.m, mine, h.m, theirs)
			}
		}
		// One that cannot give what it has keeps no other from doing so.
		failures = append(failures, s.copy(h.m, hub.m, ids))
		if !s.g.readAll(s.ctx, []*holding{hub}) {
			return errors.Join(append(failures, MemberError{hub.m.name, errMemberGone})...)
		}
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, h := range holdings {
		var ids []ID
		for id, mine := range hub.states {
			if !same(mine, h.states[id]) {
				ids = append(ids, id)
			}
		}
		if h == hub {
			continue
		}
		all.Go(func() {
			err := s.copy(hub.m, h.m, ids)
			mu.Lock()
			defer mu.Unlock()
			failures = append(failures, err)
		})
	}
	all.Wait()
	return errors.Join(failures...)
}

// apartFrom reports whether each of two members changed an object without
// knowing of the other's change.
func apartFrom(a, b object.ObjectState) bool {
	if a.ID == (ID{}) || b.ID == (ID{}) || a.Deleted || b.Deleted || a.Content == b.Content {
		return false
	}
	r := order(a.Vector, b.Vector)
	return r == apart || r == equal
}

// copy carries objects from a member to another, and counts.
func (s *synchronization) copy(from, to *member, ids []ID) error {
	if len(ids) == 0 {
		return nil
	}
	slices.SortFunc(ids, func(a, b ID) int { return slices.Compare(a[:], b[:]) })
	source, cancel := from.while(s.ctx)
	defer cancel()
	within, cancel := to.while(source)
	defer cancel()
	done := 0
	var reached []ID
	_, err := copyObjects(within, from, to, ids, func(r object.CloneResult) {
		if r.Outcome != object.CloneRefused {
			reached = append(reached, r.ID)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		done++
		s.count(to, r)
		if s.progress != nil {
			s.progress(Progress{From: from.name, To: to.name, Done: done, Total: len(ids)})
		}
	})
	to.reachedFrom(from, reached)
	return err
}

// count adds one outcome to the report. Called with mu held.
func (s *synchronization) count(to *member, r object.CloneResult) {
	m := s.members[to]
	switch r.Outcome {
	case object.CloneAdded:
		m.Added++
	case object.CloneUpdated:
		m.Updated++
	case object.CloneDestroyed:
		m.Destroyed++
	case object.CloneMerged:
		m.Merged++
	case object.CloneRefused:
		m.Refused++
		s.report.Refusals = append(s.report.Refusals, Refusal{Member: to.name, ID: r.ID, Err: &client.HSMError{Code: r.Code, Detail: r.Detail}})
	}
}

// maxConflicts bounds what Conflicts remembers.
const maxConflicts = 100

// conflict remembers an object that two members have changed apart, before it
// is made one.
func (s *synchronization) conflict(a *member, mine object.ObjectState, b *member, theirs object.ObjectState) {
	c := Conflict{ID: mine.ID, Kept: s.version(a, mine), Lost: s.version(b, theirs), At: s.g.config.Now()}
	if later(theirs, mine) {
		c.Kept, c.Lost = c.Lost, c.Kept
	}
	s.mu.Lock()
	s.report.Conflicts = append(s.report.Conflicts, c)
	s.mu.Unlock()
	s.g.mu.Lock()
	s.g.conflicts = append(s.g.conflicts, c)
	if extra := len(s.g.conflicts) - maxConflicts; extra > 0 {
		s.g.conflicts = slices.Delete(s.g.conflicts, 0, extra)
	}
	s.g.mu.Unlock()
	s.g.log.Warn("HA members had changed an object apart", "group", s.g.config.Label, "object", c.ID,
		"kept", c.Kept.Member, "kept-change", c.Kept.Stamp.Count, "lost", c.Lost.Member, "lost-change", c.Lost.Stamp.Count)
}

func (s *synchronization) version(m *member, state object.ObjectState) Version {
	v := Version{Member: m.name, Stamp: state.Stamp}
	if c := m.client.Load(); c != nil {
		if t, err := c.Attributes(s.ctx, state.ID, client.AttrLabel); err == nil {
			v.Label = t.Text(client.AttrLabel)
		}
	}
	return v
}
