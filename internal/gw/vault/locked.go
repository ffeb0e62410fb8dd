package vault

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
)

// ErrLocked: the master key is on the HSM, which has not given it yet. The
// error that matches it is a *LockedError, which says why.
var ErrLocked = errors.New("the vault is locked")

// LockedError says why a vault is locked.
type LockedError struct {
	Cause error
	Since time.Time
}

func (e *LockedError) Error() string {
	return "the master key is on the HSM and is not unlocked yet: " + e.Cause.Error()
}

// Unwrap lets errors.Is match ErrLocked and the cause.
func (e *LockedError) Unwrap() []error { return []error{ErrLocked, e.Cause} }

// errNotAsked is the cause before the first Unlock.
var errNotAsked = errors.New("the HSM was not asked for it yet")

// locked is a keyring that waits for its master key. Only its cause is changed
// once it is made.
type locked struct {
	header       header
	head, sealed []byte // as of parseRing
	since        time.Time
	cause        error // guarded by Vault.mu
}

// text is the keyring as it is on the disk.
func (l *locked) text() []byte {
	text := append(bytes.Clone(l.head), keysField...)
	return append(base64.StdEncoding.AppendEncode(text, l.sealed), '\n')
}

// Locked says why the vault is locked; nil where it is not.
func (v *Vault) Locked() error {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.locked == nil {
		return nil
	}
	return &LockedError{v.locked.cause, v.locked.since}
}

// StillLocked says why Unlock would fail, so that Locked tells it; it does
// nothing to a vault that is not locked.
func (v *Vault) StillLocked(cause error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.locked != nil {
		v.locked.cause = cause
	}
}

// Unlock asks the HSM for the master key where the vault is locked. From then on
// the keys stay in memory, and the HSM is not needed to seal and to open. The
// error is a *LockedError.
func (v *Vault) Unlock(ctx context.Context) error {
	v.unlocking.Lock()
	defer v.unlocking.Unlock()
	v.mu.RLock()
	l, closed := v.locked, v.locked == nil && v.ring == nil
	v.mu.RUnlock()
	switch {
	case closed:
		return ErrClosed
	case l == nil:
		return nil
	}
	r, err := v.unwrap(ctx, l)
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.locked != l: // closed meanwhile, or the master key was entered
		if r != nil {
			r.wipe()
		}
		if v.ring == nil {
			return ErrClosed
		}
		return nil
	case err != nil:
		l.cause = err
		return &LockedError{err, l.since}
	}
	v.ring, v.locked = r, nil
	return nil
}

// unwrap opens a keyring by the first of its wraps that the HSM unwraps, newest
// first.
func (v *Vault) unwrap(ctx context.Context, l *locked) (*ring, error) {
	w, err := v.wrapper()
	if err != nil {
		return nil, err
	}
	var problems []error
	lost := true
	for i := len(l.header.Wrapping) - 1; i >= 0; i-- {
		k := l.header.Wrapping[i]
		if k.Wrapped == nil {
			continue
		}
		r, err := openWrapped(ctx, w, l, k)
		if err == nil {
			return r, nil
		}
		lost = lost && errors.Is(err, ErrNoWrappingKey)
		problems = append(problems, fmt.Errorf("unwrapping it by %s: %w", k.Ref, err))
	}
	err = errors.Join(problems...)
	if lost {
		err = fmt.Errorf("%w; bring the key back (`request hsm ha synchronize` from a member that holds it, or the partition's backup), or enter the master key again: `request master-key recover`", err)
	}
	return nil, err
}

func openWrapped(ctx context.Context, w Wrapper, l *locked, k wrappingKey) (*ring, error) {
	plain, err := w.Unwrap(ctx, k.Ref, k.Wrapped)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	var m key
	if len(plain) != len(m) {
		return nil, fmt.Errorf("the HSM returned %d bytes, expected %d", len(plain), len(m))
	}
	copy(m[:], plain)
	defer clear(m[:])
	r, err := openRingBy(l.header, l.head, l.sealed, &m)
	if err != nil {
		return nil, errors.New("what the HSM returned does not open the keyring, or the keyring was changed; put back the keyring that belongs to it, or enter the master key again: `request master-key recover`")
	}
	return r, nil
}
