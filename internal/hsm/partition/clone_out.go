package partition

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"moongate/internal/audit"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/replica"
	"moongate/internal/hsm/store"
)

// CloneOut answers another HSM's offer with a package of objects, and of
// tombstones of destroyed ones, which that HSM's partition alone can open. It
// holds as many of them as fit, by ascending ID, and says which. IDs of nothing
// are left out; ErrObjectNotFound where all are.
func (s *Session) CloneOut(ctx context.Context, op object.OperationID, raw []byte, ids []object.ID) ([]byte, []object.ID, error) {
	event := s.event(actCloneOut, op)
	if err := permit(s.as(), actCloneOut, nil); err != nil {
		return nil, nil, s.refuse(event, err)
	}
	if len(ids) < 1 || len(ids) > object.MaxClone {
		return nil, nil, object.Errorf(object.ErrArgumentsBad, "%d objects to clone; expected 1 to %d", len(ids), object.MaxClone)
	}
	me, err := s.h.identity()
	if err != nil {
		return nil, nil, err
	}
	o, to, err := s.answerable(me, raw)
	if o != nil {
		event.Detail = fmt.Sprintf("to partition %s of HSM %s", printed(o.Target.Serial), o.Target.HSM)
	}
	if err != nil {
		return nil, nil, s.refuseClone(ctx, event, err)
	}
	event.Detail = fmt.Sprintf("to partition %s of HSM %s", o.Target.Serial, to.Name)
	batch, items, err := s.p.batch(s.h, ids)
	if err != nil {
		return nil, nil, s.refuseClone(ctx, event, err)
	}
	defer batch.Clear()
	pkg, err := s.h.pack(me, o, batch)
	if err != nil {
		return nil, nil, err
	}
	if err := s.recordClone(ctx, event, items); err != nil {
		return nil, nil, err
	}
	included := make([]object.ID, len(items))
	for i, it := range items {
		included[i] = it.id
	}
	return pkg, included, nil
}

// answerable says whether an offer is one that this partition may answer. What
// it could read of one that it may not, it returns too.
func (s *Session) answerable(me *identity, raw []byte) (*replica.Offer, *peer, error) {
	o, err := replica.DecodeOffer(raw)
	if err != nil {
		return nil, nil, object.Errorf(object.ErrDataInvalid, "%v", err)
	}
	if want := (replica.Place{HSM: me.id, Serial: s.p.serial}); o.Source != want {
		return o, nil, object.Errorf(object.ErrDataInvalid, "the offer is to partition %s of HSM %v, and this is partition %s of HSM %v; make it with this one's numbers", o.Source.Serial, o.Source.HSM, s.p.serial, me.id)
	}
	to, err := s.h.listed(s.p, o.Target.HSM, o.Target.Serial)
	if err != nil {
		return o, nil, err
	}
	if !o.Verify(to.key) {
		return o, nil, object.Errorf(object.ErrSignatureInvalid, "the offer was not signed by HSM %s, or was changed on its way", to.Name)
	}
	return o, to, s.h.checkDomain(o.Domain, to.Name)
}

// checkDomain refuses another HSM's domain.
func (h *HSM) checkDomain(theirs [16]byte, name string) error {
	mine, err := h.domainNumber()
	if err != nil {
		return err
	}
	if mine != theirs {
		return object.Errorf(object.ErrPolicy, "HSM %s is of domain %s, and this one is of domain %s; only HSMs of one domain clone with each other", name, hex.EncodeToString(theirs[:]), hex.EncodeToString(mine[:]))
	}
	return nil
}

// travelling is what is recorded of an object on its way.
type travelling struct {
	id      object.ID
	outcome string
	detail  string
}

// batch reads objects, as many as fit.
func (p *partition) batch(h *HSM, ids []object.ID) (*replica.Batch, []travelling, error) {
	p.mu.RLock()
	if p.key == nil {
		p.mu.RUnlock()
		return nil, nil, object.Errorf(object.ErrNotLoggedIn, "nobody is logged in to partition %s", p.label)
	}
	key := *p.key
	p.mu.RUnlock()
	defer clear(key[:])
	ids = slices.Clone(ids)
	slices.SortFunc(ids, func(a, b object.ID) int { return bytes.Compare(a[:], b[:]) })
	batch := new(replica.Batch)
	var items []travelling
	err := h.store.View(func(tx *store.Tx) error {
		for _, id := range slices.Compact(ids) {
			it, err := tx.Item(p.id, &key, id)
			if errors.Is(err, store.ErrNotFound) {
				continue
			} else if err != nil {
				return err
			}
			added := batch.Add(it)
			clear(it.Secret)
			if !added {
				return nil
			}
			item := travelling{id: id, outcome: audit.OK}
			if it.Deleted {
				item.detail = "destroyed"
			}
			items = append(items, item)
		}
		return nil
	})
	switch {
	case err == nil && len(items) > 0:
		return batch, items, nil
	case err == nil:
		err = object.Errorf(object.ErrObjectNotFound, "partition %s has none of the %d objects, and remembers none of them", p.label, len(ids))
	case p.deleted.Load():
		err = errGone
	}
	batch.Clear()
	return nil, nil, err
}

// pack seals a batch for an offer and signs the package.
func (h *HSM) pack(me *identity, o *replica.Offer, batch *replica.Batch) ([]byte, error) {
	key, err := h.cloneKey()
	if err != nil {
		return nil, err
	}
	defer clear(key[:])
	pkg, err := o.Answer(store.Seal(key, o.Bound(), batch.Bytes()))
	if err != nil {
		return nil, err
	}
	return pkg.Sign(me.key)
}

// cloneKey is the domain's key for objects on their way.
func (h *HSM) cloneKey() (*[32]byte, error) {
	secret, err := h.domain()
	if err != nil {
		return nil, fmt.Errorf("reading the domain secret: %w", err)
	}
	defer clear(secret)
	return domainKey(secret, nil, "clone")
}

// recordClone records what became of each object, all of it on stable storage
// when it returns, in one flush.
func (s *Session) recordClone(ctx context.Context, event audit.Event, items []travelling) error {
	about := event.Detail
	for i, it := range items {
		event.Kind, event.Object, event.Outcome, event.Detail = audit.Change, it.id, it.outcome, join(about, it.detail)
		if it.outcome != audit.OK {
			event.Kind = audit.Denied
		}
		var err error
		if i < len(items)-1 {
			err = s.h.journal.Append(event)
		} else {
			err = s.h.journal.AppendDurable(context.WithoutCancel(ctx), event)
		}
		if err != nil {
			return unrecorded(err)
		}
	}
	return nil
}
