package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
)

// Limits of an administrative record, in bytes.
const (
	MaxRecordName  = 256 // kind and id each
	MaxRecordValue = 1 << 20
)

// An administrative record's key is its name: 16 bytes that tell the kind and
// 16 that tell the id, both HMACs. Its value is the number of the commit that
// wrote it, in the clear, and sealed the id's length (uint16), the id and the
// value.

type recordName [32]byte

// name hides a record's kind and id. domain keeps the store's own records
// apart from its caller's.
func (tx *Tx) name(domain byte, kind, id string) recordName {
	size := []byte{domain, byte(len(kind) >> 8), byte(len(kind))}
	prefix := tx.keys.mac(&tx.keys.names, []byte("kind"), size, []byte(kind))
	full := tx.keys.mac(&tx.keys.names, []byte("id"), size, []byte(kind), []byte(id))
	return recordName(append(prefix[:16:16], full[:16]...))
}

const (
	domainCaller    = 0
	domainPartition = 1
)

// PutRecord writes an administrative record: value under kind and id.
func (tx *Tx) PutRecord(kind, id string, value []byte) error {
	if kind == "" || id == "" || len(kind) > MaxRecordName || len(id) > MaxRecordName {
		return fmt.Errorf("writing record: kind has %d bytes and id has %d, expected 1 to %d", len(kind), len(id), MaxRecordName)
	}
	if len(value) > MaxRecordValue {
		return fmt.Errorf("writing %s record: %d bytes, at most %d", kind, len(value), MaxRecordValue)
	}
	return tx.putSealed(tx.name(domainCaller, kind, id), appendRecord(nil, id, value))
}

// Record reads an administrative record; ErrNotFound where there is none.
func (tx *Tx) Record(kind, id string) ([]byte, error) {
	name := tx.name(domainCaller, kind, id)
	raw := tx.records.Get(name[:])
	if raw == nil {
		return nil, fmt.Errorf("%s record: %w", kind, ErrNotFound)
	}
	plaintext, err := tx.openSealed(name[:], raw)
	if err != nil {
		return nil, tampered(doesNotOpen, "%s record %q", kind, id)
	}
	found, value, err := decodeRecord(plaintext)
	if err != nil || found != id {
		return nil, tampered(malformed, "%s record %q", kind, id)
	}
	return value, nil
}

// DeleteRecord removes an administrative record; ErrNotFound where there is
// none.
func (tx *Tx) DeleteRecord(kind, id string) error {
	if err := tx.deleteSealed(tx.name(domainCaller, kind, id)); err != nil {
		return fmt.Errorf("deleting %s record: %w", kind, err)
	}
	return nil
}

// Records iterates over the ids of a kind's records, in no particular order.
// An error ends it.
func (tx *Tx) Records(kind string) iter.Seq2[string, error] { return tx.ids(domainCaller, kind) }

func (tx *Tx) ids(domain byte, kind string) iter.Seq2[string, error] {
	name := tx.name(domain, kind, "")
	prefix := name[:16]
	return func(yield func(string, error) bool) {
		c := tx.records.Cursor()
		for k, raw := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, raw = c.Next() {
			plaintext, err := tx.openSealed(k, raw)
			if err != nil {
				yield("", tampered(doesNotOpen, "%s record stored as %x", kind, k))
				return
			}
			id, _, err := decodeRecord(plaintext)
			if err != nil {
				yield("", tampered(malformed, "%s record stored as %x", kind, k))
				return
			}
			if !yield(id, nil) {
				return
			}
		}
	}
}

func appendRecord(b []byte, id string, value []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(id)))
	b = append(b, id...)
	return append(b, value...)
}

var errMalformed = errors.New("malformed")

func decodeRecord(b []byte) (id string, value []byte, err error) {
	if len(b) < 2 {
		return "", nil, errMalformed
	}
	size := int(binary.BigEndian.Uint16(b))
	b = b[2:]
	if size > MaxRecordName || len(b) < size || len(b)-size > MaxRecordValue {
		return "", nil, errMalformed
	}
	return string(b[:size]), b[size:], nil
}

// putSealed writes a record and takes it into the state's digest.
func (tx *Tx) putSealed(name recordName, plaintext []byte) error {
	st, err := tx.loadState()
	if err != nil {
		return err
	}
	if old := tx.records.Get(name[:]); old != nil {
		if err := tx.takeOut(st, name[:], old); err != nil {
			return err
		}
	}
	version := number(st.number + 1)
	st.digest.flip(tx.recordMember(name[:], version))
	tx.stateChanged = true
	return tx.records.Put(name[:], seal(version, &tx.keys.records, tx.keys.context("record", name[:], version), plaintext))
}

func (tx *Tx) deleteSealed(name recordName) error {
	old := tx.records.Get(name[:])
	if old == nil {
		return ErrNotFound
	}
	st, err := tx.loadState()
	if err != nil {
		return err
	}
	if err := tx.takeOut(st, name[:], old); err != nil {
		return err
	}
	return tx.records.Delete(name[:])
}

func (tx *Tx) takeOut(st *state, name, raw []byte) error {
	if len(raw) < 8 {
		return tampered(malformed, "record stored as %x", name)
	}
	st.digest.flip(tx.recordMember(name, raw[:8]))
	tx.stateChanged = true
	return nil
}

func (tx *Tx) recordMember(name, version []byte) [digestSize]byte {
	return tx.keys.mac(&tx.keys.digest, []byte("record"), name, version)
}

func (tx *Tx) openSealed(name, raw []byte) ([]byte, error) {
	if len(raw) < 8+sealOverhead {
		return nil, errMalformed
	}
	plaintext, ok := open(&tx.keys.records, tx.keys.context("record", name, raw[:8]), raw[8:])
	if !ok {
		return nil, errMalformed
	}
	return plaintext, nil
}
