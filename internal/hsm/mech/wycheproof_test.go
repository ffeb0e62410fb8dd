package mech_test

import (
	"bytes"
	"crypto/aes"
	"testing"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/mech/wycheprooftest"
	"moongate/internal/hsm/object"

	"github.com/c2sp/wycheproof"
)

// direct is this package as a device: keys enter wrapped, are kept as
// attributes and secret, and are parsed again, as in an HSM.
type direct struct {
	policy   mech.Policy
	wrapping *mech.Key
	// wrap wraps for wrapping, in the test's own hands.
	wrap func(value []byte) []byte
}

var kwp = object.Mechanism{Type: object.MechAESKWP}

func newDirect(tb testing.TB) *direct {
	tb.Helper()
	value := bytes.Repeat([]byte{7}, 32)
	block, err := aes.NewCipher(value)
	if err != nil {
		tb.Fatal(err)
	}
	key, err := mech.Policy{}.ParseKey(secretTemplate(object.Bool(object.AttrUnwrap, true)), value)
	if err != nil {
		tb.Fatal(err)
	}
	return &direct{wrapping: key, wrap: func(value []byte) []byte { return mech.KWPWrap(block, value) }}
}

func (d *direct) ImportPrivate(t object.Template, pkcs8 []byte) (wycheprooftest.Key, error) {
	return d.ImportSecret(t, pkcs8)
}

func (d *direct) ImportSecret(t object.Template, value []byte) (wycheprooftest.Key, error) {
	return d.Unwrap(d.wrapping, kwp, d.wrap(value), t)
}

func (d *direct) ImportPublic(t object.Template, info []byte) (wycheprooftest.Key, error) {
	whole, err := d.policy.CompletePublic(t.With(object.Bytes(object.AttrPublicKeyInfo, info)))
	if err != nil {
		return nil, err
	}
	return d.policy.ParsePublic(whole)
}

func (d *direct) parsed(material mech.KeyMaterial, err error) (wycheprooftest.Key, error) {
	if err != nil {
		return nil, err
	}
	return d.policy.ParseKey(material.Attributes, material.Secret)
}

func (d *direct) Sign(k wycheprooftest.Key, m object.Mechanism, data []byte) ([]byte, error) {
	return k.(*mech.Key).Sign(m, data)
}

func (d *direct) Verify(k wycheprooftest.Key, m object.Mechanism, data, signature []byte) error {
	return k.(*mech.Key).Verify(m, data, signature)
}

func (d *direct) Encrypt(k wycheprooftest.Key, m object.Mechanism, plaintext []byte) ([]byte, error) {
	return k.(*mech.Key).Encrypt(m, plaintext)
}

func (d *direct) Decrypt(k wycheprooftest.Key, m object.Mechanism, ciphertext []byte) ([]byte, error) {
	return k.(*mech.Key).Decrypt(m, ciphertext)
}

func (d *direct) Wrap(wrapping, target wycheprooftest.Key, m object.Mechanism) ([]byte, error) {
	return wrapping.(*mech.Key).Wrap(m, target.(*mech.Key))
}

func (d *direct) Unwrap(unwrapping wycheprooftest.Key, m object.Mechanism, wrapped []byte, t object.Template) (wycheprooftest.Key, error) {
	return d.parsed(unwrapping.(*mech.Key).Unwrap(m, wrapped, t))
}

func (d *direct) Derive(base wycheprooftest.Key, m object.Mechanism, t object.Template) (wycheprooftest.Key, error) {
	return d.parsed(base.(*mech.Key).Derive(m, t))
}

func (d *direct) Destroy(wycheprooftest.Key) error { return nil }

// The race detector slows arithmetic down by a factor of 5 and has nothing to
// find in it: with it, one vector of 8 is run.
func TestWycheproof(t *testing.T) {
	t.Parallel()
	every := 1
	if raceDetector {
		every = 8
	}
	t.Log(wycheprooftest.RunSample(t, wycheproof.TestVectors, newDirect(t), every))
}
