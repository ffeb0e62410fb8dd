package revision

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"moongate/internal/durable"
)

// Backend keeps values by key. Keys are of letters, digits and hyphens, in at
// most two parts with a slash between them. Its methods may be called at the
// same time.
type Backend interface {
	// Get returns a value and its revision, which is never 0; ErrNoValue is
	// wrapped where there is none.
	Get(key string) (value []byte, revision uint64, err error)
	// Swap replaces the value whose revision is old, 0 for none, and returns
	// the new one's. It is durable when Swap returns. ErrConflict is wrapped
	// where the revision is another; after any other error the value may be
	// the old or the new one, whole.
	Swap(ctx context.Context, key string, old uint64, value []byte) (uint64, error)
	// List returns the keys that begin with "candidate/", in no order.
	List() ([]string, error)
	// Delete removes a value, which need not be there. It need not survive a
	// crash.
	Delete(key string) error
	// Watch tells of keys that changed, whoever changed them, until ctx is
	// done. Changes that come faster than they are read are told once.
	Watch(ctx context.Context) <-chan string
	// Name is what a person calls the place of a key.
	Name(key string) string
}

// ErrNoValue: the key has no value.
var ErrNoValue = errors.New("no value")

// Files is a Backend of files in a directory that one process has for itself.
type Files struct {
	dir string

	mu        sync.Mutex
	revisions map[string]uint64        // of files that were read or written; guarded by mu
	watchers  map[chan string]struct{} // guarded by mu
}

// OpenFiles makes the directory where it is missing.
func OpenFiles(dir string) (*Files, error) {
	for _, d := range []string{dir, filepath.Join(dir, "version"), filepath.Join(dir, "candidate.d")} {
		if err := durable.Mkdir(d); err != nil {
			return nil, fmt.Errorf("making a directory for the configuration: %w", err)
		}
		if err := durable.RemoveTemps(d); err != nil {
			return nil, err
		}
	}
	return &Files{dir: dir, revisions: map[string]uint64{}, watchers: map[chan string]struct{}{}}, nil
}

// Name is the key's file.
func (f *Files) Name(key string) string {
	if n, ok := strings.CutPrefix(key, candidateKey+"/"); ok {
		return filepath.Join(f.dir, "candidate.d", n)
	}
	if n, ok := strings.CutPrefix(key, "version/"); ok {
		return filepath.Join(f.dir, "version", n+".xml")
	}
	return filepath.Join(f.dir, key)
}

// Get implements Backend.
func (f *Files) Get(key string) ([]byte, uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	raw, err := os.ReadFile(f.Name(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("%s: %w", f.Name(key), ErrNoValue)
	} else if err != nil {
		return nil, 0, err
	}
	return raw, f.revision(key, true), nil
}

// revision is that of a file; those of an earlier process begin at 1.
func (f *Files) revision(key string, there bool) uint64 {
	if there && f.revisions[key] == 0 {
		f.revisions[key] = 1
	}
	return f.revisions[key]
}

// Swap implements Backend.
func (f *Files) Swap(_ context.Context, key string, old uint64, value []byte) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := os.Lstat(f.Name(key))
	switch is := f.revision(key, err == nil); {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return 0, err
	case err == nil && is != old, err != nil && old != 0:
		return 0, fmt.Errorf("%s: %w", f.Name(key), ErrConflict)
	}
	if err := durable.WriteFile(f.Name(key), value, 0o600); err != nil {
		return 0, err
	}
	f.revisions[key] = old + 1
	for w := range f.watchers {
		select {
		case w <- key:
		default:
		}
	}
	return old + 1, nil
}

// List implements Backend.
func (f *Files) List() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(f.dir, "candidate.d"))
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, e := range entries {
		keys = append(keys, candidateKey+"/"+e.Name())
	}
	return keys, nil
}

// Delete implements Backend.
func (f *Files) Delete(key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.revisions, key)
	if err := os.Remove(f.Name(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Watch implements Backend.
func (f *Files) Watch(ctx context.Context) <-chan string {
	w := make(chan string, 16)
	f.mu.Lock()
	f.watchers[w] = struct{}{}
	f.mu.Unlock()
	context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers, w)
		close(w)
	})
	return w
}
