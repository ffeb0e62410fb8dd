package partition

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// activate counts one more login. The first one reads every object's
// attributes into memory, where activation did not keep them; secrets stay
// sealed in the store until they are used. The partition owns key from then on.
func (p *partition) activate(h *HSM, key *store.PartitionKey) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.deleted.Load() {
		clear(key[:])
		return object.Errorf(object.ErrObjectNotFound, "partition %s was deleted", p.label)
	}
	if p.key != nil && sameKey(p.key, key) {
		p.logins++
		clear(key[:])
		return nil
	}
	if p.logins > 0 {
		clear(key[:])
		return fmt.Errorf("partition %s is unlocked with another key than the one this password opens", p.label)
	}
	p.lock()
	p.unlock(key)
	if err := p.read(h); err != nil {
		p.lock()
		return fmt.Errorf("reading the objects of partition %s: %w", p.label, err)
	}
	p.logins, p.uses.hurry = 1, h.keeper.hurry
	return nil
}

// read needs mu and an unlocked partition without objects.
func (p *partition) read(h *HSM) error {
	var entries []*entry
	err := h.store.View(func(tx *store.Tx) error {
		if err := p.uses.load(tx, p.id); err != nil {
			return err
		}
		for o, err := range tx.Objects(p.id, p.key) {
			if err != nil {
				return err
			}
			entries = append(entries, newEntry(o, &p.uses))
		}
		return nil
	})
	if err != nil {
		return err
	}
	// Each is then added at the end.
	slices.SortFunc(entries, func(a, b *entry) int { return cmp.Compare(a.handle, b.handle) })
	p.order = make([]place, 0, len(entries))
	for _, e := range entries {
		p.insert(e)
	}
	p.uses.retain(p.objects)
	return nil
}

// deactivate counts one login less, or all of them where the partition is
// gone: deleted, zeroized, or made anew with another key, which makes another
// partition of it (sessions on this one are good for nothing any more). The
// last one wipes the partition's key and its objects, unless policy keeps the
// partition unlocked.
func (p *partition) deactivate(deleted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case deleted:
		p.deleted.Store(true)
		p.logins = 0
		p.lock()
	case p.logins > 0:
		p.logins--
		if p.logins > 0 {
			return
		}
		p.uses.hurry()
		if p.dismissed || !p.allows(object.PolicyActivation) {
			p.lock()
		}
	}
}

// dismiss ends what activation keeps: at once where nobody is logged in, which
// it reports, or else with the last logout. The next login begins anew.
func (p *partition) dismiss() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.logins > 0 {
		p.dismissed = true
		return false
	}
	p.lock()
	return true
}

// lock needs mu.
func (p *partition) lock() {
	p.wipe()
	p.dismissed = false
}

// active reports whether the partition is unlocked: somebody is logged in, or
// was, and activation keeps it so.
func (p *partition) active() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.key != nil
}

// parsed returns an entry's key. The first use reads and parses it; a failure
// is not kept, so that a later use tries again.
func (p *partition) parsed(h *HSM, e *entry) (*mech.Key, error) {
	if key := e.key.Load(); key != nil {
		return key, nil
	}
	e.parsing.Lock()
	defer e.parsing.Unlock()
	if key := e.key.Load(); key != nil {
		return key, nil
	}
	var key *mech.Key
	var err error
	if e.class == object.ClassPublicKey {
		key, err = h.policy.ParsePublic(e.attrs)
	} else {
		key, err = p.open(h, e.id)
	}
	if err != nil {
		return nil, err
	}
	e.key.Store(key)
	return key, nil
}

// open reads and parses an object's secret.
func (p *partition) open(h *HSM, id object.ID) (*mech.Key, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.key == nil {
		return nil, object.Errorf(object.ErrNotLoggedIn, "nobody is logged in to partition %s", p.label)
	}
	var o *object.Object
	err := h.store.View(func(tx *store.Tx) error {
		var err error
		o, err = tx.Object(p.id, p.key, id)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, object.Errorf(object.ErrObjectNotFound, "key %v of partition %s was destroyed", id, p.label)
	} else if err != nil {
		return nil, fmt.Errorf("reading key %v: %w", id, err)
	}
	defer clear(o.Secret)
	key, err := h.policy.ParseKey(o.Attributes, o.Secret)
	if err != nil {
		return nil, fmt.Errorf("parsing key %v: %w", id, err)
	}
	return key, nil
}

// lookup returns an object's memory.
func (p *partition) lookup(id object.ID) (*entry, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if e := p.objects[id]; e != nil {
		return e, nil
	}
	return nil, object.Errorf(object.ErrObjectNotFound, "partition %s has no object %v", p.label, id)
}
