package vault

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"moongate/internal/passphrase"
)

// Bounds of a master key that an administrator gives, in bytes, and of its
// times.
const (
	MinMasterKey = 16
	MaxMasterKey = 256
	MaxLifetime  = 730 * 24 * time.Hour
	MaxReminder  = 365 * 24 * time.Hour
)

// ErrCurrentKey: the current master key was not given, or is another one.
var ErrCurrentKey = errors.New("the current master key is wrong")

// Change asks for another master key, another place of it, or both.
type Change struct {
	// Current is the master key as it was given. One that was made at random
	// need not be given; it is 64 hexadecimal digits in its file.
	Current []byte
	// New is the master key to come, MinMasterKey to MaxMasterKey bytes. It is
	// stretched by Argon2id, and not kept. nil leaves the key as it is, where
	// OnHSM is given.
	New []byte
	// OnHSM says whether the HSM wraps the key, and nothing else has it; nil
	// leaves it where it is.
	OnHSM *bool
	// Lifetime is how long until the key expires, which is told and locks
	// nobody out: one hour to MaxLifetime, in whole seconds. 0 is for ever
	// with New, and leaves it as it is without.
	Lifetime time.Duration
	// Reminder is how long before that the reminders begin, at most Lifetime
	// and MaxReminder; 0 for none.
	Reminder time.Duration
	// AutoRenew is by how much the key's life is made longer when it ends, in
	// whole hours up to MaxLifetime; 0 for not. It needs Lifetime.
	AutoRenew time.Duration
}

func (c *Change) check() error {
	switch {
	case c.New == nil && c.OnHSM == nil:
		return errors.New("nothing is to be changed: give a new master key, or say whether it is on the HSM")
	case c.New != nil && (len(c.New) < MinMasterKey || len(c.New) > MaxMasterKey):
		return fmt.Errorf("the new master key has %d bytes; expected %d to %d", len(c.New), MinMasterKey, MaxMasterKey)
	case c.Lifetime != 0 && (c.Lifetime < time.Hour || c.Lifetime > MaxLifetime):
		return fmt.Errorf("the master key's lifetime is %v; expected 1 to %.0f hours, or none", c.Lifetime, MaxLifetime.Hours())
	case c.Reminder < 0 || c.Reminder > MaxReminder:
		return fmt.Errorf("the reminder is %v before the end; expected at most %.0f hours", c.Reminder, MaxReminder.Hours())
	case c.Reminder > c.Lifetime:
		return fmt.Errorf("the reminder is %v before the end of a lifetime of %v; give a reminder that is not longer", c.Reminder, c.Lifetime)
	case c.AutoRenew < 0 || c.AutoRenew > MaxLifetime || c.AutoRenew%time.Hour != 0:
		return fmt.Errorf("the master key renews itself for %v; expected 1 to %.0f whole hours, or not", c.AutoRenew, MaxLifetime.Hours())
	case c.AutoRenew > 0 && c.Lifetime == 0:
		return errors.New("the master key renews itself when its lifetime ends; give a lifetime")
	}
	return nil
}

// times sets how long a master key lives.
func (c *Change) times(m *master, now time.Time) {
	if c.Lifetime > 0 {
		m.ExpireAt, m.RemindAt = now.Add(c.Lifetime.Truncate(time.Second)), time.Time{}
		m.AutoRenew = int(c.AutoRenew / time.Hour)
	}
	if c.Reminder > 0 {
		m.RemindAt = m.ExpireAt.Add(-c.Reminder.Truncate(time.Second))
	}
}

// Properties are what may be shown of the master key.
type Properties struct {
	ID      string // 16 hexadecimal digits, random
	File    string // where it is; "" where the HSM wraps it
	Created time.Time
	// Generated: it was made at random, at the first start.
	Generated bool
	ExpireAt  time.Time // zero: never
	RemindAt  time.Time // zero: not
	OnHSM     bool
	// WrappingKey is the reference of the one that wraps it; "" where none
	// does. Wraps is how many do: two and more until all members of a group
	// hold the last one.
	WrappingKey string
	Wraps       int
	AutoRenew   bool
	Renewal     time.Duration // by how much its life is made longer then; 0 where it is not
}

// State of a master key at a time.
type State string

const (
	Valid    State = "valid"
	Reminded State = "reminder" // within the reminder's time
	Expired  State = "expired"
)

// State says how the key stands at a time.
func (p Properties) State(now time.Time) State {
	switch {
	case !p.ExpireAt.IsZero() && !now.Before(p.ExpireAt):
		return Expired
	case !p.RemindAt.IsZero() && !now.Before(p.RemindAt):
		return Reminded
	}
	return Valid
}

// Properties returns what may be shown of the master key, of a vault that is
// locked, too; nothing once the vault is closed.
func (v *Vault) Properties() Properties {
	var p Properties
	v.withHeader(func(h *header) { p = h.properties(v.MasterKeyFile()) })
	return p
}

func (h *header) properties(file string) Properties {
	m := h.Master
	p := Properties{
		ID: m.ID, File: file, Created: m.Created, Generated: m.KDF == "", ExpireAt: m.ExpireAt, RemindAt: m.RemindAt,
		OnHSM: h.onHSM(), Wraps: h.wraps(), AutoRenew: m.AutoRenew > 0, Renewal: time.Duration(m.AutoRenew) * time.Hour,
	}
	if p.OnHSM {
		p.File, p.WrappingKey = "", h.Wrapping[len(h.Wrapping)-1].Ref
	}
	return p
}

// PropertiesIn returns those of the vault in a directory, which is not opened:
// whoever changed its keyring may have made them up.
func PropertiesIn(dir string) (Properties, error) {
	path := filepath.Join(dir, keyringFile)
	text, err := readOwn(path, maxKeyring)
	if err != nil {
		return Properties{}, err
	}
	h, _, _, err := parseRing(text)
	if err != nil {
		return Properties{}, fmt.Errorf("keyring %s: %w", path, err)
	}
	return h.properties(filepath.Join(dir, masterFile)), nil
}

// ChangeMaster seals the keyring under another master key, or has another place
// for the one that it is. A crash at any moment leaves the old state in force or
// the new one, and everything that was sealed readable. The data keys stay the
// same: who had the old master key and the keyring still reads what is sealed
// under them, until RenewDataKeys and Reseal.
func (v *Vault) ChangeMaster(ctx context.Context, c Change) error {
	if err := c.check(); err != nil {
		return err
	}
	v.change.Lock()
	defer v.change.Unlock()
	if err := v.writable(); err != nil {
		return err
	}
	before := v.ring // change is held: nobody replaces it
	old, err := v.masterNow(before)
	if err != nil {
		return err
	}
	defer clear(old.key[:])
	if err := proveCurrent(before.header.Master, &old.key, c.Current); err != nil {
		return err
	}
	next := before.clone()
	fresh := *old
	if c.New != nil {
		kdf := passphrase.New(v.costs.master)
		fresh = namedKey{newID(), kdf.Derive(c.New)}
		next.header.Master = master{ID: fresh.id, Created: v.now(), KDF: kdf.String()}
	}
	defer clear(fresh.key[:])
	c.times(&next.header.Master, v.now())
	if err := v.place(ctx, &next.header, c, &fresh.key); err != nil {
		next.wipe()
		return err
	}
	return v.moveTo(next, old, &fresh)
}

// place puts the master key where a change says, in a header alone.
func (v *Vault) place(ctx context.Context, h *header, c Change, m *key) error {
	on := h.onHSM()
	if c.OnHSM != nil {
		on = *c.OnHSM
	}
	if !on {
		h.unwrapped()
		return nil
	}
	return v.wrapInto(ctx, h, m) // also where it is there already: its wrapping key may be gone
}

// moveTo makes next the keyring and fresh the master key, in three steps of
// which the second one is the change: what the new keyring needs is on the disk
// before it, and what only the old one needs goes behind it.
func (v *Vault) moveTo(next *ring, old, fresh *namedKey) error {
	wasOn, isOn := v.ring.header.onHSM(), next.header.onHSM()
	both := append(make([]namedKey, 0, 2), *old)
	if old.id != fresh.id {
		both = append(both, *fresh)
	}
	defer wipe(both)
	needed := both // in the file, for either keyring
	if wasOn {
		needed = []namedKey{*fresh}
		defer wipe(needed)
	}
	if !isOn && (wasOn || len(both) > 1) {
		if err := v.writeMasters(needed); err != nil {
			next.wipe()
			return err
		}
	}
	if err := v.writeRing(next, old, fresh); err != nil { // here the keys change
		if v.ring.header.onHSM() {
			err = errors.Join(err, v.removeMasters())
		}
		return err
	}
	var err error
	switch {
	case isOn && !wasOn:
		err = v.removeMasters()
	case !isOn && len(needed) > 1:
		err = v.keepMaster(both, fresh.id)
	}
	if err != nil {
		v.opts.Logger.Error("the master key is changed, but the old one is still in its file; the next start removes it", "file", v.MasterKeyFile(), "error", err)
	}
	return nil
}

// masterNow returns the master key that a ring is sealed under, which the caller
// clears. change is held.
func (v *Vault) masterNow(r *ring) (*namedKey, error) {
	id := r.header.Master.ID
	if r.master != nil {
		return &namedKey{id, *r.master}, nil
	}
	masters, err := readKeyFile(v.MasterKeyFile(), masterKind)
	if err != nil {
		return nil, err
	}
	defer wipe(masters)
	for _, m := range masters {
		if m.id == id {
			return &m, nil
		}
	}
	return nil, errMaster
}

// proveCurrent compares what was given as the current master key with it.
func proveCurrent(m master, current *key, given []byte) error {
	if m.KDF == "" && len(given) == 0 {
		return nil
	}
	candidate, err := asKey(m.KDF, given)
	if err != nil {
		return err
	}
	defer clear(candidate[:])
	if subtle.ConstantTimeCompare(candidate[:], current[:]) != 1 {
		return ErrCurrentKey
	}
	return nil
}

// asKey makes the key of a master key as it was given, or as it is in its file.
func asKey(kdf string, given []byte) (key, error) {
	if kdf != "" {
		k, err := passphrase.Parse(kdf)
		if err != nil {
			return key{}, err
		}
		return k.Derive(given), nil
	}
	var k key
	if len(given) != 2*len(k) {
		return key{}, ErrCurrentKey
	}
	if _, err := hex.Decode(k[:], given); err != nil {
		return key{}, ErrCurrentKey
	}
	return k, nil
}

func (v *Vault) writeMasters(keys []namedKey) error {
	text := encodeKeyFile(masterKind, keys)
	defer clear(text)
	if err := replaceOwn(v.MasterKeyFile(), text); err != nil {
		return fmt.Errorf("writing the master key: %w", err)
	}
	return nil
}

// removeMasters removes the file, and what was in it as replaceOwn does.
func (v *Vault) removeMasters() error {
	if err := removeOwn(v.MasterKeyFile()); err != nil {
		return fmt.Errorf("removing the master key's file: %w", err)
	}
	return nil
}

// keepMaster leaves one key in the file.
func (v *Vault) keepMaster(keys []namedKey, id string) error {
	for i := range keys {
		if keys[i].id == id {
			return v.writeMasters(keys[i : i+1])
		}
	}
	return errMaster
}

// ExtendMaster makes the master key's life longer that has ended, where it
// renews itself: by whole steps, until it ends in the future. It returns when,
// and false where there is nothing to do.
func (v *Vault) ExtendMaster() (until time.Time, done bool, err error) {
	now := v.now()
	p := v.Properties()
	if !p.AutoRenew || p.State(now) != Expired {
		return time.Time{}, false, nil
	}
	err = v.changeRing(func(r *ring) error {
		m := &r.header.Master
		step := time.Duration(m.AutoRenew) * time.Hour
		by := (now.Sub(m.ExpireAt)/step + 1) * step
		if !m.RemindAt.IsZero() {
			m.RemindAt = m.RemindAt.Add(by)
		}
		m.ExpireAt = m.ExpireAt.Add(by)
		until = m.ExpireAt
		return nil
	})
	return until, err == nil, err
}
