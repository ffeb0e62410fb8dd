// Package replica holds the rules by which partitions of several HSMs come to
// hold the same objects, and the messages by which objects travel between
// them. It is pure: bytes and values in, bytes and values out; who may send
// what to whom is decided by hsm/partition. docs/replication.md has the rules
// in words.
package replica

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"

	"moongate/internal/hsm/object"
)

// maxCount bounds what a decoder takes of a stamp's and a vector's counts, so
// that nothing that is added to one overflows.
const maxCount = 1 << 62

const (
	historyHead = 8 + 8 + 1
	historyEach = 8 + 8

	// MaxHistory is the longest encoding of a History in bytes.
	MaxHistory = historyHead + historyEach*object.MaxVector
)

// History is what an object carries beside its attributes, hidden: when its
// present content was written, and which changes are in it.
type History struct {
	Stamp  object.Stamp
	Vector object.Vector
}

// First is the history of an object that me has just made.
func First(me object.ReplicaID) History {
	return History{Stamp: object.Stamp{Count: 1, Replica: me}, Vector: object.Vector{{Replica: me, Changes: 1}}}
}

// Implicit is the history of an object that was written before there were
// histories: as many changes as it has versions, all by line.
func Implicit(line object.ReplicaID, version uint64) History {
	return History{Stamp: object.Stamp{Count: version, Replica: line}, Vector: object.Vector{{Replica: line, Changes: version}}}
}

// Line names the changes of a partition of before there were replicas: by the
// store that it was made in and its ID, so that every copy of it, restored from
// whatever backup, names them alike.
func Line(store, partition object.ID) object.ReplicaID {
	sum := sha256.Sum256(slices.Concat([]byte("moongate hsm replica: changes before histories"), store[:], partition[:]))
	return object.ReplicaID(sum[:])
}

// Changed is the history after one more change, by me. The error, ErrBusy, is of
// one in which no more changes can be counted: no decoder would take it.
func (h History) Changed(me object.ReplicaID) (History, error) {
	if h.Stamp.Count >= maxCount || changes(h.Vector, me) >= maxCount {
		return History{}, errCount
	}
	v := slices.Clone(h.Vector)
	if i, there := search(v, me); there {
		v[i].Changes++
	} else if len(v) == object.MaxVector {
		return History{}, errVector
	} else {
		v = slices.Insert(v, i, object.Count{Replica: me, Changes: 1})
	}
	return History{Stamp: object.Stamp{Count: h.Stamp.Count + 1, Replica: me}, Vector: v}, nil
}

var errVector = object.Errorf(object.ErrBusy, "the object was changed by %d partitions, and no more are remembered; make another object of it, and destroy this one", object.MaxVector)

// errCount is met where another partition said so: nobody counts that far.
var errCount = object.Errorf(object.ErrBusy, "the object is said to have been changed %d times, and no more are counted; make another object of it, and destroy this one", uint64(maxCount))

func search(v object.Vector, r object.ReplicaID) (int, bool) {
	return slices.BinarySearchFunc(v, r, func(c object.Count, r object.ReplicaID) int { return bytes.Compare(c.Replica[:], r[:]) })
}

// changes is how many of r's changes are in v.
func changes(v object.Vector, r object.ReplicaID) uint64 {
	if i, there := search(v, r); there {
		return v[i].Changes
	}
	return 0
}

// covers reports whether every change of b is in a.
func covers(a, b object.Vector) bool {
	for _, c := range b {
		if changes(a, c.Replica) < c.Changes {
			return false
		}
	}
	return true
}

// Concurrent reports whether either has changes that the other lacks.
func Concurrent(a, b object.Vector) bool { return !covers(a, b) && !covers(b, a) }

// join holds the changes of both.
func join(a, b object.Vector) (object.Vector, error) {
	v := slices.Clone(a)
	for _, c := range b {
		if i, there := search(v, c.Replica); there {
			v[i].Changes = max(v[i].Changes, c.Changes)
		} else {
			v = slices.Insert(v, i, c)
		}
	}
	if len(v) > object.MaxVector {
		return nil, errVector
	}
	return v, nil
}

// later compares stamps: by count, then by who wrote.
func later(a, b object.Stamp) int {
	switch {
	case a.Count != b.Count && a.Count > b.Count:
		return 1
	case a.Count != b.Count:
		return -1
	}
	return bytes.Compare(a.Replica[:], b.Replica[:])
}

// Append appends the history's one encoding: the stamp's count (uint64) and
// replica (8 bytes), the number of replicas in the vector (uint8), and of each,
// ascending, the replica and its changes (uint64). Integers are big-endian.
func (h History) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, h.Stamp.Count)
	b = append(b, h.Stamp.Replica[:]...)
	b = append(b, byte(len(h.Vector)))
	for _, c := range h.Vector {
		b = append(b, c.Replica[:]...)
		b = binary.BigEndian.AppendUint64(b, c.Changes)
	}
	return b
}

var errHistory = errors.New("the history is malformed")

// DecodeHistory reads a history from the front of b and returns the rest. It
// refuses every encoding but the one that Append makes, and a history that no
// object has: without changes, or whose stamp is of none of them.
func DecodeHistory(b []byte) (History, []byte, error) {
	if len(b) < historyHead {
		return History{}, nil, errHistory
	}
	h := History{Stamp: object.Stamp{Count: binary.BigEndian.Uint64(b), Replica: object.ReplicaID(b[8:16])}}
	n := int(b[16])
	b = b[historyHead:]
	if n == 0 || n > object.MaxVector || len(b) < n*historyEach || h.Stamp.Count == 0 || h.Stamp.Count > maxCount {
		return History{}, nil, errHistory
	}
	h.Vector = make(object.Vector, n)
	for i := range h.Vector {
		c := object.Count{Replica: object.ReplicaID(b[:8]), Changes: binary.BigEndian.Uint64(b[8:])}
		if c.Changes == 0 || c.Changes > maxCount || i > 0 && bytes.Compare(h.Vector[i-1].Replica[:], c.Replica[:]) >= 0 {
			return History{}, nil, errHistory
		}
		h.Vector[i], b = c, b[historyEach:]
	}
	if changes(h.Vector, h.Stamp.Replica) == 0 {
		return History{}, nil, errHistory
	}
	return h, b, nil
}
