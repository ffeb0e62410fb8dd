package mech_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/elliptic"
	"crypto/rand"
	"testing"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
)

// peerOf makes the other side of an agreement, and the secret that both have.
func peerOf(t *testing.T, curve ecdh.Curve, p pair) (public, shared []byte) {
	t.Helper()
	peer, err := curve.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ours, ok := p.key.Public().(*ecdh.PublicKey)
	if !ok {
		ours, err = p.key.Public().(interface {
			ECDH() (*ecdh.PublicKey, error)
		}).ECDH()
		if err != nil {
			t.Fatal(err)
		}
	}
	if shared, err = peer.ECDH(ours); err != nil {
		t.Fatal(err)
	}
	return peer.PublicKey().Bytes(), shared
}

var generic = usedFor(object.ClassSecretKey, object.KeyGeneric)

func TestBothSidesAgree(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		curve    ecdh.Curve
		m        object.Mechanism
		template object.Template
		size     int
	}{
		{ecdh.P256(), ecPairGen, ecTemplate(p256), 32}, {ecdh.P384(), ecPairGen, ecTemplate(p384), 48},
		{ecdh.P521(), ecPairGen, ecTemplate(p521), 66}, {ecdh.X25519(), xPairGen, nil, 32},
	} {
		p := newPair(t, test.m, test.template)
		peer, shared := peerOf(t, test.curve, p)
		got, err := p.key.Derive(object.Mechanism{Type: object.MechECDH1Derive, Peer: peer}, generic.With(object.Bool(object.AttrDerive, true)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Secret, shared) || len(shared) != test.size {
			t.Errorf("%v: %x, want %x", test.curve, got.Secret, shared)
		}
		checkWritable(t, got.Attributes)
		parse(t, got)
		if a := got.Attributes; a.Bool(object.AttrLocal) || !a.Bool(object.AttrDerive) || !a.Bool(object.AttrSensitive) {
			t.Errorf("attributes of a derived key: %v", a)
		}
		if n, _ := got.Attributes.Number(object.AttrValueLen); n != uint64(test.size) {
			t.Errorf("CKA_VALUE_LEN is %d, want %d", n, test.size)
		}
	}
}

// What a derived key may say of its past is what both it and its base may
// (PKCS#11 v3.1, section 6.3.17).
func TestDerivedKeysInheritTheirPast(t *testing.T) {
	t.Parallel()
	m := object.Mechanism{Type: object.MechHKDFDerive, Hash: object.HashSHA512}
	out := generic.With(object.Number(object.AttrValueLen, 32))
	for _, test := range []struct {
		name                string
		base, derived       []object.AttributeType
		sensitive, unleaked bool
	}{
		{"a good past", []object.AttributeType{object.AttrAlwaysSensitive, object.AttrNeverExtractable}, nil, true, true},
		{"an imported base", nil, nil, false, false},
		{"a base that could leave", []object.AttributeType{object.AttrAlwaysSensitive}, nil, true, false},
		{"an extractable key", []object.AttributeType{object.AttrAlwaysSensitive, object.AttrNeverExtractable}, []object.AttributeType{object.AttrExtractable}, true, false},
	} {
		base := secretKey(t, mech.Policy{}, object.KeyGeneric, make([]byte, 32), test.base...)
		template := out
		for _, typ := range test.derived {
			template = template.With(object.Bool(typ, true))
		}
		got, err := base.Derive(m, template)
		if err != nil {
			t.Fatal(err)
		}
		if a := got.Attributes; a.Bool(object.AttrAlwaysSensitive) != test.sensitive || a.Bool(object.AttrNeverExtractable) != test.unleaked {
			t.Errorf("%s: %v", test.name, a)
		}
	}
}

func TestDeriveRefuses(t *testing.T) {
	t.Parallel()
	ec, x := newPair(t, ecPairGen, ecTemplate(p256)), newPair(t, xPairGen, nil)
	point, _ := peerOf(t, ecdh.P256(), ec)
	off := bytes.Clone(point)
	off[64] ^= 1
	elsewhere, err := ecdh.P384().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	curve := elliptic.P256().Params()
	hybrid := bytes.Clone(point)
	hybrid[0] = 6 | point[64]&1
	hkdf := object.Mechanism{Type: object.MechHKDFDerive, Hash: object.HashSHA256}
	secret := secretKey(t, mech.Policy{}, object.KeyGeneric, make([]byte, 32))
	agree := func(peer []byte) object.Mechanism { return object.Mechanism{Type: object.MechECDH1Derive, Peer: peer} }
	size := func(n uint64) object.Attribute { return object.Number(object.AttrValueLen, n) }
	aesKey := usedFor(object.ClassSecretKey, object.KeyAES)
	for _, test := range []struct {
		name string
		key  *mech.Key
		m    object.Mechanism
		t    object.Template
		want object.Code
	}{
		{"right", ec.key, agree(point), generic, object.OK},
		{"no peer", ec.key, agree(nil), generic, object.ErrMechanismParam},
		{"point off the curve", ec.key, agree(off), generic, object.ErrMechanismParam},
		{"point at infinity", ec.key, agree([]byte{0}), generic, object.ErrMechanismParam},
		{"zero point", ec.key, agree(append([]byte{4}, make([]byte, 64)...)), generic, object.ErrMechanismParam},
		{"coordinate over the field", ec.key, agree(append(append([]byte{4}, curve.P.Bytes()...), point[33:]...)), generic, object.ErrMechanismParam},
		{"hybrid point", ec.key, agree(hybrid), generic, object.ErrMechanismParam},
		{"point of another curve", ec.key, agree(elsewhere.PublicKey().Bytes()), generic, object.ErrMechanismParam},
		{"bytes after the point", ec.key, agree(append(bytes.Clone(point), 0)), generic, object.ErrMechanismParam},
		{"X25519 of zero", x.key, agree(make([]byte, 32)), generic, object.ErrMechanismParam},
		{"X25519 of one", x.key, agree(append([]byte{1}, make([]byte, 31)...)), generic, object.ErrMechanismParam},
		{"X25519 of 31 bytes", x.key, agree(make([]byte, 31)), generic, object.ErrMechanismParam},
		{"more than the secret", ec.key, agree(point), generic.With(size(33)), object.ErrTemplateInconsist},
		{"less than a key", ec.key, agree(point), generic.With(size(15)), object.ErrKeySize},
		{"AES without a length", ec.key, agree(point), aesKey, object.ErrTemplateIncomplete},
		{"AES of 20 bytes", ec.key, agree(point), aesKey.With(size(20)), object.ErrKeySize},
		{"RSA", ec.key, agree(point), usedFor(object.ClassSecretKey, object.KeyRSA), object.ErrTemplateInconsist},
		{"private key", ec.key, agree(point), usedFor(object.ClassPrivateKey, object.KeyEC), object.ErrTemplateIncomplete},
		{"no key type", ec.key, agree(point), generic.Without(object.AttrKeyType), object.ErrTemplateIncomplete},
		{"two kinds of use", ec.key, agree(point), generic.Merge(object.New(object.Bool(object.AttrSign, true), object.Bool(object.AttrDerive, true))), object.ErrTemplateInconsist},
		{"a hash for ECDH", ec.key, object.Mechanism{Type: object.MechECDH1Derive, Peer: point, Hash: object.HashSHA256}, generic, object.ErrMechanismParam},
		{"HKDF without a length", secret, hkdf, generic, object.ErrTemplateIncomplete},
		{"HKDF without a hash", secret, object.Mechanism{Type: object.MechHKDFDerive}, generic.With(size(32)), object.ErrMechanismParam},
		{"HKDF of 513 bytes", secret, hkdf, generic.With(size(513)), object.ErrKeySize},
		{"HKDF of 2^63 bytes", secret, hkdf, generic.With(size(1 << 63)), object.ErrKeySize},
		{"HKDF with much info", secret, object.Mechanism{Type: object.MechHKDFDerive, Hash: object.HashSHA256, Info: make([]byte, mech.MaxInfo+1)}, generic.With(size(32)), object.ErrMechanismParam},
		{"HKDF with a peer", secret, object.Mechanism{Type: object.MechHKDFDerive, Hash: object.HashSHA256, Peer: point}, generic.With(size(32)), object.ErrMechanismParam},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := test.key.Derive(test.m, test.t)
			wantCode(t, "Derive", err, test.want)
			if (got.Secret == nil) != (err != nil) {
				t.Error("a refusal came with a key")
			}
		})
	}
}

// In FIPS mode a shared secret is no key yet.
func TestFIPSAgreementNeedsHKDF(t *testing.T) {
	t.Parallel()
	p := newPair(t, ecPairGen, ecTemplate(p256))
	key, err := mech.Policy{FIPS: true}.ParseKey(p.private.Attributes, p.private.Secret)
	if err != nil {
		t.Fatal(err)
	}
	peer, shared := peerOf(t, ecdh.P256(), p)
	m := object.Mechanism{Type: object.MechECDH1Derive, Peer: peer}
	derives := generic.With(object.Bool(object.AttrDerive, true))
	for name, template := range map[string]object.Template{
		"an AES key":            usedFor(object.ClassSecretKey, object.KeyAES).With(object.Number(object.AttrValueLen, 32)),
		"a key that signs":      generic.With(object.Bool(object.AttrSign, true)),
		"a key without a use":   generic,
		"half of the secret":    derives.With(object.Number(object.AttrValueLen, 16)),
		"the whole, said twice": derives.With(object.Number(object.AttrValueLen, 32)),
	} {
		_, err := key.Derive(m, template)
		wantCode(t, name, err, object.ErrTemplateInconsist)
	}
	got, err := key.Derive(m, derives)
	if err != nil || !bytes.Equal(got.Secret, shared) {
		t.Errorf("the whole secret: %v, %v", got, err)
	}
}
