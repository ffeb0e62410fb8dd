// Package vault seals the secrets of a gateway: those of its configuration
// under data keys that a master key wraps, those that a start needs before the
// HSM answers under a key of the device.
//
// A vault is a directory, mode 0700, of owner-only files:
//
//	master.key  the master key; two of them in the middle of a change; none
//	            where it is on the HSM
//	keyring     the data keys, sealed under the master key, its lifetime, and
//	            itself where wrapping keys on the HSM seal it
//	device.key  the device key
//	lock        held by the process that may write
//
// The keyring says which master key opens it. So the change of the master key
// is one atomic replacement of the keyring: before it master.key gets the new
// key beside the old one, after it the old one goes. A crash in between leaves
// two keys of which the next start drops the one that the keyring does not
// name. In the same way the master key moves to the HSM and back: its wraps are
// in the keyring, and a keyring with wraps knows no master.key.
//
// A vault whose master key is on the HSM opens locked: what the device key seals
// can be used, everything else waits for Unlock. From then on both master and
// data keys stay in memory, and the HSM is needed for a change of them alone.
//
// The keys of master.key and device.key open everything here to whoever
// reads them: docs/key-hierarchy.md says what a thief of each file gets.
package vault

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"moongate/internal/durable"
	"moongate/internal/passphrase"
)

// Names of a vault's files.
const (
	masterFile  = "master.key"
	keyringFile = "keyring"
	deviceFile  = "device.key"
	lockFile    = "lock"
)

var (
	// ErrClosed: the vault was closed.
	ErrClosed = errors.New("the vault is closed")
	// ErrReadOnly: the vault was opened to be read only.
	ErrReadOnly = errors.New("the vault is open for reading only")
)

// Options say how a vault is opened. The zero value is a writer's.
type Options struct {
	// ReadOnly makes nothing, writes nothing and takes no lock: for a process
	// beside the gateway's. Such a vault seals under the data key that was the
	// active one when it was opened.
	ReadOnly bool
	// Now is the clock; time.Now by default.
	Now func() time.Time
	// Logger is told of what an earlier crash left; none by default.
	Logger *slog.Logger
	// Wrapper is the way to the HSM; nil where there is none, and then a
	// vault whose master key is there stays locked.
	Wrapper Wrapper
}

// costs are those of derivations: less in tests.
type costs struct{ master, export passphrase.Cost }

var defaultCosts = costs{master: passphrase.File, export: passphrase.File}

// Vault is an open vault. Its methods may be called at the same time.
type Vault struct {
	dir    string
	opts   Options
	costs  costs
	device *Device
	lock   *durable.Lock // nil where it is read only

	// change is held by what writes, over everything it does; unlocking by
	// what asks the HSM for the master key.
	change, unlocking sync.Mutex

	mu     sync.RWMutex
	ring   *ring   // guarded by mu; replaced as a whole; nil while locked and once closed
	locked *locked // guarded by mu; nil once unlocked
}

// Open opens the vault in a directory, and makes it where there is none: with a
// random master key, one data key and a device key. The parent directory must
// be there. A vault in which a file is missing or damaged is an error that names
// the file, and is never mended by making keys anew: what they sealed would be
// lost.
func Open(dir string, opts Options) (*Vault, error) { return open(dir, opts, defaultCosts) }

func open(dir string, opts Options, c costs) (*Vault, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	v := &Vault{dir: dir, opts: opts, costs: c}
	if !opts.ReadOnly {
		if err := v.prepare(); err != nil {
			return nil, err
		}
	}
	if err := v.load(); err != nil {
		return nil, errors.Join(err, v.unlock())
	}
	return v, nil
}

// prepare makes the vault where there is none, and locks it.
func (v *Vault) prepare() error {
	if _, err := os.Lstat(v.dir); errors.Is(err, fs.ErrNotExist) {
		if err := create(v.dir, v.opts.Now()); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("making the vault: %w", err)
		}
	}
	lock, err := durable.NewLock(filepath.Join(v.dir, lockFile))
	if err != nil {
		return fmt.Errorf("locking the vault: %w", err)
	}
	v.lock = lock
	if err := errors.Join(durable.RemoveTemps(v.dir), removeUnfinished(v.dir, time.Now())); err != nil {
		return errors.Join(err, v.unlock())
	}
	return nil
}

func (v *Vault) unlock() error {
	if v.lock == nil {
		return nil
	}
	lock := v.lock
	v.lock = nil
	return lock.Unlock()
}

// load reads the files, and ends a change of the master key that a crash cut.
func (v *Vault) load() error {
	device, err := OpenDevice(v.dir)
	if err != nil {
		return err
	}
	o, err := readPair(v.dir)
	if err != nil {
		return err
	}
	defer wipe(o.masters)
	v.device = device
	if o.locked != nil {
		o.locked.cause, o.locked.since = errNotAsked, v.opts.Now()
		v.locked = o.locked
		return v.dropMasters()
	}
	if id := o.ring.header.Master.ID; len(o.masters) > 1 && !v.opts.ReadOnly {
		v.opts.Logger.Warn("a change of the master key was cut off; the key that the keyring is not sealed under is dropped", "master-key", id)
		if err := v.keepMaster(o.masters, id); err != nil {
			return err
		}
	}
	v.ring = o.ring
	return nil
}

// dropMasters removes the file of a master key that is on the HSM: a crash left
// it on its way there, or back.
func (v *Vault) dropMasters() error {
	if _, err := os.Lstat(v.MasterKeyFile()); errors.Is(err, fs.ErrNotExist) || v.opts.ReadOnly {
		return nil
	}
	v.opts.Logger.Warn("the master key is on the HSM; its file, which a change that was cut off has left, is removed", "file", v.MasterKeyFile())
	return v.removeMasters()
}

// opened are the files of a vault: its keyring, open with its master keys, or
// locked.
type opened struct {
	ring    *ring
	masters []namedKey
	locked  *locked
}

func (o *opened) wipe() {
	wipe(o.masters)
	if o.ring != nil {
		o.ring.wipe()
	}
}

// readPair reads keyring and master key as they belong together. They are two
// files: a reader beside a change may see one before it and the other behind.
func readPair(dir string) (*opened, error) {
	const attempts = 3
	for attempt := 1; ; attempt++ {
		o, err := readPairOnce(dir)
		if err == nil || attempt == attempts {
			return o, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func readPairOnce(dir string) (*opened, error) {
	path := filepath.Join(dir, keyringFile)
	text, err := readOwn(path, maxKeyring)
	if err != nil {
		return nil, err
	}
	h, head, sealed, err := parseRing(text)
	if err != nil {
		return nil, fmt.Errorf("keyring %s: %w", path, err)
	}
	if h.onHSM() {
		return &opened{locked: &locked{header: h, head: head, sealed: sealed}}, nil
	}
	masters, err := readKeyFile(filepath.Join(dir, masterFile), masterKind)
	if err != nil {
		return nil, err
	}
	r, err := openRing(text, masters)
	if err != nil {
		wipe(masters)
		return nil, fmt.Errorf("keyring %s: %w", path, err)
	}
	return &opened{ring: r, masters: masters}, nil
}

// Dir is the vault's directory, and MasterKeyFile the file of its master key.
func (v *Vault) Dir() string           { return v.dir }
func (v *Vault) MasterKeyFile() string { return filepath.Join(v.dir, masterFile) }

// Device is what seals under the device key.
func (v *Vault) Device() *Device { return v.device }

// Close wipes the keys and gives the lock back. What is called afterwards fails
// with ErrClosed.
func (v *Vault) Close() error {
	v.change.Lock()
	defer v.change.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ring == nil && v.locked == nil {
		return nil
	}
	if v.ring != nil {
		v.ring.wipe()
	}
	v.ring, v.locked = nil, nil
	v.device.close()
	return v.unlock()
}

// withRing runs f with the data keys, which stay while it does. The error is a
// *LockedError while there are none.
func (v *Vault) withRing(f func(*ring) error) error {
	v.mu.RLock()
	defer v.mu.RUnlock()
	switch {
	case v.ring != nil:
		return f(v.ring)
	case v.locked != nil:
		return &LockedError{v.locked.cause, v.locked.since}
	}
	return ErrClosed
}

// withHeader runs f with what the keyring says in the clear; not once the vault
// is closed.
func (v *Vault) withHeader(f func(*header)) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.ring != nil {
		f(&v.ring.header)
	} else if v.locked != nil {
		f(&v.locked.header)
	}
}

// replaceRing has r be what is used from here on.
func (v *Vault) replaceRing(r *ring) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ring.wipe()
	v.ring = r
}

// writable reports why the vault may not be written. The caller holds change.
func (v *Vault) writable() error {
	if v.opts.ReadOnly {
		return ErrReadOnly
	}
	return v.withRing(func(*ring) error { return nil })
}
