package store_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"

	"go.etcd.io/bbolt"
)

// A victim is a store with something of everything, and its values as an
// attacker with the file finds them.
type victim struct {
	*world
	a, b *object.Object
	p2   object.ID
	key2 *store.PartitionKey
	inP2 *object.Object
}

func newVictim(t *testing.T) *victim {
	t.Helper()
	v := &victim{world: newWorld(t), a: newObject("a"), b: newObject("b"), p2: object.NewID(), key2: store.NewPartitionKey(), inP2: newObject("in p2")}
	v.put(v.a)
	v.put(v.b)
	v.update(func(tx *store.Tx) error {
		if err := tx.CreatePartition(v.p2); err != nil {
			return err
		}
		if _, err := tx.PutObject(v.p2, v.key2, v.inP2); err != nil {
			return err
		}
		if err := tx.PutRecord("client", "one", []byte("1")); err != nil {
			return err
		}
		return tx.PutRecord("client", "two", []byte("2"))
	})
	return v
}

// objects is a partition's table of objects in the file.
func objects(tx *bbolt.Tx, p object.ID) *bbolt.Bucket {
	return tx.Bucket([]byte("partitions")).Bucket(p[:]).Bucket([]byte("objects"))
}

func changes(tx *bbolt.Tx, p object.ID) *bbolt.Bucket {
	return tx.Bucket([]byte("partitions")).Bucket(p[:]).Bucket([]byte("changes"))
}

// snapshot copies a bucket of the open store's file.
func (v *victim) snapshot(bucket func(*bbolt.Tx) *bbolt.Bucket) map[string][]byte {
	v.t.Helper()
	v.close()
	out := map[string][]byte{}
	edit(v.t, v.path(), func(tx *bbolt.Tx) error {
		return bucket(tx).ForEach(func(k, val []byte) error {
			out[string(k)] = bytes.Clone(val)
			return nil
		})
	})
	v.open()
	return out
}

// attack edits the closed store's file and opens it again.
func (v *victim) attack(fn func(*bbolt.Tx) error) error {
	v.t.Helper()
	v.close()
	edit(v.t, v.path(), fn)
	s, err := store.Open(v.dir, v.root, store.Options{})
	if err == nil {
		v.Store = s
		v.t.Cleanup(func() { s.Close() })
	}
	return err
}

func wantTampered(t *testing.T, what string, err error, name string) {
	t.Helper()
	var tampered *store.TamperedError
	if !errors.As(err, &tampered) || !errors.Is(err, store.ErrTampered) {
		t.Errorf("%s: %v, want a TamperedError", what, err)
		return
	}
	if !strings.Contains(tampered.Record, name) {
		t.Errorf("%s: %v, which does not name %q", what, err, name)
	}
}

// Every byte of an object's value counts.
func TestChangedObjectIsDetected(t *testing.T) {
	t.Parallel()
	v := newVictim(t)
	raw := v.snapshot(func(tx *bbolt.Tx) *bbolt.Bucket { return objects(tx, v.partition) })[string(v.a.ID[:])]
	for i := 0; i < len(raw); i += 1 + len(raw)/40 {
		err := v.attack(func(tx *bbolt.Tx) error {
			changed := bytes.Clone(raw)
			changed[i] ^= 1
			return objects(tx, v.partition).Put(v.a.ID[:], changed)
		})
		if err != nil {
			t.Fatalf("byte %d: Open: %v", i, err)
		}
		_, err = v.object(v.a.ID)
		wantTampered(t, "byte changed", err, v.a.ID.String())
		// Other partitions go on.
		err = v.View(func(tx *store.Tx) error { _, err := tx.Object(v.p2, v.key2, v.inP2.ID); return err })
		if err != nil {
			t.Errorf("byte %d: an object elsewhere: %v", i, err)
		}
	}
	if err := v.attack(func(tx *bbolt.Tx) error { return objects(tx, v.partition).Put(v.a.ID[:], raw) }); err != nil {
		t.Fatal(err)
	}
	if _, err := v.object(v.a.ID); err != nil {
		t.Errorf("put right again: %v", err)
	}
}

// Sealed parts in another object's place spoil those two objects alone.
func TestSwappedContentsAreDetected(t *testing.T) {
	t.Parallel()
	v := newVictim(t)
	err := v.attack(func(tx *bbolt.Tx) error {
		table := objects(tx, v.partition)
		a, b := bytes.Clone(table.Get(v.a.ID[:])), bytes.Clone(table.Get(v.b.ID[:]))
		return errors.Join(table.Put(v.a.ID[:], append(a[:17:17], b[17:]...)), table.Put(v.b.ID[:], append(b[:17:17], a[17:]...)))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []*object.Object{v.a, v.b} {
		_, err := v.object(o.ID)
		wantTampered(t, "swapped", err, o.ID.String())
	}
	v.put(newObject("another"))
}

func TestMovedAndOldObjectsAreDetected(t *testing.T) {
	t.Parallel()
	for name, attack := range map[string]func(v *victim, before map[string][]byte, tx *bbolt.Tx) error{
		"two swapped": func(v *victim, before map[string][]byte, tx *bbolt.Tx) error {
			table := objects(tx, v.partition)
			a, b := bytes.Clone(table.Get(v.a.ID[:])), bytes.Clone(table.Get(v.b.ID[:]))
			return errors.Join(table.Put(v.a.ID[:], b), table.Put(v.b.ID[:], a))
		},
		"an old version": func(v *victim, before map[string][]byte, tx *bbolt.Tx) error {
			return objects(tx, v.partition).Put(v.a.ID[:], before[string(v.a.ID[:])])
		},
		"an old version with its index entry": func(v *victim, before map[string][]byte, tx *bbolt.Tx) error {
			raw := before[string(v.a.ID[:])]
			entry := append(bytes.Clone(v.a.ID[:]), raw[9:17]...)
			index := changes(tx, v.partition)
			newest, _ := index.Cursor().Last()
			return errors.Join(objects(tx, v.partition).Put(v.a.ID[:], raw),
				index.Delete(newest), index.Put(raw[1:9], append(entry, raw[0])))
		},
		"taken away": func(v *victim, before map[string][]byte, tx *bbolt.Tx) error {
			return objects(tx, v.partition).Delete(v.a.ID[:])
		},
		"taken away with its index entry": func(v *victim, before map[string][]byte, tx *bbolt.Tx) error {
			newest, _ := changes(tx, v.partition).Cursor().Last()
			return errors.Join(objects(tx, v.partition).Delete(v.a.ID[:]), changes(tx, v.partition).Delete(newest))
		},
		"copied from another partition": func(v *victim, before map[string][]byte, tx *bbolt.Tx) error {
			return objects(tx, v.partition).Put(v.inP2.ID[:], bytes.Clone(objects(tx, v.p2).Get(v.inP2.ID[:])))
		},
		"the partition taken away": func(v *victim, before map[string][]byte, tx *bbolt.Tx) error {
			return tx.Bucket([]byte("partitions")).DeleteBucket(v.partition[:])
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVictim(t)
			before := v.snapshot(func(tx *bbolt.Tx) *bbolt.Bucket { return objects(tx, v.partition) })
			v.a.Attributes = v.a.Attributes.With(object.Text(object.AttrLabel, "newer"))
			v.put(v.a)
			if err := v.attack(func(tx *bbolt.Tx) error { return attack(v, before, tx) }); err != nil {
				t.Fatal(err)
			}
			_, err := v.object(v.a.ID)
			wantTampered(t, name, err, v.partition.String())
			err = v.View(func(tx *store.Tx) error {
				for _, err := range tx.Objects(v.partition, v.key) {
					if err != nil {
						return err
					}
				}
				return nil
			})
			wantTampered(t, name+", listed", err, v.partition.String())
			err = v.Update(func(tx *store.Tx) error { _, err := tx.PutObject(v.partition, v.key, newObject("n")); return err })
			wantTampered(t, name+", written to", err, v.partition.String())
			// What is damaged can still be deleted.
			if err := v.Update(func(tx *store.Tx) error { return tx.DeletePartition(v.partition) }); err != nil {
				t.Errorf("%s: DeletePartition: %v", name, err)
			}
		})
	}
}

// A destroyed key does not come back, and neither does a deleted partition.
func TestTheDeletedDoNotReturn(t *testing.T) {
	t.Parallel()
	v := newVictim(t)
	before := v.snapshot(func(tx *bbolt.Tx) *bbolt.Bucket { return objects(tx, v.partition) })
	v.remove(v.a.ID)
	err := v.attack(func(tx *bbolt.Tx) error { return objects(tx, v.partition).Put(v.a.ID[:], before[string(v.a.ID[:])]) })
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.object(v.a.ID)
	wantTampered(t, "object", err, v.a.ID.String())

	v = newVictim(t)
	records := v.snapshot(func(tx *bbolt.Tx) *bbolt.Bucket { return tx.Bucket([]byte("records")) })
	v.update(func(tx *store.Tx) error { return tx.DeletePartition(v.p2) })
	err = v.attack(func(tx *bbolt.Tx) error {
		for k, raw := range records {
			if tx.Bucket([]byte("records")).Get([]byte(k)) == nil {
				return tx.Bucket([]byte("records")).Put([]byte(k), raw)
			}
		}
		return nil
	})
	wantTampered(t, "partition", err, "administrative records")
}

func TestAdministrativeRecordsAreBound(t *testing.T) {
	t.Parallel()
	table := func(tx *bbolt.Tx) *bbolt.Bucket { return tx.Bucket([]byte("records")) }
	// changed finds the record that an update of client "one" writes.
	changed := func(v *victim) (name string, old []byte) {
		before := v.snapshot(table)
		v.update(func(tx *store.Tx) error { return tx.PutRecord("client", "one", []byte("newer")) })
		for k, raw := range v.snapshot(table) {
			if !bytes.Equal(raw, before[k]) {
				return k, before[k]
			}
		}
		t.Fatal("nothing changed")
		return "", nil
	}
	t.Run("old version", func(t *testing.T) {
		t.Parallel()
		v := newVictim(t)
		name, old := changed(v)
		err := v.attack(func(tx *bbolt.Tx) error { return table(tx).Put([]byte(name), old) })
		wantTampered(t, "old version", err, "administrative records")
	})
	t.Run("old version with the old state", func(t *testing.T) {
		t.Parallel()
		v := newVictim(t)
		state := v.snapshot(func(tx *bbolt.Tx) *bbolt.Bucket { return tx.Bucket([]byte("meta")) })["state"]
		v.put(v.a)
		err := v.attack(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("state"), state) })
		wantTampered(t, "old state", err, "administrative records")
	})
	t.Run("taken away", func(t *testing.T) {
		t.Parallel()
		v := newVictim(t)
		name, _ := changed(v)
		err := v.attack(func(tx *bbolt.Tx) error { return table(tx).Delete([]byte(name)) })
		wantTampered(t, "taken away", err, "administrative records")
	})
	t.Run("content swapped", func(t *testing.T) {
		t.Parallel()
		v := newVictim(t)
		name, _ := changed(v)
		var damaged int
		err := v.attack(func(tx *bbolt.Tx) error {
			one := bytes.Clone(table(tx).Get([]byte(name)))
			return table(tx).ForEach(func(k, raw []byte) error {
				if string(k) != name && len(raw) == len(one)-len("newer")+1 {
					damaged++
					return table(tx).Put(k, append(bytes.Clone(raw[:8]), one[8:]...))
				}
				return nil
			})
		})
		if err != nil || damaged != 1 {
			t.Fatalf("%d records, %v", damaged, err)
		}
		err = v.View(func(tx *store.Tx) error { _, err := tx.Record("client", "two"); return err })
		wantTampered(t, "read", err, `client record "two"`)
		err = v.View(func(tx *store.Tx) error {
			for _, err := range tx.Records("client") {
				if err != nil {
					return err
				}
			}
			return nil
		})
		wantTampered(t, "listed", err, "client record")
	})
	t.Run("every byte", func(t *testing.T) {
		t.Parallel()
		v := newVictim(t)
		name, _ := changed(v)
		raw := v.snapshot(table)[name]
		for i := 0; i < len(raw); i += 3 {
			err := v.attack(func(tx *bbolt.Tx) error {
				changed := bytes.Clone(raw)
				changed[i] ^= 1
				return table(tx).Put([]byte(name), changed)
			})
			if err == nil {
				err = v.View(func(tx *store.Tx) error { _, err := tx.Record("client", "one"); return err })
			}
			wantTampered(t, "byte changed", err, "")
		}
	})
	t.Run("header", func(t *testing.T) {
		t.Parallel()
		v := newVictim(t)
		err := v.attack(func(tx *bbolt.Tx) error {
			meta := tx.Bucket([]byte("meta"))
			header := bytes.Clone(meta.Get([]byte("header")))
			header[35] ^= 1 // the date
			return meta.Put([]byte("header"), header)
		})
		if !errors.Is(err, store.ErrRootKey) {
			t.Errorf("header changed: %v, want ErrRootKey", err)
		}
	})
}

// What a thief of the file alone reads: nothing of what is in it.
func TestTheFileShowsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := &object.Object{ID: object.NewID(), Secret: []byte("KEY-BYTES-KEY-BYTES-KEY-BYTES-32")}
	o.Attributes = object.Defaults(object.ClassSecretKey).Merge(object.New(
		object.Text(object.AttrLabel, "LABEL-OF-THE-KEY"), object.Bytes(object.AttrID, []byte("ID-OF-THE-KEY"))))
	w.put(o)
	sealed, err := w.SealKey([32]byte{1}, []byte("CONTEXT"), w.key)
	if err != nil {
		t.Fatal(err)
	}
	w.update(func(tx *store.Tx) error {
		if err := tx.PutRecord("KIND-OF-RECORD", "CLIENT-NAME", []byte("CLIENT-ADDRESS")); err != nil {
			return err
		}
		return tx.PutRecord("role", "co", sealed)
	})
	w.close()
	file, err := os.ReadFile(w.path())
	if err != nil {
		t.Fatal(err)
	}
	for _, clear := range [][]byte{
		o.Secret[:16], []byte("LABEL-OF"), []byte("ID-OF-THE"), []byte("KIND-OF"), []byte("CLIENT-NAME"), []byte("CLIENT-ADDR"),
		w.key[:16], w.root[:16], []byte("CONTEXT"), o.Attributes.Append(nil)[:20], sealed[:16],
	} {
		if bytes.Contains(file, clear) {
			t.Errorf("the file shows %q", clear)
		}
	}
	if !bytes.Contains(file, []byte("moonhsm")) || !bytes.Contains(file, o.ID[:]) {
		t.Error("the search does not find what is known to be in the file")
	}
}
