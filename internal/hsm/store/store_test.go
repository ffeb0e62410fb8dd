package store_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
)

// world is a store with one partition, and what opens it.
type world struct {
	*store.Store
	t         testing.TB
	dir       string
	root      store.RootKey
	partition object.ID
	key       *store.PartitionKey
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), partition: object.NewID(), key: store.NewPartitionKey()}
	var err error
	if w.root, err = store.LoadOrCreateRootKey(filepath.Join(w.dir, "root.key")); err != nil {
		t.Fatal(err)
	}
	w.open()
	w.update(func(tx *store.Tx) error { return tx.CreatePartition(w.partition) })
	return w
}

func (w *world) open() {
	w.t.Helper()
	s, err := store.Open(w.dir, w.root, store.Options{Now: func() time.Time { return time.Unix(1_800_000_000, 0) }})
	if err != nil {
		w.t.Fatal(err)
	}
	w.Store = s
	w.t.Cleanup(func() { s.Close() }) // some tests close it themselves
}

func (w *world) close() {
	w.t.Helper()
	if err := w.Close(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) reopen() {
	w.t.Helper()
	w.close()
	w.open()
}

func (w *world) update(fn func(*store.Tx) error) {
	w.t.Helper()
	if err := w.Update(fn); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) put(o *object.Object) uint64 {
	w.t.Helper()
	var seq uint64
	w.update(func(tx *store.Tx) (err error) {
		seq, err = tx.PutObject(w.partition, w.key, o)
		return err
	})
	return seq
}

func (w *world) object(id object.ID) (*object.Object, error) {
	var o *object.Object
	err := w.View(func(tx *store.Tx) (err error) {
		o, err = tx.Object(w.partition, w.key, id)
		return err
	})
	return o, err
}

func newObject(label string) *object.Object {
	return &object.Object{
		ID:         object.NewID(),
		Attributes: object.Defaults(object.ClassSecretKey).With(object.Text(object.AttrLabel, label)),
		Secret:     []byte("the secret of " + label),
	}
}

func (w *world) path() string { return filepath.Join(w.dir, store.FileName) }

func TestEverythingSurvivesReopening(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := newObject("k")
	w.put(o)
	public := &object.Object{ID: object.NewID(), Attributes: object.Defaults(object.ClassPublicKey)}
	w.put(public)
	w.update(func(tx *store.Tx) error { return tx.PutRecord("client", "c1", []byte("address")) })
	id, created := w.ID(), w.Created()
	w.reopen()
	for _, want := range []*object.Object{o, public} {
		got, err := w.object(want.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(bytes.Equal)); diff != "" {
			t.Errorf("object (-want +got):\n%s", diff)
		}
	}
	err := w.View(func(tx *store.Tx) error {
		value, err := tx.Record("client", "c1")
		if err != nil || string(value) != "address" {
			t.Errorf("record: %q, %v", value, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if w.ID() != id || !w.Created().Equal(created) || id == (object.ID{}) {
		t.Errorf("store is %v of %v, was %v of %v", w.ID(), w.Created(), id, created)
	}
	if info, err := os.Stat(w.path()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("store file: %v, %v", info.Mode(), err)
	}
	if names, err := filepath.Glob(filepath.Join(w.dir, ".*")); err != nil || len(names) > 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

func TestOpenClosesTheFileToOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.close()
	if err := os.Chmod(w.path(), 0o644); err != nil {
		t.Fatal(err)
	}
	w.open()
	if info, err := os.Stat(w.path()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("store file: %v, %v", info.Mode(), err)
	}
}

func TestWrongRootKeyChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(newObject("k"))
	w.close()
	before, err := os.ReadFile(w.path())
	if err != nil {
		t.Fatal(err)
	}
	other := w.root
	other[0] ^= 1
	if _, err := store.Open(w.dir, other, store.Options{}); !errors.Is(err, store.ErrRootKey) {
		t.Errorf("another root key: %v, want ErrRootKey", err)
	}
	after, err := os.ReadFile(w.path())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, after) {
		t.Error("opening with another root key changed the file")
	}
	w.open()
}

func TestOpenRefusesWhatIsNotItsFormat(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, path string){
		"a newer format": func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error {
				meta := tx.Bucket([]byte("meta"))
				header := bytes.Clone(meta.Get([]byte("header")))
				header[11] = 2
				return meta.Put([]byte("header"), append(header, "and more"...))
			})
		},
		"another program's": func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("meta")) })
		},
		"no database": func(t *testing.T, path string) {
			if err := os.WriteFile(path, bytes.Repeat([]byte("x"), 32<<10), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.close()
			spoil(t, w.path())
			if _, err := store.Open(w.dir, w.root, store.Options{}); !errors.Is(err, store.ErrFormat) {
				t.Errorf("Open: %v, want ErrFormat", err)
			}
		})
	}
}

func TestOpenRefusesASecondProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := store.Open(w.dir, w.root, store.Options{LockTimeout: time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("second Open: %v", err)
	}
}

func TestMustExist(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := store.Open(dir, store.RootKey{}, store.Options{MustExist: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open: %v, want ErrNotExist", err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

func TestRootKeyFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "root.key")
	keys := make([]store.RootKey, 8)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			var err error
			if keys[i], err = store.LoadOrCreateRootKey(path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, key := range keys {
		if key != keys[0] || key == (store.RootKey{}) {
			t.Errorf("concurrent creation gave the keys %x", keys)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("root key file: %v, %v", info.Mode(), err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("files: %v, %v", names, err)
	}

	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := store.LoadOrCreateRootKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("root key that others can read: %v", err)
	}
	digits := strings.Repeat("0f", 32)
	for name, content := range map[string]string{
		"empty": "", "short": digits[2:] + "\n", "no newline": digits, "more": digits + "\n\n",
		"longer": digits + digits + "\n", "no digits": strings.Repeat("xy", 32) + "\n",
	} {
		path := filepath.Join(t.TempDir(), "root.key")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if key, err := store.LoadOrCreateRootKey(path); err == nil || key != (store.RootKey{}) {
			t.Errorf("%s: %x, %v", name, key, err)
		} else if strings.Contains(err.Error(), "0f0f") {
			t.Errorf("%s: the error quotes the key: %v", name, err)
		}
		if kept, err := os.ReadFile(path); err != nil || string(kept) != content {
			t.Errorf("%s: the file was changed to %q, %v", name, kept, err)
		}
	}
}

func TestPartitionKeysNeedPasswordAndRootKey(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t), newWorld(t)
	password := [32]byte{1, 2, 3}
	context := []byte("partition 1, role co")
	sealed, err := w.SealKey(password, context, w.key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := w.OpenKey(password, context, sealed); err != nil || *got != *w.key {
		t.Errorf("right: %v, %v", got, err)
	}
	w.reopen()
	if got, err := w.OpenKey(password, context, sealed); err != nil || *got != *w.key {
		t.Errorf("right, reopened: %v, %v", got, err)
	}
	changed := bytes.Clone(sealed)
	changed[len(changed)-1] ^= 1
	for name, open := range map[string]func() (*store.PartitionKey, error){
		"another password": func() (*store.PartitionKey, error) { return w.OpenKey([32]byte{1, 2}, context, sealed) },
		"another context":  func() (*store.PartitionKey, error) { return w.OpenKey(password, context[1:], sealed) },
		"another store":    func() (*store.PartitionKey, error) { return other.OpenKey(password, context, sealed) },
		"changed":          func() (*store.PartitionKey, error) { return w.OpenKey(password, context, changed) },
		"cut":              func() (*store.PartitionKey, error) { return w.OpenKey(password, context, sealed[:20]) },
		"nothing":          func() (*store.PartitionKey, error) { return w.OpenKey(password, context, nil) },
	} {
		if key, err := open(); !errors.Is(err, store.ErrTampered) || key != nil {
			t.Errorf("%s: %v, %v, want ErrTampered", name, key, err)
		}
	}
}

// edit changes a closed store's file behind its back.
func edit(t testing.TB, path string, fn func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(fn), db.Close()); err != nil {
		t.Fatal(err)
	}
}
