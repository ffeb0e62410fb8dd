package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"moongate/internal/hsm/object"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// partition is what a partition's own record holds: what binds its objects
// into one version of it.
type partition struct {
	sequence   uint64 // of the last change
	lastHandle uint64
	members    uint64 // objects and tombstones
	digest     digest // of every member, see member
	// origin is the store that the partition was made in, which its objects'
	// seals are bound to: this one, unless it was restored from another's backup.
	origin object.ID
	// replica names this partition's changes. It is zero in a partition of
	// before there were replicas, until it is asked for or something changes.
	replica object.ReplicaID

	changed bool // in this transaction
}

const (
	partitionSize = 3*8 + digestSize
	replicaSize   = len(object.ID{}) + len(object.ReplicaID{}) // with the origin
)

// append ends with the origin and the replica. Without a replica it leaves out
// an origin that is this store, as stores of before there were backups do: there
// is one encoding.
func (p *partition) append(b []byte, store object.ID) []byte {
	b = binary.BigEndian.AppendUint64(b, p.sequence)
	b = binary.BigEndian.AppendUint64(b, p.lastHandle)
	b = binary.BigEndian.AppendUint64(b, p.members)
	b = append(b, p.digest[:]...)
	switch {
	case p.replica != object.ReplicaID{}:
		return append(append(b, p.origin[:]...), p.replica[:]...)
	case p.origin != store:
		return append(b, p.origin[:]...)
	}
	return b
}

func decodePartition(b []byte, store object.ID) (*partition, error) {
	origin := store
	var replica object.ReplicaID
	switch len(b) {
	case partitionSize:
	case partitionSize + len(origin):
		if origin = object.ID(b[partitionSize:]); origin == store {
			return nil, errMalformed
		}
	case partitionSize + replicaSize:
		origin = object.ID(b[partitionSize : partitionSize+len(origin)])
		if replica = object.ReplicaID(b[partitionSize+len(origin):]); replica == (object.ReplicaID{}) {
			return nil, errMalformed
		}
	default:
		return nil, errMalformed
	}
	return &partition{
		sequence:   binary.BigEndian.Uint64(b),
		lastHandle: binary.BigEndian.Uint64(b[8:]),
		members:    binary.BigEndian.Uint64(b[16:]),
		digest:     digest(b[24:partitionSize]),
		origin:     origin,
		replica:    replica,
	}, nil
}

const kindPartition = "partition"

func (tx *Tx) partitionName(p object.ID) recordName {
	return tx.name(domainPartition, kindPartition, string(p[:]))
}

func (tx *Tx) putPartition(id object.ID, p *partition) error {
	return tx.putSealed(tx.partitionName(id), appendRecord(nil, string(id[:]), p.append(nil, tx.keys.store)))
}

// CreatePartition makes an empty partition; ErrExists where there is one.
func (tx *Tx) CreatePartition(id object.ID) error {
	name := tx.partitionName(id)
	if tx.records.Get(name[:]) != nil || tx.partitions[id] != nil {
		return fmt.Errorf("creating partition %v: %w", id, ErrExists)
	}
	bucket, err := tx.btx.Bucket(bucketPartitions).CreateBucket(id[:])
	if err != nil {
		return fmt.Errorf("creating partition %v: %w", id, err)
	}
	for _, sub := range [][]byte{bucketObjects, bucketChanges} {
		if _, err := bucket.CreateBucket(sub); err != nil {
			return fmt.Errorf("creating partition %v: %w", id, err)
		}
	}
	p := &partition{origin: tx.keys.store, replica: newReplica()}
	tx.partitions[id] = p
	return tx.putPartition(id, p)
}

// DeletePartition removes a partition and everything in it, tombstones too;
// ErrNotFound where there is none. A partition that is damaged can be deleted.
func (tx *Tx) DeletePartition(id object.ID) error {
	if err := tx.deleteSealed(tx.partitionName(id)); err != nil {
		return fmt.Errorf("deleting partition %v: %w", id, err)
	}
	delete(tx.partitions, id)
	err := tx.btx.Bucket(bucketPartitions).DeleteBucket(id[:])
	if err != nil && !errors.Is(err, berrors.ErrBucketNotFound) {
		return fmt.Errorf("deleting partition %v: %w", id, err)
	}
	return nil
}

// loadPartition reads a partition's own record, once in a transaction.
func (tx *Tx) loadPartition(id object.ID) (*partition, error) {
	if p := tx.partitions[id]; p != nil {
		return p, nil
	}
	name := tx.partitionName(id)
	raw := tx.records.Get(name[:])
	if raw == nil {
		return nil, fmt.Errorf("partition %v: %w", id, ErrNotFound)
	}
	plaintext, err := tx.openSealed(name[:], raw)
	if err != nil {
		return nil, tampered(doesNotOpen, "partition %v", id)
	}
	_, value, err := decodeRecord(plaintext)
	if err != nil {
		return nil, tampered(malformed, "partition %v", id)
	}
	p, err := decodePartition(value, tx.keys.store)
	if err != nil {
		return nil, tampered(malformed, "partition %v", id)
	}
	tx.partitions[id] = p
	return p, nil
}

// tables are a partition's objects and changes.
type tables struct {
	objects, changes *bbolt.Bucket
}

// tables refuses a partition that is not there or was damaged at Open.
func (tx *Tx) tables(id object.ID) (tables, error) {
	if err := tx.f.damaged[id]; err != nil {
		return tables{}, err
	}
	name := tx.partitionName(id)
	if tx.records.Get(name[:]) == nil {
		return tables{}, fmt.Errorf("partition %v: %w", id, ErrNotFound)
	}
	return tx.rawTables(id)
}

func (tx *Tx) rawTables(id object.ID) (tables, error) {
	bucket := tx.btx.Bucket(bucketPartitions).Bucket(id[:])
	if bucket == nil {
		return tables{}, tampered("was taken away; restore the store from a backup", "partition %v", id)
	}
	t := tables{bucket.Bucket(bucketObjects), bucket.Bucket(bucketChanges)}
	if t.objects == nil || t.changes == nil {
		return tables{}, tampered(malformed, "partition %v", id)
	}
	return t, nil
}
