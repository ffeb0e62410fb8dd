package mech_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"fmt"
	"testing"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
)

// ring is a key of every kind, each of which may do all that its kind can.
func ring(t *testing.T, p mech.Policy) map[string]*mech.Key {
	t.Helper()
	keys := map[string]*mech.Key{}
	addPair := func(m object.Mechanism, template object.Template) {
		public, private, err := p.GenerateKeyPair(m, template, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, make := range []func() (*mech.Key, error){
			func() (*mech.Key, error) { return p.ParseKey(private.Attributes, private.Secret) },
			func() (*mech.Key, error) { return p.ParsePublic(public.Attributes) },
		} {
			key, err := make()
			if err != nil {
				t.Fatal(err)
			}
			keys[kind(key.Type(), key.Class())] = key
		}
	}
	addSecret := func(m object.Mechanism, template object.Template) {
		material, err := p.GenerateKey(m, template)
		if err != nil {
			t.Fatal(err)
		}
		key, err := p.ParseKey(material.Attributes, material.Secret)
		if err != nil {
			t.Fatal(err)
		}
		keys[kind(key.Type(), key.Class())] = key
	}
	addPair(rsaPairGen, rsaTemplate(2048))
	addPair(ecPairGen, ecTemplate(p256))
	addPair(edPairGen, nil)
	if !p.FIPS {
		addPair(xPairGen, nil)
	}
	addSecret(aesGen, aesTemplate(32).With(object.Bool(object.AttrEncrypt, true)).With(object.Bool(object.AttrDecrypt, true)))
	addSecret(genericGen, aesTemplate(32))
	return keys
}

func kind(typ object.KeyType, class object.Class) string { return fmt.Sprintf("%v %v", typ, class) }

// inputs are what a mechanism takes for a function: parameters, data that is
// good as far as can be, and the template of a key that is made.
type inputs struct {
	m        object.Mechanism
	data     []byte
	template object.Template
}

func inputsFor(t *testing.T, f mech.Function, typ object.MechanismType, keyType object.KeyType) inputs {
	in := inputs{m: object.Mechanism{Type: typ}, data: make([]byte, 32)}
	in.template = object.New(object.Number(object.AttrClass, uint64(object.ClassSecretKey)),
		object.Number(object.AttrKeyType, uint64(object.KeyGeneric)), object.Bool(object.AttrDerive, true))
	switch typ {
	case object.MechRSAPKCS:
		if f == mech.Decrypt {
			in.m.SessionKeyLen, in.data = 48, make([]byte, 256)
		} else {
			in.m.Hash = object.HashSHA256
		}
	case object.MechRSAPSS:
		in.m.Hash, in.m.SaltLength = object.HashSHA256, 32
	case object.MechRSAOAEP, object.MechRSAAESKeyWrap:
		in.m.Hash = object.HashSHA256
	case object.MechAESCBC, object.MechAESCBCPad, object.MechAESCTR:
		in.m.IV = make([]byte, 16)
	case object.MechHKDFDerive:
		in.m.Hash = object.HashSHA256
		in.template = in.template.With(object.Number(object.AttrValueLen, 32))
	case object.MechECDH1Derive:
		curve := ecdh.P256()
		if keyType == object.KeyMontgomery {
			curve = ecdh.X25519()
		}
		peer, err := curve.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		in.m.Peer = peer.PublicKey().Bytes()
	}
	return in
}

// perform does the function, and where that has an inverse, the inverse of
// what it made too.
func perform(t *testing.T, keys map[string]*mech.Key, key *mech.Key, f mech.Function, in inputs) error {
	target := keys["generic secret secret"]
	other := func(class object.Class) *mech.Key {
		if key.Class() == object.ClassSecretKey {
			return key
		}
		return keys[kind(key.Type(), class)]
	}
	switch f {
	case mech.Sign:
		signature, err := key.Sign(in.m, in.data)
		if err == nil {
			err = other(object.ClassPublicKey).Verify(in.m, in.data, signature)
		}
		return err
	case mech.Verify:
		if signer := other(object.ClassPrivateKey); signer != nil {
			if signature, err := signer.Sign(in.m, in.data); err == nil {
				return key.Verify(in.m, in.data, signature)
			}
		}
		return key.Verify(in.m, in.data, make([]byte, 32))
	case mech.Encrypt:
		_, err := key.Encrypt(in.m, in.data)
		return err
	case mech.Decrypt:
		if ciphertext, err := key.Encrypt(in.m, in.data); err == nil {
			in.data = ciphertext
		}
		_, err := key.Decrypt(in.m, in.data)
		return err
	case mech.Wrap:
		_, err := key.Wrap(in.m, target)
		return err
	case mech.Unwrap:
		wrapped := make([]byte, 40)
		if wrapping := other(object.ClassPublicKey); wrapping != nil {
			if made, err := wrapping.Wrap(in.m, target); err == nil {
				wrapped = made
			}
		}
		_, err := key.Unwrap(in.m, wrapped, in.template)
		return err
	case mech.Derive:
		_, err := key.Derive(in.m, in.template)
		return err
	}
	t.Fatalf("%v is not performed here", f)
	return nil
}

var uses = []mech.Function{mech.Sign, mech.Verify, mech.Encrypt, mech.Decrypt, mech.Wrap, mech.Unwrap, mech.Derive}

// Every mechanism, function and key that the table does not join is refused,
// and with the code that tells which of the three does not fit; and all that
// it joins is done.
func TestOnlyTheTable(t *testing.T) {
	t.Parallel()
	checkTable(t, mech.Policy{})
}

func checkTable(t *testing.T, p mech.Policy) {
	t.Helper()
	keys := ring(t, p)
	mechanisms := map[object.MechanismType]bool{0x1234: true}
	rows, any := map[string]bool{}, map[string]bool{}
	for _, row := range p.Mechanisms() {
		mechanisms[row.Mechanism] = true
		any[fmt.Sprint(row.Mechanism, row.Function)] = true
		rows[fmt.Sprint(row.Mechanism, row.Function, kind(row.KeyType, row.Class))] = true
	}
	done := 0
	for typ := range mechanisms {
		for _, f := range uses {
			for name, key := range keys {
				in := inputsFor(t, f, typ, key.Type())
				err := perform(t, keys, key, f, in)
				what := fmt.Sprintf("%v to %v with %s", typ, f, name)
				switch {
				case !any[fmt.Sprint(typ, f)]:
					wantCode(t, what, err, object.ErrMechanism)
				case !rows[fmt.Sprint(typ, f, name)]:
					wantCode(t, what, err, object.ErrKeyType)
				case typ == object.MechRSAOAEP: // what is decrypted was not encrypted
					wantCode(t, what, err, object.ErrDataLength)
					done++
				default:
					wantCode(t, what, err, object.OK)
					done++
				}
			}
		}
	}
	generating := 0
	for _, row := range p.Mechanisms() {
		if f, ok := mech.Generates(row.Mechanism); ok {
			generating++
			if f != row.Function {
				t.Errorf("%v generates by %v, and the table says %v", row.Mechanism, f, row.Function)
			}
		}
	}
	if all := len(p.Mechanisms()); done+generating != all {
		t.Errorf("%d rows of %d were done", done+generating, all)
	}
}
