package ha

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"moongate/client"
	"moongate/internal/hsm/object"
)

const officer = client.RoleCryptoOfficer

// compareEvery is how often contents are compared, in probes.
const compareEvery = 5

// keep compares members when one has come and from time to time, and brings up
// those that are behind where the role may, until ctx ends.
func (g *Group) keep(ctx context.Context) {
	pause := func() time.Duration {
		d := compareEvery * g.config.Probe
		return d*3/4 + rand.N(d/2)
	}
	timer := time.NewTimer(pause())
	defer timer.Stop()
	k := &keeping{g: g}
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.keeper:
		case <-timer.C:
		}
		next := pause()
		if k.round(ctx) {
			next = min(next, g.config.Probe/8)
		}
		timer.Reset(next)
	}
}

// keeping is what the keeper remembers from one round to the next.
type keeping struct {
	g *Group

	mu      sync.Mutex
	running bool // a synchronization; guarded by mu
	// After a synchronization that failed the next one waits, each time longer,
	// so that a member that refuses for long is not asked all the time.
	pause time.Duration // guarded by mu
	next  time.Time     // guarded by mu
}

// maxPause bounds keeping.pause, in probes.
const maxPause = 60

// begin reports whether a synchronization is due, and notes that it runs.
func (k *keeping) begin() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.running || time.Now().Before(k.next) {
		return false
	}
	k.running = true
	return true
}

// end notes whether a synchronization did all that there was to do.
func (k *keeping) end(all bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running = false
	if all {
		k.pause, k.next = 0, time.Time{}
		return
	}
	k.pause = min(max(2*k.pause, k.g.config.Probe), maxPause*k.g.config.Probe)
	k.next = time.Now().Add(k.pause)
}

// round is one look at all members. It reports whether another should follow
// soon.
func (k *keeping) round(ctx context.Context) bool {
	g := k.g
	within, cancel := context.WithTimeout(ctx, 4*g.limit)
	defer cancel()
	agree, again := g.compare(within)
	if agree || again || g.role != officer || !k.begin() {
		return again
	}
	// By itself: it may take long, and members that return meanwhile are to be
	// compared.
	g.work.Go(func() {
		k.end(g.bringUp(ctx))
		g.wakeKeeper()
	})
	return false
}

// bringUp synchronizes in the background. It reports whether all was done.
func (g *Group) bringUp(ctx context.Context) bool {
	// Several clients of a group see the same at once; the first one that acts
	// spares the others the work.
	if !rest(ctx, rand.N(g.config.Probe/4)) {
		return false
	}
	if !g.syncing.TryLock() {
		return true // somebody asked for it already
	}
	defer g.syncing.Unlock()
	report, err := g.together(ctx, nil)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		g.log.Warn("HA members could not be synchronized", "group", g.config.Label, "error", err)
	case len(report.Refusals) > 0:
		r := report.Refusals[0]
		g.log.Warn("an HA member refuses objects of the others", "group", g.config.Label, "member", r.Member, "objects", len(report.Refusals), "first", r.ID, "error", r.Err)
	case report.changes() > 0:
		g.log.Info("HA members synchronized", "group", g.config.Label, "report", report.String())
	}
	return err == nil && len(report.Refusals) == 0
}

// healRecords brings the group's record to members that have an older one, with
// the peers that it asks for, and takes over a newer one. Which have another is
// seen by their digests, or was when they were connected.
func (g *Group) healRecords(ctx context.Context, holdings []*holding) {
	var all sync.WaitGroup
	for _, h := range holdings {
		h.m.mu.Lock()
		outdated := h.m.outdated
		h.m.mu.Unlock()
		c := h.m.client.Load()
		if c == nil || !outdated && h.digest.Epoch == g.Record().Epoch {
			continue
		}
		all.Go(func() {
			within, cancel := h.m.within(ctx, g.limit)
			defer cancel()
			record, err := c.Group(within)
			if err != nil {
				return
			}
			g.adopt(record)
			if g.role == officer {
				g.heal(within, h.m, c, record)
			}
		})
	}
	all.Wait()
}

// heal brings one member the record.
func (g *Group) heal(ctx context.Context, m *member, c *client.Client, has object.Group) {
	ours := g.Record()
	if has.ID != ours.ID || has.Epoch == 0 || !ours.Supersedes(has) {
		return
	}
	self, known := m.self()
	if !known {
		return
	}
	// The peers first: a member with the new record is not looked at again.
	var err error
	for _, r := range ours.Members {
		if err == nil && r.HSM != self.HSM && !lists(self, object.Replica{PartitionInfo: object.PartitionInfo{Serial: r.Serial}, HSM: r.HSM}) {
			err = c.SetPeer(ctx, r.HSM, r.Serial, true)
		}
	}
	for _, r := range has.Members {
		stays := slices.ContainsFunc(ours.Members, func(o object.Member) bool { return o.HSM == r.HSM && o.Serial == r.Serial })
		if err == nil && !stays {
			if err = c.SetPeer(ctx, r.HSM, r.Serial, false); isAbsent(client.CodeOf(err)) {
				err = nil
			}
		}
	}
	if err == nil {
		err = c.SetGroup(ctx, has.Epoch, ours)
	}
	if err != nil {
		g.log.Warn("an HA member could not be given the group's record", "group", ours.Label, "member", m.name, "epoch", ours.Epoch, "error", err)
		return
	}
	m.mu.Lock()
	m.outdated = false
	m.mu.Unlock()
	g.log.Info("an HA member got the group's record", "group", ours.Label, "member", m.name, "epoch", ours.Epoch)
}

// peculiarity says that a member runs another version than the others, which is
// allowed and should not last.
func (g *Group) peculiarity(software string) string {
	for _, m := range *g.routing.Load() {
		other := m.software.Load()
		if other != nil && *other != "" && software != "" && *other != software {
			return "it runs " + software + ", member " + m.name + " " + *other
		}
	}
	return ""
}
