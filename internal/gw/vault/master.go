package vault

import (
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"moongate/internal/durable"
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

// Change asks for another master key.
type Change struct {
	// Current is the master key as it was given. One that was made at random
	// need not be given; it is 64 hexadecimal digits in its file.
	Current []byte
	// New is the master key to come, MinMasterKey to MaxMasterKey bytes. It is
	// stretched by Argon2id, and not kept.
	New []byte
	// Lifetime is how long until the key expires, which is told and locks
	// nobody out: one hour to MaxLifetime, in whole seconds; 0 for never.
	Lifetime time.Duration
	// Reminder is how long before that the reminders begin, less than Lifetime
	// and at most MaxReminder; 0 for none.
	Reminder time.Duration
}

func (c *Change) check() error {
	switch {
	case len(c.New) < MinMasterKey || len(c.New) > MaxMasterKey:
		return fmt.Errorf("the new master key has %d bytes; expected %d to %d", len(c.New), MinMasterKey, MaxMasterKey)
	case c.Lifetime != 0 && (c.Lifetime < time.Hour || c.Lifetime > MaxLifetime):
		return fmt.Errorf("the master key's lifetime is %v; expected 1 to %.0f hours, or none", c.Lifetime, MaxLifetime.Hours())
	case c.Reminder < 0 || c.Reminder > MaxReminder:
		return fmt.Errorf("the reminder is %v before the end; expected at most %.0f hours", c.Reminder, MaxReminder.Hours())
	case c.Reminder > 0 && c.Reminder >= c.Lifetime:
		return fmt.Errorf("the reminder is %v before the end of a lifetime of %v; give a reminder that is shorter", c.Reminder, c.Lifetime)
	}
	return nil
}

// Properties are what may be shown of the master key.
type Properties struct {
	ID      string // 16 hexadecimal digits, random
	File    string // where it is
	Created time.Time
	// Generated: it was made at random, at the first start.
	Generated bool
	ExpireAt  time.Time // zero: never
	RemindAt  time.Time // zero: not
	OnHSM     bool
	AutoRenew bool
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

// Properties returns what may be shown of the master key; nothing once the
// vault is closed.
func (v *Vault) Properties() Properties {
	var p Properties
	v.withRing(func(r *ring) error {
		m := r.header.Master
		p = Properties{ID: m.ID, File: v.MasterKeyFile(), Created: m.Created, Generated: m.KDF == "", ExpireAt: m.ExpireAt, RemindAt: m.RemindAt}
		return nil
	})
	return p
}

// ChangeMaster seals the keyring under another master key. A crash at any moment
// leaves the old key in force or the new one, and everything that was sealed
// readable. The data keys stay the same: who had the old master key and the
// keyring still reads what is sealed under them, until RenewDataKeys and Reseal.
func (v *Vault) ChangeMaster(c Change) error {
	if err := c.check(); err != nil {
		return err
	}
	v.change.Lock()
	defer v.change.Unlock()
	if err := v.writable(); err != nil {
		return err
	}
	masters, err := readKeyFile(v.MasterKeyFile(), masterKind)
	if err != nil {
		return err
	}
	defer wipe(masters)
	current, err := v.current(masters, c.Current)
	if err != nil {
		return err
	}
	kdf := passphrase.New(v.costs.master)
	fresh := namedKey{newID(), kdf.Derive(c.New)}
	defer clear(fresh.key[:])
	next := v.ring.clone()
	now := v.now()
	next.header.Master = master{ID: fresh.id, Created: now, KDF: kdf.String()}
	if c.Lifetime > 0 {
		next.header.Master.ExpireAt = now.Add(c.Lifetime.Truncate(time.Second))
	}
	if c.Reminder > 0 {
		next.header.Master.RemindAt = next.header.Master.ExpireAt.Add(-c.Reminder.Truncate(time.Second))
	}
	both := []namedKey{*current, fresh}
	defer wipe(both)
	if err := v.writeMasters(both); err != nil {
		next.wipe()
		return err
	}
	if err := v.writeRing(next, &fresh.key); err != nil { // here the keys change
		return err
	}
	if err := v.keepMaster(both, fresh.id); err != nil {
		v.opts.Logger.Error("the master key is changed, but the old one is still in its file; the next start removes it", "file", v.MasterKeyFile(), "error", err)
	}
	return nil
}

// current finds the key that the keyring is sealed under, and compares what was
// given with it.
func (v *Vault) current(masters []namedKey, given []byte) (*namedKey, error) {
	m := v.ring.header.Master
	for i := range masters {
		if masters[i].id != m.ID {
			continue
		}
		if m.KDF == "" && len(given) == 0 {
			return &masters[i], nil
		}
		candidate, err := asKey(m.KDF, given)
		if err != nil {
			return nil, err
		}
		defer clear(candidate[:])
		if subtle.ConstantTimeCompare(candidate[:], masters[i].key[:]) != 1 {
			return nil, ErrCurrentKey
		}
		return &masters[i], nil
	}
	return nil, errMaster
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

// keepMaster leaves one key in the file.
func (v *Vault) keepMaster(keys []namedKey, id string) error {
	for i := range keys {
		if keys[i].id == id {
			return v.writeMasters(keys[i : i+1])
		}
	}
	return errMaster
}

// Recover writes the master key's file anew, of a vault that has lost it, from
// the key as it was given to ChangeMaster, or from the 64 digits of one that was
// made at random. It refuses one that does not open the keyring (ErrCurrentKey),
// and a vault whose master key is there.
func Recover(dir string, given []byte) error {
	lock, err := durable.NewLock(filepath.Join(dir, lockFile))
	if err != nil {
		return fmt.Errorf("locking the vault: %w", err)
	}
	return errors.Join(recoverMaster(dir, given), lock.Unlock())
}

func recoverMaster(dir string, given []byte) error {
	path := filepath.Join(dir, masterFile)
	if r, masters, err := readPairOnce(dir); err == nil {
		r.wipe()
		wipe(masters)
		return fmt.Errorf("the master key in %s opens the keyring; nothing is to be recovered", path)
	}
	ringPath := filepath.Join(dir, keyringFile)
	text, err := readOwn(ringPath, maxKeyring)
	if err != nil {
		return err
	}
	h, head, sealed, err := parseRing(text)
	if err != nil {
		return fmt.Errorf("keyring %s: %w", ringPath, err)
	}
	k, err := asKey(h.Master.KDF, given)
	if err != nil {
		return err
	}
	defer clear(k[:])
	r, err := openRingBy(h, head, sealed, &k)
	if err != nil {
		return ErrCurrentKey
	}
	r.wipe()
	out := encodeKeyFile(masterKind, []namedKey{{h.Master.ID, k}})
	defer clear(out)
	if err := durable.WriteFile(path, out, 0o600); err != nil {
		return fmt.Errorf("writing the master key: %w", err)
	}
	return nil
}
