package vault

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Bounds of what a keyring says of wrapping keys: how many it remembers, and
// how many of them may wrap the master key at a time.
const (
	maxWrappingKeys = 16
	maxWraps        = 4
)

// wrappingKey is a key on the HSM that was made for this vault.
type wrappingKey struct {
	Ref     string    `json:"ref"`
	Made    time.Time `json:"made"`
	Retired time.Time `json:"retired,omitzero"` // when another took its place
	// Wrapped is the master key under it; nil where it wraps nothing.
	Wrapped []byte `json:"wrapped,omitempty"`
}

func checkWrapping(list []wrappingKey) error {
	if len(list) > maxWrappingKeys {
		return fmt.Errorf("it has %d wrapping keys, expected at most %d; restore it from a backup", len(list), maxWrappingKeys)
	}
	wraps := 0
	for i, k := range list {
		if !isRef(k.Ref) || slices.ContainsFunc(list[:i], func(o wrappingKey) bool { return o.Ref == k.Ref }) {
			return fmt.Errorf("wrapping key %d has a reference that is not 1 to %d of [A-Za-z0-9._:-], or is there twice; restore it from a backup", i+1, MaxWrappingRef)
		}
		if len(k.Wrapped) > MaxWrapped {
			return fmt.Errorf("wrapping key %d wraps %d bytes, expected at most %d; restore it from a backup", i+1, len(k.Wrapped), MaxWrapped)
		}
		if k.Wrapped != nil {
			wraps++
		}
	}
	if wraps > maxWraps || wraps > 0 && list[len(list)-1].Wrapped == nil {
		return fmt.Errorf("%d wrapping keys wrap the master key, expected at most %d, the last one among them; restore it from a backup", wraps, maxWraps)
	}
	return nil
}

func isRef(s string) bool {
	const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-"
	return s != "" && len(s) <= MaxWrappingRef && strings.Trim(s, allowed) == ""
}

// onHSM says whether the master key is wrapped by the HSM, and in no file.
func (h *header) onHSM() bool {
	last := len(h.Wrapping) - 1
	return last >= 0 && h.Wrapping[last].Wrapped != nil
}

func (h *header) wraps() int {
	n := 0
	for _, k := range h.Wrapping {
		if k.Wrapped != nil {
			n++
		}
	}
	return n
}

// unwrapped takes the master key off the HSM.
func (h *header) unwrapped() {
	for i := range h.Wrapping {
		h.Wrapping[i].Wrapped = nil
	}
}

// next makes a key the one that wraps from now on. Where too many are
// remembered, the oldest one that wraps nothing is forgotten here; it stays on
// the HSM.
func (h *header) next(k wrappingKey) {
	if last := len(h.Wrapping) - 1; last >= 0 && h.Wrapping[last].Retired.IsZero() {
		h.Wrapping[last].Retired = k.Made
	}
	if len(h.Wrapping) == maxWrappingKeys {
		i := slices.IndexFunc(h.Wrapping, func(o wrappingKey) bool { return o.Wrapped == nil })
		h.Wrapping = slices.Delete(h.Wrapping, i, i+1) // at most maxWraps wrap
	}
	h.Wrapping = append(h.Wrapping, k)
}

// errNoWrapper: the process that opened the vault gave it no way to an HSM.
var errNoWrapper = errors.New("no HSM is configured that wraps keys")

func (v *Vault) wrapper() (Wrapper, error) {
	if v.opts.Wrapper == nil {
		return nil, errNoWrapper
	}
	return v.opts.Wrapper, nil
}

// newWrappingKey makes a wrapping key on the HSM.
func (v *Vault) newWrappingKey(ctx context.Context, h *header) (wrappingKey, error) {
	w, err := v.wrapper()
	if err != nil {
		return wrappingKey{}, err
	}
	ref, err := w.NewKey(ctx)
	if err != nil {
		return wrappingKey{}, fmt.Errorf("making a wrapping key on the HSM: %w", err)
	}
	if !isRef(ref) || slices.ContainsFunc(h.Wrapping, func(o wrappingKey) bool { return o.Ref == ref }) {
		return wrappingKey{}, fmt.Errorf("making a wrapping key on the HSM: it is called %.64q, which is taken already, or no name of a key", ref)
	}
	return wrappingKey{Ref: ref, Made: v.now()}, nil
}

// wrap wraps a master key, and sees that it can be unwrapped again before
// anything rests on it.
func (v *Vault) wrap(ctx context.Context, ref string, m *key) ([]byte, error) {
	w, err := v.wrapper()
	if err != nil {
		return nil, err
	}
	wrapped, err := w.Wrap(ctx, ref, m[:])
	if err != nil {
		return nil, fmt.Errorf("wrapping the master key by %s: %w", ref, err)
	}
	if len(wrapped) == 0 || len(wrapped) > MaxWrapped {
		return nil, fmt.Errorf("wrapping the master key by %s: the HSM returned %d bytes, expected 1 to %d", ref, len(wrapped), MaxWrapped)
	}
	plain, err := w.Unwrap(ctx, ref, wrapped)
	if err != nil {
		return nil, fmt.Errorf("trying whether the HSM unwraps the master key again: %w", err)
	}
	defer clear(plain)
	if subtle.ConstantTimeCompare(plain, m[:]) != 1 {
		return nil, fmt.Errorf("trying whether the HSM unwraps the master key again: %s made another key of it", ref)
	}
	return wrapped, nil
}

// wrapInto wraps a master key by all keys that wrap the one before, or else by
// the last one, which is made where there is none. Those that are gone from the
// HSM are given up, and the last one is replaced then.
func (v *Vault) wrapInto(ctx context.Context, h *header, m *key) error {
	if len(h.Wrapping) == 0 {
		k, err := v.newWrappingKey(ctx, h)
		if err != nil {
			return err
		}
		h.next(k)
	}
	last := len(h.Wrapping) - 1
	for i := range h.Wrapping {
		k := &h.Wrapping[i]
		if k.Wrapped == nil && i != last {
			continue
		}
		wrapped, err := v.wrap(ctx, k.Ref, m)
		if errors.Is(err, ErrNoWrappingKey) {
			k.Wrapped = nil
			v.opts.Logger.Warn("a wrapping key is gone from the HSM", "key", k.Ref)
			continue
		}
		if err != nil {
			return err
		}
		k.Wrapped = wrapped
	}
	if h.Wrapping[last].Wrapped != nil {
		return nil
	}
	return v.wrapByNew(ctx, h, m)
}

// wrapByNew makes a wrapping key and wraps a master key by it, too.
func (v *Vault) wrapByNew(ctx context.Context, h *header, m *key) error {
	k, err := v.newWrappingKey(ctx, h)
	if err != nil {
		return err
	}
	if k.Wrapped, err = v.wrap(ctx, k.Ref, m); err != nil {
		return err
	}
	h.next(k)
	return nil
}

// RotateWrapping makes a new wrapping key on the HSM. Where the master key is
// there, it is wrapped by the new key, and stays wrapped by the old one, too,
// until SettleWrapping finds that every member of the group holds the new one.
// Where it is not, the new key is for later. The old key stays on the HSM.
func (v *Vault) RotateWrapping(ctx context.Context) (ref string, err error) {
	v.change.Lock()
	defer v.change.Unlock()
	if err := v.writable(); err != nil {
		return "", err
	}
	if _, err := v.settle(ctx); err != nil {
		v.opts.Logger.Warn("whether older wraps of the master key are needed is not known", "error", err)
	}
	return v.rotate(ctx)
}

// rotate is RotateWrapping; change is held, and the vault is writable.
func (v *Vault) rotate(ctx context.Context) (string, error) {
	if n := v.ring.header.wraps(); n >= maxWraps {
		return "", fmt.Errorf("the master key is wrapped by %d wrapping keys already, since not every member of the group holds the last one: run `request hsm ha synchronize`, then rotate again", n)
	}
	next := v.ring.clone()
	m, err := v.masterNow(next)
	if err != nil {
		next.wipe()
		return "", err
	}
	defer clear(m.key[:])
	if next.header.onHSM() {
		err = v.wrapByNew(ctx, &next.header, &m.key)
	} else {
		var k wrappingKey
		if k, err = v.newWrappingKey(ctx, &next.header); err == nil {
			next.header.next(k)
		}
	}
	if err != nil {
		next.wipe()
		return "", err
	}
	ref := next.header.Wrapping[len(next.header.Wrapping)-1].Ref
	return ref, v.writeRing(next, m)
}

// SettleWrapping drops the wraps by older wrapping keys once every member of the
// group holds the last one. It returns the names of the members that do not, or
// cannot be asked; none where nothing is left to settle.
func (v *Vault) SettleWrapping(ctx context.Context) (missing []string, err error) {
	v.change.Lock()
	defer v.change.Unlock()
	if err := v.writable(); err != nil {
		return nil, err
	}
	return v.settle(ctx)
}

func (v *Vault) settle(ctx context.Context) ([]string, error) {
	if v.ring.header.wraps() < 2 {
		return nil, nil
	}
	w, err := v.wrapper()
	if err != nil {
		return nil, err
	}
	list, err := w.Keys(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking the HSM for its wrapping keys: %w", err)
	}
	last := v.ring.header.Wrapping[len(v.ring.header.Wrapping)-1]
	i := slices.IndexFunc(list, func(k WrappingKey) bool { return k.Ref == last.Ref })
	if i < 0 {
		return nil, fmt.Errorf("wrapping key %s: %w", last.Ref, ErrNoWrappingKey)
	}
	if len(list[i].Missing) > 0 {
		return list[i].Missing, nil
	}
	next := v.ring.clone()
	m, err := v.masterNow(next)
	if err != nil {
		next.wipe()
		return nil, err
	}
	defer clear(m.key[:])
	for i := range next.header.Wrapping[:len(next.header.Wrapping)-1] {
		next.header.Wrapping[i].Wrapped = nil
	}
	return nil, v.writeRing(next, m)
}

// OwnWrappingKey is a wrapping key that was made for this vault.
type OwnWrappingKey struct {
	Ref     string
	Made    time.Time
	Retired time.Time // zero: it is the last one
	Wraps   bool      // the master key is wrapped by it
}

// WrappingKeys lists the wrapping keys that were made for this vault, oldest
// first: the HSM need not be asked.
func (v *Vault) WrappingKeys() []OwnWrappingKey {
	var list []OwnWrappingKey
	v.withHeader(func(h *header) {
		for _, k := range h.Wrapping {
			list = append(list, OwnWrappingKey{k.Ref, k.Made, k.Retired, k.Wrapped != nil})
		}
	})
	return list
}
