package mech

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"math"

	"moongate/internal/hsm/object"
)

// KeyMaterial is a new object without an identity: its whole attributes, and
// its secret as object.Object holds it (empty for a public key).
type KeyMaterial struct {
	Attributes object.Template
	Secret     []byte
}

// Clear overwrites the secret. Copies that others made remain.
func (k *KeyMaterial) Clear() {
	clear(k.Secret)
	k.Secret = nil
}

// Format prints the attributes, whatever the verb, so that no log or error
// holds the secret.
func (k KeyMaterial) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "key material %v", k.Attributes) }

// GenerateKeyPair makes a key pair: RSA by CKA_MODULUS_BITS (2048, 3072 or
// 4096; CKA_PUBLIC_EXPONENT, where given, is 65537), EC by CKA_EC_PARAMS
// (P-256, P-384 or P-521), both in the public template; Ed25519 and X25519,
// whose CKA_EC_PARAMS may be left out.
//
// The caller's templates are checked here, and nowhere else, against
// object.Template.CheckCreation and CheckPolicy, and for contradictions with
// the key. What they leave out is object.Template.Complete's, and for an X25519
// key CKA_DERIVE, all that it can do; what the HSM sets is added, also the key
// type and CKA_PUBLIC_KEY_INFO on both halves. A pair whose templates hold no
// CKA_ID gets the first KeyIDSize bytes of SHA-256 of its SubjectPublicKeyInfo
// on both halves; an ID that one template holds is the other half's too.
func (p Policy) GenerateKeyPair(m object.Mechanism, public, private object.Template) (KeyMaterial, KeyMaterial, error) {
	none := KeyMaterial{}
	rows, err := p.rows(GenerateKeyPair, m)
	if err != nil {
		return none, none, err
	}
	keyType := rows[0].KeyType
	publicBase, err := baseOf(object.ClassPublicKey, keyType, public)
	if err != nil {
		return none, none, err
	}
	privateBase, err := baseOf(object.ClassPrivateKey, keyType, private)
	if err != nil {
		return none, none, err
	}
	key, half, err := generate(keyType, public)
	if err != nil {
		return none, none, err
	}
	facts, err := publicFacts(half)
	if err != nil {
		return none, none, err
	}
	facts = facts.Merge(madeHere(m.Type))
	if err := contradiction(public, facts); err != nil {
		return none, none, err
	}
	privateFacts := facts.Without(object.AttrECPoint).Merge(keptInside(privateBase, true, true))
	if err := contradiction(private, privateFacts); err != nil {
		return none, none, err
	}
	id := pairID(facts, public, private)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return none, none, object.Errorf(object.ErrGeneral, "encoding private key: %v", err)
	}
	return KeyMaterial{Attributes: withID(publicBase, id).Merge(facts)},
		KeyMaterial{Attributes: withID(privateBase, id).Merge(privateFacts), Secret: der}, nil
}

// GenerateKey makes an AES key of CKA_VALUE_LEN bytes (16, 24 or 32) or a
// generic secret (MinGeneric to MaxGeneric). The template is checked as
// GenerateKeyPair does.
func (p Policy) GenerateKey(m object.Mechanism, template object.Template) (KeyMaterial, error) {
	rows, err := p.rows(GenerateKey, m)
	if err != nil {
		return KeyMaterial{}, err
	}
	keyType := rows[0].KeyType
	base, err := baseOf(object.ClassSecretKey, keyType, template)
	if err != nil {
		return KeyMaterial{}, err
	}
	size, err := valueLen(keyType, template)
	if err != nil {
		return KeyMaterial{}, err
	}
	facts := secretFacts(keyType, size).Merge(keptInside(base, true, true)).Merge(madeHere(m.Type))
	if err := contradiction(template, facts); err != nil {
		return KeyMaterial{}, err
	}
	secret := make([]byte, size)
	rand.Read(secret) // never fails: the program ends instead
	return KeyMaterial{Attributes: base.Merge(facts), Secret: secret}, nil
}

// valueLen reads CKA_VALUE_LEN, the length of a new secret in bytes.
func valueLen(keyType object.KeyType, template object.Template) (int, error) {
	n, given := template.Number(object.AttrValueLen)
	if !given {
		return 0, object.Errorf(object.ErrTemplateIncomplete, "CKA_VALUE_LEN is missing: the length of a new %v key in bytes", keyType)
	}
	size := int(min(n, math.MaxInt32/8)) // larger ones are refused
	return size, checkSecretSize(keyType, size)
}

// baseOf checks a caller's template and lays it over the defaults of the class
// and the key type.
func baseOf(class object.Class, keyType object.KeyType, template object.Template) (object.Template, error) {
	if err := template.CheckCreation(class); err != nil {
		return nil, err
	}
	asked := template
	if keyType == object.KeyMontgomery {
		asked = montgomeryUses(class).Merge(template)
	}
	base := asked.Complete(class)
	return base, base.CheckPolicy()
}

// montgomeryUses are those of a key that can derive and nothing else.
func montgomeryUses(class object.Class) object.Template {
	if class == object.ClassPublicKey {
		return object.New(object.Bool(object.AttrVerify, false))
	}
	return object.New(object.Bool(object.AttrSign, false), object.Bool(object.AttrDerive, true))
}

// generate makes a private key of the type and returns both halves.
func generate(keyType object.KeyType, template object.Template) (crypto.PrivateKey, crypto.PublicKey, error) {
	switch keyType {
	case object.KeyRSA:
		return generateRSA(template)
	case object.KeyEC:
		return generateEC(template)
	case object.KeyEdwards:
		public, private, err := ed25519.GenerateKey(rand.Reader)
		return generated(keyType, private, public, err)
	case object.KeyMontgomery:
		private, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			return generated(keyType, nil, nil, err)
		}
		return private, private.PublicKey(), nil
	}
	return nil, nil, object.Errorf(object.ErrGeneral, "%v keys are in the table, and are not made", keyType)
}

func generateRSA(template object.Template) (crypto.PrivateKey, crypto.PublicKey, error) {
	bits, given := template.Number(object.AttrModulusBits)
	if !given {
		return nil, nil, object.Errorf(object.ErrTemplateIncomplete, "CKA_MODULUS_BITS is missing: 2048, 3072 or 4096")
	}
	bits = min(bits, math.MaxInt32)
	if err := checkSize(object.KeyRSA, rsaSizes, int(bits)); err != nil {
		return nil, nil, err
	}
	key, err := rsa.GenerateKey(rand.Reader, int(bits))
	if err != nil {
		return generated(object.KeyRSA, nil, nil, err)
	}
	return key, &key.PublicKey, nil
}

func generateEC(template object.Template) (crypto.PrivateKey, crypto.PublicKey, error) {
	params, given := template.Get(object.AttrECParams)
	if !given {
		return nil, nil, object.Errorf(object.ErrTemplateIncomplete, "CKA_EC_PARAMS is missing: the DER object identifier of P-256, P-384 or P-521")
	}
	c, err := curveByParams(params)
	if err != nil {
		return nil, nil, err
	}
	key, err := ecdsa.GenerateKey(c.Curve, rand.Reader)
	if err != nil {
		return generated(object.KeyEC, nil, nil, err)
	}
	return key, &key.PublicKey, nil
}

func generated(keyType object.KeyType, private crypto.PrivateKey, public crypto.PublicKey, err error) (crypto.PrivateKey, crypto.PublicKey, error) {
	if err != nil {
		return nil, nil, object.Errorf(object.ErrGeneral, "generating %v key: %v", keyType, err)
	}
	return private, public, nil
}
