package partition

import (
	"strings"
	"sync"
	"testing"

	"moongate/internal/audit"
	"moongate/internal/hsm/object"

	"github.com/google/go-cmp/cmp"
)

func TestCloneCarriesKeys(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 2)
	a, b := m[0].session(object.RoleCryptoOfficer), m[1].session(object.RoleCryptoOfficer)
	public, private := m[0].newKey(a)
	results, err := clone(t, a, b)
	must(t, err)
	for _, r := range results {
		if r.Outcome != object.CloneAdded {
			t.Errorf("%v: %v, want added", r.ID, r.Outcome)
		}
	}
	if len(results) != 2 {
		t.Errorf("%d results, want 2", len(results))
	}
	da, db := digestOf(t, a), digestOf(t, b)
	if da.Sum != db.Sum || da.Objects != 2 {
		t.Errorf("digests %+v and %+v", da, db)
	}
	for _, id := range []object.ID{public, private} {
		want, err := a.Attributes(t.Context(), newOp(), id, nil)
		must(t, err)
		got, err := b.Attributes(t.Context(), newOp(), id, nil)
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("attributes (-source +target):\n%s", diff)
		}
	}
	signature, err := recorded(b).Sign(t.Context(), newOp(), private, ecdsa256, make([]byte, 32))
	must(t, err)
	must(t, a.Verify(t.Context(), newOp(), public, ecdsa256, make([]byte, 32), signature))
}

// of returns what became of one object.
func of(t *testing.T, results []object.CloneResult, id object.ID) object.CloneResult {
	t.Helper()
	for _, r := range results {
		if r.ID == id {
			return r
		}
	}
	t.Fatalf("nothing became of %v", id)
	return object.CloneResult{}
}

func rename(t *testing.T, s *Session, id object.ID, label string) {
	t.Helper()
	must(t, s.SetAttributes(t.Context(), newOp(), id, object.New(object.Text(object.AttrLabel, label))))
}

func labelOf(t *testing.T, s *Session, id object.ID) string {
	t.Helper()
	attrs, err := s.Attributes(t.Context(), newOp(), id, nil)
	must(t, err)
	return attrs.Text(object.AttrLabel)
}

// TestConflictNamesBoth: what was changed on both sides is told on the side
// that learns of it, with both versions, and both sides come to hold the same.
func TestConflictNamesBoth(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 2)
	a, b := m[0].session(object.RoleCryptoOfficer), m[1].session(object.RoleCryptoOfficer)
	_, key := m[0].newKey(a)
	_, err := clone(t, a, b)
	must(t, err)
	rename(t, a, key, "once")
	rename(t, b, key, "there")
	rename(t, b, key, "twice")
	results, err := clone(t, a, b, key)
	must(t, err)
	r := of(t, results, key)
	if r.Outcome != object.CloneMerged || labelOf(t, b, key) != "twice" {
		t.Errorf("%+v, and the label is %q, want that of the later version", r, labelOf(t, b, key))
	}
	for _, want := range []string{`"once"`, `"twice"`, "version 3 by replica", "version 2 by replica", "stays"} {
		if !strings.Contains(r.Detail, want) {
			t.Errorf("the conflict does not name %s: %s", want, r.Detail)
		}
	}
	if last := m[1].lastRecord(); last.Object != key || !strings.Contains(last.Detail, r.Detail) {
		t.Errorf("the conflict is recorded as %+v", last)
	}
	results, err = clone(t, b, a, key)
	must(t, err)
	if r := of(t, results, key); r.Outcome != object.CloneUpdated || labelOf(t, a, key) != "twice" {
		t.Errorf("back: %+v, label %q", r, labelOf(t, a, key))
	}
	if da, db := digestOf(t, a), digestOf(t, b); da.Sum != db.Sum {
		t.Errorf("digests %+v and %+v", da, db)
	}
}

// TestDestroyedIsDestroyedEverywhere: on the other side too, also where it was
// changed there since, and it comes back from nowhere.
func TestDestroyedIsDestroyedEverywhere(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3)
	var s []*Session
	for _, w := range m {
		s = append(s, w.session(object.RoleCryptoOfficer))
	}
	public, key := m[0].newKey(s[0])
	for _, other := range s[1:] {
		_, err := clone(t, s[0], other)
		must(t, err)
	}
	if _, err := recorded(s[1]).Sign(t.Context(), newOp(), key, ecdsa256, make([]byte, 32)); err != nil {
		t.Fatal(err)
	}
	rename(t, s[1], key, "in use")
	must(t, s[0].Destroy(t.Context(), newOp(), key))
	results, err := clone(t, s[0], s[1])
	must(t, err)
	if r := of(t, results, key); r.Outcome != object.CloneDestroyed {
		t.Errorf("the key: %+v", r)
	}
	if r := of(t, results, public); r.Outcome != object.CloneUnchanged {
		t.Errorf("its public half: %+v", r)
	}
	if _, err := recorded(s[1]).Sign(t.Context(), newOp(), key, ecdsa256, make([]byte, 32)); object.CodeOf(err) != object.ErrObjectNotFound {
		t.Errorf("signing with what is destroyed: %v", err)
	}
	for range 2 {
		results, err = clone(t, s[2], s[1]) // who knows nothing of it
		must(t, err)
		if r := of(t, results, key); r.Outcome != object.CloneDead {
			t.Errorf("it came back: %+v", r)
		}
		m[1].dismissAll(s[1])
		m[1].restart()
		s[1] = m[1].session(object.RoleCryptoOfficer)
	}
	for _, state := range changesOf(t, s[1]) {
		if state.ID == key && (!state.Deleted || state.At.IsZero() || state.Vector != nil || state.Content != [32]byte{}) {
			t.Errorf("the tombstone says %+v", state)
		}
	}
}

func (w *world) dismissAll(sessions ...*Session) {
	for _, s := range sessions {
		s.Close()
	}
}

// TestCloneIsRecordedOnBothSides: each object that leaves and comes has its
// record, with whom it went to or came from, and its outcome.
func TestCloneIsRecordedOnBothSides(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 2)
	a, b := m[0].session(object.RoleCryptoOfficer), m[1].session(object.RoleCryptoOfficer)
	public, key := m[0].newKey(a)
	must(t, a.Destroy(t.Context(), newOp(), public))
	_, err := clone(t, a, b)
	must(t, err)
	check := func(w *world, act action, about string, outcomes map[object.ID]string) {
		t.Helper()
		for _, event := range w.records() {
			if event.Action != string(act) || event.Outcome != audit.OK {
				continue
			}
			if want := about + outcomes[event.Object]; event.Detail != want || event.Kind != audit.Change || event.Client != "c" || event.Role != "co" || event.Partition != "p" || event.Op == [16]byte{} {
				t.Errorf("%+v, want the detail %q", event, want)
			}
			delete(outcomes, event.Object)
		}
		if len(outcomes) > 0 {
			t.Errorf("%s of %v is not recorded", act, outcomes)
		}
	}
	check(m[0], actCloneOut, "to partition "+b.p.serial+" of HSM "+m[1].peerName(), map[object.ID]string{key: "", public: ": destroyed"})
	check(m[1], actCloneIn, "from partition "+a.p.serial+" of HSM "+m[0].peerName(), map[object.ID]string{key: ": added", public: ": destroyed"})
}

// TestCloneThatIsNotRecordedIsNotDone: nothing leaves without its record; what
// came in and could not be recorded is told as done.
func TestCloneThatIsNotRecordedIsNotDone(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 2)
	ctx := t.Context()
	a, b := m[0].session(object.RoleCryptoOfficer), m[1].session(object.RoleCryptoOfficer)
	public, key := m[0].newKey(a)
	for step := range 4 {
		offer, err := b.OfferClone(ctx, newOp(), m[0].hsmID(), a.p.serial)
		must(t, err)
		m[0].journal = &faulty{Journal: m[0].log, left: step}
		pkg, included, err := a.CloneOut(ctx, newOp(), offer, []object.ID{key, public})
		m[0].journal = m[0].log
		if step < 2 { // two objects, two records
			wantCode(t, err, object.ErrAuditFailed)
			if pkg != nil || included != nil {
				t.Errorf("after %d records %d bytes came out", step, len(pkg))
			}
			if pkg, _, err = a.CloneOut(ctx, newOp(), offer, []object.ID{key, public}); err != nil {
				t.Fatal(err)
			}
		} else {
			must(t, err)
		}
		m[1].journal = &faulty{Journal: m[1].log, left: step}
		_, err = b.CloneIn(ctx, newOp(), pkg)
		m[1].journal = m[1].log
		there := len(changesOf(t, b))
		switch step {
		case 0: // the intent
			wantCode(t, err, object.ErrAuditFailed)
			if there != 0 {
				t.Errorf("%d objects came without a record", there)
			}
		case 1, 2:
			wantCode(t, err, object.ErrAuditFailed)
			if there != 2 || !strings.Contains(err.Error(), "was done") {
				t.Errorf("%d objects are there: %v", there, err)
			}
		case 3:
			must(t, err)
		}
	}
}

// TestCloneKeepsHandles: the number by which people name an object is the same
// on both sides where it was free; how often it was used is each side's own.
func TestCloneKeepsHandles(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 2)
	ctx := t.Context()
	a, b := m[0].session(object.RoleCryptoOfficer), m[1].session(object.RoleCryptoOfficer)
	_, first := m[0].newKey(a)
	_, second := m[0].newKey(a)
	_, err := recorded(a).Sign(ctx, newOp(), first, ecdsa256, make([]byte, 32))
	must(t, err)
	number := func(s *Session, id object.ID, typ object.AttributeType) uint64 {
		t.Helper()
		attrs, err := s.Attributes(ctx, newOp(), id, nil)
		must(t, err)
		n, _ := attrs.Number(typ)
		return n
	}
	_, err = clone(t, a, b)
	must(t, err)
	for _, id := range []object.ID{first, second} {
		if number(a, id, object.AttrHandle) != number(b, id, object.AttrHandle) {
			t.Errorf("handles %d and %d", number(a, id, object.AttrHandle), number(b, id, object.AttrHandle))
		}
		if number(a, id, object.AttrCreated) != number(b, id, object.AttrCreated) {
			t.Error("it was created at another time on the other side")
		}
	}
	if number(a, first, object.AttrUses) != 1 || number(b, first, object.AttrUses) != 0 {
		t.Errorf("uses %d and %d, want 1 and 0", number(a, first, object.AttrUses), number(b, first, object.AttrUses))
	}
	_, own := m[1].newKey(b)
	_, third := m[0].newKey(a)
	_, err = clone(t, a, b)
	must(t, err)
	if number(b, third, object.AttrHandle) == number(b, own, object.AttrHandle) {
		t.Error("two objects have one handle")
	}
	rename(t, a, third, "renamed")
	before := number(b, third, object.AttrHandle)
	_, err = clone(t, a, b)
	must(t, err)
	if number(b, third, object.AttrHandle) != before || labelOf(t, b, third) != "renamed" {
		t.Errorf("a change made handle %d of %d", number(b, third, object.AttrHandle), before)
	}
	found, _, err := b.Find(ctx, newOp(), object.New(object.Text(object.AttrLabel, "renamed")), nil, 0, 10)
	must(t, err)
	if len(found) != 1 {
		t.Errorf("%d objects have the new label, want 1", len(found))
	}
}

// TestCloneOutTakesWhatThereIs: IDs that are nobody's are left out, doubled ones
// go once.
func TestCloneOutTakesWhatThereIs(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 2)
	ctx := t.Context()
	a, b := m[0].session(object.RoleCryptoOfficer), m[1].session(object.RoleCryptoOfficer)
	_, key := m[0].newKey(a)
	offer, err := b.OfferClone(ctx, newOp(), m[0].hsmID(), a.p.serial)
	must(t, err)
	_, included, err := a.CloneOut(ctx, newOp(), offer, []object.ID{key, object.NewID(), key})
	must(t, err)
	if len(included) != 1 || included[0] != key {
		t.Errorf("%v is included, want %v", included, key)
	}
	_, _, err = a.CloneOut(ctx, newOp(), offer, []object.ID{object.NewID()})
	m[0].refused("nothing that is there", err, object.ErrObjectNotFound, "has none of the 1 objects", actCloneOut)
	for _, ids := range [][]object.ID{nil, make([]object.ID, object.MaxClone+1)} {
		_, _, err := a.CloneOut(ctx, newOp(), offer, ids)
		wantCode(t, err, object.ErrArgumentsBad)
	}
}

// TestLargeObjectsGoInManyPackages: what does not fit waits for the next one.
func TestLargeObjectsGoInManyPackages(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 2)
	a, b := m[0].session(object.RoleCryptoOfficer), m[1].session(object.RoleCryptoOfficer)
	for range 20 {
		_, id := m[0].newKey(a)
		must(t, a.SetAttributes(t.Context(), newOp(), id, object.New(object.Bytes(object.AttrSubject, make([]byte, object.MaxAttributeValue)))))
	}
	results, err := clone(t, a, b)
	must(t, err)
	if da, db := digestOf(t, a), digestOf(t, b); da.Sum != db.Sum || len(results) != 40 {
		t.Errorf("%d results, digests %+v and %+v", len(results), da, db)
	}
}

// TestRestoredTwiceIsTold: what changed after each of two restores are two
// changes, though both were the first after the same past.
func TestRestoredTwiceIsTold(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 2)
	a, b := m[0].session(object.RoleCryptoOfficer), m[1].session(object.RoleCryptoOfficer)
	_, key := m[0].newKey(a)
	_, err := clone(t, a, b)
	must(t, err)
	backup := m[0].backup("p")
	for i, want := range []object.CloneOutcome{object.CloneUpdated, object.CloneMerged, object.CloneMerged} {
		if i > 0 {
			_, err = m[0].restore(backup, true)
			must(t, err)
			a = m[0].session(object.RoleCryptoOfficer)
		}
		rename(t, a, key, []string{"before", "after the first", "after the second"}[i])
		results, err := clone(t, a, b, key)
		must(t, err)
		if r := of(t, results, key); r.Outcome != want {
			t.Errorf("%d restores: %+v, want %v", i, r, want)
		}
	}
}

// TestRestoreTakesNothingFromOthers: a member that is put back loses what was
// made since, and its group gives it back; what was destroyed since is destroyed
// again.
func TestRestoreTakesNothingFromOthers(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 2)
	a, b := m[0].session(object.RoleCryptoOfficer), m[1].session(object.RoleCryptoOfficer)
	_, doomed := m[0].newKey(a)
	backup := m[0].backup("p")
	_, later := m[0].newKey(a)
	must(t, a.Destroy(t.Context(), newOp(), doomed))
	_, err := clone(t, a, b)
	must(t, err)
	_, err = m[0].restore(backup, true)
	must(t, err)
	a = m[0].session(object.RoleCryptoOfficer)
	results, err := clone(t, a, b)
	must(t, err)
	if r := of(t, results, doomed); r.Outcome != object.CloneDead {
		t.Errorf("the destroyed key: %+v", r)
	}
	results, err = clone(t, b, a)
	must(t, err)
	if r := of(t, results, doomed); r.Outcome != object.CloneDestroyed {
		t.Errorf("the destroyed key, back: %+v", r)
	}
	if r := of(t, results, later); r.Outcome != object.CloneAdded {
		t.Errorf("what was made since: %+v", r)
	}
	if da, db := digestOf(t, a), digestOf(t, b); da.Sum != db.Sum {
		t.Errorf("digests %+v and %+v", da, db)
	}
}

// TestRestoreElsewhereIsAnotherHSM: a backup of a whole HSM brings its keys, and
// not who it is to others.
func TestRestoreElsewhereIsAnotherHSM(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 2)
	a := m[0].session(object.RoleCryptoOfficer)
	_, key := m[0].newKey(a)
	bare := m[0].newBare()
	_, err := bare.restore(m[0].backup(), false)
	must(t, err)
	if bare.hsmID() == m[0].hsmID() {
		t.Error("the identity was restored")
	}
	if peers, err := bare.Peers(); err != nil || len(peers) > 0 {
		t.Errorf("peers %+v were restored, %v", peers, err)
	}
	bare.fingerprint = m[0].fingerprint
	s := bare.session(object.RoleCryptoOfficer)
	was, err := a.Replica(t.Context(), newOp())
	must(t, err)
	is, err := s.Replica(t.Context(), newOp())
	must(t, err)
	if is.ID == was.ID || len(is.Peers) > 0 || is.HSM == was.HSM || is.Serial != was.Serial {
		t.Errorf("restored as %+v, was %+v", is, was)
	}
	// The others of the group take nothing from it, nor give it anything.
	b := m[1].session(object.RoleCryptoOfficer)
	if _, err := b.OfferClone(t.Context(), newOp(), is.HSM, is.Serial); object.CodeOf(err) != object.ErrPolicy {
		t.Errorf("cloning from it: %v", err)
	}
	if _, err := recorded(s).Sign(t.Context(), newOp(), key, ecdsa256, make([]byte, 32)); err != nil {
		t.Error(err)
	}
}

// TestClonesAndChangesAtOnce: clones in both directions, changes, uses and
// digests at the same time leave two partitions that come to hold the same.
func TestClonesAndChangesAtOnce(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 2)
	var all sync.WaitGroup
	for i, w := range m {
		all.Go(func() {
			s := w.session(object.RoleCryptoOfficer)
			for range 10 {
				_, id, err := s.Generate(t.Context(), newOp(), ec, p256, nil)
				if err == nil {
					err = s.SetAttributes(t.Context(), newOp(), id, object.New(object.Text(object.AttrLabel, "changed")))
				}
				if err == nil {
					_, err = recorded(s).Sign(t.Context(), newOp(), id, ecdsa256, make([]byte, 32))
				}
				if err != nil {
					t.Error(err)
				}
				digestOf(t, s)
			}
		})
		all.Go(func() {
			from, to := w.session(object.RoleCryptoOfficer), m[1-i].session(object.RoleCryptoOfficer)
			for range 5 {
				if _, err := clone(t, from, to); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	a, b := m[0].session(object.RoleCryptoOfficer), m[1].session(object.RoleCryptoOfficer)
	for range 2 {
		for _, way := range [][2]*Session{{a, b}, {b, a}} {
			if _, err := clone(t, way[0], way[1]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if da, db := digestOf(t, a), digestOf(t, b); da.Sum != db.Sum || da.Objects != 40 {
		t.Errorf("digests %+v and %+v", da, db)
	}
}

// TestRenamedReplicas: a store that was put back as a file gives its partitions
// new names, before anything changes in them.
func TestRenamedReplicas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before, err := w.Replication("p")
	must(t, err)
	_, key := w.newKey(w.session(object.RoleCryptoOfficer))
	w.close()
	w.openStore()
	must(t, RenameReplicas(w.store))
	w.open()
	after, err := w.Replication("p")
	must(t, err)
	if after.Replica == before.Replica {
		t.Error("the replica has its old name")
	}
	s := w.session(object.RoleCryptoOfficer)
	rename(t, s, key, "changed")
	for _, state := range changesOf(t, s) {
		if want := map[bool]int{true: 2, false: 1}[state.ID == key]; len(state.Vector) != want {
			t.Errorf("%v was changed by %d replicas, want %d", state.ID, len(state.Vector), want)
		}
	}
}
