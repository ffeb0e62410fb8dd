package store_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"

	"github.com/google/go-cmp/cmp"
)

func (w *world) list(p object.ID, key *store.PartitionKey) []string {
	w.t.Helper()
	var labels []string
	err := w.View(func(tx *store.Tx) error {
		for o, err := range tx.Objects(p, key) {
			if err != nil {
				return err
			}
			if o.Secret != nil {
				w.t.Errorf("Objects opened the secret of %v", o.ID)
			}
			labels = append(labels, fmt.Sprintf("%d %s", o.Handle, o.Attributes.Text(object.AttrLabel)))
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	slices.Sort(labels)
	return labels
}

func (w *world) changes(after uint64) []store.Change {
	w.t.Helper()
	var list []store.Change
	err := w.View(func(tx *store.Tx) error {
		for c, err := range tx.ChangesSince(w.partition, after) {
			if err != nil {
				return err
			}
			list = append(list, c)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

func (w *world) remove(id object.ID) {
	w.t.Helper()
	w.update(func(tx *store.Tx) error { _, err := tx.DeleteObject(w.partition, id); return err })
}

func TestObjectsHaveAHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b, c := newObject("a"), newObject("b"), newObject("c")
	for i, o := range []*object.Object{a, b, c} {
		if seq := w.put(o); seq != uint64(i+1) || o.Handle != uint64(i+1) {
			t.Errorf("%d: sequence %d, handle %d", i, seq, o.Handle)
		}
	}
	a.Attributes = a.Attributes.With(object.Text(object.AttrLabel, "A"))
	a.Handle = 99 // is not the caller's to choose
	if seq := w.put(a); seq != 4 || a.Handle != 1 {
		t.Errorf("update: sequence %d, handle %d, want 4 and 1", seq, a.Handle)
	}
	w.remove(c.ID)
	want := []store.Change{
		{ID: b.ID, Sequence: 2, Version: 1},
		{ID: a.ID, Sequence: 4, Version: 2},
		{ID: c.ID, Sequence: 5, Version: 2, Deleted: true, At: time.Unix(1_800_000_000, 0).UTC()},
	}
	for range 2 {
		if diff := cmp.Diff(want, w.changes(0)); diff != "" {
			t.Errorf("changes (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want[2:], w.changes(4)); diff != "" {
			t.Errorf("changes since 4 (-want +got):\n%s", diff)
		}
		if got := append(w.changes(5), w.changes(1<<64-1)...); got != nil {
			t.Errorf("changes since the last: %v", got)
		}
		if diff := cmp.Diff([]string{"1 A", "2 b"}, w.list(w.partition, w.key)); diff != "" {
			t.Errorf("objects (-want +got):\n%s", diff)
		}
		if _, err := w.object(c.ID); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("destroyed object: %v", err)
		}
		w.reopen()
	}
	err := w.View(func(tx *store.Tx) error {
		if seq, err := tx.Sequence(w.partition); seq != 5 || err != nil {
			t.Errorf("sequence %d, %v", seq, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDestroyedIDsAndHandlesAreNeverUsedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := newObject("k")
	w.put(o)
	w.remove(o.ID)
	for range 2 {
		err := w.Update(func(tx *store.Tx) error { _, err := tx.PutObject(w.partition, w.key, o); return err })
		if !errors.Is(err, store.ErrDeleted) {
			t.Errorf("putting a destroyed object: %v, want ErrDeleted", err)
		}
		err = w.Update(func(tx *store.Tx) error { _, err := tx.DeleteObject(w.partition, o.ID); return err })
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("destroying it twice: %v, want ErrNotFound", err)
		}
		w.reopen()
	}
	next := newObject("next")
	w.put(next)
	if next.Handle == o.Handle || next.Handle == 0 {
		t.Errorf("handle %d after %d", next.Handle, o.Handle)
	}
}

func TestPartitionsAreApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := newObject("k")
	w.put(o)
	other, otherKey := object.NewID(), store.NewPartitionKey()
	w.update(func(tx *store.Tx) error { return tx.CreatePartition(other) })
	view := func(fn func(tx *store.Tx) error) error { return w.View(fn) }
	err := view(func(tx *store.Tx) error { _, err := tx.Object(other, otherKey, o.ID); return err })
	if !errors.Is(err, store.ErrNotFound) {
		t.Errorf("object of another partition: %v", err)
	}
	err = view(func(tx *store.Tx) error { _, err := tx.Object(w.partition, otherKey, o.ID); return err })
	if !errors.Is(err, store.ErrTampered) {
		t.Errorf("another partition's key: %v", err)
	}
	// A wrong key does not overwrite what the right one sealed.
	err = w.Update(func(tx *store.Tx) error { _, err := tx.PutObject(w.partition, otherKey, o); return err })
	if !errors.Is(err, store.ErrTampered) {
		t.Errorf("writing with another partition's key: %v", err)
	}
	if err := w.Update(func(tx *store.Tx) error { return tx.CreatePartition(other) }); !errors.Is(err, store.ErrExists) {
		t.Errorf("creating it twice: %v", err)
	}

	w.update(func(tx *store.Tx) error { return tx.DeletePartition(w.partition) })
	for range 2 {
		for name, err := range map[string]error{
			"Object":   view(func(tx *store.Tx) error { _, err := tx.Object(w.partition, w.key, o.ID); return err }),
			"Sequence": view(func(tx *store.Tx) error { _, err := tx.Sequence(w.partition); return err }),
			"Put":      w.Update(func(tx *store.Tx) error { _, err := tx.PutObject(w.partition, w.key, o); return err }),
			"Delete":   w.Update(func(tx *store.Tx) error { return tx.DeletePartition(w.partition) }),
			"Changes": view(func(tx *store.Tx) error {
				for _, err := range tx.ChangesSince(w.partition, 0) {
					return err
				}
				return nil
			}),
			"Objects": view(func(tx *store.Tx) error {
				for _, err := range tx.Objects(w.partition, w.key) {
					return err
				}
				return nil
			}),
		} {
			if !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s in a deleted partition: %v", name, err)
			}
		}
		w.reopen()
	}
}

// One transaction sees its own changes, and the sequences and digests come out
// right when it changes one object several times.
func TestManyChangesInOneTransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o, gone := newObject("first"), newObject("gone")
	p2 := object.NewID()
	w.update(func(tx *store.Tx) error {
		for _, label := range []string{"first", "second", "third"} {
			o.Attributes = o.Attributes.With(object.Text(object.AttrLabel, label))
			if _, err := tx.PutObject(w.partition, w.key, o); err != nil {
				return err
			}
			if got, err := tx.Object(w.partition, w.key, o.ID); err != nil || got.Attributes.Text(object.AttrLabel) != label {
				t.Errorf("within the transaction: %v, %v", got, err)
			}
		}
		if _, err := tx.PutObject(w.partition, w.key, gone); err != nil {
			return err
		}
		if _, err := tx.DeleteObject(w.partition, gone.ID); err != nil {
			return err
		}
		for range 2 {
			if err := tx.CreatePartition(p2); err != nil {
				return err
			}
			if _, err := tx.PutObject(p2, w.key, o); err != nil {
				return err
			}
			if err := tx.DeletePartition(p2); err != nil {
				return err
			}
			if err := tx.PutRecord("kind", "id", []byte("v")); err != nil {
				return err
			}
		}
		if err := tx.DeleteRecord("kind", "id"); err != nil {
			return err
		}
		return tx.PutRecord("kind", "id", []byte("w"))
	})
	w.reopen()
	want := []store.Change{{ID: o.ID, Sequence: 3, Version: 3}, {ID: gone.ID, Sequence: 5, Version: 2, Deleted: true, At: time.Unix(1_800_000_000, 0).UTC()}}
	if diff := cmp.Diff(want, w.changes(0)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func TestObjectsThatCannotBeReadBackAreNotWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, spoil := range map[string]func(*object.Object){
		"no ID":             func(o *object.Object) { o.ID = object.ID{} },
		"unknown attribute": func(o *object.Object) { o.Attributes = object.Template{{Type: 0x7777}} },
		"huge secret":       func(o *object.Object) { o.Secret = make([]byte, store.MaxSecret+1) },
	} {
		o := newObject("k")
		spoil(o)
		if err := w.Update(func(tx *store.Tx) error { _, err := tx.PutObject(w.partition, w.key, o); return err }); err == nil {
			t.Errorf("%s: written", name)
		}
	}
	if got := w.list(w.partition, w.key); got != nil {
		t.Errorf("objects: %v", got)
	}
}

func TestRecords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	put := func(kind, id, value string) {
		w.update(func(tx *store.Tx) error { return tx.PutRecord(kind, id, []byte(value)) })
	}
	put("client", "a", "1")
	put("client", "b", "2")
	put("client", "b", "3")
	put("clien", "ta", "4")
	put("role", "a", "5")
	w.update(func(tx *store.Tx) error { return tx.DeleteRecord("role", "a") })
	w.reopen()
	err := w.View(func(tx *store.Tx) error {
		for _, test := range []struct{ kind, id, want string }{{"client", "a", "1"}, {"client", "b", "3"}, {"clien", "ta", "4"}} {
			if got, err := tx.Record(test.kind, test.id); err != nil || string(got) != test.want {
				t.Errorf("%s %s: %q, %v, want %q", test.kind, test.id, got, err, test.want)
			}
		}
		for _, gone := range [][2]string{{"role", "a"}, {"client", "c"}, {"client", "ta"}} {
			if _, err := tx.Record(gone[0], gone[1]); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%v: %v, want ErrNotFound", gone, err)
			}
		}
		var ids []string
		for id, err := range tx.Records("client") {
			if err != nil {
				return err
			}
			ids = append(ids, id)
		}
		slices.Sort(ids)
		if diff := cmp.Diff([]string{"a", "b"}, ids); diff != "" {
			t.Errorf("clients (-want +got):\n%s", diff)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = w.Update(func(tx *store.Tx) error { return tx.DeleteRecord("role", "a") })
	if !errors.Is(err, store.ErrNotFound) {
		t.Errorf("deleting twice: %v", err)
	}
	for name, r := range map[string]struct {
		kind, id string
		value    []byte
	}{
		"no kind": {"", "x", nil}, "no id": {"x", "", nil},
		"long id": {"x", string(make([]byte, store.MaxRecordName+1)), nil}, "long value": {"x", "y", make([]byte, store.MaxRecordValue+1)},
	} {
		if err := w.Update(func(tx *store.Tx) error { return tx.PutRecord(r.kind, r.id, r.value) }); err == nil {
			t.Errorf("%s: written", name)
		}
	}
}
