package p11_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"math/big"
	"testing"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/server"
	"moongate/internal/p11"
)

// public is the key that an object tells of itself.
func public(t *testing.T, attributes object.Template) crypto.PublicKey {
	t.Helper()
	spki, _ := attributes.Get(object.AttrPublicKeyInfo)
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		t.Fatalf("reading CKA_PUBLIC_KEY_INFO: %v", err)
	}
	return key
}

// TestKeysOfAnAdministrator uses keys that pkcs11-tool made, some while the
// token was open already.
func TestKeysOfAnAdministrator(t *testing.T) {
	t.Parallel()
	w := closedWorld(t)
	store.Generate(t, w.label, "rsa:2048", "rsa", "01")
	w.start(t)
	s := w.session(t, object.RoleCryptoUser)
	if got := private(t, s, "rsa"); got.ID[6]>>4 != 8 {
		t.Errorf("the key's ID %v is not of version 8", got.ID)
	}
	store.Generate(t, w.label, "EC:prime256v1", "p256", "02")
	store.Generate(t, w.label, "EC:secp384r1", "p384", "03")
	store.Generate(t, w.label, "EC:secp521r1", "p521", "04")
	store.Generate(t, w.label, "EC:secp256k1", "other curve", "05")

	digests := map[object.Hash][]byte{}
	for h, sum := range map[object.Hash]crypto.Hash{object.HashSHA256: crypto.SHA256, object.HashSHA384: crypto.SHA384, object.HashSHA512: crypto.SHA512} {
		hash := sum.New()
		hash.Write([]byte("a message"))
		digests[h] = hash.Sum(nil)
	}
	for _, label := range []string{"p256", "p384", "p521"} {
		key := private(t, s, label)
		outside := public(t, key.Attributes).(*ecdsa.PublicKey)
		if label == "p256" && !store.Public(t, w.label, "02").(*ecdsa.PublicKey).Equal(outside) { // pkcs11-tool 0.23 reads no other curve
			t.Errorf("%s: the key's public half is not the one that pkcs11-tool reads", label)
		}
		// The gateway's way to find it.
		spki, _ := key.Attributes.Get(object.AttrPublicKeyInfo)
		found := find(t, s, object.Number(object.AttrClass, uint64(object.ClassPrivateKey)), object.Bytes(object.AttrPublicKeyInfo, spki))
		if len(found) != 1 || found[0].ID != key.ID {
			t.Errorf("%s: by its public key %v is found", label, found)
		}
		for h, digest := range digests {
			signature, _, err := s.Sign(t.Context(), op, key.ID, object.Mechanism{Type: object.MechECDSA, Hash: h}, digest)
			if err != nil {
				t.Errorf("%s: signing: %v", label, err)
				continue
			}
			half := len(signature) / 2
			r, v := new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:])
			if !ecdsa.Verify(outside, digest, r, v) {
				t.Errorf("%s, a digest of %d bytes: the signature is wrong", label, len(digest))
			}
		}
	}

	key := private(t, s, "rsa")
	outside := store.Public(t, w.label, "01").(*rsa.PublicKey)
	for h, sum := range map[object.Hash]crypto.Hash{object.HashSHA256: crypto.SHA256, object.HashSHA384: crypto.SHA384, object.HashSHA512: crypto.SHA512} {
		signature, _, err := s.Sign(t.Context(), op, key.ID, object.Mechanism{Type: object.MechRSAPKCS, Hash: h}, digests[h])
		if err != nil {
			t.Errorf("PKCS #1 v1.5 with %v: %v", sum, err)
		} else if err := rsa.VerifyPKCS1v15(outside, sum, digests[h], signature); err != nil {
			t.Errorf("PKCS #1 v1.5 with %v: %v", sum, err)
		}
		signature, _, err = s.Sign(t.Context(), op, key.ID, object.Mechanism{Type: object.MechRSAPSS, Hash: h, SaltLength: uint32(sum.Size())}, digests[h])
		if err != nil {
			t.Errorf("PSS with %v: %v", sum, err)
		} else if err := rsa.VerifyPSS(outside, sum, digests[h], signature, &rsa.PSSOptions{SaltLength: sum.Size()}); err != nil {
			t.Errorf("PSS with %v: %v", sum, err)
		}
	}
	if found := find(t, s, object.Text(object.AttrLabel, "other curve"), object.Number(object.AttrClass, uint64(object.ClassPrivateKey))); len(found) != 1 || found[0].Attributes.Has(object.AttrPublicKeyInfo) {
		t.Errorf("a key on a curve that is not supported is shown as %v, expected: without a public key", found)
	} else if _, _, err := s.Sign(t.Context(), op, found[0].ID, object.Mechanism{Type: object.MechECDSA}, digests[object.HashSHA256]); object.CodeOf(err) != object.ErrKeyType {
		t.Errorf("a key on a curve that is not supported: %v", err)
	}

	// One that was destroyed is gone, whatever is remembered of it.
	store.Tool(t, w.label, "--delete-object", "--type", "privkey", "--id", "02")
	p256 := object.Mechanism{Type: object.MechECDSA}
	gone := find(t, s, object.Text(object.AttrLabel, "p256"), object.Number(object.AttrClass, uint64(object.ClassPrivateKey)))
	if len(gone) != 0 {
		_, _, err := s.Sign(t.Context(), op, gone[0].ID, p256, digests[object.HashSHA256])
		wantCode(t, "a key that is gone", err, object.ErrKeyHandle)
	}
}

// TestIdentity: the same key has the same ID when the token is opened anew, and
// by another process.
func TestIdentity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	officer := w.session(t, object.RoleCryptoOfficer)
	made := makeEC(t, officer, "key")
	secret := makeAES(t, officer, "wrapping")
	var before []object.ID
	for _, f := range find(t, officer) {
		before = append(before, f.ID)
	}
	if len(before) != 3 {
		t.Fatalf("%d objects, expected 3", len(before))
	}
	if err := w.token.Close(); err != nil {
		t.Fatal(err)
	}
	w.start(t)
	s := w.session(t, object.RoleCryptoUser)
	if got := private(t, s, "key").ID; got != made {
		t.Errorf("the key was %v, and is %v", made, got)
	}
	if found := find(t, s, object.Number(object.AttrClass, uint64(object.ClassSecretKey))); len(found) != 1 || found[0].ID != secret {
		t.Errorf("the secret key was %v; found are %v", secret, found)
	}
	digest := sha256.Sum256(nil)
	if _, _, err := s.Sign(t.Context(), op, made, object.Mechanism{Type: object.MechECDSA}, digest[:]); err != nil {
		t.Errorf("by the ID of before: %v", err)
	}
}

// TestEndlessPages: a listing in pages of one object shows each once.
func TestEndlessPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(t, object.RoleCryptoOfficer)
	makeEC(t, s, "a")
	makeEC(t, s, "b")
	seen := map[object.ID]bool{}
	for after, more := uint64(0), true; more; {
		found, others, err := s.Find(t.Context(), op, nil, []object.AttributeType{object.AttrHandle}, after, 1)
		if err != nil || len(found) != 1 {
			t.Fatalf("%v, %v", found, err)
		}
		if seen[found[0].ID] {
			t.Fatal("an object is shown twice")
		}
		seen[found[0].ID] = true
		after, _ = found[0].Attributes.Number(object.AttrHandle)
		more = others
	}
	if len(seen) != 4 {
		t.Errorf("%d objects, expected 4", len(seen))
	}
	status, err := s.Status(t.Context(), op)
	if err != nil || status.Objects != 4 || !status.Active || status.Label != w.label || len(status.Roles) != 2 || !status.Roles[0].Initialized {
		t.Errorf("the status is %+v, %v", status, err)
	}
}

// TestPublicHalf: an EC private key finds its public half in the public key with
// its CKA_ID, and where that is gone in the certificate.
func TestPublicHalf(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(t, object.RoleCryptoUser)
	store.Generate(t, w.label, "EC:prime256v1", "half", "0a")
	want := public(t, private(t, s, "half").Attributes)
	certificate := certificateOf(t, s, private(t, s, "half").ID, want)
	store.Tool(t, w.label, "--delete-object", "--type", "pubkey", "--id", "0a")
	w.token.Close()
	w.start(t)
	s = w.session(t, object.RoleCryptoUser)
	alone := private(t, s, "half")
	if spki, has := alone.Attributes.Get(object.AttrPublicKeyInfo); has {
		t.Logf("this token's private keys tell their public key: %x", spki)
	} else {
		digest := sha256.Sum256(nil)
		_, _, err := s.Sign(t.Context(), op, alone.ID, object.Mechanism{Type: object.MechECDSA}, digest[:])
		wantCode(t, "a key without its public half", err, object.ErrKeyType)
	}
	store.Tool(t, w.label, "--write-object", certificate, "--type", "cert", "--id", "0a", "--label", "half")
	found := private(t, s, "half")
	if got, has := found.Attributes.Get(object.AttrPublicKeyInfo); !has {
		t.Error("the certificate beside it does not tell the key's public half")
	} else if spki, _ := x509.MarshalPKIXPublicKey(want); !bytes.Equal(got, spki) {
		t.Error("the public half is another's")
	}
	if list := find(t, s, object.Number(object.AttrClass, uint64(object.ClassCertificate))); len(list) != 1 || !list[0].Attributes.Has(object.AttrSubject) {
		t.Errorf("the certificate is shown as %v", list)
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(t, object.RoleCryptoOfficer)
	ec, rsaKey, aes := makeEC(t, s, "ec"), makeRSA(t, s, "rsa"), makeAES(t, s, "aes")
	digest := sha256.Sum256(nil)
	long := sha512.Sum512(nil)
	pub := find(t, s, object.Number(object.AttrClass, uint64(object.ClassPublicKey)))[0].ID
	for name, test := range map[string]struct {
		id     object.ID
		m      object.Mechanism
		digest []byte
		code   object.Code
	}{
		"no such key":        {object.NewID(), object.Mechanism{Type: object.MechECDSA}, digest[:], object.ErrKeyHandle},
		"a public key":       {pub, object.Mechanism{Type: object.MechECDSA}, digest[:], object.ErrKeyType},
		"an AES key":         {aes, object.Mechanism{Type: object.MechECDSA}, digest[:], object.ErrKeyNotPermitted},
		"RSA for ECDSA":      {rsaKey, object.Mechanism{Type: object.MechECDSA}, digest[:], object.ErrKeyType},
		"EC for RSA":         {ec, object.Mechanism{Type: object.MechRSAPKCS, Hash: object.HashSHA256}, digest[:], object.ErrKeyType},
		"no hash":            {rsaKey, object.Mechanism{Type: object.MechRSAPKCS}, digest[:], object.ErrMechanismParam},
		"another digest":     {rsaKey, object.Mechanism{Type: object.MechRSAPKCS, Hash: object.HashSHA256}, long[:], object.ErrDataLength},
		"unknown hash":       {rsaKey, object.Mechanism{Type: object.MechRSAPKCS, Hash: 0x220}, digest[:20], object.ErrDataLength},
		"no salt":            {rsaKey, object.Mechanism{Type: object.MechRSAPSS, Hash: object.HashSHA256}, digest[:], object.ErrMechanismParam},
		"too much salt":      {rsaKey, object.Mechanism{Type: object.MechRSAPSS, Hash: object.HashSHA256, SaltLength: 33}, digest[:], object.ErrMechanismParam},
		"a short digest":     {ec, object.Mechanism{Type: object.MechECDSA}, digest[:20], object.ErrDataLength},
		"an IV":              {ec, object.Mechanism{Type: object.MechECDSA, IV: digest[:16]}, digest[:], object.ErrMechanismParam},
		"another mechanism":  {ec, object.Mechanism{Type: object.MechEdDSA}, digest[:], object.ErrMechanism},
		"a MAC with a key":   {ec, object.Mechanism{Type: object.MechSHA256HMAC}, digest[:], object.ErrMechanism},
		"a session key size": {rsaKey, object.Mechanism{Type: object.MechRSAPKCS, Hash: object.HashSHA256, SessionKeyLen: 48}, digest[:], object.ErrMechanismParam},
	} {
		_, _, err := s.Sign(t.Context(), op, test.id, test.m, test.digest)
		wantCode(t, name, err, test.code)
	}
	none := w.session(t, object.RoleNone)
	_, _, err := none.Sign(t.Context(), op, ec, object.Mechanism{Type: object.MechECDSA}, digest[:])
	wantCode(t, "before the login", err, object.ErrNotLoggedIn)
	_, _, err = none.Find(t.Context(), op, nil, nil, 0, 10)
	wantCode(t, "a search before the login", err, object.ErrNotLoggedIn)
}

// TestAlwaysAuthenticate: a key that wants the PIN for each use is refused, and
// costs nobody else anything.
func TestAlwaysAuthenticate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(t, object.RoleCryptoUser)
	store.Generate(t, w.label, "EC:prime256v1", "guarded", "01", "--always-auth")
	before := w.module.logins.Load()
	digest := sha256.Sum256(nil)
	_, _, err := s.Sign(t.Context(), op, private(t, s, "guarded").ID, object.Mechanism{Type: object.MechECDSA}, digest[:])
	wantCode(t, "a key that wants the PIN", err, object.ErrKeyNotPermitted)
	if after := w.module.logins.Load(); after != before || !w.token.Health().Ready {
		t.Errorf("%d logins, ready %v; expected none, and true", after-before, w.token.Health().Ready)
	}
}

// TestFaultySignature: an RSA signature that is wrong would give the key away.
func TestFaultySignature(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(t, object.RoleCryptoOfficer)
	id := makeRSA(t, s, "rsa")
	digest := sha256.Sum256(nil)
	for _, m := range []object.Mechanism{{Type: object.MechRSAPKCS, Hash: object.HashSHA256}, {Type: object.MechRSAPSS, Hash: object.HashSHA256, SaltLength: 32}} {
		w.module.set(func(call string) error {
			if call == "spoil" {
				return p11.CKR(1)
			}
			return nil
		})
		out, _, err := s.Sign(t.Context(), op, id, m, digest[:])
		wantCode(t, "a wrong signature", err, object.ErrDeviceError)
		if out != nil {
			t.Error("it is passed on")
		}
		w.module.set(nil)
		if _, _, err := s.Sign(t.Context(), op, id, m, digest[:]); err != nil {
			t.Error(err)
		}
	}
}

func TestRandom(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(t, object.RoleCryptoUser)
	a, err := s.Random(t.Context(), op, 64<<10)
	if err != nil || len(a) != 64<<10 {
		t.Fatalf("%d bytes, %v", len(a), err)
	}
	b, err := s.Random(t.Context(), op, 64<<10)
	if err != nil || bytes.Equal(a, b) {
		t.Errorf("the same twice, %v", err)
	}
}

// makeAES makes an AES-256 key that encrypts and decrypts.
func makeAES(t *testing.T, s server.Session, label string) object.ID {
	t.Helper()
	_, id, err := s.Generate(t.Context(), op, object.Mechanism{Type: object.MechAESKeyGen}, nil,
		object.New(object.Number(object.AttrValueLen, 32), object.Text(object.AttrLabel, label),
			object.Bool(object.AttrEncrypt, true), object.Bool(object.AttrDecrypt, true)))
	if err != nil {
		t.Fatal(err)
	}
	return id
}
