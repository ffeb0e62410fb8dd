package client

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"testing"
)

// deriving is a template for a secret that keys are derived from.
func deriving() Template { return NewTemplate(BoolAttr(AttrDerive, true)) }

// TestDerivation agrees with crypto/ecdh and crypto/hkdf.
func TestDerivation(t *testing.T) {
	t.Parallel()
	_, c := newClient(t)
	ctx := t.Context()
	other, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	otherEC, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x, err := c.GenerateX25519(ctx, nil, deriving())
	if err != nil {
		t.Fatal(err)
	}
	ec, err := c.GenerateEC(ctx, elliptic.P256(), nil, deriving().With(BoolAttr(AttrSign, false)))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		pair   KeyPair
		peer   crypto.PublicKey
		shared func(public crypto.PublicKey) ([]byte, error)
	}{
		"X25519": {x, other.PublicKey(), func(public crypto.PublicKey) ([]byte, error) { return other.ECDH(public.(*ecdh.PublicKey)) }},
		"P-256": {ec, otherEC.Public(), func(public crypto.PublicKey) ([]byte, error) {
			mine, err := otherEC.ECDH()
			if err != nil {
				return nil, err
			}
			theirs, err := public.(*ecdsa.PublicKey).ECDH()
			if err != nil {
				return nil, err
			}
			return mine.ECDH(theirs)
		}},
	} {
		secret, err := c.DeriveECDH(ctx, test.pair.Private, test.peer, deriving())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		mac, err := c.DeriveHKDF(ctx, secret, HashSHA256, []byte("salt"), []byte("info"),
			NewTemplate(NumberAttr(AttrValueLen, 32), BoolAttr(AttrSign, true)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := c.MAC(ctx, mac, MechSHA256HMAC, []byte("m"))
		if err != nil {
			t.Fatal(err)
		}
		public, err := c.PublicKey(ctx, test.pair.Private)
		if err != nil {
			t.Fatal(err)
		}
		shared, err := test.shared(public)
		if err != nil {
			t.Fatal(err)
		}
		key, err := hkdf.Key(sha256.New, shared, []byte("salt"), "info", 32)
		if err != nil {
			t.Fatal(err)
		}
		want := hmac.New(sha256.New, key)
		want.Write([]byte("m"))
		if !hmac.Equal(got, want.Sum(nil)) {
			t.Errorf("%s: the two sides derived different keys", name)
		}
	}
	if _, err := c.DeriveECDH(ctx, x.Private, ed25519.PublicKey(make([]byte, 32)), nil); CodeOf(err) != ErrMechanismParam {
		t.Errorf("a peer of another kind: %v", err)
	}
	if _, err := c.Key(ctx, x.Private); CodeOf(err) != ErrKeyType {
		t.Errorf("an X25519 key as a Key: %v", err)
	}
}
