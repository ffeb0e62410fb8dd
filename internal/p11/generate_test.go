package p11_test

import (
	"crypto/rsa"
	"testing"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/server"
	"moongate/internal/p11"
	"moongate/internal/p11/p11test"
)

func TestGenerate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(t, object.RoleCryptoOfficer)
	pub, priv, err := s.Generate(t.Context(), op, object.Mechanism{Type: object.MechRSAKeyPairGen},
		object.New(object.Number(object.AttrModulusBits, 2048), object.Text(object.AttrLabel, "forward"), object.Bytes(object.AttrID, []byte{7})),
		object.New(object.Text(object.AttrLabel, "forward")))
	if err != nil {
		t.Fatal(err)
	}
	key := private(t, s, "forward")
	if key.ID != priv || !key.Attributes.Bool(object.AttrSensitive) || key.Attributes.Bool(object.AttrExtractable) ||
		!key.Attributes.Bool(object.AttrSign) || key.Attributes.Bool(object.AttrDecrypt) || !key.Attributes.Bool(object.AttrNeverExtractable) {
		t.Errorf("the private key is %v", key.Attributes)
	}
	half, err := s.Attributes(t.Context(), op, pub, nil)
	if err != nil {
		t.Fatal(err)
	}
	if id, _ := half.Get(object.AttrID); string(id) != "\x07" || half.Text(object.AttrLabel) != "forward" {
		t.Errorf("the public key is %v", half)
	}
	if got := public(t, half).(*rsa.PublicKey); got.Size() != 256 || got.E != 65537 || !got.Equal(public(t, key.Attributes)) {
		t.Errorf("the public key is %v", got)
	}
	// An administrator finds it too.
	if outside := store.Public(t, w.label, "07").(*rsa.PublicKey); !outside.Equal(public(t, half)) {
		t.Error("pkcs11-tool reads another key")
	}
}

func TestGenerateRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	officer := w.session(t, object.RoleCryptoOfficer)
	bits := func(n uint64) object.Template { return object.New(object.Number(object.AttrModulusBits, n)) }
	for name, test := range map[string]struct {
		m               object.MechanismType
		public, private object.Template
		code            object.Code
	}{
		"a weak RSA key":     {object.MechRSAKeyPairGen, bits(1024), nil, object.ErrKeySize},
		"no size":            {object.MechRSAKeyPairGen, nil, nil, object.ErrKeySize},
		"an exponent of 3":   {object.MechRSAKeyPairGen, bits(2048).With(object.Bytes(object.AttrPublicExponent, []byte{3})), nil, object.ErrAttributeValue},
		"extractable":        {object.MechRSAKeyPairGen, bits(2048), object.New(object.Bool(object.AttrExtractable, true)), object.ErrTemplateInconsist},
		"not sensitive":      {object.MechRSAKeyPairGen, bits(2048), object.New(object.Bool(object.AttrSensitive, false)), object.ErrTemplateInconsist},
		"a session object":   {object.MechRSAKeyPairGen, bits(2048), object.New(object.Bool(object.AttrToken, false)), object.ErrTemplateInconsist},
		"no curve":           {object.MechECKeyPairGen, nil, nil, object.ErrAttributeValue},
		"another curve":      {object.MechECKeyPairGen, object.New(object.Bytes(object.AttrECParams, []byte("\x06\x05\x2b\x81\x04\x00\x0a"))), nil, object.ErrAttributeValue},
		"a subject":          {object.MechECKeyPairGen, object.New(ecP256), object.New(object.Bytes(object.AttrSubject, []byte{0x30, 0})), object.ErrTemplateInconsist},
		"AES of 40 bits":     {object.MechAESKeyGen, nil, object.New(object.Number(object.AttrValueLen, 5)), object.ErrKeySize},
		"AES with two halfs": {object.MechAESKeyGen, object.New(object.Text(object.AttrLabel, "x")), object.New(object.Number(object.AttrValueLen, 32)), object.ErrTemplateInconsist},
		"two kinds of use": {object.MechAESKeyGen, nil, object.New(object.Number(object.AttrValueLen, 32), object.Bool(object.AttrEncrypt, true),
			object.Bool(object.AttrWrap, true)), object.ErrTemplateInconsist},
		"Ed25519": {object.MechEdwardsGen, nil, nil, object.ErrMechanism},
	} {
		_, _, err := officer.Generate(t.Context(), op, object.Mechanism{Type: test.m}, test.public, test.private)
		wantCode(t, name, err, test.code)
	}
	user := w.session(t, object.RoleCryptoUser)
	_, _, err := user.Generate(t.Context(), op, object.Mechanism{Type: object.MechECKeyPairGen}, object.New(ecP256), nil)
	wantCode(t, "a Crypto User", err, object.ErrUserType)
	if found := find(t, officer); len(found) != 0 {
		t.Errorf("what was refused is on the token: %v", found)
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.module.logins.Load()
	s := w.session(t, object.RoleNone)
	wantCode(t, "a wrong PIN", s.Login(t.Context(), op, object.RoleCryptoUser, []byte("wrong")), object.ErrPINIncorrect)
	wantCode(t, "an empty PIN", s.Login(t.Context(), op, object.RoleCryptoUser, nil), object.ErrPINIncorrect)
	wantCode(t, "the Security Officer", s.Login(t.Context(), op, object.RoleSecurityOfficer, []byte(p11test.PIN)), object.ErrUserType)
	wantCode(t, "a logout before the login", s.Logout(t.Context(), op), object.ErrNotLoggedIn)
	if err := s.Login(t.Context(), op, object.RoleCryptoUser, []byte(p11test.PIN)); err != nil {
		t.Error(err)
	}
	wantCode(t, "a second login", s.Login(t.Context(), op, object.RoleCryptoOfficer, []byte(p11test.PIN)), object.ErrUserAlreadyLoggedIn)
	if err := s.Logout(t.Context(), op); err != nil {
		t.Error(err)
	}
	_, err := s.Random(t.Context(), op, 1)
	wantCode(t, "after the logout", err, object.ErrNotLoggedIn)
	if after := w.module.logins.Load(); after != before {
		t.Errorf("%d logins reached the token, expected none", after-before)
	}

	b := p11.Backend(w.token, client.Fingerprint)
	_, err = b.Attach(t.Context(), server.Peer{Fingerprint: server.Fingerprint{2}})
	wantCode(t, "another certificate", err, object.ErrNotRegistered)
	c, err := b.Attach(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", w.label, w.token.Slot().Serial} {
		if _, err := c.OpenSession(t.Context(), name); err != nil {
			t.Errorf("partition %q: %v", name, err)
		}
	}
	_, err = c.OpenSession(t.Context(), "other")
	wantCode(t, "another partition", err, object.ErrNotAssigned)
	if list, err := c.Partitions(t.Context()); err != nil || len(list) != 1 || list[0].Label != w.label {
		t.Errorf("the partitions are %v, %v", list, err)
	}
}
