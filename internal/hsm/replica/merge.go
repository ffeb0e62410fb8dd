package replica

import (
	"bytes"

	"moongate/internal/hsm/object"
)

// State is what the rules ask of one object in one partition. Where there is
// neither the object nor its tombstone there is no State.
type State struct {
	Deleted bool // then the rest is zero
	History
	// Content is a digest of what the object holds: the same in two partitions
	// where they hold the same.
	Content [32]byte
}

// Same reports whether both say the same.
func (s *State) Same(other *State) bool {
	return s.Deleted == other.Deleted && s.Stamp == other.Stamp && s.Content == other.Content &&
		covers(s.Vector, other.Vector) && covers(other.Vector, s.Vector)
}

// Merged is what becomes of an object.
type Merged struct {
	State
	Outcome object.CloneOutcome
	// Theirs: the content, or the destruction, is the one that came.
	Theirs bool
	// Changed: the state is another than mine was.
	Changed bool
}

// Merge decides what becomes of an object that is mine here, or nothing, when
// theirs comes from another partition:
//
//   - Destroyed stays destroyed, on either side.
//   - Otherwise the content with the later stamp stays, and the changes of both
//     are in it. Two contents with one stamp, which only a partition can have
//     that an older version copied, are ordered by their digests.
//
// In whatever order states are merged, and however often, the outcome is the
// same: it is the greater of two by one order, and the union of two sets.
// Nothing here asks a clock. The error is of a vector that would grow beyond
// object.MaxVector.
func Merge(mine, theirs *State) (Merged, error) {
	switch {
	case mine == nil && theirs.Deleted:
		return Merged{State{Deleted: true}, object.CloneDestroyed, true, true}, nil
	case mine == nil:
		return Merged{*theirs, object.CloneAdded, true, true}, nil
	case mine.Deleted && theirs.Deleted:
		return Merged{*mine, object.CloneUnchanged, false, false}, nil
	case mine.Deleted:
		return Merged{*mine, object.CloneDead, false, false}, nil
	case theirs.Deleted:
		return Merged{State{Deleted: true}, object.CloneDestroyed, true, true}, nil
	}
	vector, err := join(mine.Vector, theirs.Vector)
	if err != nil {
		return Merged{}, err
	}
	m := Merged{State: *mine, Outcome: object.CloneMerged}
	if order := later(theirs.Stamp, mine.Stamp); order > 0 || order == 0 && bytes.Compare(theirs.Content[:], mine.Content[:]) > 0 {
		m.State, m.Theirs = *theirs, true
	}
	m.Vector = vector
	older, newer := covers(theirs.Vector, mine.Vector), covers(mine.Vector, theirs.Vector)
	switch {
	case older && newer && mine.Content == theirs.Content, newer && !older:
		m.Outcome = object.CloneUnchanged
	case older && !newer:
		m.Outcome = object.CloneUpdated
	}
	m.Changed = !m.State.Same(mine)
	return m, nil
}
