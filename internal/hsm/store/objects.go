package store

import (
	"encoding/binary"
	"fmt"
	"iter"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/replica"
)

// MaxSecret is the longest secret of an object in bytes.
const MaxSecret = 64 << 10

// An object's key is its ID. Its value is its place in the clear (kind, change
// sequence, version), and sealed under the partition's key, each by itself, the
// attributes (with the handle in front, and behind them the object's history as
// a replica) and the secret. A tombstone is the same
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
// that is there keeps its own; o.Handle is set to it. It is a change of this
// partition's: the object's history says so. ErrDeleted for an ID that has a
// tombstone.
func (tx *Tx) PutObject(p object.ID, key *PartitionKey, o *object.Object) (uint64, error) {
	w, err := tx.openPlace(p, key, o.ID)
	if err != nil {
		return 0, err
	}
	history := replica.First(w.part.line())
	if w.old == nil {
		w.part.lastHandle++
		o.Handle = w.part.lastHandle
	} else {
		o.Handle = w.handle
		if history, err = w.history.Changed(w.part.line()); err != nil {
			return 0, fmt.Errorf("writing object %v: %w", o.ID, err)
		}
	}
	return tx.put(w, key, o, history)
}

// written is where an object is written: in an empty place, or over what is
// there.
type written struct {
	t    tables
	part *partition
	p    object.ID

	// Of what is there; old is nil where there is nothing.
	old     *place
	handle  uint64
	history replica.History
}

// openPlace looks at what is there already. Opening it also shows that key is
// the partition's.
func (tx *Tx) openPlace(p object.ID, key *PartitionKey, id object.ID) (w written, err error) {
	if id == (object.ID{}) {
		return written{}, fmt.Errorf("writing object: it has no ID")
	}
	if w.t, err = tx.tables(p); err != nil {
		return written{}, err
	}
	if w.part, err = tx.loadPartition(p); err != nil {
		return written{}, err
	}
	w.p = p
	raw := w.t.objects.Get(id[:])
	if raw == nil {
		return w, nil
	}
	there, err := tx.openAttributes(w.part, p, key, id, raw)
	if err != nil {
		return written{}, err
	}
	before, _, err := decodePlace(raw)
	if err != nil {
		return written{}, tampered(malformed, "object %v of partition %v", id, p)
	}
	w.old, w.handle, w.history = &before, there.handle, there.history
	return w, nil
}

// put writes an object with its handle and history.
func (tx *Tx) put(w written, key *PartitionKey, o *object.Object, history replica.History) (uint64, error) {
	if err := o.Attributes.Check(); err != nil {
		return 0, fmt.Errorf("writing object %v: %w", o.ID, err)
	}
	if len(o.Secret) > MaxSecret {
		return 0, fmt.Errorf("writing object %v: secret has %d bytes, at most %d", o.ID, len(o.Secret), MaxSecret)
	}
	at := place{kind: kindLive, version: 1}
	if w.old != nil {
		at.version = w.old.version + 1
	}
	at, err := tx.record(w.t, w.part, w.p, o.ID, w.old, at)
	if err != nil {
		return 0, err
	}
	plaintext := binary.BigEndian.AppendUint64(nil, o.Handle)
	plaintext = history.Append(o.Attributes.Append(plaintext))
	st := stored{place: at}
	st.attributes = seal(nil, (*[32]byte)(key), tx.partContext("attributes", w.part.origin, w.p, o.ID, at), plaintext)
	st.secret = seal(nil, (*[32]byte)(key), tx.partContext("secret", w.part.origin, w.p, o.ID, at), o.Secret)
	if err := w.t.objects.Put(o.ID[:], st.append(nil)); err != nil {
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
	there, secret, err := tx.openObject(p, key, id, raw)
	if err != nil {
		return nil, err
	}
	return &object.Object{ID: id, Handle: there.handle, Attributes: there.template, Secret: secret}, nil
}

// openObject opens a live object whole.
func (tx *Tx) openObject(p object.ID, key *PartitionKey, id object.ID, raw []byte) (opened, []byte, error) {
	part, err := tx.loadPartition(p)
	if err != nil {
		return opened{}, nil, err
	}
	there, err := tx.openAttributes(part, p, key, id, raw)
	if err != nil {
		return opened{}, nil, err
	}
	secret, ok := open((*[32]byte)(key), tx.partContext("secret", part.origin, p, id, there.place), there.secret)
	if !ok {
		return opened{}, nil, tampered(doesNotOpen, "secret of object %v of partition %v", id, p)
	}
	return there, secret, nil
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
			there, err := tx.openAttributes(part, p, key, id, raw)
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(&object.Object{ID: id, Handle: there.handle, Attributes: there.template}, nil) {
				return
			}
		}
	}
}

// opened is a live object but for its secret: what of it may be read, its
// history, and the parts with the place that they were sealed for.
type opened struct {
	stored
	handle   uint64
	template object.Template
	history  replica.History
}

// openAttributes opens what of a live object may be read. An object of before
// there were histories has an implicit one.
func (tx *Tx) openAttributes(part *partition, p object.ID, key *PartitionKey, id object.ID, raw []byte) (opened, error) {
	st, err := decodeStored(raw)
	if err != nil {
		return opened{}, tampered(malformed, "object %v of partition %v", id, p)
	}
	if st.kind == kindTombstone {
		return opened{}, fmt.Errorf("object %v: %w", id, ErrDeleted)
	}
	if st, err = tx.unwrapRestored(p, id, st); err != nil {
		return opened{}, err
	}
	plaintext, ok := open((*[32]byte)(key), tx.partContext("attributes", part.origin, p, id, st.place), st.attributes)
	if !ok {
		return opened{}, tampered(doesNotOpen, "object %v of partition %v", id, p)
	}
	there := opened{stored: st, history: replica.Implicit(replica.Line(part.origin, p), st.version)}
	if err := there.decode(plaintext); err != nil {
		return opened{}, tampered(malformed, "object %v of partition %v", id, p)
	}
	return there, nil
}

// decode reads the sealed attributes: handle (uint64), template, and the history
// where there is one.
func (o *opened) decode(b []byte) (err error) {
	if len(b) < 8 {
		return errMalformed
	}
	o.handle = binary.BigEndian.Uint64(b)
	if o.template, b, err = object.DecodeTemplate(b[8:]); err != nil || len(b) == 0 {
		return err
	}
	if o.history, b, err = replica.DecodeHistory(b); err == nil && len(b) > 0 {
		err = errMalformed
	}
	return err
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
	return tx.bury(t, part, p, id, raw, tx.s.opts.Now())
}

// bury leaves a tombstone where an object is, or nothing.
func (tx *Tx) bury(t tables, part *partition, p, id object.ID, raw []byte, died time.Time) (uint64, error) {
	var old *place
	at := place{kind: kindTombstone, version: 1}
	if raw != nil {
		before, _, err := decodePlace(raw)
		if err != nil {
			return 0, tampered(malformed, "object %v of partition %v", id, p)
		}
		old, at.version = &before, before.version+1
	}
	at, err := tx.record(t, part, p, id, old, at)
	if err != nil {
		return 0, err
	}
	when := number(uint64(died.Unix()))
	st := stored{place: at, secret: seal(nil, &tx.keys.tombstones, tx.objectContext("tombstone", p, id, at), when)}
	if err := t.objects.Put(id[:], st.append(nil)); err != nil {
		return 0, fmt.Errorf("deleting object %v: %w", id, err)
	}
	return at.sequence, nil
}
