package partition

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"

	"moongate/internal/audit"
	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
)

// MaxRandom is how many random bytes one call may ask for.
const MaxRandom = 64 << 10

// usable returns a key that the session's role may use for the action.
func (s *Session) usable(act action, id object.ID) (*mech.Key, error) {
	role := s.as()
	if err := permit(role, act, nil); err != nil {
		return nil, err
	}
	e, attrs, err := s.p.lookup(id)
	if err != nil {
		return nil, err
	}
	if err := permit(role, act, attrs); err != nil {
		return nil, err
	}
	return s.p.parsed(s.h, e)
}

// use does an action with a key and records it before the answer. A failure
// is recorded like a success: with what was asked, and why not. about is what
// else the record says.
func (s *Session) use(act action, op object.OperationID, id object.ID, m object.Mechanism, about string, do func(*mech.Key) ([]byte, error)) ([]byte, error) {
	event := s.event(act, op)
	event.Kind, event.Object, event.Mechanism, event.Detail = audit.Use, id, m.Type.String(), about
	key, err := s.usable(act, id)
	if err != nil {
		return nil, s.refuse(event, err)
	}
	out, err := do(key)
	event.Outcome, event.Detail = outcome(err), join(about, detail(err))
	if jerr := s.h.journal.Append(event); jerr != nil {
		clear(out)
		return nil, unrecorded(jerr)
	}
	return out, err
}

// Sign signs a digest.
func (s *Session) Sign(_ context.Context, op object.OperationID, id object.ID, m object.Mechanism, digest []byte) ([]byte, error) {
	return s.use(actSign, op, id, m, "", func(k *mech.Key) ([]byte, error) { return k.Sign(m, digest) })
}

// Encrypt encrypts data under a secret key.
func (s *Session) Encrypt(_ context.Context, op object.OperationID, id object.ID, m object.Mechanism, data []byte) ([]byte, error) {
	return s.use(actEncrypt, op, id, m, "", func(k *mech.Key) ([]byte, error) { return k.Encrypt(m, data) })
}

// Decrypt decrypts data with a private or secret key.
func (s *Session) Decrypt(_ context.Context, op object.OperationID, id object.ID, m object.Mechanism, data []byte) ([]byte, error) {
	return s.use(actDecrypt, op, id, m, "", func(k *mech.Key) ([]byte, error) { return k.Decrypt(m, data) })
}

// Wrap returns a secret key encrypted under another. The wrapped key must be
// extractable; the record names it.
func (s *Session) Wrap(_ context.Context, op object.OperationID, wrapping, target object.ID, m object.Mechanism) ([]byte, error) {
	return s.use(actWrap, op, wrapping, m, "key "+target.String(), func(k *mech.Key) ([]byte, error) {
		e, attrs, err := s.p.lookup(target)
		switch {
		case err != nil:
			return nil, err
		case attrs.Class() != object.ClassSecretKey:
			return nil, object.Errorf(object.ErrKeyUnextractable, "object %v is a %v object; only secret keys are wrapped", target, attrs.Class())
		case !attrs.Bool(object.AttrExtractable):
			return nil, object.Errorf(object.ErrKeyUnextractable, "key %v was made with CKA_EXTRACTABLE false", target)
		}
		inner, err := s.p.parsed(s.h, e)
		if err != nil {
			return nil, err
		}
		return k.Wrap(m, inner)
	})
}

// Find returns objects that match, by handle.
func (s *Session) Find(_ context.Context, op object.OperationID, pattern object.Template, want []object.AttributeType, after uint64, limit int) ([]object.Found, bool, error) {
	if err := permit(s.as(), actFind, nil); err != nil {
		return nil, false, s.refuse(s.event(actFind, op), err)
	}
	if err := pattern.Check(); err != nil {
		return nil, false, err
	}
	s.p.mu.RLock()
	defer s.p.mu.RUnlock()
	from, found := slices.BinarySearchFunc(s.p.order, after, func(e *entry, handle uint64) int { return cmp.Compare(e.handle, handle) })
	if found {
		from++
	}
	var list []object.Found
	for _, e := range s.p.order[from:] {
		if !e.attrs.Matches(pattern) {
			continue
		}
		if len(list) == limit {
			return list, true, nil
		}
		list = append(list, object.Found{ID: e.id, Attributes: e.attrs.Select(want)})
	}
	return list, false, nil
}

// Attributes reads an object's attributes; no types ask for all. None of them
// is secret: a key's value is no attribute here.
func (s *Session) Attributes(_ context.Context, op object.OperationID, id object.ID, want []object.AttributeType) (object.Template, error) {
	event := s.event(actRead, op)
	event.Object = id
	if err := permit(s.as(), actRead, nil); err != nil {
		return nil, s.refuse(event, err)
	}
	_, attrs, err := s.p.lookup(id)
	if err != nil {
		return nil, err
	}
	for _, typ := range want {
		if typ == object.AttrValue && !attrs.Has(typ) {
			return nil, s.refuse(event, object.Errorf(object.ErrAttributeSensitive, "the value of a key is never read"))
		}
	}
	return attrs.Select(want), nil
}

// Random returns n random bytes.
func (s *Session) Random(_ context.Context, op object.OperationID, n int) ([]byte, error) {
	if err := permit(s.as(), actRandom, nil); err != nil {
		return nil, s.refuse(s.event(actRandom, op), err)
	}
	if n < 1 || n > MaxRandom {
		return nil, object.Errorf(object.ErrDataLength, "%d random bytes asked for; expected 1 to %d", n, MaxRandom)
	}
	out := make([]byte, n)
	rand.Read(out)
	return out, nil
}

// marshalSerial is a certificate's serial number as CKA_SERIAL_NUMBER: the DER
// INTEGER (PKCS#11 v3.1, section 4.6.3).
func marshalSerial(n *big.Int) ([]byte, error) {
	der, err := asn1.Marshal(n)
	if err != nil {
		return nil, fmt.Errorf("encoding serial number: %w", err)
	}
	return der, nil
}
