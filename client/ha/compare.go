package ha

import (
	"context"
	"fmt"
	"maps"
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
	g.healRecords(ctx, holdings)
	holdings = g.ofOneDomain(holdings)
	switch {
	case len(holdings) == 0:
		return true, false
	case len(holdings) == 1 && !g.othersSettled(holdings[0].m):
		return true, true
	case alike(holdings):
		for _, h := range holdings {
			h.m.judge(difference{}, known[h.m], g.whole(holdings))
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
				h.m.judge(difference{}, known[h.m], g.whole(holdings))
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
		h.m.judge(first[i], known[h.m], g.whole(holdings))
		clean = clean && first[i].lag == 0
	}
	return clean, false
}

// whole reports whether all members of the record are among those that were
// compared.
func (g *Group) whole(holdings []*holding) bool { return len(g.away(holdings)) == 0 }

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
// pending on it before, of which the comparison knows now. Where not the whole
// group was compared, what is known of the member from before stays: nobody has
// said otherwise.
func (m *member) judge(d difference, looked []ID, whole bool) {
	m.mu.Lock()
	if !m.known {
		m.mu.Unlock()
		return
	}
	m.compared, m.mute = true, false
	if whole {
		m.stale = d.stale
		for _, id := range looked {
			delete(m.pending, id)
		}
	} else if len(d.stale) > 0 {
		if m.stale == nil {
			m.stale = map[ID]struct{}{}
		}
		maps.Copy(m.stale, d.stale)
	}
	d.lag = max(d.lag, len(m.stale))
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
