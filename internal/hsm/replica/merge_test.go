package replica

import (
	"flag"
	"testing"

	"moongate/internal/hsm/object"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// The command line may say otherwise; -rapid.seed=0 is another seed each time.
func init() {
	for name, value := range map[string]string{"rapid.seed": "1", "rapid.checks": "2000", "rapid.nofailfile": "true"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
}

// state draws any state, or nothing, whether a history leads to it or not: the
// rules hold for what a peer makes up, too.
func state(t *rapid.T, name string) *State {
	switch rapid.IntRange(0, 9).Draw(t, name) {
	case 0:
		return nil
	case 1:
		return &State{Deleted: true}
	}
	s := &State{}
	for r := range byte(3) {
		if n := rapid.Uint64Range(0, 2).Draw(t, "changes"); n > 0 {
			s.Vector = append(s.Vector, object.Count{Replica: object.ReplicaID{r}, Changes: n})
		}
	}
	s.Stamp = object.Stamp{Count: rapid.Uint64Range(1, 3).Draw(t, "stamp"), Replica: object.ReplicaID{rapid.ByteRange(0, 2).Draw(t, "writer")}}
	s.Content = [32]byte{rapid.ByteRange(0, 2).Draw(t, "content")}
	return s
}

func merged(t *rapid.T, mine, theirs *State) *State {
	if theirs == nil {
		return mine
	}
	m, err := Merge(mine, theirs)
	if err != nil {
		t.Fatal(err)
	}
	if mine != nil && m.Changed == m.State.Same(mine) {
		t.Fatalf("%+v with %+v: %+v, and changed is %v", mine, theirs, m.State, m.Changed)
	}
	return &m.State
}

func same(t *rapid.T, what string, a, b *State) {
	if diff := cmp.Diff(a, b, cmp.Transformer("vector", func(v object.Vector) []object.Count { return append([]object.Count{}, v...) })); diff != "" {
		t.Errorf("%s:\n%s", what, diff)
	}
}

// TestMergeIsASemilattice: the order and number of merges do not matter.
func TestMergeIsASemilattice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := state(t, "a"), state(t, "b"), state(t, "c")
		same(t, "commutative", merged(t, a, b), merged(t, b, a))
		same(t, "associative", merged(t, merged(t, a, b), c), merged(t, a, merged(t, b, c)))
		same(t, "idempotent", merged(t, a, a), a)
		same(t, "absorbing", merged(t, merged(t, a, b), b), merged(t, a, b))
	})
}

func TestMergeTellsWhatBecame(t *testing.T) {
	t.Parallel()
	p, q := object.ReplicaID{1}, object.ReplicaID{2}
	made := &State{History: First(p), Content: [32]byte{1}}
	change := func(s *State, by object.ReplicaID, content byte) *State {
		t.Helper()
		h, err := s.Changed(by)
		if err != nil {
			t.Fatal(err)
		}
		return &State{History: h, Content: [32]byte{content}}
	}
	here, there := change(made, p, 2), change(made, q, 3)
	dead := &State{Deleted: true}
	copied := &State{History: made.History, Content: [32]byte{9}}
	for name, c := range map[string]struct {
		mine, theirs *State
		want         object.CloneOutcome
		took         bool
	}{
		"new":                      {nil, made, object.CloneAdded, true},
		"the same":                 {made, made, object.CloneUnchanged, false},
		"newer":                    {made, there, object.CloneUpdated, true},
		"older":                    {there, made, object.CloneUnchanged, false},
		"apart, theirs is later":   {here, there, object.CloneMerged, true},
		"apart, mine is later":     {there, here, object.CloneMerged, false},
		"one version, two content": {made, copied, object.CloneMerged, true},
		"destroyed there":          {made, dead, object.CloneDestroyed, true},
		"destroyed, never here":    {nil, dead, object.CloneDestroyed, true},
		"destroyed here":           {dead, made, object.CloneDead, false},
		"destroyed on both sides":  {dead, dead, object.CloneUnchanged, false},
	} {
		m, err := Merge(c.mine, c.theirs)
		if err != nil || m.Outcome != c.want || m.Theirs != c.took {
			t.Errorf("%s: %v, took theirs: %v, %v; want %v, %v", name, m.Outcome, m.Theirs, err, c.want, c.took)
		}
	}
}

// TestVectorIsBounded: who would be the last replica but one too many is told.
func TestVectorIsBounded(t *testing.T) {
	t.Parallel()
	h := First(object.ReplicaID{0})
	var err error
	for i := range byte(object.MaxVector - 1) {
		if h, err = h.Changed(object.ReplicaID{i + 1}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.Changed(object.ReplicaID{0xff}); object.CodeOf(err) != object.ErrBusy {
		t.Errorf("one replica too many: %v", err)
	}
	if _, err := h.Changed(object.ReplicaID{5}); err != nil {
		t.Errorf("one of those that are there: %v", err)
	}
	other := &State{History: First(object.ReplicaID{0xff})}
	if _, err := Merge(&State{History: h}, other); object.CodeOf(err) != object.ErrBusy {
		t.Errorf("merging one replica too many: %v", err)
	}
	if back, rest, err := DecodeHistory(h.Append(nil)); err != nil || len(rest) > 0 || len(back.Vector) != object.MaxVector {
		t.Errorf("the longest history: %d replicas, %v", len(back.Vector), err)
	}
}
