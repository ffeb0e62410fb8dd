package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"moongate/internal/hsm/object"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// file is one open database with what opens it. Erase replaces it by another.
type file struct {
	db      *bbolt.DB
	created time.Time
	// damaged holds the partitions whose index did not pass the check at
	// opening, and why. It does not change.
	damaged map[object.ID]error
	// commit is the number of the last commit.
	commit atomic.Uint64

	// keys are set once. Those who use them outside of a transaction hold
	// using, so that close clears them when nobody is at it.
	keys  *keyring
	using sync.RWMutex
}

// close waits for transactions, closes the file and clears its keys.
func (f *file) close() error {
	if err := f.db.Close(); err != nil {
		return fmt.Errorf("closing store: %w", err)
	}
	f.using.Lock()
	defer f.using.Unlock()
	f.keys.wipe()
	return nil
}

// openFile opens the database at path and checks it.
func (s *Store) openFile(path string, root *RootKey) (*file, error) {
	db, opened, err := openDatabase(path, s.opts.LockTimeout)
	if err != nil {
		return nil, err
	}
	f := &file{db: db, damaged: map[object.ID]error{}}
	if same, err := isFile(opened, path); err != nil || !same {
		err = errors.Join(err, fmt.Errorf("store %s was replaced while it was being opened; start again", path))
		return nil, errors.Join(err, db.Close())
	}
	if err := guard(func() error { return s.load(f, root) }); err != nil {
		return nil, errors.Join(fmt.Errorf("opening store %s: %w", path, err), db.Close())
	}
	return f, nil
}

// openDatabase returns bbolt's database, and the file that it has open.
func openDatabase(path string, timeout time.Duration) (*bbolt.DB, *os.File, error) {
	var db *bbolt.DB
	var file *os.File
	err := guard(func() (err error) {
		db, err = bbolt.Open(path, 0o600, &bbolt.Options{
			Timeout: timeout, FreelistType: bbolt.FreelistMapType,
			OpenFile: func(name string, flag int, perm fs.FileMode) (_ *os.File, err error) {
				if file, err = os.OpenFile(name, flag, perm); err != nil {
					return nil, err
				}
				// The lock is bbolt's, taken before it: its own attempt finds
				// it held by the same file.
				if err = lockFile(file, timeout); err == nil {
					err = checkPages(file)
				}
				if err != nil {
					return nil, errors.Join(err, file.Close())
				}
				return file, nil
			},
		})
		return err
	})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, nil, fmt.Errorf("store %s is in use by another process; stop the other moongate-hsm (find it with `fuser %s`)", path, path)
	case errors.Is(err, ErrFormat):
		return nil, nil, fmt.Errorf("store %s: %w", path, err)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return nil, nil, fmt.Errorf("store %s: %w (%w); restore it from a backup", path, ErrFormat, err)
	case err != nil:
		return nil, nil, fmt.Errorf("opening store %s: %w", path, err)
	}
	return db, file, nil
}

// lockFile waits for another process to close the store; berrors.ErrTimeout
// when it does not.
func lockFile(f *os.File, timeout time.Duration) error {
	const pause = 10 * time.Millisecond
	for end := time.Now().Add(timeout); ; time.Sleep(pause) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil || err != syscall.EWOULDBLOCK && err != syscall.EINTR {
			return err
		}
		if time.Now().After(end) {
			return berrors.ErrTimeout
		}
	}
}

// load reads and checks everything but the objects' contents.
func (s *Store) load(f *file, root *RootKey) error {
	return f.db.View(func(btx *bbolt.Tx) error {
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
		f.keys, f.created = keys, time.Unix(h.created, 0).UTC()
		tx, err := s.begin(f, btx)
		if err != nil {
			return err
		}
		if err := tx.verify(); err != nil {
			return err
		}
		f.commit.Store(tx.state.number)
		return nil
	})
}

// create makes an empty store, whole or not at all. commit is the number that
// it begins with.
func create(path string, root *RootKey, now time.Time, commit uint64) error {
	return publish(path, func(temporary string) error {
		db, _, err := openDatabase(temporary, time.Second)
		if err != nil {
			return err
		}
		err = db.Update(func(tx *bbolt.Tx) error { return initialise(tx, root, now, commit) })
		return errors.Join(err, db.Close())
	})
}

func initialise(tx *bbolt.Tx, root *RootKey, now time.Time, commit uint64) error {
	for _, name := range [][]byte{bucketMeta, bucketRecords, bucketPartitions} {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	h := header{id: object.NewID(), created: now.Unix()}
	keys := newKeyring(root, h.id)
	defer keys.wipe()
	encoded := h.append(nil)
	meta := tx.Bucket(bucketMeta)
	if err := meta.Put(keyHeader, encoded); err != nil {
		return err
	}
	if err := meta.Put(keyCheck, seal(nil, &keys.check, keys.context("check", encoded), nil)); err != nil {
		return err
	}
	return (&state{number: commit}).put(meta, keys)
}

// settle makes sure, under the store's lock, that no erasure is unfinished,
// and clears away what one left that was interrupted before its mark.
func (s *Store) settle() error {
	mark := filepath.Join(s.dir, markName)
	if there, err := exists(mark); err != nil {
		return err
	} else if there {
		return fmt.Errorf("%w (%s tells of it); start the HSM again", ErrErasing, mark)
	}
	if s.opts.KeyFile != nil {
		e, err := newErasure(s.dir, s.opts.KeyFile.path, nil)
		if err != nil {
			return err
		}
		return e.removeFresh()
	}
	return nil
}
