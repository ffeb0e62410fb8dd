package ha

import (
	"bytes"

	"moongate/internal/hsm/object"
)

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
		case j == len(b) || i < len(a) && bytes.Compare(a[i].Replica[:], b[j].Replica[:]) < 0:
			more = true
			i++
		case i == len(a) || bytes.Compare(a[i].Replica[:], b[j].Replica[:]) > 0:
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
	case a.Stamp.Replica != b.Stamp.Replica:
		return bytes.Compare(a.Stamp.Replica[:], b.Stamp.Replica[:]) > 0
	}
	return bytes.Compare(a.Content[:], b.Content[:]) > 0 // of copies that were changed apart past any rule
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
	return (r == equal || r == after) && !later(b, a)
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
			if !hasAll(holdings, mine, id) {
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
