package store

import (
	"encoding/binary"
	"fmt"
	"iter"

	"moongate/internal/hsm/object"
)

// MaxSecret is the longest secret of an object in bytes.
const MaxSecret = 64 << 10

// An object's key is its ID. Its value is its place in the clear (kind, change
// sequence, version), and sealed under the partition's key, each by itself, the
// attributes (with the handle in front) and the secret. A tombstone is the same
// place, and sealed under the root key the time of its death. An object that was
// restored over another version of itself is the same place, and sealed under
// the root key the place that its parts were sealed for, and the parts.

// place is where an object stands in its partition's history. It is bound to
// everything that is sealed behind it.
type place struct {
	kind     byte
	sequence uint64 // the partition's change that wrote it
	version  uint64 // 1 for a new object, one more for each change of it
}

const (
	kindLive      = 1
	kindTombstone = 2
	kindRestored  = 3

	placeSize = 1 + 8 + 8
)

func (p place) append(b []byte) []byte {
	b = append(b, p.kind)
	b = binary.BigEndian.AppendUint64(b, p.sequence)
	return binary.BigEndian.AppendUint64(b, p.version)
}

func decodePlace(b []byte) (p place, rest []byte, err error) {
	if len(b) < placeSize || !knownKind(b[0]) {
		return place{}, nil, errMalformed
	}
	p = place{kind: b[0], sequence: binary.BigEndian.Uint64(b[1:]), version: binary.BigEndian.Uint64(b[9:])}
	return p, b[placeSize:], nil
}

func knownKind(kind byte) bool { return kindLive <= kind && kind <= kindRestored }

func isTombstone(raw []byte) bool { return len(raw) > 0 && raw[0] == kindTombstone }

// stored is an object's value, split: the sealed parts are as they lie in the
// file, valid for the transaction.
type stored struct {
	place
	attributes []byte // sealed
	secret     []byte // sealed; of a tombstone, its time of death; of a restored one, all
}

// decodeStored reads: place, the sealed attributes' length (uint32, 0 in a
// tombstone and in a restored object), the sealed attributes, the sealed secret.
func decodeStored(b []byte) (stored, error) {
	p, b, err := decodePlace(b)
	if err != nil || len(b) < 4 {
		return stored{}, errMalformed
	}
	size := binary.BigEndian.Uint32(b)
	b = b[4:]
	if uint64(size) > uint64(len(b)) || (p.kind == kindLive) != (size != 0) {
		return stored{}, errMalformed
	}
	return stored{place: p, attributes: b[:size:size], secret: b[size:]}, nil
}

func (st stored) append(b []byte) []byte {
	b = st.place.append(b)
	b = binary.BigEndian.AppendUint32(b, uint32(len(st.attributes)))
	b = append(b, st.attributes...)
	return append(b, st.secret...)
}

// objectContext binds what is sealed under the root key to its partition,
// object, and place.
func (tx *Tx) objectContext(what string, p, id object.ID, at place) []byte {
	return tx.keys.context(what, p[:], id[:], at.append(nil))
}

// partContext binds what is sealed under the partition's key to the same, in
// the store that the partition was made in.
func (tx *Tx) partContext(part string, origin, p, id object.ID, at place) []byte {
	return contextIn(origin, part, p[:], id[:], at.append(nil))
}

// PutObject writes an object, a new one or a new version of one that is there,
// and returns the partition's change sequence. A new object gets its Handle; one
// that is there keeps its own; o.Handle is set to it. ErrDeleted for an ID that
// has a tombstone.
func (tx *Tx) PutObject(p object.ID, key *PartitionKey, o *object.Object) (uint64, error) {
	if o.ID == (object.ID{}) {
		return 0, fmt.Errorf("writing object: it has no ID")
	}
	if err := o.Attributes.Check(); err != nil {
		return 0, fmt.Errorf("writing object %v: %w", o.ID, err)
	}
	if len(o.Secret) > MaxSecret {
		return 0, fmt.Errorf("writing object %v: secret has %d bytes, at most %d", o.ID, len(o.Secret), MaxSecret)
	}
	t, err := tx.tables(p)
	if err != nil {
		return 0, err
	}
	part, err := tx.loadPartition(p)
	if err != nil {
		return 0, err
	}
	at := place{kind: kindLive, version: 1}
	var old *place
	if raw := t.objects.Get(o.ID[:]); raw != nil {
		// Opening the old version also shows that key is the partition's.
		_, handle, _, err := tx.openAttributes(part, p, key, o.ID, raw)
		if err != nil {
			return 0, err
		}
		before, _, err := decodePlace(raw)
		if err != nil {
			return 0, tampered(malformed, "object %v of partition %v", o.ID, p)
		}
		old, at.version, o.Handle = &before, before.version+1, handle
	} else {
		part.lastHandle++
		o.Handle = part.lastHandle
	}
	if at, err = tx.record(t, part, p, o.ID, old, at); err != nil {
		return 0, err
	}
	plaintext := binary.BigEndian.AppendUint64(nil, o.Handle)
	plaintext = o.Attributes.Append(plaintext)
	st := stored{place: at}
	st.attributes = seal(nil, (*[32]byte)(key), tx.partContext("attributes", part.origin, p, o.ID, at), plaintext)
	st.secret = seal(nil, (*[32]byte)(key), tx.partContext("secret", part.origin, p, o.ID, at), o.Secret)
	if err := t.objects.Put(o.ID[:], st.append(nil)); err != nil {
		return 0, fmt.Errorf("writing object %v: %w", o.ID, err)
	}
	return at.sequence, nil
}

// Object reads an object with its secret, which is the caller's to clear;
// ErrNotFound where there is none.
func (tx *Tx) Object(p object.ID, key *PartitionKey, id object.ID) (*object.Object, error) {
	t, err := tx.tables(p)
	if err != nil {
		return nil, err
	}
	raw := t.objects.Get(id[:])
	if raw == nil || isTombstone(raw) {
		return nil, fmt.Errorf("object %v: %w", id, ErrNotFound)
	}
	part, err := tx.loadPartition(p)
	if err != nil {
		return nil, err
	}
	st, handle, attributes, err := tx.openAttributes(part, p, key, id, raw)
	if err != nil {
		return nil, err
	}
	secret, ok := open((*[32]byte)(key), tx.partContext("secret", part.origin, p, id, st.place), st.secret)
	if !ok {
		return nil, tampered(doesNotOpen, "secret of object %v of partition %v", id, p)
	}
	return &object.Object{ID: id, Handle: handle, Attributes: attributes, Secret: secret}, nil
}

// Objects iterates over a partition's objects by ID, their secrets left sealed:
// Secret is nil. An error ends it.
func (tx *Tx) Objects(p object.ID, key *PartitionKey) iter.Seq2[*object.Object, error] {
	return func(yield func(*object.Object, error) bool) {
		t, err := tx.tables(p)
		if err != nil {
			yield(nil, err)
			return
		}
		part, err := tx.loadPartition(p)
		if err != nil {
			yield(nil, err)
			return
		}
		c := t.objects.Cursor()
		for k, raw := c.First(); k != nil; k, raw = c.Next() {
			if isTombstone(raw) {
				continue
			}
			if len(k) != len(object.ID{}) {
				yield(nil, tampered(malformed, "object stored as %x of partition %v", k, p))
				return
			}
			id := object.ID(k)
			_, handle, attributes, err := tx.openAttributes(part, p, key, id, raw)
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(&object.Object{ID: id, Handle: handle, Attributes: attributes}, nil) {
				return
			}
		}
	}
}

// openAttributes opens what of a live object may be read. It returns the parts
// with the place that they were sealed for.
func (tx *Tx) openAttributes(part *partition, p object.ID, key *PartitionKey, id object.ID, raw []byte) (stored, uint64, object.Template, error) {
	st, err := decodeStored(raw)
	if err != nil {
		return stored{}, 0, nil, tampered(malformed, "object %v of partition %v", id, p)
	}
	if st.kind == kindTombstone {
		return stored{}, 0, nil, fmt.Errorf("object %v: %w", id, ErrDeleted)
	}
	if st, err = tx.unwrapRestored(p, id, st); err != nil {
		return stored{}, 0, nil, err
	}
	plaintext, ok := open((*[32]byte)(key), tx.partContext("attributes", part.origin, p, id, st.place), st.attributes)
	if !ok {
		return stored{}, 0, nil, tampered(doesNotOpen, "object %v of partition %v", id, p)
	}
	handle, attributes, err := decodeAttributes(plaintext)
	if err != nil {
		return stored{}, 0, nil, tampered(malformed, "object %v of partition %v", id, p)
	}
	return st, handle, attributes, nil
}

func decodeAttributes(b []byte) (handle uint64, t object.Template, err error) {
	if len(b) < 8 {
		return 0, nil, errMalformed
	}
	t, rest, err := object.DecodeTemplate(b[8:])
	if err != nil || len(rest) != 0 {
		return 0, nil, errMalformed
	}
	return binary.BigEndian.Uint64(b), t, nil
}

// DeleteObject destroys an object and leaves a tombstone, so that its ID is
// never used again and other HSMs can be told. It returns the partition's
// change sequence; ErrNotFound where there is no such object.
func (tx *Tx) DeleteObject(p, id object.ID) (uint64, error) {
	t, err := tx.tables(p)
	if err != nil {
		return 0, err
	}
	part, err := tx.loadPartition(p)
	if err != nil {
		return 0, err
	}
	raw := t.objects.Get(id[:])
	if raw == nil || isTombstone(raw) {
		return 0, fmt.Errorf("deleting object %v: %w", id, ErrNotFound)
	}
	old, _, err := decodePlace(raw)
	if err != nil {
		return 0, tampered(malformed, "object %v of partition %v", id, p)
	}
	at, err := tx.record(t, part, p, id, &old, place{kind: kindTombstone, version: old.version + 1})
	if err != nil {
		return 0, err
	}
	died := number(uint64(tx.s.opts.Now().Unix()))
	st := stored{place: at, secret: seal(nil, &tx.keys.tombstones, tx.objectContext("tombstone", p, id, at), died)}
	if err := t.objects.Put(id[:], st.append(nil)); err != nil {
		return 0, fmt.Errorf("deleting object %v: %w", id, err)
	}
	return at.sequence, nil
}
