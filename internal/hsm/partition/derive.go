package partition

import (
	"context"

	"moongate/internal/audit"
	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
)

// Unwrap makes a private or secret key of what Wrap returned, here or
// elsewhere.
func (s *Session) Unwrap(ctx context.Context, op object.OperationID, wrapping object.ID, m object.Mechanism, wrapped []byte, t object.Template) (object.ID, error) {
	return s.make(ctx, actUnwrap, op, wrapping, m, func(k *mech.Key) (mech.KeyMaterial, error) { return k.Unwrap(m, wrapped, t) })
}

// Derive makes a secret key of another key. The other side of a key agreement
// need not be in the HSM, so that a derived key may be known elsewhere; it is
// no imported key all the same.
func (s *Session) Derive(ctx context.Context, op object.OperationID, base object.ID, m object.Mechanism, t object.Template) (object.ID, error) {
	return s.make(ctx, actDerive, op, base, m, func(k *mech.Key) (mech.KeyMaterial, error) { return k.Derive(m, t) })
}

// make uses one key to make another, which is stored. The record of the intent
// is on the key that is used, that of success on the new one, and names the
// other.
func (s *Session) make(ctx context.Context, act action, op object.OperationID, from object.ID, m object.Mechanism, do func(*mech.Key) (mech.KeyMaterial, error)) (object.ID, error) {
	event := s.event(act, op)
	event.Object, event.Mechanism = from, m.Type.String()
	e, key, err := s.usable(act, from, m)
	if err != nil {
		return object.ID{}, s.refuse(event, err)
	}
	event.Kind, event.Detail = audit.Change, "by key "+from.String()
	var id object.ID
	err = s.change(ctx, event, func() (object.ID, error) {
		material, err := do(key)
		if err != nil {
			return object.ID{}, err
		}
		o := newObject(material)
		defer clear(o.Secret)
		if err := s.p.add(s.h, o); err != nil {
			return object.ID{}, err
		}
		id = o.ID
		e.uses.used()
		return id, nil
	})
	return id, err
}
