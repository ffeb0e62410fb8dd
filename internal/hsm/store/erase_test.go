package store

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"moongate/internal/hsm/object"
)

// eraseWorld is a store with one partition and one object, in a directory of
// its own.
type eraseWorld struct {
	*Store
	t         *testing.T
	dir, key  string
	root      RootKey
	partition object.ID
	pkey      *PartitionKey
	object    *object.Object
}

func newEraseWorld(t *testing.T, step func(string) error) *eraseWorld {
	t.Helper()
	w := &eraseWorld{t: t, dir: t.TempDir(), partition: object.NewID(), pkey: NewPartitionKey()}
	w.key = filepath.Join(w.dir, "device.key")
	var err error
	if w.root, err = LoadOrCreateRootKey(w.key); err != nil {
		t.Fatal(err)
	}
	w.open(w.root, step)
	w.object = &object.Object{ID: object.NewID(), Attributes: object.Defaults(object.ClassSecretKey), Secret: []byte("secret")}
	if err := w.Update(w.putObject); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *eraseWorld) putObject(tx *Tx) error {
	err := tx.CreatePartition(w.partition)
	_, perr := tx.PutObject(w.partition, w.pkey, w.object)
	return errors.Join(err, perr)
}

func (w *eraseWorld) open(root RootKey, step func(string) error) {
	w.t.Helper()
	s, err := Open(w.dir, root, Options{MustExist: w.Store != nil, KeyFile: PlainKeyFile(w.key), step: step})
	if err != nil {
		w.t.Fatal(err)
	}
	w.Store = s
	w.t.Cleanup(func() { s.Close() }) // some tests close it themselves
}

// has reports whether the object is there.
func (w *eraseWorld) has() bool {
	w.t.Helper()
	err := w.View(func(tx *Tx) error { _, err := tx.Object(w.partition, w.pkey, w.object.ID); return err })
	if err != nil && !errors.Is(err, ErrNotFound) {
		w.t.Fatal(err)
	}
	return err == nil
}

func (w *eraseWorld) names() []string {
	w.t.Helper()
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// checkErased says that nothing of before is left, in the open store or in the
// directory, and that the store works.
func (w *eraseWorld) checkErased() {
	w.t.Helper()
	if w.has() {
		w.t.Error("the object is still there")
	}
	if err := w.Update(w.putObject); err != nil || !w.has() {
		w.t.Errorf("the empty store does not take updates: %v", err)
	}
	if got, want := w.names(), []string{"device.key", FileName}; !slices.Equal(got, want) {
		w.t.Errorf("files are %q, want %q", got, want)
	}
	root, err := LoadRootKey(w.key)
	if err != nil || root == w.root {
		w.t.Errorf("the root key is the old one: %v", err)
	}
}

func TestEraseLeavesAnEmptyStore(t *testing.T) {
	t.Parallel()
	w := newEraseWorld(t, nil)
	id, commit := w.ID(), w.Commit()
	var old [2]*os.File // the files that hold what is to be destroyed
	for i, path := range []string{w.key, filepath.Join(w.dir, FileName)} {
		var err error
		if old[i], err = os.Open(path); err != nil {
			t.Fatal(err)
		}
		defer old[i].Close()
	}
	if err := w.Erase(); err != nil {
		t.Fatal(err)
	}
	if w.ID() == id || w.Commit() <= commit {
		t.Errorf("ID %v, commit %d after ID %v, commit %d", w.ID(), w.Commit(), id, commit)
	}
	w.checkErased()
	for i, gone := range []string{hex.EncodeToString(w.root[:]), string(magic)} {
		raw := make([]byte, 1<<20)
		n, _ := old[i].ReadAt(raw, 0)
		if n == 0 || bytes.Contains(raw[:n], []byte(gone)) {
			t.Errorf("file %d was not overwritten", i)
		}
	}
	commit = w.Commit()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	root, err := LoadRootKey(w.key)
	if err != nil {
		t.Fatal(err)
	}
	w.open(root, nil)
	if !w.has() || w.Commit() != commit {
		t.Errorf("reopened: commit %d, want %d", w.Commit(), commit)
	}
	if err := w.Erase(); err != nil { // again
		t.Fatal(err)
	}
	w.root = root
	w.checkErased()
}

func TestEraseNeedsToKnowTheKeyFile(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	if err := s.Erase(); err == nil || s.Update(put("a")) != nil {
		t.Errorf("Erase: %v", err)
	}
}

// The link stays, and the key at its end is replaced.
func TestEraseFollowsALinkToTheKey(t *testing.T) {
	t.Parallel()
	w := newEraseWorld(t, nil)
	target := filepath.Join(t.TempDir(), "elsewhere.key")
	if err := errors.Join(os.Rename(w.key, target), os.Symlink(target, w.key)); err != nil {
		t.Fatal(err)
	}
	if err := w.Erase(); err != nil {
		t.Fatal(err)
	}
	w.checkErased()
	if to, err := os.Readlink(w.key); err != nil || to != target {
		t.Errorf("the link leads to %q, %v", to, err)
	}
}

func TestTransactionsUnderWayEndWithAnError(t *testing.T) {
	t.Parallel()
	w := newEraseWorld(t, nil)
	var wg sync.WaitGroup
	viewing, updating, erase := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var viewErr, updateErr, queuedErr error
	wg.Go(func() {
		viewErr = w.View(func(tx *Tx) error {
			close(viewing)
			<-erase
			for w.file.Load() == tx.f { // until the mark is written
				runtime.Gosched()
			}
			_, err := tx.Object(w.partition, w.pkey, w.object.ID) // still readable
			return err
		})
	})
	<-viewing
	wg.Go(func() { updateErr = w.Update(func(*Tx) error { close(updating); <-erase; return nil }) })
	<-updating
	wg.Go(func() { queuedErr = w.Update(put("queued")) })
	for w.queued() != 1 {
		runtime.Gosched()
	}
	wg.Go(func() {
		if err := w.Erase(); err != nil {
			t.Error(err)
		}
	})
	close(erase)
	wg.Wait()
	// The update that led came before the erasure; the one that waited came
	// before it or not at all.
	if updateErr != nil || queuedErr != nil && !errors.Is(queuedErr, ErrErased) || w.has1("queued") {
		t.Errorf("updates: %v, %v", updateErr, queuedErr)
	}
	if !errors.Is(viewErr, ErrErased) {
		t.Errorf("view: %v, want ErrErased", viewErr)
	}
	w.checkErased()
}

func (w *eraseWorld) has1(id string) bool { return w.Store.has(w.t, id) }

func TestEraseUnderLoad(t *testing.T) {
	t.Parallel()
	w := newEraseWorld(t, nil)
	var wg sync.WaitGroup
	var stop atomic.Bool
	for i := range 8 {
		wg.Go(func() {
			for n := 0; !stop.Load(); n++ {
				err := w.Update(put(fmt.Sprint(i, n)))
				if err == nil {
					err = w.View(func(tx *Tx) error { _, err := tx.Sequence(w.partition); return err })
				}
				if err == nil {
					_, err = w.SealKey([32]byte{1}, []byte("c"), w.pkey)
				}
				if err != nil && !errors.Is(err, ErrErased) && !errors.Is(err, ErrNotFound) {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 3 {
		if err := w.Erase(); err != nil {
			t.Error(err)
		}
	}
	stop.Store(true)
	wg.Wait()
	w.checkErased()
}
