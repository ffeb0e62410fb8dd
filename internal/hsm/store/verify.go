package store

import (
	"bytes"

	"moongate/internal/hsm/object"
)

// verify checks what no single sealed value can show: that the administrative
// records are all there, none too many and none an older version, and the same
// of each partition's objects. It reads every object's place, and opens none.
func (tx *Tx) verify() error {
	st, err := tx.loadState()
	if err != nil {
		return err
	}
	var seen digest
	c := tx.records.Cursor()
	for k, raw := c.First(); k != nil; k, raw = c.Next() {
		if len(raw) < 8 {
			return tampered(malformed, "record stored as %x", k)
		}
		seen.flip(tx.recordMember(k, raw[:8]))
	}
	if seen != st.digest {
		return tampered(rolledBack, "one of the administrative records")
	}
	for name, err := range tx.ids(domainPartition, kindPartition) {
		if err != nil {
			return err
		}
		id := object.ID([]byte(name))
		if err := tx.verifyPartition(id); err != nil {
			tx.f.damaged[id] = err
		}
	}
	return nil
}

func (tx *Tx) verifyPartition(id object.ID) error {
	part, err := tx.loadPartition(id)
	if err != nil {
		return err
	}
	t, err := tx.rawTables(id)
	if err != nil {
		return err
	}
	var seen digest
	var members, objects uint64
	c := t.changes.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		oid, at, err := decodeEntry(k, v)
		if err != nil {
			return tampered(malformed, "change %x of partition %v", k, id)
		}
		// The object's own place is what its sealed parts are bound to.
		if raw := t.objects.Get(oid[:]); !bytes.HasPrefix(raw, at.append(nil)) {
			return tampered(rolledBack, "object %v of partition %v", oid, id)
		}
		seen.flip(tx.objectMember(id, oid, at))
		members++
	}
	c = t.objects.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		objects++
	}
	if seen != part.digest || members != part.members || objects != part.members {
		return tampered(rolledBack, "one of the objects of partition %v", id)
	}
	return nil
}
