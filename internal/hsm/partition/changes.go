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
// each durably; its detail is what else the records say. do returns the object
// that the change was about.
func (s *Session) change(ctx context.Context, event audit.Event, do func() (object.ID, error)) error {
	about := event.Detail
	event.Kind, event.Outcome = audit.Change, intent
	if err := s.h.begin(ctx, event); err != nil {
		return err
	}
	id, err := do()
	event.Outcome, event.Detail = outcome(err), join(about, detail(err))
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
	if f, _ := mech.Generates(m.Type); f == mech.GenerateKey {
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

// Store keeps a certificate, or a public key by its CKA_PUBLIC_KEY_INFO. What
// either says of itself is read from it and need not be in the template; where
// no CKA_ID is given, it gets that of the key pair it belongs to.
func (s *Session) Store(ctx context.Context, op object.OperationID, t object.Template) (object.ID, error) {
	event := s.event(actStore, op)
	if err := permit(s.as(), actStore, nil); err != nil {
		return object.ID{}, s.refuse(event, err)
	}
	attrs, err := s.storable(t)
	if err != nil {
		return object.ID{}, s.refuse(event, err)
	}
	o := &object.Object{ID: object.NewID(), Attributes: attrs}
	err = s.change(ctx, event, func() (object.ID, error) { return o.ID, s.p.add(s.h, o) })
	return o.ID, err
}

func (s *Session) storable(t object.Template) (object.Template, error) {
	switch class := t.Class(); class {
	case object.ClassCertificate:
		return certificateAttributes(t)
	case object.ClassPublicKey:
		if !s.p.allows(object.PolicyImport) {
			return nil, s.p.forbidden(object.PolicyImport, "a stored public key was made elsewhere")
		}
		return s.h.policy.CompletePublic(t)
	default:
		return nil, object.Errorf(object.ErrTemplateInconsist, "CKA_CLASS is %v: only certificates and public keys are stored; keys are generated, derived or unwrapped", class)
	}
}

func certificateAttributes(t object.Template) (object.Template, error) {
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

// SetAttributes changes an object's label, ID, subject or dates.
func (s *Session) SetAttributes(ctx context.Context, op object.OperationID, id object.ID, t object.Template) error {
	event := s.event(actChange, op)
	event.Object = id
	if err := permit(s.as(), actChange, nil); err != nil {
		return s.refuse(event, err)
	}
	e, err := s.p.lookup(id)
	if err != nil {
		return s.refuse(event, err)
	}
	if err := t.CheckChange(e.class); err != nil {
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
	if _, err := s.p.lookup(id); err != nil {
		return s.refuse(event, err)
	}
	return s.change(ctx, event, func() (object.ID, error) { return id, s.p.destroy(s.h, id) })
}

// add stores new objects in one transaction, then shows them.
func (p *partition) add(h *HSM, objects ...*object.Object) error {
	bytes := 0
	for _, o := range objects {
		o.Attributes = o.Attributes.With(object.Number(object.AttrCreated, uint64(h.now().Unix())))
		if err := p.admit(o.Attributes); err != nil {
			return err
		}
		bytes += charge(o.Attributes)
	}
	return p.commit(h, func() error {
		return p.fits(h, len(objects), bytes)
	}, func(tx *store.Tx, key *store.PartitionKey) error {
		for _, o := range objects {
			if _, err := tx.PutObject(p.id, key, o); err != nil {
				return err
			}
		}
		return nil
	}, func() {
		for _, o := range objects {
			p.insert(newEntry(o, &p.uses))
		}
	})
}

// fits refuses what would make the partition larger than it may be. It needs
// mu.
func (p *partition) fits(h *HSM, objects, bytes int) error {
	if there := len(p.objects); objects > 0 && there+objects > h.maxObjects {
		return object.Errorf(object.ErrBusy, "partition %s holds %d objects, and at most %d fit; delete some first", p.label, there, h.maxObjects)
	}
	if bytes > 0 && p.bytes+bytes > h.maxBytes {
		return object.Errorf(object.ErrBusy, "the objects of partition %s have %d bytes, %d more were to come, and at most %d fit; delete some first, or use smaller attributes",
			p.label, p.bytes, bytes, h.maxBytes)
	}
	return nil
}

func (p *partition) alter(h *HSM, id object.ID, t object.Template) error {
	var fresh *object.Object
	return p.commit(h, func() error {
		e := p.objects[id]
		if e == nil {
			return p.gone()
		}
		attrs := e.attrs.Merge(t)
		if err := checkDates(attrs); err != nil {
			return err
		}
		return p.fits(h, 0, charge(attrs)-e.charge)
	}, func(tx *store.Tx, key *store.PartitionKey) error {
		var err error
		if fresh, err = tx.Object(p.id, key, id); err != nil {
			return err
		}
		fresh.Attributes = fresh.Attributes.Merge(t)
		_, err = tx.PutObject(p.id, key, fresh)
		clear(fresh.Secret)
		return err
	}, func() { p.insert(newEntry(fresh, &p.uses)) })
}

func (p *partition) destroy(h *HSM, id object.ID) error {
	return p.commit(h, func() error { return nil }, func(tx *store.Tx, _ *store.PartitionKey) error {
		_, err := tx.DeleteObject(p.id, id)
		return err
	}, func() {
		p.remove(id)
		p.uses.forget(id)
	})
}

func (p *partition) gone() error {
	return object.Errorf(object.ErrObjectNotFound, "it is gone from partition %s", p.label)
}

// commit changes the store, then the memory, one change at a time. check is
// asked first, with mu held, what the memory says to the change.
func (p *partition) commit(h *HSM, check func() error, change func(*store.Tx, *store.PartitionKey) error, show func()) error {
	p.changes.Lock()
	defer p.changes.Unlock()
	key, err := p.begin(check)
	if err != nil {
		return err
	}
	defer clear(key[:])
	err = h.store.Update(func(tx *store.Tx) error { return change(tx, key) })
	if errors.Is(err, store.ErrNotFound) {
		return p.gone()
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

// begin returns a copy of the partition's key where the check agrees.
func (p *partition) begin(check func() error) (*store.PartitionKey, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.key == nil {
		return nil, object.Errorf(object.ErrNotLoggedIn, "nobody is logged in to partition %s", p.label)
	}
	if err := check(); err != nil {
		return nil, err
	}
	key := *p.key
	return &key, nil
}
