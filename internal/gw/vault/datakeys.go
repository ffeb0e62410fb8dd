package vault

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"moongate/internal/durable"
)

// DataKey is what may be shown of a key that secrets are sealed under.
type DataKey struct {
	ID      string // 16 hexadecimal digits
	Created time.Time
	Active  bool // seals what is sealed now; the others only open
}

// DataKeys lists the data keys, the active one last.
func (v *Vault) DataKeys() []DataKey {
	var list []DataKey
	v.withHeader(func(h *header) { // closed: none
		for i, k := range h.Keys {
			list = append(list, DataKey{k.ID, k.Created, i == len(h.Keys)-1})
		}
	})
	return list
}

// KeyOf returns the id of the data key that a text is sealed under
// (ErrNotSealed).
func KeyOf(sealed string) (string, error) {
	s, err := parseSealed(sealed)
	if err != nil {
		return "", err
	}
	return s.keyID, nil
}

// RenewDataKeys makes a data key that seals from here on; the others still
// open. A keyring holds 64: then the ones that nothing needs must go first, by
// PruneDataKeys.
func (v *Vault) RenewDataKeys() (DataKey, error) {
	fresh := dataKey{newID(), v.now()}
	err := v.changeRing(func(r *ring) error {
		if len(r.keys) >= maxDataKeys {
			return fmt.Errorf("the keyring holds %d data keys, and no more fit; seal the secrets of old versions anew, or remove those versions, and prune the keyring", maxDataKeys)
		}
		r.header.Keys = append(r.header.Keys, fresh)
		r.keys = append(r.keys, newKey())
		return nil
	})
	return DataKey{fresh.ID, fresh.Created, true}, err
}

// PruneDataKeys destroys the data keys that are neither active nor in use, and
// returns how many: whatever they sealed can never be opened again, in backups
// of the configuration neither. The caller must know every text that is kept.
func (v *Vault) PruneDataKeys(inUse map[string]bool) (int, error) {
	pruned := 0
	err := v.changeRing(func(r *ring) error {
		last := len(r.keys) - 1
		for i := last - 1; i >= 0; i-- {
			if inUse[r.header.Keys[i].ID] {
				continue
			}
			clear(r.keys[i][:])
			r.keys = slices.Delete(r.keys, i, i+1)
			r.header.Keys = slices.Delete(r.header.Keys, i, i+1)
			pruned++
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return pruned, nil
}

// Reseal seals a secret anew under the active data key, and keeps its id. It
// returns the text as it is, and false, where that is its key already.
func (v *Vault) Reseal(kind, sealed string) (string, bool, error) {
	s, err := parseSealed(sealed)
	if err != nil {
		return "", false, err
	}
	plain, err := v.Open(kind, sealed)
	if err != nil {
		return "", false, err
	}
	defer clear(plain)
	current := false
	err = v.withRing(func(r *ring) error {
		active, _ := r.active()
		current = active == s.keyID
		return nil
	})
	if err != nil || current {
		return sealed, false, err
	}
	text, err := v.sealAs(kind, s.id(), plain)
	return text, err == nil, err
}

func (v *Vault) now() time.Time { return v.opts.Now().UTC().Truncate(time.Second) }

// changeRing replaces the keyring by what change makes of a copy, under the same
// master key, on disk first.
func (v *Vault) changeRing(change func(*ring) error) error {
	v.change.Lock()
	defer v.change.Unlock()
	if err := v.writable(); err != nil {
		return err
	}
	next := v.ring.clone() // change is held: nobody replaces it
	if err := change(next); err != nil {
		next.wipe()
		return err
	}
	m, err := v.masterNow(next)
	if err != nil {
		next.wipe()
		return err
	}
	defer clear(m.key[:])
	return v.writeRing(next, m)
}

// writeRing makes next the keyring, on disk first, sealed under the last one of
// the master keys. Where the disk says that it failed, what is in force is what
// can be read back by one of them: the replacement may have been made, and not
// be sure to survive a crash.
func (v *Vault) writeRing(next *ring, masters ...*namedKey) error {
	m := &masters[len(masters)-1].key
	next.keep(m)
	text, err := next.encode(m)
	if err != nil {
		return err
	}
	path := filepath.Join(v.dir, keyringFile)
	err = durable.WriteFile(path, text, 0o600)
	if err == nil {
		v.replaceRing(next)
		return nil
	}
	err = fmt.Errorf("writing the keyring: %w", err)
	next.wipe()
	if text, readErr := readOwn(path, maxKeyring); readErr == nil {
		for _, m := range masters {
			if r, openErr := openRing(text, []namedKey{*m}); openErr == nil {
				v.replaceRing(r)
				break
			}
		}
	}
	return err
}
