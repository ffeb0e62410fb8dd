package mech_test

import (
	"testing"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
)

// TestWholeObjects: what this HSM made or imported is taken as it is, and
// nothing that only looks like it.
func TestWholeObjects(t *testing.T) {
	t.Parallel()
	p := mech.Policy{}
	made := map[string]mech.KeyMaterial{}
	for _, test := range opensslKeys {
		material, err := importWith(t, p, test.keyType, readFile(t, test.file))
		if err != nil {
			t.Fatal(err)
		}
		made[test.file] = material
	}
	public, private, err := p.GenerateKeyPair(object.Mechanism{Type: object.MechECKeyPairGen}, object.New(object.Bytes(object.AttrECParams, p256)), nil)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := p.GenerateKey(object.Mechanism{Type: object.MechAESKeyGen}, object.New(object.Number(object.AttrValueLen, 32)))
	if err != nil {
		t.Fatal(err)
	}
	made["public"], made["private"], made["secret"] = public, private, secret
	for name, m := range made {
		if err := p.CheckWhole(m.Attributes, m.Secret); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	with := func(m mech.KeyMaterial, list ...object.Attribute) mech.KeyMaterial {
		m.Attributes = m.Attributes.Merge(object.New(list...))
		return m
	}
	for name, c := range map[string]struct {
		m    mech.KeyMaterial
		want object.Code
	}{
		"a public key with a secret":  {mech.KeyMaterial{Attributes: public.Attributes, Secret: []byte{1}}, object.ErrDataInvalid},
		"a public key of no key":      {mech.KeyMaterial{Attributes: public.Attributes.Without(object.AttrPublicKeyInfo)}, object.ErrTemplateIncomplete},
		"another point":               {with(public, object.Bytes(object.AttrECPoint, []byte{4})), object.ErrTemplateInconsist},
		"another public half":         {mech.KeyMaterial{Attributes: private.Attributes, Secret: made["P-256.der"].Secret}, object.ErrDataInvalid},
		"a private key without one":   {mech.KeyMaterial{Attributes: private.Attributes}, object.ErrDataInvalid},
		"bytes behind a private key":  {mech.KeyMaterial{Attributes: private.Attributes, Secret: append(append([]byte(nil), private.Secret...), 0)}, object.ErrDataInvalid},
		"a key without its type":      {mech.KeyMaterial{Attributes: secret.Attributes.Without(object.AttrKeyType), Secret: secret.Secret}, object.ErrTemplateIncomplete},
		"a secret key that is RSA":    {with(secret, object.Number(object.AttrKeyType, uint64(object.KeyRSA))), object.ErrKeyType},
		"a length that is another":    {with(secret, object.Number(object.AttrValueLen, 16)), object.ErrDataInvalid},
		"a certificate with a secret": {mech.KeyMaterial{Attributes: object.Defaults(object.ClassCertificate), Secret: []byte{1}}, object.ErrDataInvalid},
	} {
		if err := p.CheckWhole(c.m.Attributes, c.m.Secret); object.CodeOf(err) != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	fips := mech.Policy{FIPS: true}
	for _, test := range opensslKeys {
		err := fips.CheckWhole(made[test.file].Attributes, made[test.file].Secret)
		if (test.keyType == object.KeyMontgomery) != (object.CodeOf(err) == object.ErrKeyType) {
			t.Errorf("%s in FIPS mode: %v", test.file, err)
		}
	}
}
