package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"

	"github.com/google/go-cmp/cmp"
)

// export copies a partition as a backup does.
func (w *world) export() (store.RawPartition, []store.RawObject) {
	w.t.Helper()
	var raw store.RawPartition
	var list []store.RawObject
	err := w.View(func(tx *store.Tx) (err error) {
		if raw, err = tx.Raw(w.partition); err != nil {
			return err
		}
		for o, err := range tx.RawObjects(w.partition) {
			if err != nil {
				return err
			}
			back, err := store.DecodeRawObject(o.Append(nil))
			if err != nil {
				return err
			}
			list = append(list, back)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return raw, list
}

func each(list []store.RawObject) iter.Seq2[store.RawObject, error] {
	return func(yield func(store.RawObject, error) bool) {
		for _, o := range list {
			if !yield(o, nil) {
				return
			}
		}
	}
}

// changesOf lists a partition's changes, without their times.
func (w *world) changesOf(p object.ID) []store.Change {
	w.t.Helper()
	var list []store.Change
	err := w.View(func(tx *store.Tx) error {
		for c, err := range tx.ChangesSince(p, 0) {
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

func newFilled(t *testing.T) (w *world, kept, changed, gone *object.Object) {
	t.Helper()
	w = newWorld(t)
	kept, changed, gone = newObject("kept"), newObject("changed"), newObject("gone")
	for _, o := range []*object.Object{kept, changed, gone, changed} {
		w.put(o)
	}
	w.update(func(tx *store.Tx) error { _, err := tx.DeleteObject(w.partition, gone.ID); return err })
	return w, kept, changed, gone
}

func TestRestoreInAnotherStore(t *testing.T) {
	t.Parallel()
	from, kept, changed, gone := newFilled(t)
	raw, list := from.export()
	to := newWorld(t)
	to.update(func(tx *store.Tx) error { return tx.RestorePartition(raw, each(list)) })
	if err := to.Update(func(tx *store.Tx) error { return tx.RestorePartition(raw, each(list)) }); !errors.Is(err, store.ErrExists) {
		t.Errorf("restored twice: %v", err)
	}
	if diff := cmp.Diff(from.changesOf(raw.ID), to.changesOf(raw.ID)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	to.partition, to.key = from.partition, from.key
	to.reopen() // which checks the digests
	for _, want := range []*object.Object{kept, changed} {
		if got, err := to.object(want.ID); err != nil || !bytes.Equal(got.Secret, want.Secret) || got.Handle != want.Handle {
			t.Errorf("object %v: %v, %v", want.ID, got, err)
		}
	}
	// It is a partition like any other: changed, backed up and restored again.
	again := newObject("kept")
	again.ID, again.Secret = kept.ID, []byte("new secret")
	if seq := to.put(again); seq != raw.Sequence+1 || again.Handle != kept.Handle {
		t.Errorf("changed at %d with handle %d", seq, again.Handle)
	}
	if err := to.Update(func(tx *store.Tx) error { _, err := tx.PutObject(to.partition, to.key, gone); return err }); !errors.Is(err, store.ErrDeleted) {
		t.Errorf("an ID that is gone: %v", err)
	}
	back := newWorld(t)
	raw, list = to.export()
	back.update(func(tx *store.Tx) error { return tx.RestorePartition(raw, each(list)) })
	back.partition, back.key = from.partition, from.key
	back.reopen()
	if got, err := back.object(kept.ID); err != nil || string(got.Secret) != "new secret" {
		t.Errorf("restored again: %v, %v", got, err)
	}
	if raw.Origin != from.ID() {
		t.Errorf("origin %v, want %v", raw.Origin, from.ID())
	}
}

func TestReplaceGoesForward(t *testing.T) {
	t.Parallel()
	w, kept, changed, gone := newFilled(t)
	raw, list := w.export()
	// After the backup: one is changed, one destroyed, one comes, one comes and goes.
	later, shortLived := newObject("later"), newObject("short-lived")
	changed2 := *changed
	changed2.Secret = []byte("changed again")
	for _, o := range []*object.Object{&changed2, later, shortLived} {
		w.put(o)
	}
	w.update(func(tx *store.Tx) error {
		_, err := tx.DeleteObject(w.partition, kept.ID)
		_, err2 := tx.DeleteObject(w.partition, shortLived.ID)
		return errors.Join(err, err2)
	})
	before := w.changesOf(w.partition)
	last := before[len(before)-1].Sequence
	if err := w.Update(func(tx *store.Tx) error {
		p := raw
		p.ID = object.NewID()
		return tx.ReplacePartition(p, each(list))
	}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("replaced nothing: %v", err)
	}
	for range 2 { // and over itself once more
		w.update(func(tx *store.Tx) error { return tx.ReplacePartition(raw, each(list)) })
		w.reopen()
		for _, want := range []*object.Object{kept, changed} {
			if got, err := w.object(want.ID); err != nil || !bytes.Equal(got.Secret, want.Secret) || got.Handle != want.Handle {
				t.Errorf("object %v: %v, %v", want.ID, got, err)
			}
		}
		versions := map[object.ID]store.Change{}
		for _, c := range before {
			versions[c.ID] = c
		}
		after := w.changesOf(w.partition)
		for _, c := range after {
			old := versions[c.ID]
			if c.Sequence <= last || c.Version < old.Version || c.Version == old.Version && c.Deleted != old.Deleted {
				t.Errorf("%+v came after %+v and sequence %d", c, old, last)
			}
			if c.Deleted != slices.Contains([]object.ID{gone.ID, shortLived.ID}, c.ID) {
				t.Errorf("%+v: destroyed is wrong", c)
			}
		}
		if len(after) != 4 {
			t.Errorf("%d members, want 4", len(after))
		}
		if _, err := w.object(later.ID); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("made after the backup: %v", err)
		}
		before, last = after, after[len(after)-1].Sequence
	}
	fresh := newObject("fresh")
	if w.put(fresh); fresh.Handle <= later.Handle {
		t.Errorf("handle %d was used before", fresh.Handle)
	}
	// A restored object that is changed, and one that is destroyed, are like any.
	w.put(&changed2)
	w.update(func(tx *store.Tx) error { _, err := tx.DeleteObject(w.partition, kept.ID); return err })
	w.reopen()
	if got, err := w.object(changed.ID); err != nil || string(got.Secret) != "changed again" {
		t.Errorf("changed: %v, %v", got, err)
	}
	if _, err := w.object(kept.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("destroyed: %v", err)
	}
}

func TestRestoreRefusesWhatNoStoreExports(t *testing.T) {
	t.Parallel()
	w, _, _, _ := newFilled(t)
	raw, list := w.export()
	wrong := errors.New("the backup ends")
	fails := func(yield func(store.RawObject, error) bool) { yield(store.RawObject{}, wrong) }
	edited := func(i int, edit func(*store.RawObject)) iter.Seq2[store.RawObject, error] {
		l := slices.Clone(list)
		edit(&l[i])
		return each(l)
	}
	for name, members := range map[string]iter.Seq2[store.RawObject, error]{
		"one less":      each(list[1:]),
		"twice":         each(append(list[:1:1], list...)),
		"out of order":  each([]store.RawObject{list[1], list[0], list[2]}),
		"an error":      fails,
		"no ID":         edited(0, func(o *store.RawObject) { o.ID = object.ID{} }),
		"too late":      edited(2, func(o *store.RawObject) { o.Sequence = raw.Sequence + 1 }),
		"never sealed":  edited(0, func(o *store.RawObject) { o.SealedVersion = 0 }),
		"sealed later":  edited(0, func(o *store.RawObject) { o.SealedVersion = o.Version + 1 }),
		"short parts":   edited(0, func(o *store.RawObject) { o.Attributes = nil }),
		"parts of dead": edited(2, func(o *store.RawObject) { o.Secret = []byte("x") }),
	} {
		to := newWorld(t)
		if err := to.Update(func(tx *store.Tx) error { return tx.RestorePartition(raw, members) }); err == nil {
			t.Errorf("%s: restored", name)
		}
		if err := to.View(func(tx *store.Tx) error { _, err := tx.Sequence(raw.ID); return err }); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: something of it is there: %v", name, err)
		}
	}
}

// A part that was sealed for one object opens for no other, restored or not.
func TestRestoredPartsAreBound(t *testing.T) {
	t.Parallel()
	w, kept, changed, _ := newFilled(t)
	raw, list := w.export()
	list[0].Attributes, list[1].Attributes = list[1].Attributes, list[0].Attributes
	w.update(func(tx *store.Tx) error { return tx.ReplacePartition(raw, each(list)) })
	for _, o := range []*object.Object{kept, changed} {
		if _, err := w.object(o.ID); !errors.Is(err, store.ErrTampered) {
			t.Errorf("object %v: %v, want ErrTampered", o.ID, err)
		}
	}
}

func FuzzRawObject(f *testing.F) {
	o := store.RawObject{Change: store.Change{ID: object.NewID(), Sequence: 3, Version: 2}, SealedSequence: 3, SealedVersion: 2,
		Attributes: []byte(strings.Repeat("a", 40)), Secret: []byte(strings.Repeat("s", 40))}
	f.Add(o.Append(nil))
	gone := store.RawObject{Change: store.Change{ID: object.NewID(), Sequence: 3, Version: 2, Deleted: true}}
	f.Add(gone.Append(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		o, err := store.DecodeRawObject(in)
		if err == nil && !bytes.Equal(in, o.Append(nil)) {
			t.Errorf("%x decodes to what encodes to %x: %s", in, o.Append(nil), fmt.Sprintf("%+v", o))
		}
	})
}
