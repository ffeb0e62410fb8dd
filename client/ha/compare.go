package ha

import (
	"context"
	"fmt"
	"sync"
	"time"

	"moongate/client"
	"moongate/internal/hsm/object"
)

// holding is what one member holds, as far as it was asked.
type holding struct {
	m      *member
	digest object.ReplicaDigest
	after  uint64 // what changed up to here is in states
	states map[ID]object.ObjectState
}

// update asks for what changed since the last time.
func (h *holding) update(ctx context.Context) error {
	c := h.m.client.Load()
	if c == nil {
		return errMemberGone
	}
	list, err := changedSince(ctx, c, h.after)
	if err != nil {
		return err
	}
	if h.states == nil {
		h.states = make(map[ID]object.ObjectState, len(list))
	}
	for _, s := range list {
		h.states[s.ID] = s
		h.after = max(h.after, s.Sequence)
	}
	h.m.answers.Add(1)
	return nil
}

// same reports whether two members hold the same of an object, histories and
// tombstones included.
func same(a, b object.ObjectState) bool {
	if a.ID != b.ID || a.Deleted != b.Deleted {
		return false
	}
	return a.Deleted || a.Stamp == b.Stamp && a.Content == b.Content && order(a.Vector, b.Vector) == equal
}

// answersAlike reports whether two members do the same with an object, whatever
// they know of how it came about: the zero state is an object that is not there.
func answersAlike(a, b object.ObjectState) bool {
	there := func(s object.ObjectState) bool { return s.ID != (ID{}) && !s.Deleted }
	if !there(a) || !there(b) {
		return there(a) == there(b)
	}
	return a.Content == b.Content
}

// relation of two histories.
type relation int

const (
	equal relation = iota
	before
	after
	apart
)

// order says how the history a stands to b.
func order(a, b object.Vector) relation {
	less, more := false, false
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case j == len(b) || i < len(a) && string(a[i].Replica[:]) < string(b[j].Replica[:]):
			more = true
			i++
		case i == len(a) || string(a[i].Replica[:]) > string(b[j].Replica[:]):
			less = true
			j++
		default:
			less = less || a[i].Changes < b[j].Changes
			more = more || a[i].Changes > b[j].Changes
			i++
			j++
		}
	}
	switch {
	case less && more:
		return apart
	case less:
		return before
	case more:
		return after
	}
	return equal
}

// later reports whether a's content stays where a and b meet: the rule of
// docs/replication.md.
func later(a, b object.ObjectState) bool {
	switch {
	case a.ID == (ID{}) || b.ID == (ID{}):
		return b.ID == (ID{})
	case a.Deleted || b.Deleted:
		return a.Deleted
	case a.Stamp.Count != b.Stamp.Count:
		return a.Stamp.Count > b.Stamp.Count
	}
	return string(a.Stamp.Replica[:]) > string(b.Stamp.Replica[:])
}

// has reports whether what b knows of an object is in a already.
func has(a, b object.ObjectState) bool {
	switch {
	case b.ID == (ID{}) || a.Deleted:
		return true
	case a.ID == (ID{}) || b.Deleted:
		return false
	}
	r := order(a.Vector, b.Vector)
	return r == equal || r == after && !later(b, a)
}

// difference is of one member to what all together hold.
type difference struct {
	lag   int             // objects and tombstones that are not the same
	stale map[ID]struct{} // objects that it would not answer for as the others
}

// differences compares members.
func differences(holdings []*holding) []difference {
	newest := map[ID]object.ObjectState{}
	for _, h := range holdings {
		for id, s := range h.states {
			if best, seen := newest[id]; !seen || later(s, best) {
				newest[id] = s
			}
		}
	}
	list := make([]difference, len(holdings))
	for i, h := range holdings {
		d := &list[i]
		for id, best := range newest {
			mine := h.states[id]
			if behind := !same(mine, best); behind || !hasAll(holdings, mine, id) {
				d.lag++
			}
			if !answersAlike(mine, best) {
				if d.stale == nil {
					d.stale = map[ID]struct{}{}
				}
				d.stale[id] = struct{}{}
			}
		}
	}
	return list
}

// hasAll reports whether a member's history of an object has all others' in it.
func hasAll(holdings []*holding, mine object.ObjectState, id ID) bool {
	for _, other := range holdings {
		if !has(mine, other.states[id]) {
			return false
		}
	}
	return true
}

// there returns the members that can be compared: connected, of this group, and
// answering.
func (g *Group) there() []*holding {
	var list []*holding
	for _, m := range *g.routing.Load() {
		if m.reachable() {
			list = append(list, &holding{m: m})
		}
	}
	return list
}

// digests asks members what they hold. Those that do not answer are left out:
// their connections tell the rest.
func (g *Group) digests(ctx context.Context, holdings []*holding) []*holding {
	answered := make([]bool, len(holdings))
	var all sync.WaitGroup
	for i, h := range holdings {
		all.Go(func() {
			within, cancel := h.m.within(ctx, 20*g.config.Probe)
			defer cancel()
			c := h.m.client.Load()
			if c == nil {
				return
			}
			d, err := c.Digest(within)
			if err != nil {
				h.m.excuse(err)
				return
			}
			h.digest = d
			h.m.answers.Add(1)
			h.m.mu.Lock()
			h.m.status.Digest = d
			h.m.mu.Unlock()
			answered[i] = true
		})
	}
	all.Wait()
	var list []*holding
	for i, h := range holdings {
		if answered[i] {
			list = append(list, h)
		}
	}
	return list
}

// excuse shows why a member's contents are not known although it is there.
func (m *member) excuse(err error) {
	m.mu.Lock()
	blind := !m.compared && m.status.State == Behind
	m.mute = true
	m.mu.Unlock()
	if blind && !client.Unavailable(err) {
		reason, fix := explain(err)
		m.transition(Behind, Behind, "its contents cannot be compared: "+reason, fix)
	}
}

// within bounds a question by time as well: a member that answers probes may
// be stuck all the same.
func (m *member) within(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := m.while(ctx)
	ctx, end := context.WithTimeout(ctx, limit)
	return ctx, func() { end(); cancel() }
}

// alike reports whether all digests are the same.
func alike(holdings []*holding) bool {
	for _, h := range holdings {
		if h.digest.Sum != holdings[0].digest.Sum {
			return false
		}
	}
	return true
}

// compare finds out which members hold the same and decides who is live and who
// is behind. It reports whether all that are there hold the same, and whether
// it should be called again soon, since a member is alone only when the others
// had their chance.
func (g *Group) compare(ctx context.Context) (agree, again bool) {
	known := g.pendingNow()
	holdings := g.digests(ctx, g.there())
	holdings = g.ofOneDomain(holdings)
	switch {
	case len(holdings) == 0:
		return true, false
	case len(holdings) == 1 && !g.othersSettled(holdings[0].m):
		return true, true
	case alike(holdings):
		for _, h := range holdings {
			h.m.judge(difference{}, known[h.m])
		}
		return true, false
	}
	// A change may be on its way between members: look again before anything is
	// said of a member that was as the others until now.
	if !g.anyBlind(holdings) {
		if !rest(ctx, g.settle()) {
			return true, false
		}
		if holdings = g.digests(ctx, holdings); len(holdings) == 0 || alike(holdings) {
			for _, h := range holdings {
				h.m.judge(difference{}, known[h.m])
			}
			return true, false
		}
	}
	first, ok := g.differ(ctx, holdings)
	if !ok {
		return false, true
	}
	clean := true
	for i, h := range holdings {
		h.m.judge(first[i], known[h.m])
		clean = clean && first[i].lag == 0
	}
	return clean, false
}

// settle is how long a change may take to reach all members.
func (g *Group) settle() time.Duration { return min(g.config.Probe/4, 250*time.Millisecond) }

func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// differ reads what members hold, twice, and returns what differs both times:
// in between, changes that were on their way arrive.
func (g *Group) differ(ctx context.Context, holdings []*holding) ([]difference, bool) {
	if !g.readAll(ctx, holdings) {
		return nil, false
	}
	first := differences(holdings)
	if !rest(ctx, g.settle()) || !g.readAll(ctx, holdings) {
		return nil, false
	}
	second := differences(holdings)
	for i := range second {
		for id := range second[i].stale {
			if _, was := first[i].stale[id]; !was {
				delete(second[i].stale, id)
			}
		}
		second[i].lag = min(first[i].lag, second[i].lag)
	}
	return second, true
}

func (g *Group) readAll(ctx context.Context, holdings []*holding) bool {
	failed := make([]bool, len(holdings))
	var all sync.WaitGroup
	for i, h := range holdings {
		all.Go(func() {
			within, cancel := h.m.within(ctx, 60*g.config.Probe)
			defer cancel()
			if err := h.update(within); err != nil {
				h.m.excuse(err)
				failed[i] = true
			}
		})
	}
	all.Wait()
	for _, f := range failed {
		if f {
			return false
		}
	}
	return true
}

func (g *Group) anyBlind(holdings []*holding) bool {
	for _, h := range holdings {
		if h.m.view.Load().blind {
			return true
		}
	}
	return false
}

// othersSettled reports whether every other member had its chance to answer
// before one is used alone: it was tried, or a probe's time has passed.
func (g *Group) othersSettled(alone *member) bool {
	alone.mu.Lock()
	waited := alone.compared || time.Since(alone.arrived) > g.config.Probe
	alone.mu.Unlock()
	if waited {
		return true
	}
	for _, m := range g.all() {
		if m != alone && !m.settled() {
			return false
		}
	}
	return true
}

// ofOneDomain refuses members whose HSM has another domain than the first: no
// key goes between them, and digests say nothing.
func (g *Group) ofOneDomain(holdings []*holding) []*holding {
	var list []*holding
	for _, h := range holdings {
		self, known := h.m.self()
		if !known {
			continue
		}
		if len(list) > 0 {
			if first, _ := list[0].m.self(); first.Domain != self.Domain {
				h.m.set(Refused, fmt.Sprintf("its HSM is of another domain than that of %q", list[0].m.name),
					"have the HSM join the domain, and add the member again")
				continue
			}
		}
		list = append(list, h)
	}
	return list
}

// pendingNow is what members are known to have missed, before they are compared.
func (g *Group) pendingNow() map[*member][]ID {
	known := map[*member][]ID{}
	for _, m := range g.all() {
		m.mu.Lock()
		for id := range m.pending {
			known[m] = append(known[m], id)
		}
		m.mu.Unlock()
	}
	return known
}

// judge takes over what a comparison found of a member; looked is what was
// pending on it before, of which the comparison knows now.
func (m *member) judge(d difference, looked []ID) {
	m.mu.Lock()
	if !m.known {
		m.mu.Unlock()
		return
	}
	m.compared, m.mute = true, false
	m.stale = d.stale
	for _, id := range looked {
		delete(m.pending, id)
	}
	m.status.Behind, m.status.Equal = d.lag, d.lag == 0
	state, next, reason, fix := m.status.State, Live, m.g.peculiarity(m.status.Software), ""
	if d.lag > 0 || len(m.pending) > 0 {
		next = Behind
		reason = fmt.Sprintf("%d objects differ from the other members'", max(d.lag, len(m.pending)))
		if m.config.Role != officer {
			fix = "synchronize as the Crypto Officer: `cmu ha synchronize`"
		}
	}
	if state == Suspect {
		m.before = next
	}
	m.publish()
	m.mu.Unlock()
	if state == Live || state == Behind {
		m.transition(state, next, reason, fix)
	}
}
