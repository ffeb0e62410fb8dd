package store_test

import (
	"errors"
	"testing"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/replica"
	"moongate/internal/hsm/store"

	"github.com/google/go-cmp/cmp"
)

func (w *world) item(id object.ID) *replica.Item {
	w.t.Helper()
	var it *replica.Item
	if err := w.View(func(tx *store.Tx) (err error) { it, err = tx.Item(w.partition, w.key, id); return err }); err != nil {
		w.t.Fatal(err)
	}
	return it
}

func (w *world) replica() (r object.ReplicaID) {
	w.t.Helper()
	if err := w.View(func(tx *store.Tx) (err error) { r, err = tx.Replica(w.partition); return err }); err != nil {
		w.t.Fatal(err)
	}
	return r
}

// TestHistoryFollowsChanges: each change of an object counts one more for its
// partition, over a restart too.
func TestHistoryFollowsChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me, o := w.replica(), newObject("k")
	for n := range uint64(3) {
		w.put(o)
		w.reopen()
		want := replica.History{Stamp: object.Stamp{Count: n + 1, Replica: me}, Vector: object.Vector{{Replica: me, Changes: n + 1}}}
		if diff := cmp.Diff(want, w.item(o.ID).History); diff != "" {
			t.Errorf("history after %d changes (-want +got):\n%s", n+1, diff)
		}
	}
	if w.replica() != me {
		t.Error("a restart made another replica")
	}
}

// TestOldObjectsHaveImplicitHistories: what was written before there were
// histories has one by its version, the same in every restored copy; the next
// change is the partition's own.
func TestOldObjectsHaveImplicitHistories(t *testing.T) {
	t.Parallel()
	histories := map[string]replica.History{}
	for _, name := range []string{"format1", "format1-restored"} {
		s := openCopy(t, name)
		defer s.Close()
		w := &world{Store: s, t: t, partition: goldenPartition}
		if err := s.View(func(tx *store.Tx) error { w.key = openGolden(t, s, tx); return nil }); err != nil {
			t.Fatal(err)
		}
		it := w.item(goldenKey.ID)
		histories[name] = it.History
		if it.Stamp.Count != 2 || len(it.Vector) != 1 || it.Vector[0].Changes != 2 || it.Vector[0].Replica != it.Stamp.Replica {
			t.Errorf("%s: history %+v, want two changes of one line", name, it.History)
		}
		if w.replica() != (object.ReplicaID{}) {
			t.Errorf("%s: it has a replica", name)
		}
		var me object.ReplicaID
		w.update(func(tx *store.Tx) (err error) { me, err = tx.NameReplica(goldenPartition); return err })
		if me == (object.ReplicaID{}) || w.replica() != me {
			t.Errorf("%s: replica %v was named, and is %v", name, me, w.replica())
		}
		w.put(goldenKeyCopy())
		want, err := it.History.Changed(me)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, w.item(goldenKey.ID).History); diff != "" {
			t.Errorf("%s: history after a change (-want +got):\n%s", name, diff)
		}
	}
	if diff := cmp.Diff(histories["format1"], histories["format1-restored"]); diff != "" {
		t.Errorf("the restored copy names its changes otherwise:\n%s", diff)
	}
}

func goldenKeyCopy() *object.Object {
	o := *goldenKey
	return &o
}

// TestRestoreIsAnotherReplica: what is restored has the histories that it had,
// and whatever changes then is of another line, in place, elsewhere, and once
// more.
func TestRestoreIsAnotherReplica(t *testing.T) {
	t.Parallel()
	w, kept, _, gone := newFilled(t)
	raw, list := w.export()
	seen := map[object.ReplicaID]bool{w.replica(): true}
	before := w.item(kept.ID).History
	fresh := func(w *world) {
		t.Helper()
		if r := w.replica(); seen[r] || r == (object.ReplicaID{}) {
			t.Errorf("replica %v is not a new one", r)
		} else {
			seen[r] = true
		}
		if diff := cmp.Diff(before, w.item(kept.ID).History); diff != "" {
			t.Errorf("history (-before +restored):\n%s", diff)
		}
		if !w.item(gone.ID).Deleted {
			t.Error("the tombstone is gone")
		}
	}
	w.put(kept)
	for range 2 {
		w.update(func(tx *store.Tx) error { return tx.ReplacePartition(raw, each(list)) })
		fresh(w)
	}
	other := newWorld(t)
	other.update(func(tx *store.Tx) error { return tx.RestorePartition(raw, each(list)) })
	other.partition, other.key = w.partition, w.key
	fresh(other)
	w.update(func(tx *store.Tx) error { return tx.RenameReplica(w.partition) })
	w.reopen()
	fresh(w)
}

// TestItemsKeepWhatTheyAre: an item is written with its own history; it keeps
// its handle where that is new here.
func TestItemsKeepWhatTheyAre(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	own := newObject("own")
	w.put(own)
	them := replica.First(object.ReplicaID{9})
	put := func(it *replica.Item) *replica.Item {
		t.Helper()
		w.update(func(tx *store.Tx) error { return tx.PutItem(w.partition, w.key, it) })
		w.reopen()
		return w.item(it.ID)
	}
	item := func(handle uint64) *replica.Item {
		o := newObject("theirs")
		return &replica.Item{ID: o.ID, Handle: handle, History: them, Attributes: o.Attributes, Secret: o.Secret}
	}
	for _, c := range []struct{ handle, want uint64 }{{7, 7}, {1, 8}, {8, 9}, {1 << 60, 10}, {11, 11}} {
		if got := put(item(c.handle)); got.Handle != c.want || string(got.Secret) != "the secret of theirs" || cmp.Diff(them, got.History) != "" {
			t.Errorf("handle %d: %d, %+v, want handle %d", c.handle, got.Handle, got.History, c.want)
		}
	}
	over := item(99)
	over.ID = own.ID
	if got := put(over); got.Handle != own.Handle || cmp.Diff(them, got.History) != "" {
		t.Errorf("over another: handle %d, %+v", got.Handle, got.History)
	}
	died := time.Unix(1_700_000_000, 0).UTC()
	for _, id := range []object.ID{own.ID, object.NewID()} {
		for _, at := range []time.Time{died, died.Add(time.Hour)} { // the second one changes nothing
			if got := put(&replica.Item{ID: id, Deleted: true, At: at}); !got.Deleted || !got.At.Equal(died) {
				t.Errorf("destroyed at %v: %+v", at, got)
			}
		}
		again := item(1)
		again.ID = id
		if err := w.Update(func(tx *store.Tx) error { return tx.PutItem(w.partition, w.key, again) }); !errors.Is(err, store.ErrDeleted) {
			t.Errorf("over a tombstone: %v", err)
		}
	}
}
