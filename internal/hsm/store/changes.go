package store

import (
	"encoding/binary"
	"fmt"
	"iter"
	"time"

	"moongate/internal/hsm/object"
)

// A partition's changes are an index by change sequence (uint64): the key says
// the sequence, the value the object's ID, its version (uint64) and kind. Each
// object and tombstone has one entry, that of its last change.

// Change is the last change of an object.
type Change struct {
	ID       object.ID
	Sequence uint64 // in its partition, from 1
	Version  uint64 // of the object, from 1; a destroyed one's is one more than its last
	Deleted  bool
	At       time.Time // of its destruction; zero for an object that is there
}

const entrySize = 16 + 8 + 1

func appendEntry(b []byte, id object.ID, at place) []byte {
	b = append(b, id[:]...)
	b = binary.BigEndian.AppendUint64(b, at.version)
	return append(b, at.kind)
}

// decodeEntry reads an index entry; k is its key.
func decodeEntry(k, b []byte) (id object.ID, at place, err error) {
	if len(k) != 8 || len(b) != entrySize || !knownKind(b[24]) {
		return object.ID{}, place{}, errMalformed
	}
	return object.ID(b[:16]), place{kind: b[24], sequence: binary.BigEndian.Uint64(k), version: binary.BigEndian.Uint64(b[16:])}, nil
}

// record takes the next change sequence for an object: its old entry (nil for
// a new object) makes room for the new one in index and digest.
func (tx *Tx) record(t tables, part *partition, p, id object.ID, old *place, at place) (place, error) {
	if old != nil {
		if err := t.changes.Delete(number(old.sequence)); err != nil {
			return place{}, fmt.Errorf("recording change of object %v: %w", id, err)
		}
		part.digest.flip(tx.objectMember(p, id, *old))
	} else {
		part.members++
	}
	part.sequence++
	part.changed = true
	at.sequence = part.sequence
	part.digest.flip(tx.objectMember(p, id, at))
	if err := t.changes.Put(number(at.sequence), appendEntry(nil, id, at)); err != nil {
		return place{}, fmt.Errorf("recording change of object %v: %w", id, err)
	}
	return at, nil
}

func (tx *Tx) objectMember(p, id object.ID, at place) [digestSize]byte {
	return tx.keys.mac(&tx.keys.digest, []byte("object"), p[:], id[:], at.append(nil))
}

// Sequence returns the partition's last change sequence; 0 before the first.
func (tx *Tx) Sequence(p object.ID) (uint64, error) {
	if _, err := tx.tables(p); err != nil {
		return 0, err
	}
	part, err := tx.loadPartition(p)
	if err != nil {
		return 0, err
	}
	return part.sequence, nil
}

// ChangesSince iterates over the objects that changed after sequence after, in
// the order of their last change. An error ends it.
func (tx *Tx) ChangesSince(p object.ID, after uint64) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		t, err := tx.tables(p)
		if err != nil {
			yield(Change{}, err)
			return
		}
		if after+1 == 0 {
			return // nothing comes after the last number there is
		}
		c := t.changes.Cursor()
		for k, v := c.Seek(number(after + 1)); k != nil; k, v = c.Next() {
			change, err := tx.change(t, p, k, v)
			if err != nil {
				yield(Change{}, err)
				return
			}
			if !yield(change, nil) {
				return
			}
		}
	}
}

func (tx *Tx) change(t tables, p object.ID, k, v []byte) (Change, error) {
	id, at, err := decodeEntry(k, v)
	if err != nil {
		return Change{}, tampered(malformed, "change %x of partition %v", k, p)
	}
	change := Change{ID: id, Sequence: at.sequence, Version: at.version, Deleted: at.kind == kindTombstone}
	if !change.Deleted {
		return change, nil
	}
	change.At, err = tx.died(p, id, t.objects.Get(id[:]))
	return change, err
}

// died reads a tombstone's time.
func (tx *Tx) died(p, id object.ID, raw []byte) (time.Time, error) {
	st, err := decodeStored(raw)
	if err != nil {
		return time.Time{}, tampered(malformed, "tombstone of object %v of partition %v", id, p)
	}
	died, ok := open(&tx.keys.tombstones, tx.objectContext("tombstone", p, id, st.place), st.secret)
	if !ok || len(died) != 8 {
		return time.Time{}, tampered(doesNotOpen, "tombstone of object %v of partition %v", id, p)
	}
	return time.Unix(int64(binary.BigEndian.Uint64(died)), 0).UTC(), nil
}
