package partition

import (
	"testing"

	"moongate/internal/hsm/object"

	"github.com/google/go-cmp/cmp"
)

// TestDigestFollowsEveryChange: what follows the changes is what a fresh reading
// finds, and differs after each.
func TestDigestFollowsEveryChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, s := t.Context(), w.session(object.RoleCryptoOfficer)
	seen := map[[32]byte]string{}
	var sequence uint64
	check := func(what string, objects, tombstones uint64) {
		t.Helper()
		followed, states := digestOf(t, s), changesOf(t, s)
		s.p.mu.Lock()
		s.p.states = newStates()
		s.p.mu.Unlock()
		if diff := cmp.Diff(digestOf(t, s), followed); diff != "" {
			t.Errorf("%s (-read +followed):\n%s", what, diff)
		}
		if diff := cmp.Diff(changesOf(t, s), states); diff != "" {
			t.Errorf("%s, states (-read +followed):\n%s", what, diff)
		}
		if followed.Objects != objects || followed.Tombstones != tombstones || followed.Sequence < sequence || uint64(len(states)) != objects+tombstones {
			t.Errorf("%s: %+v, want %d objects and %d tombstones after sequence %d", what, followed, objects, tombstones, sequence)
		}
		if before, there := seen[followed.Sum]; there {
			t.Errorf("%s has the digest of %s", what, before)
		}
		seen[followed.Sum], sequence = what, followed.Sequence
	}
	check("nothing", 0, 0)
	public, key := w.newKey(s)
	check("a key pair", 2, 0)
	rename(t, s, key, "renamed")
	check("one renamed", 2, 0)
	rename(t, s, key, "k")
	check("renamed back", 2, 0) // it is another version
	must(t, s.Destroy(ctx, newOp(), public))
	check("one destroyed", 1, 1)
	_, err := recorded(s).Sign(ctx, newOp(), key, ecdsa256, make([]byte, 32))
	must(t, err)
	used := digestOf(t, s)
	if seen[used.Sum] != "one destroyed" {
		t.Error("a use changes the digest")
	}
	s.Close()
	w.restart()
	s = w.session(object.RoleCryptoUser)
	if again := digestOf(t, s); again != used {
		t.Errorf("after a restart %+v, was %+v", again, used)
	}
}

// TestChangesComeByPages: in the order of their sequence, each once.
func TestChangesComeByPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, s := t.Context(), w.session(object.RoleCryptoOfficer)
	for range 4 {
		w.newKey(s)
	}
	all := changesOf(t, s)
	if len(all) != 8 {
		t.Fatalf("%d changes, want 8", len(all))
	}
	var paged []object.ObjectState
	for after, more := uint64(0), true; more; after = paged[len(paged)-1].Sequence {
		var page []object.ObjectState
		var err error
		page, more, err = s.Changes(ctx, newOp(), after, 3)
		must(t, err)
		if len(page) > 3 || len(page) < 3 && more {
			t.Errorf("a page of %d, and more: %v", len(page), more)
		}
		paged = append(paged, page...)
	}
	if diff := cmp.Diff(all, paged); diff != "" {
		t.Errorf("by pages (-at once +paged):\n%s", diff)
	}
	last := all[len(all)-1].Sequence
	if page, more, err := s.Changes(ctx, newOp(), last, 3); err != nil || len(page) > 0 || more {
		t.Errorf("after the last: %v, %v, %v", page, more, err)
	}
	if page, more, err := s.Changes(ctx, newOp(), ^uint64(0), 3); err != nil || len(page) > 0 || more {
		t.Errorf("after the last number there is: %v, %v, %v", page, more, err)
	}
	for _, limit := range []int{0, -1, object.MaxChanges + 1} {
		_, _, err := s.Changes(ctx, newOp(), 0, limit)
		wantCode(t, err, object.ErrArgumentsBad)
	}
}

// TestOnlyTheDomainDigestsAlike: the same object in another domain has another
// digest, so that nobody outside can tell what is in it.
func TestOnlyTheDomainDigestsAlike(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 2)
	a, b := m[0].session(object.RoleCryptoOfficer), m[1].session(object.RoleCryptoOfficer)
	m[0].newKey(a)
	_, err := clone(t, a, b)
	must(t, err)
	if digestOf(t, a).Sum != digestOf(t, b).Sum {
		t.Fatal("two of a domain differ")
	}
	b.p.mu.Lock()
	b.p.states = newStates()
	b.p.mu.Unlock()
	must(t, b.h.updateHSM(func(r *hsmRecord) { r.Domain = newDomain() }))
	if digestOf(t, a).Sum == digestOf(t, b).Sum || changesOf(t, a)[0].Content == changesOf(t, b)[0].Content {
		t.Error("two of different domains agree")
	}
}
