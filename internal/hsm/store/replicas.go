package store

import (
	"crypto/rand"
	"fmt"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/replica"
)

// newReplica makes the name of a new line of changes.
func newReplica() (r object.ReplicaID) {
	rand.Read(r[:]) // never fails: the program ends instead
	return r
}

// line returns the name of the partition's changes, and gives it one where it
// has none.
func (p *partition) line() object.ReplicaID {
	if p.replica == (object.ReplicaID{}) {
		p.replica, p.changed = newReplica(), true
	}
	return p.replica
}

// Replica returns the name of a partition's changes. A partition of before there
// were replicas has none, the zero ReplicaID, until NameReplica gives it one or
// something in it changes.
func (tx *Tx) Replica(p object.ID) (object.ReplicaID, error) {
	if _, err := tx.tables(p); err != nil {
		return object.ReplicaID{}, err
	}
	part, err := tx.loadPartition(p)
	if err != nil {
		return object.ReplicaID{}, err
	}
	return part.replica, nil
}

// NameReplica is Replica, and gives a partition that has no name one.
func (tx *Tx) NameReplica(p object.ID) (object.ReplicaID, error) {
	if _, err := tx.Replica(p); err != nil {
		return object.ReplicaID{}, err
	}
	return tx.partitions[p].line(), nil
}

// Item reads an object with its history, or its tombstone; ErrNotFound where
// there is neither. The secret is the caller's to clear.
func (tx *Tx) Item(p object.ID, key *PartitionKey, id object.ID) (*replica.Item, error) {
	t, err := tx.tables(p)
	if err != nil {
		return nil, err
	}
	raw := t.objects.Get(id[:])
	if raw == nil {
		return nil, fmt.Errorf("object %v: %w", id, ErrNotFound)
	}
	if isTombstone(raw) {
		died, err := tx.died(p, id, raw)
		if err != nil {
			return nil, err
		}
		return &replica.Item{ID: id, Deleted: true, At: died}, nil
	}
	there, secret, err := tx.openObject(p, key, id, raw)
	if err != nil {
		return nil, err
	}
	return &replica.Item{ID: id, Handle: there.handle, History: there.history, Attributes: there.template, Secret: secret}, nil
}

// PutItem writes what the rules of replication made of an object that came from
// another partition: its content and its history, as they are. An object that is
// there keeps its handle; a new one keeps the item's, where that was never used
// here, and gets the next one otherwise. it.Handle is set to it. A destroyed one
// leaves a tombstone. ErrDeleted for an object that has one.
func (tx *Tx) PutItem(p object.ID, key *PartitionKey, it *replica.Item) error {
	if it.Deleted {
		return tx.putTombstone(p, it.ID, it.At)
	}
	w, err := tx.openPlace(p, key, it.ID)
	if err != nil {
		return err
	}
	switch {
	case w.old != nil:
		it.Handle = w.handle
	case it.Handle > w.part.lastHandle && it.Handle <= w.part.lastHandle+maxHandleGap:
		w.part.lastHandle = it.Handle
	default:
		w.part.lastHandle++
		it.Handle = w.part.lastHandle
	}
	_, err = tx.put(w, key, &object.Object{ID: it.ID, Handle: it.Handle, Attributes: it.Attributes, Secret: it.Secret}, it.History)
	return err
}

// maxHandleGap is how many handles an item may skip: nobody's numbers become
// unreadable, or come to their end, by what another partition says.
const maxHandleGap = 1 << 20

// putTombstone destroys an object, or remembers that one was destroyed that
// never was here. One that is remembered already stays as it is.
func (tx *Tx) putTombstone(p, id object.ID, died time.Time) error {
	if id == (object.ID{}) {
		return fmt.Errorf("deleting object: it has no ID")
	}
	t, err := tx.tables(p)
	if err != nil {
		return err
	}
	part, err := tx.loadPartition(p)
	if err != nil {
		return err
	}
	raw := t.objects.Get(id[:])
	if isTombstone(raw) {
		return nil
	}
	_, err = tx.bury(t, part, p, id, raw, died)
	return err
}

// RenameReplica gives a partition another name for the changes to come, as who
// put its past back must: one name and number is one change.
func (tx *Tx) RenameReplica(p object.ID) error {
	if _, err := tx.Replica(p); err != nil {
		return err
	}
	part := tx.partitions[p]
	part.replica, part.changed = newReplica(), true
	return nil
}
