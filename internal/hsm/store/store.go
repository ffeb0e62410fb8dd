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
	"sync/atomic"
	"time"

	"moongate/internal/hsm/object"
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
	// KeyFile is the root key's file, for Erase; nil where nothing will be
	// erased.
	KeyFile *KeyFile

	// step is called before each step of an erasure, by tests: an error ends
	// it there.
	step func(name string) error
}

// Store is an open store. Its methods may be called by any number of
// goroutines.
type Store struct {
	dir   string
	opts  Options
	file  atomic.Pointer[file]
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
		err = create(path, &root, opts.Now(), 0)
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
	s := &Store{dir: dir, opts: opts}
	s.group.lead = make(chan struct{}, 1)
	f, err := s.openFile(path, &root)
	if err != nil {
		return nil, err
	}
	if err := s.settle(); err != nil {
		return nil, errors.Join(fmt.Errorf("opening store %s: %w", path, err), f.close())
	}
	s.file.Store(f)
	return s, nil
}

// Close waits for transactions and closes the file.
func (s *Store) Close() error {
	s.group.lead <- struct{}{}
	defer func() { <-s.group.lead }()
	return s.file.Load().close()
}

// ID names the store; it is made with it, and anew by Erase.
func (s *Store) ID() object.ID { return s.file.Load().keys.store }

// Created is when the store was made.
func (s *Store) Created() time.Time { return s.file.Load().created }

// Commit is the number of the last commit: it rises by one with each that
// changed something, is kept in the file, sealed, and goes on through Erase.
// Someone who keeps it outside of the store can tell a store that was put back
// to an older state: its number is lower. What this shows and what not is
// written in docs/store.md.
func (s *Store) Commit() uint64 { return s.file.Load().commit.Load() }

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
