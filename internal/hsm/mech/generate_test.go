package mech_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"testing"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"

	"github.com/google/go-cmp/cmp"
)

func TestRSAPairIsComplete(t *testing.T) {
	t.Parallel()
	p := sharedRSA(t)
	parsed, err := x509.ParsePKCS8PrivateKey(p.private.Secret)
	if err != nil {
		t.Fatal(err)
	}
	key := parsed.(*rsa.PrivateKey)
	info, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	id := sha256.Sum256(info)
	common := []object.Attribute{
		object.Bytes(object.AttrID, id[:20]),
		object.Number(object.AttrKeyType, uint64(object.KeyRSA)),
		object.Bytes(object.AttrModulus, key.N.Bytes()),
		object.Number(object.AttrModulusBits, 2048),
		object.Bytes(object.AttrPublicExponent, []byte{1, 0, 1}),
		object.Bytes(object.AttrPublicKeyInfo, info),
		object.Bool(object.AttrLocal, true),
		object.Number(object.AttrKeyGenMechanism, uint64(object.MechRSAKeyPairGen)),
	}
	wantPublic := object.Defaults(object.ClassPublicKey).Merge(object.New(common...))
	wantPrivate := object.Defaults(object.ClassPrivateKey).Merge(object.New(common...)).Merge(object.New(
		object.Bool(object.AttrAlwaysSensitive, true), object.Bool(object.AttrNeverExtractable, true)))
	if diff := cmp.Diff(wantPublic, p.public.Attributes); diff != "" {
		t.Errorf("public (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantPrivate, p.private.Attributes); diff != "" {
		t.Errorf("private (-want +got):\n%s", diff)
	}
	checkWritable(t, p.public.Attributes, p.private.Attributes)
	if p.public.Secret != nil {
		t.Error("the public key has a secret")
	}
}

// checkWritable: what is made can be stored and read back.
func checkWritable(t *testing.T, templates ...object.Template) {
	t.Helper()
	for _, template := range templates {
		if _, _, err := object.DecodeTemplate(template.Append(nil)); err != nil {
			t.Errorf("made attributes do not decode: %v", err)
		}
	}
}

func TestECPairIsComplete(t *testing.T) {
	t.Parallel()
	for _, params := range [][]byte{p256, p384, p521} {
		label := object.Text(object.AttrLabel, "k")
		public, private, err := mech.Policy{}.GenerateKeyPair(ecPairGen, ecTemplate(params).With(label), object.New(label, object.Bytes(object.AttrID, []byte{7})))
		if err != nil {
			t.Fatal(err)
		}
		checkWritable(t, public.Attributes, private.Attributes)
		key := publicKey(t, public).(*ecdsa.PublicKey)
		point, err := key.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		octets, err := asn1.Marshal(point)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := public.Attributes.Get(object.AttrECPoint); !bytes.Equal(got, octets) {
			t.Errorf("CKA_EC_POINT is %x, want %x", got, octets)
		}
		if private.Attributes.Has(object.AttrECPoint) {
			t.Error("the private key has a CKA_EC_POINT")
		}
		for _, half := range []mech.KeyMaterial{public, private} {
			if got, _ := half.Attributes.Get(object.AttrECParams); !bytes.Equal(got, params) {
				t.Errorf("CKA_EC_PARAMS is %x, want %x", got, params)
			}
			if got, _ := half.Attributes.Get(object.AttrID); !bytes.Equal(got, []byte{7}) {
				t.Errorf("CKA_ID is %x, want that of the private template", got)
			}
			if got := half.Attributes.Text(object.AttrLabel); got != "k" {
				t.Errorf("label is %q", got)
			}
		}
	}
}

func TestECParamsAreTheirOIDs(t *testing.T) {
	t.Parallel()
	for der, oid := range map[string]asn1.ObjectIdentifier{
		string(p256): {1, 2, 840, 10045, 3, 1, 7}, string(p384): {1, 3, 132, 0, 34}, string(p521): {1, 3, 132, 0, 35},
		string(ed25519Params): {1, 3, 101, 112}, string(x25519Params): {1, 3, 101, 110},
	} {
		if want, err := asn1.Marshal(oid); err != nil || string(want) != der {
			t.Errorf("%v is %x, %v, want %x", oid, want, err, der)
		}
	}
}

// Ed25519 and X25519 have one curve each, which need not be said, and
// CKA_EC_POINT is the key's 32 bytes as they are.
func TestCurve25519PairsAreComplete(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		m                    object.Mechanism
		keyType              object.KeyType
		params               []byte
		sign, derive, verify bool
	}{
		{edPairGen, object.KeyEdwards, ed25519Params, true, false, true},
		{xPairGen, object.KeyMontgomery, x25519Params, false, true, false},
	} {
		for _, public := range []object.Template{nil, ecTemplate(test.params)} {
			p := newPair(t, test.m, public)
			a, b := p.private.Attributes, p.public.Attributes
			checkWritable(t, a, b)
			if a.Bool(object.AttrSign) != test.sign || a.Bool(object.AttrDerive) != test.derive || b.Bool(object.AttrVerify) != test.verify {
				t.Errorf("%v may: %v and %v", test.keyType, a, b)
			}
			if got, _ := b.Get(object.AttrECParams); !bytes.Equal(got, test.params) {
				t.Errorf("CKA_EC_PARAMS is %x, want %x", got, test.params)
			}
			info, _ := b.Get(object.AttrPublicKeyInfo)
			if got, _ := b.Get(object.AttrECPoint); len(got) != 32 || !bytes.HasSuffix(info, got) || a.Has(object.AttrECPoint) {
				t.Errorf("CKA_EC_POINT is %x", got)
			}
			if typ, _ := a.KeyType(); typ != test.keyType || p.key.Bits() != 256 {
				t.Errorf("key is %v, want %v", p.key, test.keyType)
			}
			signedAndVerified(t, p.key, b)
		}
	}
}

func TestGenericSecretIsComplete(t *testing.T) {
	t.Parallel()
	for _, size := range []uint64{mech.MinGeneric, 33, mech.MaxGeneric} {
		material, err := mech.Policy{}.GenerateKey(genericGen, aesTemplate(size).With(object.Bool(object.AttrSign, true)))
		if err != nil {
			t.Fatal(err)
		}
		typ, _ := material.Attributes.KeyType()
		n, _ := material.Attributes.Number(object.AttrValueLen)
		if typ != object.KeyGeneric || n != size || uint64(len(material.Secret)) != size || !material.Attributes.Bool(object.AttrLocal) {
			t.Errorf("%d bytes: %v", len(material.Secret), material.Attributes)
		}
		if key := parse(t, material); key.Bits() != 8*int(size) {
			t.Errorf("key of %d bytes is %v", size, key)
		}
	}
	for _, size := range []uint64{0, mech.MinGeneric - 1, mech.MaxGeneric + 1, 1 << 61, 1 << 63} {
		_, err := mech.Policy{}.GenerateKey(genericGen, aesTemplate(size))
		wantCode(t, "another size", err, object.ErrKeySize)
	}
}

func TestAESKeyIsComplete(t *testing.T) {
	t.Parallel()
	for _, size := range []uint64{16, 24, 32} {
		_, material := newAES(t, size)
		want := object.Defaults(object.ClassSecretKey).Merge(object.New(
			object.Number(object.AttrKeyType, uint64(object.KeyAES)),
			object.Number(object.AttrValueLen, size),
			object.Bool(object.AttrLocal, true),
			object.Number(object.AttrKeyGenMechanism, uint64(object.MechAESKeyGen)),
			object.Bool(object.AttrAlwaysSensitive, true),
			object.Bool(object.AttrNeverExtractable, true),
		))
		if diff := cmp.Diff(want, material.Attributes); diff != "" {
			t.Errorf("attributes (-want +got):\n%s", diff)
		}
		if uint64(len(material.Secret)) != size {
			t.Errorf("key has %d bytes, want %d", len(material.Secret), size)
		}
	}
	extractable, err := mech.Policy{}.GenerateKey(aesGen, aesTemplate(32).With(object.Bool(object.AttrExtractable, true)))
	if err != nil {
		t.Fatal(err)
	}
	if extractable.Attributes.Bool(object.AttrNeverExtractable) {
		t.Error("an extractable key is called never extractable")
	}
}

func TestGenerationRefuses(t *testing.T) {
	t.Parallel()
	number, bytesOf, boolean := object.Number, object.Bytes, object.Bool
	for _, test := range []struct {
		name            string
		m               object.Mechanism
		public, private object.Template
		want            object.Code
	}{
		{"RSA without bits", rsaPairGen, nil, nil, object.ErrTemplateIncomplete},
		{"RSA 1024", rsaPairGen, rsaTemplate(1024), nil, object.ErrKeySize},
		{"RSA 2049", rsaPairGen, rsaTemplate(2049), nil, object.ErrKeySize},
		{"RSA 2^63", rsaPairGen, rsaTemplate(1 << 63), nil, object.ErrKeySize},
		{"RSA bits wrap around", rsaPairGen, rsaTemplate(1<<32 | 2048), nil, object.ErrKeySize},
		{"RSA exponent 3", rsaPairGen, rsaTemplate(2048).With(bytesOf(object.AttrPublicExponent, []byte{3})), nil, object.ErrTemplateInconsist},
		{"RSA with a curve", rsaPairGen, rsaTemplate(2048).With(bytesOf(object.AttrECParams, p256)), nil, object.ErrTemplateInconsist},
		{"EC without a curve", ecPairGen, nil, nil, object.ErrTemplateIncomplete},
		{"secp256k1", ecPairGen, ecTemplate([]byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a}), nil, object.ErrAttributeValue},
		{"EC on Ed25519", ecPairGen, ecTemplate(ed25519Params), nil, object.ErrAttributeValue},
		{"Ed25519 on X25519", edPairGen, ecTemplate(x25519Params), nil, object.ErrTemplateInconsist},
		{"Ed25519 with RSA bits", edPairGen, rsaTemplate(2048), nil, object.ErrTemplateInconsist},
		{"public key given", ecPairGen, ecTemplate(p256).With(bytesOf(object.AttrPublicKeyInfo, []byte{1})), nil, object.ErrTemplateInconsist},
		{"EC with RSA bits", ecPairGen, ecTemplate(p256).With(number(object.AttrModulusBits, 256)), nil, object.ErrTemplateInconsist},
		{"EC called RSA", ecPairGen, ecTemplate(p256), object.New(number(object.AttrKeyType, uint64(object.KeyRSA))), object.ErrTemplateInconsist},
		{"halves on two curves", ecPairGen, ecTemplate(p256), ecTemplate(p384), object.ErrTemplateInconsist},
		{"signs and derives", ecPairGen, ecTemplate(p256), object.New(boolean(object.AttrSign, true), boolean(object.AttrDerive, true)), object.ErrTemplateInconsist},
		{"wraps and verifies", rsaPairGen, rsaTemplate(2048).With(boolean(object.AttrWrap, true)).With(boolean(object.AttrVerify, true)), nil, object.ErrTemplateInconsist},
		{"X25519 that signs", xPairGen, nil, object.New(boolean(object.AttrSign, true)), object.ErrTemplateInconsist},
		{"insensitive", ecPairGen, ecTemplate(p256), object.New(boolean(object.AttrSensitive, false)), object.ErrTemplateInconsist},
		{"session object", ecPairGen, ecTemplate(p256).With(boolean(object.AttrToken, false)), nil, object.ErrTemplateInconsist},
		{"local given", ecPairGen, ecTemplate(p256).With(boolean(object.AttrLocal, true)), nil, object.ErrAttributeReadOnly},
		{"parameter", object.Mechanism{Type: object.MechECKeyPairGen, Hash: object.HashSHA256}, ecTemplate(p256), nil, object.ErrMechanismParam},
		{"not a pair", aesGen, nil, nil, object.ErrMechanism},
		{"unknown", object.Mechanism{Type: 0x9999}, nil, nil, object.ErrMechanism},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, private, err := mech.Policy{}.GenerateKeyPair(test.m, test.public, test.private)
			wantCode(t, "GenerateKeyPair", err, test.want)
			if private.Secret != nil {
				t.Error("a refusal came with a key")
			}
		})
	}
	for _, test := range []struct {
		name string
		t    object.Template
		want object.Code
	}{
		{"no length", nil, object.ErrTemplateIncomplete},
		{"15 bytes", aesTemplate(15), object.ErrKeySize},
		{"2^61 bytes", aesTemplate(1 << 61), object.ErrKeySize},
		{"called RSA", aesTemplate(32).With(number(object.AttrKeyType, 0)), object.ErrTemplateInconsist},
	} {
		_, err := mech.Policy{}.GenerateKey(aesGen, test.t)
		wantCode(t, "GenerateKey "+test.name, err, test.want)
	}
}

func TestParseKeyRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	rsaPair, ecPair := sharedRSA(t), newPair(t, ecPairGen, ecTemplate(p256))
	other := newPair(t, ecPairGen, ecTemplate(p256))
	_, aes := newAES(t, 32)
	small, err := rsa.GenerateKey(nil, 1024)
	if err != nil {
		t.Fatal(err)
	}
	smallDER, err := x509.MarshalPKCS8PrivateKey(small)
	if err != nil {
		t.Fatal(err)
	}
	bare := func(class object.Class, typ object.KeyType) object.Template {
		return object.New(object.Number(object.AttrClass, uint64(class)), object.Number(object.AttrKeyType, uint64(typ)))
	}
	for _, test := range []struct {
		name   string
		t      object.Template
		secret []byte
		want   object.Code
	}{
		{"another pair's secret", ecPair.private.Attributes, other.private.Secret, object.ErrDataInvalid},
		{"EC secret for RSA", rsaPair.private.Attributes, ecPair.private.Secret, object.ErrDataInvalid},
		{"public key", ecPair.public.Attributes, nil, object.ErrKeyType},
		{"no key type", object.Defaults(object.ClassPrivateKey), ecPair.private.Secret, object.ErrTemplateIncomplete},
		{"garbage", ecPair.private.Attributes, []byte("garbage"), object.ErrDataInvalid},
		{"nothing", ecPair.private.Attributes, nil, object.ErrDataInvalid},
		{"cut", ecPair.private.Attributes, ecPair.private.Secret[:40], object.ErrDataInvalid},
		{"RSA-1024", bare(object.ClassPrivateKey, object.KeyRSA), smallDER, object.ErrKeySize},
		{"AES of another length", aes.Attributes, aes.Secret[:16], object.ErrDataInvalid},
		{"AES of 17 bytes", bare(object.ClassSecretKey, object.KeyAES), make([]byte, 17), object.ErrKeySize},
		{"AES of no bytes", bare(object.ClassSecretKey, object.KeyAES), nil, object.ErrKeySize},
		{"secret RSA", bare(object.ClassSecretKey, object.KeyRSA), make([]byte, 32), object.ErrKeyType},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			key, err := mech.Policy{}.ParseKey(test.t, test.secret)
			wantCode(t, "ParseKey", err, test.want)
			if key != nil {
				t.Error("a refusal came with a key")
			}
		})
	}
}

func TestParseKeyKeepsNothingOfTheSecret(t *testing.T) {
	t.Parallel()
	key, material := newAES(t, 32)
	gcm := object.Mechanism{Type: object.MechAESGCM}
	sealed, err := key.Encrypt(gcm, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	kwp := object.Mechanism{Type: object.MechAESKWP}
	before, err := key.Wrap(kwp, key)
	if err != nil {
		t.Fatal(err)
	}
	material.Clear()
	if after, err := key.Wrap(kwp, key); err != nil || !bytes.Equal(after, before) {
		t.Errorf("wrapped after Clear: %x, %v, before: %x", after, err, before)
	}
	if got, err := key.Decrypt(gcm, sealed); err != nil || string(got) != "x" {
		t.Errorf("after Clear: %q, %v", got, err)
	}
	if got := key.Bits(); got != 256 || key.Type() != object.KeyAES || key.Class() != object.ClassSecretKey || key.Public() != nil {
		t.Errorf("key is %v %v of %d bits", key.Type(), key.Class(), got)
	}
}

// A modulus keeps its leading bit, so that CKA_MODULUS has no leading zero.
func TestModulusIsMinimal(t *testing.T) {
	t.Parallel()
	n, _ := sharedRSA(t).public.Attributes.Get(object.AttrModulus)
	if len(n) != 256 || new(big.Int).SetBytes(n).BitLen() != 2048 {
		t.Errorf("CKA_MODULUS has %d bytes", len(n))
	}
}
