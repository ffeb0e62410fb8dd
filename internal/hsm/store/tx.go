package store

import (
	"encoding/binary"

	"moongate/internal/hsm/object"

	"go.etcd.io/bbolt"
)

// Tx is a transaction: one consistent state of the store, and in an Update the
// changes to it. It belongs to the goroutine that runs fn and ends with fn.
// While an iterator of it runs, nothing that it iterates over may be changed.
type Tx struct {
	s       *Store
	f       *file
	keys    *keyring
	btx     *bbolt.Tx
	meta    *bbolt.Bucket
	records *bbolt.Bucket

	// What was read of the set-wide values; flush writes back what changed.
	state        *state
	stateChanged bool
	partitions   map[object.ID]*partition
}

func (s *Store) begin(f *file, btx *bbolt.Tx) (*Tx, error) {
	tx := &Tx{
		s: s, f: f, keys: f.keys, btx: btx,
		meta: btx.Bucket(bucketMeta), records: btx.Bucket(bucketRecords),
		partitions: map[object.ID]*partition{},
	}
	if tx.meta == nil || tx.records == nil || btx.Bucket(bucketPartitions) == nil {
		return nil, tampered(malformed, "store")
	}
	return tx, nil
}

// flush writes the set-wide values, once for all updates of a commit.
func (tx *Tx) flush() error {
	for id, p := range tx.partitions {
		if !p.changed {
			continue
		}
		if err := tx.putPartition(id, p); err != nil {
			return err
		}
	}
	if !tx.stateChanged {
		return nil
	}
	tx.state.number++
	return tx.state.put(tx.meta, tx.keys)
}

// state is what binds all administrative records, and through the partitions'
// records all objects, into one version of the store.
type state struct {
	number uint64 // of the commit that wrote it
	digest digest // of every record's name and version
}

const stateSize = 8 + digestSize + sealOverhead

func (st *state) put(meta *bbolt.Bucket, keys *keyring) error {
	value := binary.BigEndian.AppendUint64(nil, st.number)
	value = seal(value, &keys.records, keys.context("state", number(st.number)), st.digest[:])
	return meta.Put(keyState, value)
}

func (tx *Tx) loadState() (*state, error) {
	if tx.state != nil {
		return tx.state, nil
	}
	value := tx.meta.Get(keyState)
	if len(value) != stateSize {
		return nil, tampered(malformed, "store state")
	}
	st := &state{number: binary.BigEndian.Uint64(value)}
	plaintext, ok := open(&tx.keys.records, tx.keys.context("state", value[:8]), value[8:])
	if !ok {
		return nil, tampered(doesNotOpen, "store state")
	}
	st.digest = digest(plaintext)
	tx.state = st
	return st, nil
}

// digest is of a set: the exclusive or of a MAC of each member, so that a
// member is put in or taken out without reading the others. The digests are
// only ever stored sealed; without the key nobody finds another set with the
// same one.
type digest [digestSize]byte

const digestSize = 32

// flip puts a member in, or takes it out.
func (d *digest) flip(member [digestSize]byte) {
	for i := range d {
		d[i] ^= member[i]
	}
}
