package vault

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"moongate/internal/durable"
)

// Recovered says what came of a master key that was entered again.
type Recovered struct {
	// Unlocked: the vault was locked, and is no more.
	Unlocked bool
	// WrappingKey is a new one that the master key is wrapped by now; "" where
	// the HSM holds the one before, or could not be asked (Cause).
	WrappingKey string
	Cause       error
}

// Recover takes the master key as an administrator enters it again: as it was
// given to ChangeMaster, or the 64 digits of one that was made at random. It is
// refused where it does not open the keyring (ErrCurrentKey). A vault that is
// locked opens; one whose wrapping key the HSM does not hold any more gets a new
// one. Where the HSM is away, the vault is open until it is closed.
func (v *Vault) Recover(ctx context.Context, given []byte) (Recovered, error) {
	v.change.Lock()
	defer v.change.Unlock()
	var done Recovered
	var err error
	if done.Unlocked, err = v.enter(given); err != nil {
		return done, err
	}
	if v.opts.ReadOnly {
		return done, nil
	}
	if done.WrappingKey, done.Cause = v.replaceLost(ctx); done.Cause != nil && !done.Unlocked {
		return done, done.Cause
	}
	return done, nil
}

// enter opens the vault by a master key that was given, or sees that it is the
// one of the vault that is open.
func (v *Vault) enter(given []byte) (unlocked bool, err error) {
	v.mu.RLock()
	l, r := v.locked, v.ring
	v.mu.RUnlock()
	if l == nil && r == nil {
		return false, ErrClosed
	}
	if l == nil {
		if !r.header.onHSM() {
			return false, errors.New("the master key is not on the HSM, and opens the keyring; nothing is to be recovered")
		}
		return false, proveCurrent(r.header.Master, r.master, given)
	}
	k, err := asKey(l.header.Master.KDF, given)
	if err != nil {
		return false, err
	}
	defer clear(k[:])
	opened, err := openRingBy(l.header, l.head, l.sealed, &k)
	if err != nil {
		return false, ErrCurrentKey
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.locked != l { // the HSM was quicker
		opened.wipe()
		return false, nil
	}
	v.ring, v.locked = opened, nil
	return true, nil
}

// replaceLost wraps the master key by a new wrapping key where the HSM does not
// unwrap it by the last one. It returns the new one's reference.
func (v *Vault) replaceLost(ctx context.Context) (string, error) {
	w, err := v.wrapper()
	if err != nil {
		return "", err
	}
	last := v.ring.header.Wrapping[len(v.ring.header.Wrapping)-1]
	plain, err := w.Unwrap(ctx, last.Ref, last.Wrapped)
	clear(plain)
	if err == nil {
		return "", nil
	}
	ref, failed := v.rotate(ctx)
	if failed != nil {
		return "", fmt.Errorf("the HSM does not unwrap the master key (%w), and no new wrapping key takes the place of %s: %w", err, last.Ref, failed)
	}
	return ref, nil
}

// Recover writes the master key's file anew, of a vault that has lost it, from
// the key as it was given to ChangeMaster, or from the 64 digits of one that was
// made at random. A master key that was on the HSM is in the file from then on.
// It refuses one that does not open the keyring (ErrCurrentKey), and a vault
// whose master key is there.
func Recover(dir string, given []byte) error {
	lock, err := durable.NewLock(filepath.Join(dir, lockFile))
	if err != nil {
		return fmt.Errorf("locking the vault: %w", err)
	}
	return errors.Join(recoverMaster(dir, given), lock.Unlock())
}

func recoverMaster(dir string, given []byte) error {
	path, ringPath := filepath.Join(dir, masterFile), filepath.Join(dir, keyringFile)
	if o, err := readPairOnce(dir); err == nil && o.ring != nil {
		o.wipe()
		return fmt.Errorf("the master key in %s opens the keyring; nothing is to be recovered", path)
	}
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
	defer r.wipe()
	out := encodeKeyFile(masterKind, []namedKey{{h.Master.ID, k}})
	defer clear(out)
	if err := durable.WriteFile(path, out, 0o600); err != nil {
		return fmt.Errorf("writing the master key: %w", err)
	}
	if !h.onHSM() {
		return nil
	}
	r.header.unwrapped()
	if text, err = r.encode(&k); err != nil {
		return err
	}
	if err := durable.WriteFile(ringPath, text, 0o600); err != nil {
		return fmt.Errorf("writing the keyring: %w", err)
	}
	return nil
}
