package ha

import (
	"flag"
	"testing"

	"pgregory.net/rapid"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/replica"
)

// The same draws each time; the command line may say otherwise.
func init() {
	for name, value := range map[string]string{"rapid.seed": "1", "rapid.checks": "2000", "rapid.nofailfile": "true"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
}

// drawState is what a member may hold of the object with the ID 1: nothing,
// its tombstone, or a version of it, of few replicas and changes so that draws
// meet.
func drawState(t *rapid.T, name string) object.ObjectState {
	switch rapid.IntRange(0, 7).Draw(t, name) {
	case 0:
		return object.ObjectState{}
	case 1:
		return object.ObjectState{ID: ID{1}, Deleted: true}
	}
	s := object.ObjectState{ID: ID{1}, Content: [32]byte{rapid.Byte().Draw(t, "content") % 3}}
	for i := range byte(3) {
		if n := rapid.Uint64Range(0, 2).Draw(t, "changes"); n > 0 {
			s.Vector = append(s.Vector, object.Count{Replica: ReplicaID{i}, Changes: n})
		}
	}
	s.Stamp = Stamp{Count: rapid.Uint64Range(1, 3).Draw(t, "stamp"), Replica: ReplicaID{rapid.Byte().Draw(t, "writer") % 3}}
	return s
}

// held is a state as the rules of the HSM have it; nil is nothing.
func held(s object.ObjectState) *replica.State {
	if s.ID == (ID{}) {
		return nil
	}
	return &replica.State{Deleted: s.Deleted, History: replica.History{Stamp: s.Stamp, Vector: s.Vector}, Content: s.Content}
}

// TestJudgesAsTheHSMDoes: what a group holds for newer, known or the same is
// what the HSM's own rule makes of it.
func TestJudgesAsTheHSMDoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		mine, theirs := drawState(t, "mine"), drawState(t, "theirs")
		if theirs.ID == (ID{}) {
			return
		}
		m, err := replica.Merge(held(mine), held(theirs))
		if err != nil {
			t.Fatal(err)
		}
		if got := has(mine, theirs); got == m.Changed {
			t.Errorf("has is %v, the HSM's state changes: %v", got, m.Changed)
		}
		if got := later(theirs, mine); got != m.Theirs && !(mine.Deleted && theirs.Deleted) {
			t.Errorf("later is %v, the HSM takes theirs: %v", got, m.Theirs)
		}
		merged := object.ObjectState{ID: theirs.ID, Deleted: m.Deleted, Stamp: m.Stamp, Vector: m.Vector, Content: m.Content}
		if !has(merged, theirs) || !has(merged, mine) {
			t.Error("what both have become has not what each had")
		}
		if same(mine, theirs) != (held(mine) != nil && held(mine).Same(held(theirs))) {
			t.Errorf("same is %v", same(mine, theirs))
		}
		if apartFrom(mine, theirs) && m.Outcome != object.CloneMerged {
			t.Errorf("a conflict is seen where the HSM says %d", m.Outcome)
		}
	})
}

// TestDifferences: of members that hold the same none differs; a member that
// holds the join of all is stale in nothing.
func TestDifferences(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var holdings []*holding
		var joined *replica.State
		for range rapid.IntRange(2, 4).Draw(t, "members") {
			s := drawState(t, "state")
			h := &holding{states: map[ID]object.ObjectState{}}
			holdings = append(holdings, h)
			if s.ID == (ID{}) {
				continue
			}
			h.states[s.ID] = s
			m, err := replica.Merge(joined, held(s))
			if err != nil {
				t.Fatal(err)
			}
			joined = &m.State
		}
		if joined == nil {
			return
		}
		whole := object.ObjectState{ID: ID{1}, Deleted: joined.Deleted, Stamp: joined.Stamp, Vector: joined.Vector, Content: joined.Content}
		if joined.Deleted {
			whole = object.ObjectState{ID: ID{1}, Deleted: true}
		}
		with := append(holdings, &holding{states: map[ID]object.ObjectState{whole.ID: whole}})
		list := differences(with)
		if last := list[len(list)-1]; last.lag != 0 || len(last.stale) != 0 {
			t.Errorf("who has everything differs: %+v", last)
		}
		for _, h := range with {
			h.states = map[ID]object.ObjectState{whole.ID: whole}
		}
		for _, d := range differences(with) {
			if d.lag != 0 || len(d.stale) != 0 {
				t.Errorf("all the same, and one differs: %+v", d)
			}
		}
	})
}
