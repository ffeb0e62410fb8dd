package p11

import (
	"bytes"
	"context"
	"crypto/rand"
	"slices"
	"time"

	"moongate/internal/hsm/object"
)

// Generate makes an RSA or EC key pair or an AES key on the token, for a Crypto
// Officer. Private and secret keys are sensitive and never extractable, whatever
// the template says. The answer is waited for even when nobody does any more.
func (s *session) Generate(ctx context.Context, _ object.OperationID, m object.Mechanism, public, private object.Template) (pub, priv object.ID, err error) {
	if err := s.officer(); err != nil {
		return pub, priv, err
	}
	plan, err := s.token.plan(m, public, private)
	if err != nil {
		return pub, priv, err
	}
	made, err := run(ctx, s.token, call[[2]uint]{
		name: "making a key", limit: s.token.options.GenerateLimit, write: true,
		do: func(_ *era, session uint) (handles [2]uint, err error) {
			if plan.public == nil {
				handles[1], err = s.token.module.GenerateKey(session, uint(m.Type), plan.private)
				return handles, err
			}
			handles[0], handles[1], err = s.token.module.GenerateKeyPair(session, uint(m.Type), plan.public, plan.private)
			return handles, err
		},
	})
	if err != nil {
		return pub, priv, refusal("making a key", err)
	}
	// The key is there: its name is all that is missing, and no deadline keeps us
	// from that.
	l, err := s.token.objects.current(context.WithoutCancel(ctx), time.Now())
	if err != nil {
		return pub, priv, err
	}
	for i, id := range []*object.ID{&pub, &priv} {
		if made[i] == 0 {
			continue
		}
		n := l.known[made[i]]
		if n == nil || n.id == (object.ID{}) {
			return pub, priv, object.Errorf(object.ErrDeviceError, "the key was made, with the CKA_ID %x, and is not found on the token", plan.id)
		}
		*id = n.id
	}
	return pub, priv, nil
}

// making is what the module is asked to make.
type making struct {
	id              []byte // CKA_ID
	public, private []Attribute
}

// given are the attributes that a template may hold for a key to be made here.
var given = []object.AttributeType{
	object.AttrToken, object.AttrPrivate, object.AttrLabel, object.AttrID, object.AttrSensitive, object.AttrExtractable,
	object.AttrSign, object.AttrDecrypt, object.AttrUnwrap, object.AttrDerive, object.AttrVerify, object.AttrEncrypt, object.AttrWrap,
	object.AttrStartDate, object.AttrEndDate,
}

// plan turns templates into what the module is asked for.
func (t *Token) plan(m object.Mechanism, public, private object.Template) (making, error) {
	var size object.AttributeType // what says the key's size
	class := object.ClassPrivateKey
	switch m.Type {
	case object.MechRSAKeyPairGen:
		size = object.AttrModulusBits
	case object.MechECKeyPairGen:
		size = object.AttrECParams
	case object.MechAESKeyGen:
		size, class = object.AttrValueLen, object.ClassSecretKey
	default:
		return making{}, object.Errorf(object.ErrMechanism, "%v is not done through moongate-p11; RSA, EC and AES keys are made", m.Type)
	}
	if err := t.has(m.Type); err != nil {
		return making{}, err
	}
	p := making{id: keyID(public, private)}
	sized := private
	if class == object.ClassPrivateKey {
		sized = public
	} else if len(public) != 0 {
		return making{}, object.Errorf(object.ErrTemplateInconsist, "a secret key has no public template; leave it out")
	}
	dimension, err := dimensionOf(m.Type, size, sized)
	if err != nil {
		return making{}, err
	}
	if p.private, err = template(class, private.Without(size), p.id); err != nil {
		return making{}, err
	}
	if class == object.ClassSecretKey {
		p.private = append(p.private, dimension...)
		return p, nil
	}
	if p.public, err = template(object.ClassPublicKey, public.Without(size).Without(object.AttrPublicExponent), p.id); err != nil {
		return making{}, err
	}
	p.public = append(p.public, dimension...)
	return p, nil
}

// keyID is the CKA_ID of both halves: that of a template, or a random one. It
// is what makes a key's identity its own.
func keyID(templates ...object.Template) []byte {
	for _, t := range templates {
		if id, _ := t.Get(object.AttrID); len(id) > 0 {
			return bytes.Clone(id)
		}
	}
	id := make([]byte, 20)
	rand.Read(id) // never fails (crypto/rand)
	return id
}

// dimensionOf says how large the key is to be.
func dimensionOf(m object.MechanismType, size object.AttributeType, t object.Template) ([]Attribute, error) {
	n, _ := t.Number(size)
	switch m {
	case object.MechRSAKeyPairGen:
		if n != 2048 && n != 3072 && n != 4096 {
			return nil, object.Errorf(object.ErrKeySize, "CKA_MODULUS_BITS is %d, expected 2048, 3072 or 4096", n)
		}
		exponent, given := t.Get(object.AttrPublicExponent)
		if given && !bytes.Equal(bytes.TrimLeft(exponent, "\x00"), []byte{1, 0, 1}) {
			return nil, object.Errorf(object.ErrAttributeValue, "CKA_PUBLIC_EXPONENT is %x, expected 010001", exponent)
		}
		return toModule(object.New(object.Number(size, n), object.Bytes(object.AttrPublicExponent, []byte{1, 0, 1}))), nil
	case object.MechECKeyPairGen:
		curve, _ := t.Get(size)
		if _, known := curves[string(curve)]; !known {
			return nil, object.Errorf(object.ErrAttributeValue, "CKA_EC_PARAMS is %x, expected the object identifier of P-256, P-384 or P-521", curve)
		}
		return toModule(object.New(object.Bytes(size, bytes.Clone(curve)))), nil
	}
	if n != 16 && n != 24 && n != 32 {
		return nil, object.Errorf(object.ErrKeySize, "CKA_VALUE_LEN is %d, expected 16, 24 or 32", n)
	}
	return toModule(object.New(object.Number(size, n))), nil
}

// template completes a caller's template for a half of the class.
func template(class object.Class, t object.Template, id []byte) ([]Attribute, error) {
	if err := t.CheckCreation(class); err != nil {
		return nil, err
	}
	whole := t.Without(object.AttrKeyType).Complete(class).With(object.Bytes(object.AttrID, id))
	if err := whole.CheckPolicy(); err != nil {
		return nil, err
	}
	if whole.Bool(object.AttrExtractable) {
		return nil, object.Errorf(object.ErrTemplateInconsist, "CKA_EXTRACTABLE is true: keys that are made here never leave the token; leave it out")
	}
	var out object.Template
	for _, a := range whole.Without(object.AttrClass) {
		if !slices.Contains(given, a.Type) {
			return nil, object.Errorf(object.ErrTemplateInconsist, "%v is not given to a token; leave it out", a.Type)
		}
		if len(a.Value) > 0 {
			out = append(out, object.Attribute{Type: a.Type, Value: bytes.Clone(a.Value)})
		}
	}
	return toModule(out), nil
}
