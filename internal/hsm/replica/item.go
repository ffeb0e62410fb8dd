package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"

	"moongate/internal/hsm/object"
)

const (
	// MaxBatch is the longest batch in bytes: what a package has room for.
	MaxBatch = object.MaxPackage - packageHead

	maxSecret = 64 << 10 // bytes of an object's secret
)

// Item is one object, or one that was destroyed, on its way.
type Item struct {
	ID      object.ID
	Deleted bool
	At      time.Time // of the destruction, as the source has it
	// Of an object that is there:
	Handle uint64 // in the source's partition
	History
	Attributes object.Template
	Secret     []byte
}

const (
	itemLive      = 1
	itemTombstone = 2

	// Times are of the years 1 to 9999, in seconds since 1970: others have no
	// common text.
	firstTime = -62135596800
	endOfTime = 253402300800
)

// append writes: ID, kind (uint8), and of a live object handle (uint64),
// history, attributes, and the secret with its length (uint32) in front; of a
// destroyed one the time in seconds since 1970 (int64).
func (it *Item) append(b []byte) []byte {
	b = append(b, it.ID[:]...)
	if it.Deleted {
		return binary.BigEndian.AppendUint64(append(b, itemTombstone), uint64(it.At.Unix()))
	}
	b = binary.BigEndian.AppendUint64(append(b, itemLive), it.Handle)
	b = it.History.Append(b)
	b = it.Attributes.Append(b)
	return appendSized32(b, it.Secret)
}

// Batch is what one package holds: items by ascending ID. Its bytes hold
// secrets: Clear them.
type Batch struct {
	b     []byte
	items int
	last  object.ID
}

// Add appends an item where it fits, and reports whether it did. Items come by
// ascending ID.
func (batch *Batch) Add(it *Item) bool {
	if batch.items == object.MaxClone {
		return false
	}
	if batch.b == nil {
		batch.b = make([]byte, 2, 4<<10)
	}
	from := len(batch.b)
	grown := it.append(batch.b)
	if len(grown) > MaxBatch || batch.items > 0 && bytes.Compare(batch.last[:], it.ID[:]) >= 0 {
		clear(grown[from:])
		return false
	}
	if &grown[0] != &batch.b[0] {
		clear(batch.b)
	}
	batch.b, batch.last = grown, it.ID
	batch.items++
	return true
}

// Len is how many items there are.
func (batch *Batch) Len() int { return batch.items }

// Bytes is the batch's encoding: the number of items (uint16), and the items.
func (batch *Batch) Bytes() []byte {
	if batch.b == nil {
		batch.b = make([]byte, 2)
	}
	binary.BigEndian.PutUint16(batch.b, uint16(batch.items))
	return batch.b
}

// Clear overwrites the batch.
func (batch *Batch) Clear() { clear(batch.b) }

var errBatch = errors.New("the batch is malformed")

// DecodeBatch reads a batch, all of b, whose bytes the items alias. It refuses
// every encoding but the one that there is, and whatever no partition holds as
// far as the words themselves tell.
func DecodeBatch(b []byte) ([]Item, error) {
	if len(b) > MaxBatch {
		return nil, errBatch
	}
	r := &reader{b: b}
	n := int(r.number(2))
	if r.bad || n > object.MaxClone || n*(16+1+8) > len(r.b) {
		return nil, errBatch
	}
	items := make([]Item, n)
	for i := range items {
		it := &items[i]
		if !it.decode(r) || it.ID == (object.ID{}) || i > 0 && bytes.Compare(items[i-1].ID[:], it.ID[:]) >= 0 {
			return nil, errBatch
		}
	}
	if len(r.b) > 0 {
		return nil, errBatch
	}
	return items, nil
}

func (it *Item) decode(r *reader) bool {
	r.into(it.ID[:])
	kind := r.number(1)
	switch {
	case r.bad:
		return false
	case kind == itemTombstone:
		at := int64(r.number(8))
		it.Deleted, it.At = true, time.Unix(at, 0).UTC()
		return !r.bad && firstTime <= at && at < endOfTime
	case kind != itemLive:
		return false
	}
	it.Handle = r.number(8)
	if r.bad {
		return false
	}
	var err error
	if it.History, r.b, err = DecodeHistory(r.b); err != nil {
		return false
	}
	if it.Attributes, r.b, err = object.DecodeTemplate(r.b); err != nil {
		return false
	}
	it.Secret = r.sized(4, maxSecret)
	return !r.bad
}
