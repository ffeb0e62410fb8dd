package partition

import (
	"cmp"
	"fmt"
	"slices"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// activate counts one more login. The first one reads every object's
// attributes into memory; secrets stay sealed in the store until they are used.
func (p *partition) activate(h *HSM, key *store.PartitionKey) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.deleted {
		return object.Errorf(object.ErrObjectNotFound, "partition %s was deleted", p.label)
	}
	if p.logins > 0 {
		p.logins++
		clear(key[:])
		return nil
	}
	p.key, p.objects, p.order = key, map[object.ID]*entry{}, nil
	err := h.store.View(func(tx *store.Tx) error {
		for o, err := range tx.Objects(p.id, key) {
			if err != nil {
				return err
			}
			p.insert(newEntry(o))
		}
		return nil
	})
	if err != nil {
		p.forget()
		return fmt.Errorf("reading the objects of partition %s: %w", p.label, err)
	}
	p.logins = 1
	return nil
}

// deactivate counts one login less, or all of them where the partition is
// gone. The last one wipes the partition's key and forgets its objects.
func (p *partition) deactivate(deleted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if deleted {
		p.deleted = true
		p.logins = 0
	} else if p.logins > 0 {
		p.logins--
	}
	if p.logins == 0 {
		p.forget()
	}
}

// forget needs mu. Parsed keys become garbage: Go gives no means to wipe them.
func (p *partition) forget() {
	if p.key != nil {
		clear(p.key[:])
	}
	p.key, p.objects, p.order = nil, nil, nil
}

func (p *partition) active() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.logins > 0
}

// insert needs mu. It replaces an entry that is there: a partition that fell
// asleep and woke up between a change's commit and its showing has read the
// object already.
func (p *partition) insert(e *entry) {
	p.remove(e.id)
	p.objects[e.id] = e
	at, _ := slices.BinarySearchFunc(p.order, e.handle, func(e *entry, handle uint64) int {
		return cmp.Compare(e.handle, handle)
	})
	p.order = slices.Insert(p.order, at, e)
}

// remove needs mu.
func (p *partition) remove(id object.ID) {
	e := p.objects[id]
	if e == nil {
		return
	}
	delete(p.objects, id)
	p.order = slices.DeleteFunc(p.order, func(other *entry) bool { return other == e })
}

// newEntry makes the memory of an object.
func newEntry(o *object.Object) *entry {
	return &entry{id: o.ID, handle: o.Handle, attrs: o.Attributes.With(object.Number(object.AttrHandle, o.Handle))}
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
	key, err := p.open(h, e.id)
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
	if err != nil {
		return nil, fmt.Errorf("reading key %v: %w", id, err)
	}
	defer clear(o.Secret)
	key, err := h.policy.ParseKey(o.Attributes, o.Secret)
	if err != nil {
		return nil, fmt.Errorf("parsing key %v: %w", id, err)
	}
	return key, nil
}

// lookup returns an object's attributes and the way to its key.
func (p *partition) lookup(id object.ID) (*entry, object.Template, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if e := p.objects[id]; e != nil {
		return e, e.attrs, nil
	}
	return nil, nil, object.Errorf(object.ErrObjectNotFound, "partition %s has no object %v", p.label, id)
}
