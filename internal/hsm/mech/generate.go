package mech

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
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

// KeyIDSize is the length of a default CKA_ID in bytes.
const KeyIDSize = 20

// unavailable is CK_UNAVAILABLE_INFORMATION: the CKA_KEY_GEN_MECHANISM of a
// key that was made elsewhere (PKCS#11 v3.1, section 4.7).
const unavailable = math.MaxUint64

// GenerateKeyPair makes a key pair: RSA by CKA_MODULUS_BITS (2048, 3072 or
// 4096; CKA_PUBLIC_EXPONENT, where given, is 65537), EC by CKA_EC_PARAMS
// (P-256 or P-384), both in the public template.
//
// The caller's templates are checked here, and nowhere else, against
// object.Template.CheckCreation and CheckPolicy, and for contradictions with
// the key. What they leave out is object.Defaults; what the HSM sets is added,
// also the key type and CKA_PUBLIC_KEY_INFO on both halves. A pair whose
// templates hold no CKA_ID gets the first KeyIDSize bytes of SHA-256 of its
// SubjectPublicKeyInfo on both halves; an ID that one template holds is the
// other half's too.
func (p Policy) GenerateKeyPair(m object.Mechanism, public, private object.Template) (KeyMaterial, KeyMaterial, error) {
	none := KeyMaterial{}
	row, err := p.row(GenerateKeyPair, m)
	if err != nil {
		return none, none, err
	}
	publicBase, err := baseOf(object.ClassPublicKey, public)
	if err != nil {
		return none, none, err
	}
	privateBase, err := baseOf(object.ClassPrivateKey, private)
	if err != nil {
		return none, none, err
	}
	key, facts, err := generate(row.KeyType, public)
	if err != nil {
		return none, none, err
	}
	facts = facts.Merge(object.New(
		object.Bool(object.AttrLocal, true),
		object.Number(object.AttrKeyGenMechanism, uint64(m.Type)),
	))
	publicFacts, privateFacts := facts, facts.Without(object.AttrECPoint).Merge(keptInside(privateBase))
	if err := contradiction(public, publicFacts); err != nil {
		return none, none, err
	}
	if err := contradiction(private, privateFacts); err != nil {
		return none, none, err
	}
	id := pairID(public, private, facts)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return none, none, object.Errorf(object.ErrGeneral, "encoding private key: %v", err)
	}
	return KeyMaterial{Attributes: withID(publicBase, id).Merge(publicFacts)},
		KeyMaterial{Attributes: withID(privateBase, id).Merge(privateFacts), Secret: der}, nil
}

// GenerateKey makes an AES key of CKA_VALUE_LEN bytes: 16, 24 or 32. The
// template is checked as GenerateKeyPair does.
func (p Policy) GenerateKey(m object.Mechanism, template object.Template) (KeyMaterial, error) {
	if err := p.Check(GenerateKey, m); err != nil {
		return KeyMaterial{}, err
	}
	base, err := baseOf(object.ClassSecretKey, template)
	if err != nil {
		return KeyMaterial{}, err
	}
	size, given := template.Number(object.AttrValueLen)
	if !given {
		return KeyMaterial{}, object.Errorf(object.ErrTemplateIncomplete, "CKA_VALUE_LEN is missing: 16, 24 or 32 bytes")
	}
	if size > 32 {
		size = 0 // refused below, and never allocated
	}
	if err := checkSize(object.KeyAES, aesSizes, 8*int(size)); err != nil {
		return KeyMaterial{}, err
	}
	facts := secretFacts(int(size)).Merge(keptInside(base)).Merge(object.New(
		object.Bool(object.AttrLocal, true),
		object.Number(object.AttrKeyGenMechanism, uint64(m.Type)),
	))
	if err := contradiction(template, facts); err != nil {
		return KeyMaterial{}, err
	}
	secret := make([]byte, size)
	rand.Read(secret) // never fails: the program ends instead
	return KeyMaterial{Attributes: base.Merge(facts), Secret: secret}, nil
}

// baseOf checks a caller's template and lays it over the class's defaults.
func baseOf(class object.Class, template object.Template) (object.Template, error) {
	if err := template.CheckCreation(class); err != nil {
		return nil, err
	}
	base := object.Defaults(class).Merge(template)
	return base, base.CheckPolicy()
}

// generate makes a private key of the type and returns it with the attributes
// that describe its public half.
func generate(keyType object.KeyType, public object.Template) (any, object.Template, error) {
	if keyType == object.KeyRSA {
		return generateRSA(public)
	}
	return generateEC(public)
}

func generateRSA(public object.Template) (any, object.Template, error) {
	bits, given := public.Number(object.AttrModulusBits)
	if !given {
		return nil, nil, object.Errorf(object.ErrTemplateIncomplete, "CKA_MODULUS_BITS is missing: 2048, 3072 or 4096")
	}
	if bits > math.MaxInt32 {
		bits = math.MaxInt32
	}
	if err := checkSize(object.KeyRSA, rsaSizes, int(bits)); err != nil {
		return nil, nil, err
	}
	key, err := rsa.GenerateKey(rand.Reader, int(bits))
	if err != nil {
		return nil, nil, object.Errorf(object.ErrGeneral, "generating RSA key: %v", err)
	}
	facts, err := rsaFacts(&key.PublicKey)
	return key, facts, err
}

func generateEC(public object.Template) (any, object.Template, error) {
	params, given := public.Get(object.AttrECParams)
	if !given {
		return nil, nil, object.Errorf(object.ErrTemplateIncomplete, "CKA_EC_PARAMS is missing: the DER object identifier of P-256 or P-384")
	}
	c, err := curveByParams(params)
	if err != nil {
		return nil, nil, err
	}
	key, err := ecdsa.GenerateKey(c.Curve, rand.Reader)
	if err != nil {
		return nil, nil, object.Errorf(object.ErrGeneral, "generating EC key: %v", err)
	}
	facts, err := ecFacts(&key.PublicKey)
	return key, facts, err
}

func rsaFacts(public *rsa.PublicKey) (object.Template, error) {
	info, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, object.Errorf(object.ErrGeneral, "encoding public key: %v", err)
	}
	return object.New(
		object.Number(object.AttrKeyType, uint64(object.KeyRSA)),
		object.Bytes(object.AttrModulus, public.N.Bytes()),
		object.Number(object.AttrModulusBits, uint64(public.N.BitLen())),
		object.Bytes(object.AttrPublicExponent, []byte{1, 0, 1}), // rsaExponent
		object.Bytes(object.AttrPublicKeyInfo, info),
	), nil
}

func ecFacts(public *ecdsa.PublicKey) (object.Template, error) {
	info, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, object.Errorf(object.ErrGeneral, "encoding public key: %v", err)
	}
	c, err := curveOf(public.Curve)
	if err != nil {
		return nil, err
	}
	uncompressed, err := public.Bytes()
	if err != nil {
		return nil, object.Errorf(object.ErrGeneral, "encoding public point: %v", err)
	}
	point, err := asn1.Marshal(uncompressed)
	if err != nil {
		return nil, object.Errorf(object.ErrGeneral, "encoding public point: %v", err)
	}
	return object.New(
		object.Number(object.AttrKeyType, uint64(object.KeyEC)),
		object.Bytes(object.AttrECParams, c.params),
		object.Bytes(object.AttrECPoint, point),
		object.Bytes(object.AttrPublicKeyInfo, info),
	), nil
}

func secretFacts(size int) object.Template {
	return object.New(
		object.Number(object.AttrKeyType, uint64(object.KeyAES)),
		object.Number(object.AttrValueLen, uint64(size)),
	)
}

// keptInside says what is true of a key that was made here.
func keptInside(base object.Template) object.Template {
	return object.New(
		object.Bool(object.AttrAlwaysSensitive, base.Bool(object.AttrSensitive)),
		object.Bool(object.AttrNeverExtractable, !base.Bool(object.AttrExtractable)),
	)
}

// describing are the attributes that describe a key rather than rule it: a
// template may hold one only where the key has it too, and the same.
var describing = []object.AttributeType{
	object.AttrKeyType, object.AttrModulusBits, object.AttrPublicExponent, object.AttrECParams, object.AttrValueLen,
}

// contradiction refuses a template that describes another key.
func contradiction(template, facts object.Template) error {
	for _, typ := range describing {
		asked, given := template.Get(typ)
		if !given {
			continue
		}
		made, has := facts.Get(typ)
		if !has {
			keyType, _ := facts.KeyType()
			return object.Errorf(object.ErrTemplateInconsist, "a key of type %v has no %v; leave it out", keyType, typ)
		}
		if !bytes.Equal(asked, made) {
			return object.Errorf(object.ErrTemplateInconsist, "%v is %x, and the key has %x", typ, asked, made)
		}
	}
	return nil
}

// pairID is the CKA_ID that both halves get where their templates are silent.
func pairID(public, private, facts object.Template) []byte {
	for _, t := range []object.Template{public, private} {
		if id, _ := t.Get(object.AttrID); len(id) > 0 {
			return id
		}
	}
	info, _ := facts.Get(object.AttrPublicKeyInfo)
	sum := sha256.Sum256(info)
	return sum[:KeyIDSize]
}

func withID(base object.Template, id []byte) object.Template {
	if given, _ := base.Get(object.AttrID); len(given) > 0 {
		return base
	}
	return base.With(object.Bytes(object.AttrID, id))
}
