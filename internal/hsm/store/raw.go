package store

import (
	"encoding/binary"
	"fmt"
	"iter"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/replica"
)

// RawPartition is what a backup holds of a partition, beside its members.
type RawPartition struct {
	ID object.ID
	// Origin is the store that the partition was made in.
	Origin     object.ID
	Sequence   uint64 // of its last change
	LastHandle uint64
	Members    uint64 // objects and tombstones
}

// RawObject is an object as it is kept: its parts stay sealed under the
// partition's key, which nobody needs to copy them.
type RawObject struct {
	Change
	// SealedSequence and SealedVersion are the place that the parts were
	// sealed for: the object's, or an earlier one where it was restored. They
	// are zero in a tombstone, as the parts are empty.
	SealedSequence, SealedVersion uint64
	Attributes, Secret            []byte
}

// check refuses what no store exports.
func (o *RawObject) check() error {
	empty := len(o.Attributes) == 0 && len(o.Secret) == 0 && o.SealedSequence == 0 && o.SealedVersion == 0
	switch {
	case o.ID == (object.ID{}) || o.Sequence == 0 || o.Version == 0:
		return fmt.Errorf("object %v has sequence %d and version %d", o.ID, o.Sequence, o.Version)
	case o.Deleted && !empty:
		return fmt.Errorf("object %v is destroyed and has parts", o.ID)
	case o.Deleted:
		return nil
	case o.SealedSequence == 0 || o.SealedVersion == 0 || o.SealedVersion > o.Version:
		return fmt.Errorf("object %v is sealed for sequence %d and version %d", o.ID, o.SealedSequence, o.SealedVersion)
	case len(o.Attributes) <= sealOverhead || len(o.Attributes) > maxAttributes || len(o.Secret) < sealOverhead || len(o.Secret) > MaxSecret+sealOverhead:
		return fmt.Errorf("object %v has parts of %d and %d bytes", o.ID, len(o.Attributes), len(o.Secret))
	}
	return nil
}

// Raw describes a partition for a backup.
func (tx *Tx) Raw(p object.ID) (RawPartition, error) {
	if _, err := tx.tables(p); err != nil {
		return RawPartition{}, err
	}
	part, err := tx.loadPartition(p)
	if err != nil {
		return RawPartition{}, err
	}
	return RawPartition{ID: p, Origin: part.origin, Sequence: part.sequence, LastHandle: part.lastHandle, Members: part.members}, nil
}

// RawObjects iterates over a partition's objects and tombstones, in the order
// of their last change. What it yields is valid until the next. An error ends
// it.
func (tx *Tx) RawObjects(p object.ID) iter.Seq2[RawObject, error] {
	return func(yield func(RawObject, error) bool) {
		t, err := tx.tables(p)
		if err != nil {
			yield(RawObject{}, err)
			return
		}
		for change, err := range tx.ChangesSince(p, 0) {
			o := RawObject{Change: change}
			if err == nil && !change.Deleted {
				err = tx.readRaw(t, p, &o)
			}
			if !yield(o, err) || err != nil {
				return
			}
		}
	}
}

func (tx *Tx) readRaw(t tables, p object.ID, o *RawObject) error {
	st, err := decodeStored(t.objects.Get(o.ID[:]))
	if err != nil {
		return tampered(malformed, "object %v of partition %v", o.ID, p)
	}
	if st, err = tx.unwrapRestored(p, o.ID, st); err != nil {
		return err
	}
	o.SealedSequence, o.SealedVersion, o.Attributes, o.Secret = st.sequence, st.version, st.attributes, st.secret
	return nil
}

// RestorePartition makes a partition of what a backup holds: the members come
// in the order in which they were read. ErrExists where there is one. All but
// the partition's key is as it was when the backup was made: places, handles,
// tombstones.
func (tx *Tx) RestorePartition(raw RawPartition, members iter.Seq2[RawObject, error]) error {
	if err := tx.CreatePartition(raw.ID); err != nil {
		return err
	}
	part := tx.partitions[raw.ID]
	part.origin, part.lastHandle, part.changed = raw.Origin, raw.LastHandle, true
	t, err := tx.rawTables(raw.ID)
	if err != nil {
		return err
	}
	for o, err := range members {
		if err != nil {
			return err
		}
		if err := o.check(); err != nil {
			return fmt.Errorf("restoring partition %v: %w", raw.ID, err)
		}
		if o.Sequence <= part.sequence || o.Sequence > raw.Sequence || t.objects.Get(o.ID[:]) != nil {
			return fmt.Errorf("restoring partition %v: object %v is there twice, or out of order", raw.ID, o.ID)
		}
		part.sequence = o.Sequence - 1 // record takes the next one
		if err := tx.putRaw(t, part, raw.ID, &o, o.Version); err != nil {
			return err
		}
	}
	if part.members != raw.Members {
		return fmt.Errorf("restoring partition %v: %d objects came, expected %d", raw.ID, part.members, raw.Members)
	}
	part.sequence = raw.Sequence
	return nil
}

// ReplacePartition puts a partition that is there back to what a backup holds
// of it, as another replica. Change sequences go forward: every member takes a
// new one, and a version above both its own and the backup's; handles are not
// used again. What is there and not in the backup is gone. It leaves no
// tombstone: who put a partition back did not destroy what other replicas hold.
// Tombstones that are there stay, where the backup does not hold the object.
func (tx *Tx) ReplacePartition(raw RawPartition, members iter.Seq2[RawObject, error]) error {
	var tombstones []RawObject
	versions := map[object.ID]uint64{}
	before, err := tx.Raw(raw.ID)
	if err != nil {
		return err
	}
	for o, err := range tx.ChangesSince(raw.ID, 0) {
		if err != nil {
			return err
		}
		versions[o.ID] = o.Version
		if o.Deleted {
			tombstones = append(tombstones, RawObject{Change: o})
		}
	}
	if err := errorsOf(tx.DeletePartition(raw.ID), tx.CreatePartition(raw.ID)); err != nil {
		return err
	}
	part := tx.partitions[raw.ID]
	part.origin, part.changed = raw.Origin, true
	part.sequence, part.lastHandle = max(before.Sequence, raw.Sequence), max(before.LastHandle, raw.LastHandle)
	t, err := tx.rawTables(raw.ID)
	if err != nil {
		return err
	}
	count := uint64(0)
	for o, err := range members {
		if err != nil {
			return err
		}
		if err := o.check(); err != nil {
			return fmt.Errorf("restoring partition %v: %w", raw.ID, err)
		}
		if t.objects.Get(o.ID[:]) != nil {
			return fmt.Errorf("restoring partition %v: object %v is there twice", raw.ID, o.ID)
		}
		if err := tx.putRaw(t, part, raw.ID, &o, max(o.Version, versions[o.ID])+1); err != nil {
			return err
		}
		count++
	}
	if count != raw.Members {
		return fmt.Errorf("restoring partition %v: %d objects came, expected %d", raw.ID, count, raw.Members)
	}
	for _, o := range tombstones {
		if t.objects.Get(o.ID[:]) != nil {
			continue
		}
		if err := tx.putRaw(t, part, raw.ID, &o, o.Version); err != nil {
			return err
		}
	}
	return nil
}

func errorsOf(list ...error) error {
	for _, err := range list {
		if err != nil {
			return err
		}
	}
	return nil
}

// putRaw writes a member that is not there yet at the partition's next change.
func (tx *Tx) putRaw(t tables, part *partition, p object.ID, o *RawObject, version uint64) error {
	at := place{kind: kindLive, sequence: part.sequence + 1, version: version}
	switch {
	case o.Deleted:
		at.kind = kindTombstone
	case at.sequence != o.SealedSequence || at.version != o.SealedVersion:
		at.kind = kindRestored
	}
	at, err := tx.record(t, part, p, o.ID, nil, at)
	if err != nil {
		return err
	}
	st := stored{place: at, attributes: o.Attributes, secret: o.Secret}
	switch at.kind {
	case kindTombstone:
		st.secret = seal(nil, &tx.keys.tombstones, tx.objectContext("tombstone", p, o.ID, at), number(uint64(o.At.Unix())))
	case kindRestored:
		inner := stored{place{kindLive, o.SealedSequence, o.SealedVersion}, o.Attributes, o.Secret}
		st = stored{place: at, secret: seal(nil, &tx.keys.restored, tx.objectContext("restored", p, o.ID, at), appendRestored(inner))}
	}
	if err := t.objects.Put(o.ID[:], st.append(nil)); err != nil {
		return fmt.Errorf("restoring object %v: %w", o.ID, err)
	}
	return nil
}

// unwrapRestored returns the parts of an object as they were sealed, with the
// place that they were sealed for.
func (tx *Tx) unwrapRestored(p, id object.ID, st stored) (stored, error) {
	if st.kind != kindRestored {
		return st, nil
	}
	plaintext, ok := open(&tx.keys.restored, tx.objectContext("restored", p, id, st.place), st.secret)
	if !ok {
		return stored{}, tampered(doesNotOpen, "object %v of partition %v", id, p)
	}
	inner, err := decodeRestored(plaintext)
	if err != nil {
		return stored{}, tampered(malformed, "object %v of partition %v", id, p)
	}
	return inner, nil
}

// appendRestored writes what a restored object's seal holds, which is what a
// live object's value is.
func appendRestored(inner stored) []byte { return inner.append(nil) }

func decodeRestored(b []byte) (stored, error) {
	inner, err := decodeStored(b)
	if err == nil && inner.kind != kindLive {
		err = errMalformed
	}
	return inner, err
}

const (
	rawSize = 16 + 1 + 4*8 + 4
	// maxAttributes is the longest template with its handle and history, sealed.
	maxAttributes = 8 + 2 + object.MaxAttributes*(8+object.MaxAttributeValue) + replica.MaxHistory + sealOverhead

	// MaxRawObject is the longest encoding of a RawObject in bytes.
	MaxRawObject = rawSize + maxAttributes + MaxSecret + sealOverhead
)

// Append writes the object: ID, kind (1 live, 2 destroyed), change sequence,
// version, the two of the seal, or the time of its destruction in seconds since
// 1970 and 0 (uint64 each), the sealed attributes' length (uint32), the sealed
// attributes, the sealed secret.
func (o *RawObject) Append(b []byte) []byte {
	kind, first := byte(kindLive), o.SealedSequence
	if o.Deleted {
		kind, first = kindTombstone, uint64(o.At.Unix())
	}
	b = append(b, o.ID[:]...)
	b = append(b, kind)
	for _, n := range []uint64{o.Sequence, o.Version, first, o.SealedVersion} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(o.Attributes)))
	b = append(b, o.Attributes...)
	return append(b, o.Secret...)
}

// DecodeRawObject reads what Append wrote. The parts are in b.
func DecodeRawObject(b []byte) (RawObject, error) {
	if len(b) < rawSize || len(b) > MaxRawObject || b[16] != kindLive && b[16] != kindTombstone {
		return RawObject{}, errMalformed
	}
	at := func(i int) uint64 { return binary.BigEndian.Uint64(b[17+8*i:]) }
	o := RawObject{Change: Change{ID: object.ID(b[:16]), Sequence: at(0), Version: at(1)}}
	size, rest := binary.BigEndian.Uint32(b[49:]), b[rawSize:]
	if uint64(size) > uint64(len(rest)) {
		return RawObject{}, errMalformed
	}
	o.Attributes, o.Secret = rest[:size:size], rest[size:]
	if b[16] == kindTombstone {
		o.Deleted, o.At = true, time.Unix(int64(at(2)), 0).UTC()
		o.SealedVersion = at(3)
	} else {
		o.SealedSequence, o.SealedVersion = at(2), at(3)
	}
	if err := o.check(); err != nil {
		return RawObject{}, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return o, nil
}
