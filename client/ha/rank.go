package ha

import ()

// refresh takes over a new list of members, with what was tried of it. Called
// with mu held.
func (f *flight[T]) refresh() []*member {
	list := *f.g.routing.Load()
	var tried [maxRouted]uint32
	for i, m := range list {
		for j, old := range f.members {
			if old == m {
				tried[i] = f.tried[j]
			}
		}
	}
	f.tried = tried
	return list
}

// Ranks of members for a call, best first.
const (
	rankGood    = iota
	rankAiling  // it refused a call lately for a reason of its own
	rankPartial // for a view of all objects: it lacks some, and nobody is known who has all
	rankSuspect // it may answer
	ranks
)

// best is the place of the member to ask next, -1 for none. Called with mu held.
func (f *flight[T]) best() (int, uint32) {
	for rank := range ranks {
		if rank == rankPartial && !f.need.all || rank == rankSuspect && f.doubtful != nil {
			continue
		}
		if i, generation := f.idlest(rank); i >= 0 {
			return i, generation
		}
	}
	return -1, 0
}

// idlest is the place of the member of a rank with the least outstanding work
// that was not asked yet; for a view of all objects it is the first in the
// record's order, so that handles are the same from one look to the next.
// Called with mu held.
func (f *flight[T]) idlest(rank int) (int, uint32) {
	found, least, generation := -1, int64(0), uint32(0)
	n := len(f.members)
	start := 0
	if !f.need.all {
		start = int(f.g.next.Add(1) % uint32(n))
	}
	for k := range n {
		i := start + k
		if i >= n {
			i -= n
		}
		m := f.members[i]
		v := m.view.Load()
		if f.tried[i] == v.generation+1 {
			continue
		}
		switch rank {
		case rankGood, rankAiling:
			if !v.usable || !v.serves(f.need) || m.ails() != (rank == rankAiling) {
				continue
			}
		case rankPartial:
			if !v.usable || v.blind {
				continue
			}
		case rankSuspect:
			if !v.suspect || !v.serves(f.need) {
				continue
			}
		}
		if f.need.all {
			return i, v.generation
		}
		if work := m.outstanding.Load(); found < 0 || work < least {
			found, least, generation = i, work, v.generation
		}
	}
	return found, generation
}
