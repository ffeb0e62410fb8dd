package users

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"moongate/internal/durable"
	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/login"
)

// Options say how accounts are kept.
type Options struct {
	// Policy decides which password derivations may be used.
	Policy mech.Policy
	// NewKDF makes the derivation of a new password; mech.NewKDF by default.
	NewKDF func(mech.Policy) mech.KDF
	// Now is the clock; time.Now by default.
	Now func() time.Time
}

// Users are the accounts of one appliance. Every change is on disk before its
// method returns; a method that fails has changed nothing that this process
// obeys. Nothing is recorded here: that is the caller's. All methods may be
// called at the same time.
type Users struct {
	path string
	opts Options
	// decoy is the derivation that a password is put through for an account
	// that has none, or that does not exist.
	decoy  mech.KDF
	delays *login.Delays

	mu    sync.Mutex
	state *contents // guarded by mu; replaced as a whole, never altered
}

// Create makes an accounts file without accounts: nobody can come in. A file
// that is there already is an error that matches fs.ErrExist.
func Create(path string, opts Options) (*Users, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("making the accounts file %s: %w", path, fs.ErrExist)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("making the accounts file: %w", err)
	}
	u := newUsers(path, opts)
	u.state = &contents{Version: formatVersion, Accounts: []*account{}}
	if err := u.write(u.state); err != nil {
		return nil, err
	}
	return u, nil
}

// Open reads an accounts file. One that is missing is an error that matches
// fs.ErrNotExist; one that others than its owner may read or write is refused.
func Open(path string, opts Options) (*Users, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("opening the accounts file: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("the accounts file %s has mode %v; run `chmod 600 %s`", path, info.Mode(), path)
	}
	if info.Size() > maxFileSize {
		return nil, fmt.Errorf("the accounts file %s has %d bytes, at most %d", path, info.Size(), maxFileSize)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the accounts file: %w", err)
	}
	u := newUsers(path, opts)
	if u.state, err = decode(raw); err != nil {
		return nil, fmt.Errorf("reading the accounts file %s: %w; put a good copy back, or move it away and make the accounts anew on this machine", path, err)
	}
	return u, nil
}

func newUsers(path string, opts Options) *Users {
	if opts.NewKDF == nil {
		opts.NewKDF = mech.NewKDF
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Users{path: path, opts: opts, decoy: opts.NewKDF(opts.Policy), delays: login.NewDelays()}
}

func (u *Users) write(c *contents) error {
	raw, err := c.encode()
	if err != nil {
		return err
	}
	if err := durable.WriteFile(u.path, raw, 0o600); err != nil {
		return fmt.Errorf("writing the accounts file: %w", err)
	}
	return nil
}

// now is the time that records hold: UTC, whole seconds.
func (u *Users) now() time.Time { return u.opts.Now().UTC().Truncate(time.Second) }

func (c *contents) find(name string) (int, bool) {
	return slices.BinarySearchFunc(c.Accounts, name, func(a *account, name string) int { return strings.Compare(a.Name, name) })
}

func (c *contents) named(name string) (*account, error) {
	i, found := c.find(name)
	if !found {
		return nil, object.Errorf(object.ErrObjectNotFound, "there is no account %.40q; `user list` shows those that there are", name)
	}
	return c.Accounts[i], nil
}

func (c *contents) admins() int {
	n := 0
	for _, a := range c.Accounts {
		if a.Enabled && a.Role == RoleAdmin {
			n++
		}
	}
	return n
}

// update replaces the state by what change makes of a copy, on disk first. It
// refuses what leaves no enabled administrator where there was one.
func (u *Users) update(change func(*contents) error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	next := &contents{Version: formatVersion, Accounts: slices.Clone(u.state.Accounts), Strangers: u.state.Strangers}
	if err := change(next); err != nil {
		return err
	}
	if u.state.admins() > 0 && next.admins() == 0 {
		return object.Errorf(object.ErrActionProhibited, "this is the last enabled account with the role admin; give another one that role first")
	}
	if err := u.write(next); err != nil {
		return err
	}
	u.state = next
	return nil
}

// updateAccount changes one account.
func (u *Users) updateAccount(name string, change func(*account) error) error {
	return u.update(func(c *contents) error {
		i, found := c.find(name)
		if !found {
			_, err := c.named(name)
			return err
		}
		a := c.Accounts[i].clone()
		c.Accounts[i] = a
		return change(a)
	})
}

func (u *Users) snapshot() *contents {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.state
}

// List returns every account in the order of their names.
func (u *Users) List() []Account {
	list := []Account{}
	for _, a := range u.snapshot().Accounts {
		list = append(list, a.show())
	}
	return list
}

// Get returns one account (object.ErrObjectNotFound).
func (u *Users) Get(name string) (Account, error) {
	a, err := u.snapshot().named(name)
	if err != nil {
		return Account{}, err
	}
	return a.show(), nil
}

// Add makes an account, enabled, with neither password nor key: nothing opens
// it until SetPassword or AddKey.
func (u *Users) Add(name string, role Role) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if err := CheckRole(role); err != nil {
		return err
	}
	return u.update(func(c *contents) error {
		i, found := c.find(name)
		if found {
			return object.Errorf(object.ErrExists, "there is an account %q already; delete it first, or choose another name", name)
		}
		if len(c.Accounts) >= maxAccounts {
			return object.Errorf(object.ErrBusy, "there are %d accounts, and no more are kept; delete one first", maxAccounts)
		}
		c.Accounts = slices.Insert(c.Accounts, i, &account{Name: name, Role: role, Enabled: true, Keys: []string{}, Created: u.now()})
		return nil
	})
}

// Delete takes an account away. The last enabled administrator stays.
func (u *Users) Delete(name string) error {
	return u.update(func(c *contents) error {
		i, found := c.find(name)
		if !found {
			_, err := c.named(name)
			return err
		}
		c.Accounts = slices.Delete(c.Accounts, i, i+1)
		return nil
	})
}

// SetRole gives an account another role. The last enabled administrator keeps
// his.
func (u *Users) SetRole(name string, role Role) error {
	if err := CheckRole(role); err != nil {
		return err
	}
	return u.updateAccount(name, func(a *account) error { a.Role = role; return nil })
}

// Enable lets an account be used again.
func (u *Users) Enable(name string) error {
	return u.updateAccount(name, func(a *account) error { a.Enabled = true; return nil })
}

// Disable lets nobody in through an account, and keeps it. The last enabled
// administrator stays enabled.
func (u *Users) Disable(name string) error {
	return u.updateAccount(name, func(a *account) error { a.Enabled = false; return nil })
}

// Unlock forgets the wrong passwords for an account and the delays that
// followed, for it and for the addresses that they came from.
func (u *Users) Unlock(name string) error {
	err := u.updateAccount(name, func(a *account) error { a.Failures, a.LastFailure = 0, time.Time{}; return nil })
	if err == nil {
		u.delays.Forget(name)
	}
	return err
}

// SetPassword gives an account a password of 8 to 256 bytes
// (object.ErrPINLength), in place of the one it has.
func (u *Users) SetPassword(name string, pw []byte) error {
	if err := checkPassword(pw); err != nil {
		return err
	}
	if _, err := u.Get(name); err != nil {
		return err // before the slow part
	}
	v, err := u.verifierOf(pw)
	if err != nil {
		return err
	}
	return u.updateAccount(name, func(a *account) error {
		a.Password, a.Failures, a.LastFailure = v, 0, time.Time{}
		return nil
	})
}

// ClearPassword takes an account's password away: only keys open it then.
func (u *Users) ClearPassword(name string) error {
	return u.updateAccount(name, func(a *account) error { a.Password = nil; return nil })
}

func (u *Users) verifierOf(pw []byte) (*verifier, error) {
	kdf := u.opts.NewKDF(u.opts.Policy)
	derived, err := kdf.Derive(pw)
	if err != nil {
		return nil, fmt.Errorf("deriving the password: %w", err)
	}
	return &verifier{KDF: kdf, Derived: derived[:]}, nil
}

// AddKey lets a public key, a line of a .pub file, open an account.
func (u *Users) AddKey(name, line string) (Key, error) {
	k, err := ParseKey(line)
	if err != nil {
		return Key{}, err
	}
	return k, u.updateAccount(name, func(a *account) error {
		if slices.ContainsFunc(a.Keys, func(other string) bool { return sameKey(other, k.Line) }) {
			return object.Errorf(object.ErrExists, "account %s has the key %s already", name, k.Fingerprint)
		}
		if len(a.Keys) >= maxKeysOfAccount {
			return object.Errorf(object.ErrBusy, "account %s has %d keys, and no more are kept; delete one first", name, maxKeysOfAccount)
		}
		a.Keys = append(a.Keys, k.Line)
		return nil
	})
}

// RemoveKey takes a key from an account: the one of this fingerprint, or the
// only one with this comment.
func (u *Users) RemoveKey(name, which string) error {
	return u.updateAccount(name, func(a *account) error {
		var rest []string
		for _, line := range a.Keys {
			if k, err := ParseKey(line); err != nil || k.Fingerprint != which && k.Comment != which {
				rest = append(rest, line)
			}
		}
		switch len(a.Keys) - len(rest) {
		case 0:
			return object.Errorf(object.ErrObjectNotFound, "account %s has no key %.80q; give its fingerprint or comment", name, which)
		case 1:
			a.Keys = append([]string{}, rest...)
			return nil
		}
		return object.Errorf(object.ErrArgumentsBad, "account %s has more than one key with the comment %.80q; give its fingerprint", name, which)
	})
}

// Keys lists an account's keys in the order in which they were added.
func (u *Users) Keys(name string) ([]Key, error) {
	a, err := u.snapshot().named(name)
	if err != nil {
		return nil, err
	}
	list := []Key{}
	for _, line := range a.Keys {
		k, err := ParseKey(line)
		if err != nil {
			return nil, fmt.Errorf("account %s: %w", name, err)
		}
		list = append(list, k)
	}
	return list, nil
}
