package partition

import (
	"context"
	"crypto/rand"
	"encoding/asn1"
	"fmt"
	"math/big"

	"moongate/internal/audit"
	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
)

// MaxRandom is how many random bytes one call may ask for.
const MaxRandom = 64 << 10

// usable returns a key that the session's role may use for the action today.
func (s *Session) usable(act action, id object.ID, m object.Mechanism) (*entry, *mech.Key, error) {
	role := s.as()
	if err := permit(role, act, nil); err != nil {
		return nil, nil, err
	}
	e, err := s.p.lookup(id)
	if err != nil {
		return nil, nil, err
	}
	if err := s.p.judge(role, act, m, e, s.h.now()); err != nil {
		return nil, nil, err
	}
	key, err := s.p.parsed(s.h, e)
	return e, key, err
}

// receipt is the journal's, with the HSM's refusal.
type receipt struct{ audit.Receipt }

// Written implements object.Receipt.
func (r receipt) Written() error {
	if err := r.Receipt.Written(); err != nil {
		return unrecorded(err)
	}
	return nil
}

// use does an action with a key and notes it for the journal: whoever answers
// waits for the receipt before. A failure is recorded like a success, and at
// once: with what was asked, and why not. about is what else the record says.
func (s *Session) use(act action, op object.OperationID, id object.ID, m object.Mechanism, about string, do func(*entry, *mech.Key) ([]byte, error)) ([]byte, object.Receipt, error) {
	event := s.event(act, op)
	event.Kind, event.Object, event.Mechanism, event.Detail = audit.Use, id, m.Type.String(), about
	e, key, err := s.usable(act, id, m)
	if err != nil {
		return nil, nil, s.refuse(event, err)
	}
	out, err := do(e, key)
	event.Outcome, event.Detail = outcome(err), join(about, detail(err))
	if err != nil {
		if jerr := s.h.journal.Append(event); jerr != nil {
			err = unrecorded(jerr)
		}
		clear(out)
		return nil, nil, err
	}
	noted, err := s.h.journal.Note(event)
	if err != nil {
		clear(out)
		return nil, nil, unrecorded(err)
	}
	e.uses.used()
	return out, receipt{noted}, nil
}

// useNow is use, for what is answered once its record is written.
func (s *Session) useNow(act action, op object.OperationID, id object.ID, m object.Mechanism, about string, do func(*entry, *mech.Key) ([]byte, error)) ([]byte, error) {
	out, noted, err := s.use(act, op, id, m, about, do)
	if err != nil {
		return nil, err
	}
	if err := noted.Written(); err != nil {
		clear(out)
		return nil, err
	}
	return out, nil
}

// Sign signs a digest, or a whole message where the mechanism takes one
// (EdDSA), or makes a MAC of it. It, Encrypt and Decrypt have noted the use when
// they return: what they return must not leave before the receipt says that it
// is written.
func (s *Session) Sign(_ context.Context, op object.OperationID, id object.ID, m object.Mechanism, digest []byte) ([]byte, object.Receipt, error) {
	return s.use(actSign, op, id, m, "", func(_ *entry, k *mech.Key) ([]byte, error) { return k.Sign(m, digest) })
}

// Verify checks a signature with a public key, or a MAC with the secret key
// that made it. What is wrong is recorded with its code; only what is right
// counts as a use of a secret key.
func (s *Session) Verify(_ context.Context, op object.OperationID, id object.ID, m object.Mechanism, data, signature []byte) error {
	_, err := s.useNow(actVerify, op, id, m, "", func(_ *entry, k *mech.Key) ([]byte, error) { return nil, k.Verify(m, data, signature) })
	return err
}

// Encrypt encrypts data under a secret or public key.
func (s *Session) Encrypt(_ context.Context, op object.OperationID, id object.ID, m object.Mechanism, data []byte) ([]byte, object.Receipt, error) {
	return s.use(actEncrypt, op, id, m, "", func(_ *entry, k *mech.Key) ([]byte, error) { return k.Encrypt(m, data) })
}

// Decrypt decrypts data with a private or secret key.
func (s *Session) Decrypt(_ context.Context, op object.OperationID, id object.ID, m object.Mechanism, data []byte) ([]byte, object.Receipt, error) {
	return s.use(actDecrypt, op, id, m, "", func(_ *entry, k *mech.Key) ([]byte, error) { return k.Decrypt(m, data) })
}

// Wrap returns a private or secret key encrypted under another key. It must
// have been made extractable, and the partition's policy must still let its
// like leave; the record names it.
func (s *Session) Wrap(_ context.Context, op object.OperationID, wrapping, target object.ID, m object.Mechanism) ([]byte, error) {
	return s.useNow(actWrap, op, wrapping, m, "key "+target.String(), func(by *entry, k *mech.Key) ([]byte, error) {
		e, err := s.p.lookup(target)
		if err != nil {
			return nil, err
		}
		if err := s.p.checkLeave(e, by); err != nil {
			return nil, err
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
	entries, more := s.p.find(pattern, after, limit)
	found := make([]object.Found, len(entries))
	for i, e := range entries {
		found[i] = object.Found{ID: e.id, Attributes: e.show(want)}
	}
	return found, more, nil
}

// Attributes reads an object's attributes; no types ask for all. None of them
// is secret: a key's value is no attribute here.
func (s *Session) Attributes(_ context.Context, op object.OperationID, id object.ID, want []object.AttributeType) (object.Template, error) {
	event := s.event(actRead, op)
	event.Object = id
	if err := permit(s.as(), actRead, nil); err != nil {
		return nil, s.refuse(event, err)
	}
	e, err := s.p.lookup(id)
	if err != nil {
		return nil, err
	}
	for _, typ := range want {
		if typ == object.AttrValue && !e.attrs.Has(typ) {
			return nil, s.refuse(event, object.Errorf(object.ErrAttributeSensitive, "the value of a key is never read"))
		}
	}
	return e.show(want), nil
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
