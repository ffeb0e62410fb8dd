package store

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"moongate/internal/durable"
)

// Erasing replaces the root key's file and the store's by fresh ones and
// destroys the old ones, the key first. What replaces them is made whole beside
// them; then a mark is written, and from the moment that it is durable the
// erasure completes, in this process or by FinishErase in a later one:
//
//	device.key.fresh, hsm.db.fresh   made, whole
//	hsm.erase                        the mark: before it all is as it was
//	device.key                       overwritten
//	device.key.fresh -> device.key
//	hsm.db -> hsm.db.erased, hsm.db.fresh -> hsm.db
//	hsm.db.erased                    overwritten, removed
//	hsm.erase                        removed
//
// Each step may be done again. Whoever erases holds flock(2) on the mark.
const (
	markName     = "hsm.erase"
	freshSuffix  = ".fresh"
	erasedSuffix = ".erased"
)

var markText = []byte("moongate hsm erasure, version 1\n")

var (
	// ErrErased: the store was erased while a transaction was under way.
	ErrErased = errors.New("the store was erased")
	// ErrErasing: an erasure was interrupted; FinishErase completes it.
	ErrErasing = errors.New("an erasure was interrupted and is to be finished first")
)

// erasure is one erasure's files, and what it does between its steps.
type erasure struct {
	dir, key string
	closeOld func() error
	step     func(name string) error // a test's; nil for none
}

// Erase destroys everything that the store keeps, the root key first, and
// begins an empty store under a fresh root key in the same place: the Store
// goes on with a new ID. The root key's file has the form that it had, so that
// the same passphrase opens it. Options.KeyFile must say where it is.
//
// Transactions under way end with ErrErased, and so do updates that wait;
// later ones see the empty store. Erase waits for transactions under way before
// it returns, not before it destroys the root key.
//
// After an error that matches ErrErasing the erasure is begun and cannot be
// undone: updates are refused until the store is opened again, after
// FinishErase. After any other error all is as it was. What overwriting a file
// is worth is written in docs/store.md.
func (s *Store) Erase() error {
	if s.opts.KeyFile == nil {
		return errors.New("erasing store: it was opened without saying where its root key's file is (Options.KeyFile)")
	}
	k := s.opts.KeyFile
	k.mu.Lock()
	defer k.mu.Unlock()
	s.group.lead <- struct{}{}
	defer func() { <-s.group.lead }()
	e, err := newErasure(s.dir, k.path, s.opts.step)
	if err != nil {
		return fmt.Errorf("erasing store: %w", err)
	}
	old := s.file.Load()
	fresh, err := e.prepare(s, k, old.commit.Load()+1)
	if err != nil {
		return fmt.Errorf("erasing store: %w", errors.Join(err, e.removeFresh()))
	}
	mark, err := e.mark()
	if err != nil {
		err = errors.Join(err, fresh.close())
		if uerr := e.unmark(); uerr != nil {
			// Whether the next start finishes it, nobody knows.
			s.group.broken = fmt.Errorf("%w: %w", ErrErasing, errors.Join(err, uerr))
			return fmt.Errorf("erasing store: %w", s.group.broken)
		}
		return fmt.Errorf("erasing store: %w", errors.Join(err, e.removeFresh()))
	}
	defer release(mark)
	s.file.Store(fresh)
	e.closeOld = old.close
	err = e.finish()
	s.group.refuseAll(ErrErased)
	if err != nil {
		s.group.broken = fmt.Errorf("%w: %w", ErrErasing, err)
		return fmt.Errorf("erasing store: %w", s.group.broken)
	}
	s.group.broken = nil
	return nil
}

// FinishErase completes an erasure of the store in dir that a crash or a
// failing disk interrupted, and reports whether there was one. It is called
// before the root key is read: what is in its file until then is no key. No
// passphrase is needed.
func FinishErase(dir, rootKey string) (bool, error) {
	return finishErase(dir, rootKey, nil)
}

func finishErase(dir, rootKey string, step func(string) error) (bool, error) {
	path := filepath.Join(dir, markName)
	mark, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("finishing an erasure: %w", err)
	}
	defer release(mark)
	if err := syscall.Flock(int(mark.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return false, fmt.Errorf("finishing the erasure that %s tells of: another process is at it (%w); find it with `fuser %s`", path, err, path)
	}
	if same, err := isFile(mark, path); err != nil {
		return false, fmt.Errorf("finishing an erasure: %w", err)
	} else if !same {
		return false, nil // the other process has finished meanwhile
	}
	text, err := io.ReadAll(io.LimitReader(mark, int64(len(markText))+1))
	if err != nil {
		return false, fmt.Errorf("finishing an erasure: %w", err)
	}
	if !bytes.Equal(text, markText) {
		return false, fmt.Errorf("%s is not the mark of an erasure that this version knows; run the version that wrote it", path)
	}
	e, err := newErasure(dir, rootKey, step)
	if err != nil {
		return false, fmt.Errorf("finishing an erasure: %w", err)
	}
	if err := e.finish(); err != nil {
		return false, fmt.Errorf("%w: %w", ErrErasing, err)
	}
	return true, nil
}

// release gives back the lock by name, not by closing alone: a child that is
// being started holds the file too, between its fork and its exec.
func release(mark *os.File) {
	syscall.Flock(int(mark.Fd()), syscall.LOCK_UN)
	mark.Close() // read, or synced
}

// newErasure follows a symbolic link to the root key: its target is to be
// destroyed, and the fresh one belongs there too.
func newErasure(dir, key string, step func(string) error) (*erasure, error) {
	target, err := filepath.EvalSymlinks(key)
	if errors.Is(err, fs.ErrNotExist) {
		target, err = key, nil
	}
	if step == nil {
		step = func(string) error { return nil }
	}
	return &erasure{dir: dir, key: target, step: step, closeOld: func() error { return nil }}, err
}

func (e *erasure) store() string { return filepath.Join(e.dir, FileName) }

// prepare makes what will replace the files, and opens the store of it.
func (e *erasure) prepare(s *Store, k *KeyFile, commit uint64) (*file, error) {
	if err := e.removeFresh(); err != nil {
		return nil, err
	}
	root := newRootKey()
	defer clear(root[:])
	text := k.encode(root)
	defer clear(text)
	if err := e.step("making the root key"); err != nil {
		return nil, err
	}
	if err := publishBytes(e.key+freshSuffix, text); err != nil {
		return nil, err
	}
	if err := e.step("making the store"); err != nil {
		return nil, err
	}
	path := e.store() + freshSuffix
	if err := create(path, &root, s.opts.Now(), commit); err != nil {
		return nil, err
	}
	return s.openFile(path, &root)
}

// removeFresh also removes what publish left of them when it was killed.
func (e *erasure) removeFresh() error {
	var errs []error
	for _, path := range []string{e.key, e.store(), filepath.Join(e.dir, markName)} {
		path += freshSuffix
		errs = append(errs, removeAny(path))
		entries, err := os.ReadDir(filepath.Dir(path))
		errs = append(errs, err)
		for _, entry := range entries {
			if strings.HasPrefix(entry.Name(), "."+filepath.Base(path)+"-") {
				errs = append(errs, removeAny(filepath.Join(filepath.Dir(path), entry.Name())))
			}
		}
	}
	return errors.Join(errs...)
}

// mark writes the mark, and returns it open and locked.
func (e *erasure) mark() (*os.File, error) {
	if err := e.step("marking"); err != nil {
		return nil, err
	}
	path := filepath.Join(e.dir, markName)
	f, err := os.OpenFile(path+freshSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		_, err = f.Write(markText)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = e.step("the mark's name")
	}
	if err == nil {
		err = durable.Rename(path+freshSuffix, path)
	}
	if err == nil {
		err = e.step("marked")
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// unmark takes back a mark that may not be durable. It succeeds where there is
// none: what it was written in before it got its name marks nothing.
func (e *erasure) unmark() error {
	path := filepath.Join(e.dir, markName)
	if there, err := exists(path); err != nil || !there {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return durable.SyncDir(e.dir)
}

// finish does the steps that follow the mark, as far as they are not done.
func (e *erasure) finish() error {
	for _, part := range []func() error{e.replaceKey, e.replaceStore, e.destroyStore} {
		if err := part(); err != nil {
			return err
		}
	}
	if err := e.step("removing the mark"); err != nil {
		return err
	}
	if err := removeAny(filepath.Join(e.dir, markName)); err != nil {
		return err
	}
	return durable.SyncDir(e.dir)
}

func (e *erasure) replaceKey() error {
	fresh := e.key + freshSuffix
	if there, err := exists(fresh); err != nil || !there {
		return err // or replaced already
	}
	if err := e.step("overwriting the root key"); err != nil {
		return err
	}
	if err := overwriteAt(e.key); err != nil {
		return err
	}
	if err := e.step("replacing the root key"); err != nil {
		return err
	}
	return durable.Rename(fresh, e.key)
}

func (e *erasure) replaceStore() error {
	fresh := e.store() + freshSuffix
	if there, err := exists(fresh); err != nil || !there {
		return err
	}
	if err := e.step("moving the store"); err != nil {
		return err
	}
	if there, err := exists(e.store()); err != nil {
		return err
	} else if there {
		if err := durable.Rename(e.store(), e.store()+erasedSuffix); err != nil {
			return err
		}
	}
	if err := e.step("replacing the store"); err != nil {
		return err
	}
	return durable.Rename(fresh, e.store())
}

func (e *erasure) destroyStore() error {
	// Until its readers are gone, the old file is mapped into memory.
	if err := e.closeOld(); err != nil {
		return err
	}
	if err := e.step("overwriting the store"); err != nil {
		return err
	}
	old := e.store() + erasedSuffix
	if err := overwriteAt(old); err != nil {
		return err
	}
	if err := e.step("removing the store"); err != nil {
		return err
	}
	if err := removeAny(old); err != nil {
		return err
	}
	return durable.SyncDir(e.dir)
}

// overwriteAt overwrites the file at path, if there is one.
func overwriteAt(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("overwriting: %w", err)
	}
	return errors.Join(overwrite(f), f.Close())
}

// overwrite writes random bytes over a file's contents, in place, and fsyncs
// it. The disk may keep the old ones all the same: see docs/store.md.
func overwrite(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("overwriting: %w", err)
	}
	if _, err := io.CopyN(io.NewOffsetWriter(f, 0), rand.Reader, info.Size()); err != nil {
		return fmt.Errorf("overwriting: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("overwriting: %w", err)
	}
	return nil
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func removeAny(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// isFile reports whether path still names the open file.
func isFile(f *os.File, path string) (bool, error) {
	opened, err := f.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(opened, named), err
}
