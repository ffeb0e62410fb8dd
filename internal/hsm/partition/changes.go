package partition

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"

	"moongate/internal/audit"
	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// change records the intent, makes the change, and records what became of it,
// each durably. do returns the object that the change was about.
func (s *Session) change(ctx context.Context, event audit.Event, do func() (object.ID, error)) error {
	event.Kind, event.Outcome = audit.Change, intent
	if err := s.h.begin(ctx, event); err != nil {
		return err
	}
	id, err := do()
	event.Outcome, event.Detail = outcome(err), detail(err)
	if id != (object.ID{}) {
		event.Object = id
	}
	return s.h.conclude(ctx, event, err)
}

// Generate makes a key pair, or a secret key (the public ID is then zero).
func (s *Session) Generate(ctx context.Context, op object.OperationID, m object.Mechanism, public, private object.Template) (object.ID, object.ID, error) {
	event := s.event(actGenerate, op)
	event.Mechanism = m.Type.String()
	if err := permit(s.as(), actGenerate, nil); err != nil {
		return object.ID{}, object.ID{}, s.refuse(event, err)
	}
	var pubID, privID object.ID
	err := s.change(ctx, event, func() (object.ID, error) {
		made, err := s.generate(m, public, private)
		if err != nil {
			return object.ID{}, err
		}
		defer wipe(made)
		if err := s.p.add(s.h, made...); err != nil {
			return object.ID{}, err
		}
		privID = made[0].ID
		if len(made) == 2 {
			pubID = made[1].ID
		}
		return privID, nil
	})
	if err != nil {
		return object.ID{}, object.ID{}, err
	}
	return pubID, privID, nil
}

// generate returns the private or secret key first.
func (s *Session) generate(m object.Mechanism, public, private object.Template) ([]*object.Object, error) {
	if m.Type == object.MechAESKeyGen {
		key, err := s.h.policy.GenerateKey(m, private)
		if err != nil {
			return nil, err
		}
		return []*object.Object{newObject(key)}, nil
	}
	pub, priv, err := s.h.policy.GenerateKeyPair(m, public, private)
	if err != nil {
		return nil, err
	}
	return []*object.Object{newObject(priv), newObject(pub)}, nil
}

func newObject(k mech.KeyMaterial) *object.Object {
	return &object.Object{ID: object.NewID(), Attributes: k.Attributes, Secret: k.Secret}
}

func wipe(objects []*object.Object) {
	for _, o := range objects {
		clear(o.Secret)
	}
}

// Store keeps a certificate. What the certificate says of itself (subject,
// issuer, serial number) is read from it and need not be in the template; where
// no CKA_ID is given, it gets that of the key pair it belongs to.
func (s *Session) Store(ctx context.Context, op object.OperationID, t object.Template) (object.ID, error) {
	event := s.event(actStore, op)
	if err := permit(s.as(), actStore, nil); err != nil {
		return object.ID{}, s.refuse(event, err)
	}
	attrs, err := certificateAttributes(t)
	if err != nil {
		return object.ID{}, s.refuse(event, err)
	}
	o := &object.Object{ID: object.NewID(), Attributes: attrs}
	err = s.change(ctx, event, func() (object.ID, error) { return o.ID, s.p.add(s.h, o) })
	return o.ID, err
}

func certificateAttributes(t object.Template) (object.Template, error) {
	if t.Class() != object.ClassCertificate {
		return nil, object.Errorf(object.ErrTemplateInconsist, "CKA_CLASS is %v: only certificates are stored; keys are generated or unwrapped", t.Class())
	}
	if err := t.CheckCreation(object.ClassCertificate); err != nil {
		return nil, err
	}
	der, _ := t.Get(object.AttrValue)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, object.Errorf(object.ErrAttributeValue, "CKA_VALUE is not a DER certificate: %v", err)
	}
	serial, err := marshalSerial(cert.SerialNumber)
	if err != nil {
		return nil, err
	}
	known := object.New(
		object.Bytes(object.AttrSubject, cert.RawSubject),
		object.Bytes(object.AttrIssuer, cert.RawIssuer),
		object.Bytes(object.AttrSerialNumber, serial),
	)
	for _, a := range known {
		if given, ok := t.Get(a.Type); ok && string(given) != string(a.Value) {
			return nil, object.Errorf(object.ErrTemplateInconsist, "%v is not what the certificate says; leave it out", a.Type)
		}
	}
	attrs := object.Defaults(object.ClassCertificate).Merge(t).Merge(known)
	if !t.Has(object.AttrID) {
		sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
		attrs = attrs.With(object.Bytes(object.AttrID, sum[:mech.KeyIDSize]))
	}
	return attrs, attrs.CheckPolicy()
}

// SetAttributes changes an object's label, ID or subject.
func (s *Session) SetAttributes(ctx context.Context, op object.OperationID, id object.ID, t object.Template) error {
	event := s.event(actChange, op)
	event.Object = id
	if err := permit(s.as(), actChange, nil); err != nil {
		return s.refuse(event, err)
	}
	_, attrs, err := s.p.lookup(id)
	if err != nil {
		return s.refuse(event, err)
	}
	if err := t.CheckChange(attrs.Class()); err != nil {
		return s.refuse(event, err)
	}
	return s.change(ctx, event, func() (object.ID, error) { return id, s.p.alter(s.h, id, t) })
}

// Destroy destroys an object for good.
func (s *Session) Destroy(ctx context.Context, op object.OperationID, id object.ID) error {
	event := s.event(actDestroy, op)
	event.Object = id
	if err := permit(s.as(), actDestroy, nil); err != nil {
		return s.refuse(event, err)
	}
	if _, _, err := s.p.lookup(id); err != nil {
		return s.refuse(event, err)
	}
	return s.change(ctx, event, func() (object.ID, error) { return id, s.p.destroy(s.h, id) })
}

// Unwrap makes a secret key of what Wrap returned.
func (s *Session) Unwrap(ctx context.Context, op object.OperationID, wrapping object.ID, m object.Mechanism, wrapped []byte, t object.Template) (object.ID, error) {
	event := s.event(actUnwrap, op)
	event.Object, event.Mechanism = wrapping, m.Type.String()
	key, err := s.usable(actUnwrap, wrapping)
	if err != nil {
		return object.ID{}, s.refuse(event, err)
	}
	var id object.ID
	err = s.change(ctx, event, func() (object.ID, error) {
		material, err := key.Unwrap(m, wrapped, t)
		if err != nil {
			return object.ID{}, err
		}
		o := newObject(material)
		defer clear(o.Secret)
		if err := s.p.add(s.h, o); err != nil {
			return object.ID{}, err
		}
		id = o.ID
		return id, nil
	})
	return id, err
}

// add stores new objects in one transaction, then shows them.
func (p *partition) add(h *HSM, objects ...*object.Object) error {
	for _, o := range objects {
		if o.Attributes.Class() == object.ClassPrivateKey && o.Attributes.Bool(object.AttrExtractable) && !p.allows(object.PolicyPrivateExtractable) {
			return object.Errorf(object.ErrPolicy, "CKA_EXTRACTABLE is true: private keys of this partition do not leave the HSM; leave it out")
		}
		o.Attributes = o.Attributes.With(object.Number(object.AttrCreated, uint64(h.now().Unix())))
	}
	return p.commit(h, len(objects), func(tx *store.Tx, key *store.PartitionKey) error {
		for _, o := range objects {
			if _, err := tx.PutObject(p.id, key, o); err != nil {
				return err
			}
		}
		return nil
	}, func() {
		for _, o := range objects {
			p.insert(newEntry(o))
		}
	})
}

func (p *partition) alter(h *HSM, id object.ID, t object.Template) error {
	var fresh *object.Object
	return p.commit(h, 0, func(tx *store.Tx, key *store.PartitionKey) error {
		var err error
		if fresh, err = tx.Object(p.id, key, id); err != nil {
			return err
		}
		fresh.Attributes = fresh.Attributes.Merge(t)
		_, err = tx.PutObject(p.id, key, fresh)
		clear(fresh.Secret)
		return err
	}, func() { p.insert(newEntry(fresh)) })
}

func (p *partition) destroy(h *HSM, id object.ID) error {
	return p.commit(h, 0, func(tx *store.Tx, _ *store.PartitionKey) error {
		_, err := tx.DeleteObject(p.id, id)
		return err
	}, func() { p.remove(id) })
}

// commit changes the store, then the memory, one change at a time; adds is how
// many objects it makes.
func (p *partition) commit(h *HSM, adds int, change func(*store.Tx, *store.PartitionKey) error, show func()) error {
	p.changes.Lock()
	defer p.changes.Unlock()
	p.mu.RLock()
	if p.key == nil {
		p.mu.RUnlock()
		return object.Errorf(object.ErrNotLoggedIn, "nobody is logged in to partition %s", p.label)
	}
	key, there := *p.key, len(p.objects)
	p.mu.RUnlock()
	defer clear(key[:])
	if adds > 0 && there+adds > h.maxObjects {
		return object.Errorf(object.ErrBusy, "partition %s holds %d objects, and at most %d fit; delete some first", p.label, there, h.maxObjects)
	}
	err := h.store.Update(func(tx *store.Tx) error { return change(tx, &key) })
	if errors.Is(err, store.ErrNotFound) {
		return object.Errorf(object.ErrObjectNotFound, "it is gone from partition %s", p.label)
	} else if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.objects != nil {
		show()
	}
	return nil
}
