package vault

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// double is a Wrapper in software whose keys are files, so that the tests that
// kill a process find them again. What real HSMs do is tested with them, in
// internal/gw/keys and e2e.
type double struct {
	dir string

	mu      sync.Mutex
	away    error    // every call fails by it; guarded by mu
	failAt  int      // the call of that number fails, from 1 on; guarded by mu
	calls   int      // guarded by mu
	missing []string // members that no key is known to be on; guarded by mu
	wrong   bool     // Unwrap returns another key; guarded by mu
}

var errAway = errors.New("connection refused")

func newDouble(dir string) *double { return &double{dir: dir} }

// call counts a call, and fails it where that is wanted.
func (d *double) call() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	if d.away != nil {
		return d.away
	}
	if d.calls == d.failAt {
		return errAway
	}
	return nil
}

// set changes what the double does.
func (d *double) set(change func(*double)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
	d.calls = 0
}

func (d *double) path(ref string) string { return filepath.Join(d.dir, "wrapping-"+ref) }

func (d *double) NewKey(context.Context) (string, error) {
	if err := d.call(); err != nil {
		return "", err
	}
	ref := "w-" + newID()
	k := newKey()
	return ref, os.WriteFile(d.path(ref), []byte(hex.EncodeToString(k[:])), 0o600)
}

func (d *double) key(ref string) (*key, error) {
	digits, err := os.ReadFile(d.path(ref))
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrNoWrappingKey, ref)
	}
	var k key
	_, err = hex.Decode(k[:], digits)
	return &k, err
}

func (d *double) Wrap(_ context.Context, ref string, plain []byte) ([]byte, error) {
	if err := d.call(); err != nil {
		return nil, err
	}
	k, err := d.key(ref)
	if err != nil {
		return nil, err
	}
	return seal(nil, k, contextOf(ref), newSecretID(), plain), nil
}

func (d *double) Unwrap(_ context.Context, ref string, wrapped []byte) ([]byte, error) {
	if err := d.call(); err != nil {
		return nil, err
	}
	k, err := d.key(ref)
	if err != nil {
		return nil, err
	}
	plain, err := unseal(k, contextOf(ref), wrapped)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.wrong && err == nil {
		rand.Read(plain)
	}
	return plain, err
}

func (d *double) Keys(context.Context) ([]WrappingKey, error) {
	if err := d.call(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	names, err := filepath.Glob(filepath.Join(d.dir, "wrapping-*"))
	if err != nil {
		return nil, err
	}
	var list []WrappingKey
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		ref := strings.TrimPrefix(filepath.Base(name), "wrapping-")
		list = append(list, WrappingKey{Ref: ref, Label: ref, Created: info.ModTime(), Members: []string{"one"}, Missing: slices.Clone(d.missing)})
	}
	slices.SortFunc(list, func(a, b WrappingKey) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Ref, b.Ref))
	})
	return list, nil
}

// lose has the double lose a wrapping key.
func (d *double) lose(ref string) error { return os.Rename(d.path(ref), d.path(ref)+".lost") }

// yes and no are places of a Change.
var (
	onIt, offIt = true, false
	onHSM       = &onIt
	offHSM      = &offIt
)

// within is a context that ends a test which hangs.
func within() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	_ = cancel // the process ends before
	return ctx
}
