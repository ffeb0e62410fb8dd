// Package store keeps an HSM's objects and administrative records in one file,
// sealed. What is in it, which secrets open which part, and what a thief of the
// file gets is written in docs/store.md.
//
// A store is opened with the device's root key, and used in transactions:
//
//	s, err := store.Open(dir, root, store.Options{})
//	err = s.Update(func(tx *store.Tx) error {
//		_, err := tx.PutObject(partition, key, &object)
//		return err
//	})
//
// Administrative records (clients, roles, login counters) are sealed under the
// root key. Objects are sealed under their partition's key, which the store
// never keeps: each call that reads or writes one brings it. Whoever holds
// partition keys seals them with [Store.SealKey] for a role's password, so that
// the password and the root key are both needed.
//
// The store decides nothing: who may read or change what is its caller's
// business.
package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"moongate/internal/hsm/object"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// FileName is the store's one file in its directory.
const FileName = "hsm.db"

// format is the version of everything that is written here.
const format = 1

// Options are optional.
type Options struct {
	// MustExist refuses to make a store where there is none; the error then
	// matches fs.ErrNotExist.
	MustExist bool
	// LockTimeout is how long Open waits for another process to close the
	// store; 0 is a second.
	LockTimeout time.Duration
	// Now is the clock; nil is time.Now. It dates the store and tombstones.
	Now func() time.Time
}

// Store is an open store. Its methods may be called by any number of
// goroutines.
type Store struct {
	db      *bbolt.DB
	keys    *keyring
	created time.Time
	now     func() time.Time

	// damaged holds the partitions whose index did not pass Open's check, and
	// why. It does not change after Open.
	damaged map[object.ID]error

	group group
}

var (
	bucketMeta       = []byte("meta")
	bucketRecords    = []byte("records")
	bucketPartitions = []byte("partitions") // a bucket for each, by ID
	bucketObjects    = []byte("objects")    // in a partition: ID to object
	bucketChanges    = []byte("changes")    // in a partition: sequence to ID

	keyHeader = []byte("header")
	keyCheck  = []byte("check")
	keyState  = []byte("state")
)

// Open opens the store in dir and makes one where there is none. It checks the
// root key (ErrRootKey) and the format (ErrFormat) before it changes anything,
// and that no record was taken away, added or put back to an older version:
// where that happened to administrative records, it fails with a
// *TamperedError; where it happened in a partition, every access to that
// partition will.
func Open(dir string, root RootKey, opts Options) (*Store, error) {
	if opts.LockTimeout == 0 {
		opts.LockTimeout = time.Second
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	path := filepath.Join(dir, FileName)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) && !opts.MustExist {
		err = create(path, &root, opts.Now())
		if errors.Is(err, fs.ErrExist) {
			err = nil // another process was faster
		}
	}
	if err != nil {
		return nil, fmt.Errorf("opening store: %w", err)
	}
	if info != nil && info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(path, 0o600); err != nil {
			return nil, fmt.Errorf("closing store to others: %w", err)
		}
	}
	db, err := openFile(path, opts.LockTimeout)
	if err != nil {
		return nil, err
	}
	s := &Store{db: db, now: opts.Now, damaged: map[object.ID]error{}}
	s.group.lead = make(chan struct{}, 1)
	if err := guard(func() error { return s.load(&root) }); err != nil {
		return nil, errors.Join(fmt.Errorf("opening store %s: %w", path, err), db.Close())
	}
	return s, nil
}

func openFile(path string, timeout time.Duration) (*bbolt.DB, error) {
	var db *bbolt.DB
	err := guard(func() (err error) {
		db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: timeout, FreelistType: bbolt.FreelistMapType})
		return err
	})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("store %s is in use by another process; stop the other moongate-hsm (find it with `fuser %s`)", path, path)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return nil, fmt.Errorf("store %s: %w (%w); restore it from a backup", path, ErrFormat, err)
	case err != nil:
		return nil, fmt.Errorf("opening store %s: %w", path, err)
	}
	return db, nil
}

// create makes an empty store, whole or not at all.
func create(path string, root *RootKey, now time.Time) error {
	return publish(path, func(temporary string) error {
		db, err := openFile(temporary, time.Second)
		if err != nil {
			return err
		}
		err = db.Update(func(tx *bbolt.Tx) error { return initialise(tx, root, now) })
		return errors.Join(err, db.Close())
	})
}

func initialise(tx *bbolt.Tx, root *RootKey, now time.Time) error {
	for _, name := range [][]byte{bucketMeta, bucketRecords, bucketPartitions} {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	h := header{id: object.NewID(), created: now.Unix()}
	keys := newKeyring(root, h.id)
	encoded := h.append(nil)
	meta := tx.Bucket(bucketMeta)
	if err := meta.Put(keyHeader, encoded); err != nil {
		return err
	}
	if err := meta.Put(keyCheck, seal(nil, &keys.check, keys.context("check", encoded), nil)); err != nil {
		return err
	}
	return (&state{}).put(meta, keys)
}

// load reads and checks everything but the objects' contents.
func (s *Store) load(root *RootKey) error {
	return s.db.View(func(btx *bbolt.Tx) error {
		meta := btx.Bucket(bucketMeta)
		if meta == nil {
			return fmt.Errorf("%w: it is no HSM's store", ErrFormat)
		}
		encoded := meta.Get(keyHeader)
		h, err := decodeHeader(encoded)
		if err != nil {
			return err
		}
		keys := newKeyring(root, h.id)
		if _, ok := open(&keys.check, keys.context("check", encoded), meta.Get(keyCheck)); !ok {
			return fmt.Errorf("%w (store %v); use the root key file that was there when it was made", ErrRootKey, h.id)
		}
		s.keys, s.created = keys, time.Unix(h.created, 0).UTC()
		tx, err := s.begin(btx)
		if err != nil {
			return err
		}
		return tx.verify()
	})
}

// Close waits for transactions and closes the file.
func (s *Store) Close() error {
	s.group.lead <- struct{}{}
	defer func() { <-s.group.lead }()
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("closing store: %w", err)
	}
	return nil
}

// ID names the store; it is made with it.
func (s *Store) ID() object.ID { return s.keys.store }

// Created is when the store was made.
func (s *Store) Created() time.Time { return s.created }

// header is what tells a store and its format, in the clear: magic (8 bytes),
// format (uint32), the store's ID (16 bytes), seconds since 1970 (int64).
type header struct {
	id      object.ID
	created int64
}

var magic = []byte("moonhsm\n")

const headerSize = 8 + 4 + 16 + 8

func (h header) append(b []byte) []byte {
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint32(b, format)
	b = append(b, h.id[:]...)
	return binary.BigEndian.AppendUint64(b, uint64(h.created))
}

func decodeHeader(b []byte) (header, error) {
	if len(b) < 12 || !bytes.Equal(b[:8], magic) {
		return header{}, fmt.Errorf("%w: it is no HSM's store", ErrFormat)
	}
	if found := binary.BigEndian.Uint32(b[8:]); found != format {
		return header{}, fmt.Errorf("%w: the store has format %d, this version reads format %d; run the version that wrote it, or a newer one", ErrFormat, found, format)
	}
	if len(b) != headerSize {
		return header{}, tampered(malformed, "store header")
	}
	return header{id: object.ID(b[12:28]), created: int64(binary.BigEndian.Uint64(b[28:]))}, nil
}
