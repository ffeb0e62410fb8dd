package partition

import (
	"maps"
	"strings"
	"testing"

	"moongate/internal/audit"
	"moongate/internal/hsm/object"
)

// set sets a policy of the test's partition, as if it had always been so.
func (w *world) set(id object.PolicyID, value uint64) {
	w.t.Helper()
	for _, p := range w.partitions {
		fresh := maps.Clone(*p.policies.Load())
		if fresh == nil {
			fresh = map[object.PolicyID]uint64{}
		}
		fresh[id] = value
		p.policies.Store(&fresh)
	}
}

func (w *world) secret(s *Session, bytes int, flags ...object.AttributeType) object.ID {
	w.t.Helper()
	id, err := w.trySecret(s, bytes, flags...)
	must(w.t, err)
	return id
}

func (w *world) trySecret(s *Session, bytes int, flags ...object.AttributeType) (object.ID, error) {
	w.t.Helper()
	_, id, err := s.Generate(w.t.Context(), newOp(), aes, nil, secretTemplate(bytes, flags...))
	return id, err
}

func secretTemplate(bytes int, flags ...object.AttributeType) object.Template {
	t := object.New(object.Number(object.AttrValueLen, uint64(bytes)))
	for _, flag := range flags {
		t = t.With(object.Bool(flag, true))
	}
	return t
}

func flagged(flags ...object.AttributeType) object.Template {
	var t object.Template
	for _, flag := range flags {
		t = t.With(object.Bool(flag, true))
	}
	return t
}

func ofKind(class object.Class, keyType object.KeyType) object.Template {
	return object.New(object.Number(object.AttrClass, uint64(class)), object.Number(object.AttrKeyType, uint64(keyType)))
}

var (
	kwp      = object.Mechanism{Type: object.MechAESKWP}
	gcm      = object.Mechanism{Type: object.MechAESGCM}
	ecdsa256 = object.Mechanism{Type: object.MechECDSA}
	rsaGen   = object.Mechanism{Type: object.MechRSAKeyPairGen}
	rsa2048  = object.New(object.Number(object.AttrModulusBits, 2048))
	p384     = object.New(object.Bytes(object.AttrECParams, []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22}))
)

// wantForbidden wants ErrPolicy with the policy, its value and who may change
// it, and the same in the record.
func (w *world) wantForbidden(err error, id object.PolicyID, value string) {
	w.t.Helper()
	wantCode(w.t, err, object.ErrPolicy)
	for _, part := range []string{"policy " + id.String() + " ", " is " + value + ",", "Partition Security Officer"} {
		if err != nil && !strings.Contains(err.Error(), part) {
			w.t.Errorf("the refusal does not say %q: %v", part, err)
		}
	}
	if last := w.lastRecord(); last.Outcome != object.ErrPolicy.String() {
		w.t.Errorf("the refusal was recorded as %s %s %q", last.Kind, last.Action, last.Outcome)
	}
}

// TestExtractablePolicies: a key that may leave is refused where it is made,
// derived and unwrapped, and one that was made before the policy was turned off
// does not leave any more.
func TestExtractablePolicies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set(object.PolicyPrivateExtractable, 1)
	s, ctx := w.session(object.RoleCryptoOfficer), t.Context()
	by := w.secret(s, 32, object.AttrWrap, object.AttrUnwrap)
	_, base, err := s.Generate(ctx, newOp(), object.Mechanism{Type: object.MechGenericSecretGen}, nil, secretTemplate(32, object.AttrDerive))
	must(t, err)
	secret := w.secret(s, 16, object.AttrExtractable)
	_, private, err := s.Generate(ctx, newOp(), ec, p256, flagged(object.AttrExtractable))
	must(t, err)
	wrap := func(id object.ID) ([]byte, error) { return s.Wrap(ctx, newOp(), by, id, kwp) }
	wrappedSecret, err := wrap(secret)
	must(t, err)
	wrappedPrivate, err := wrap(private)
	must(t, err)

	acts := map[object.PolicyID]map[string]func() error{
		object.PolicySecretExtractable: {
			"generate": func() error { _, err := w.trySecret(s, 16, object.AttrExtractable); return err },
			"derive": func() error {
				_, err := s.Derive(ctx, newOp(), base, object.Mechanism{Type: object.MechHKDFDerive, Hash: object.HashSHA256},
					ofKind(object.ClassSecretKey, object.KeyAES).Merge(secretTemplate(16, object.AttrExtractable)))
				return err
			},
			"unwrap": func() error {
				_, err := s.Unwrap(ctx, newOp(), by, kwp, wrappedSecret, ofKind(object.ClassSecretKey, object.KeyAES).Merge(flagged(object.AttrExtractable)))
				return err
			},
			"wrap": func() error { _, err := wrap(secret); return err },
		},
		object.PolicyPrivateExtractable: {
			"generate": func() error {
				_, _, err := s.Generate(ctx, newOp(), ec, p256, flagged(object.AttrExtractable))
				return err
			},
			"unwrap": func() error {
				_, err := s.Unwrap(ctx, newOp(), by, kwp, wrappedPrivate, ofKind(object.ClassPrivateKey, object.KeyEC).Merge(flagged(object.AttrExtractable)))
				return err
			},
			"wrap": func() error { _, err := wrap(private); return err },
		},
	}
	for id, list := range acts {
		for name, do := range list {
			if err := do(); err != nil {
				t.Errorf("%v on: %s: %v", id, name, err)
			}
		}
		w.set(id, 0)
		there := len(s.p.objects)
		for name, do := range list {
			err := do()
			w.wantForbidden(err, id, "off")
			if err == nil {
				t.Errorf("%v off: %s was done", id, name)
			}
		}
		if len(s.p.objects) != there {
			t.Errorf("%v off: objects were made", id)
		}
		w.set(id, 1)
	}
	w.set(object.PolicyPrivateExtractable, 0) // keys that stay are no matter of the policy
	if _, err := s.Unwrap(ctx, newOp(), by, kwp, wrappedPrivate, ofKind(object.ClassPrivateKey, object.KeyEC)); err != nil {
		t.Errorf("a private key that comes to stay: %v", err)
	}
}

func TestPrivateKeysStayByDefault(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, _, err := w.session(object.RoleCryptoOfficer).Generate(t.Context(), newOp(), ec, p256, flagged(object.AttrExtractable))
	w.wantForbidden(err, object.PolicyPrivateExtractable, "off")
}

// TestPrivateKeyLeavesUnderOneAsStrong, by AES and by a stored public key.
func TestPrivateKeyLeavesUnderOneAsStrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set(object.PolicyPrivateExtractable, 1)
	s, ctx := w.session(object.RoleCryptoOfficer), t.Context()
	weak, strong := w.secret(s, 16, object.AttrWrap), w.secret(s, 24, object.AttrWrap)
	made, unwrapping, err := s.Generate(ctx, newOp(), rsaGen, rsa2048.Merge(flagged(object.AttrWrap)), flagged(object.AttrUnwrap))
	must(t, err)
	attrs, err := s.Attributes(ctx, newOp(), made, []object.AttributeType{object.AttrPublicKeyInfo})
	must(t, err)
	public, err := s.Store(ctx, newOp(), attrs.Merge(object.New(object.Number(object.AttrClass, uint64(object.ClassPublicKey)))).Merge(flagged(object.AttrWrap)))
	must(t, err)
	key := func(m object.Mechanism, public object.Template) object.ID {
		_, id, err := s.Generate(ctx, newOp(), m, public, flagged(object.AttrExtractable))
		must(t, err)
		return id
	}
	target := map[string]object.ID{"rsa": key(rsaGen, rsa2048), "p256": key(ec, p256), "p384": key(ec, p384)}
	oaep := object.Mechanism{Type: object.MechRSAAESKeyWrap, Hash: object.HashSHA256}
	for _, test := range []struct {
		target string
		by     object.ID
		m      object.Mechanism
		want   object.Code
	}{
		{"rsa", weak, kwp, object.OK},
		{"rsa", public, oaep, object.OK},
		{"p256", weak, kwp, object.OK},
		{"p256", public, oaep, object.ErrKeySize}, // 112 bits
		{"p384", weak, kwp, object.ErrKeySize},
		{"p384", strong, kwp, object.OK},
	} {
		_, err := s.Wrap(ctx, newOp(), test.by, target[test.target], test.m)
		if object.CodeOf(err) != test.want {
			t.Errorf("%s by %v: %v, want %v", test.target, test.m.Type, err, test.want)
		}
	}
	wrapped, err := s.Wrap(ctx, newOp(), public, target["rsa"], oaep)
	must(t, err)
	back, err := s.Unwrap(ctx, newOp(), unwrapping, oaep, wrapped, ofKind(object.ClassPrivateKey, object.KeyRSA))
	must(t, err)
	m := object.Mechanism{Type: object.MechRSAPKCS, Hash: object.HashSHA256}
	one, err := recorded(s).Sign(ctx, newOp(), back, m, make([]byte, 32))
	must(t, err)
	other, err := recorded(s).Sign(ctx, newOp(), target["rsa"], m, make([]byte, 32))
	must(t, err)
	if string(one) != string(other) {
		t.Error("the key that came back is another")
	}
}

func TestPKCS1DecryptionPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, ctx := w.session(object.RoleCryptoUser), t.Context()
	_, id, err := w.session(object.RoleCryptoOfficer).Generate(ctx, newOp(), rsaGen, rsa2048, flagged(object.AttrDecrypt))
	must(t, err)
	m := object.Mechanism{Type: object.MechRSAPKCS, SessionKeyLen: 48}
	ciphertext := append([]byte{0}, make([]byte, 255)...)
	ciphertext[255] = 2
	_, err = recorded(s).Decrypt(ctx, newOp(), id, m, ciphertext)
	must(t, err)
	w.set(object.PolicyPKCS1Decrypt, 0)
	_, err = recorded(s).Decrypt(ctx, newOp(), id, m, ciphertext)
	w.wantForbidden(err, object.PolicyPKCS1Decrypt, "off")
	// Signing with the same padding is another matter.
	_, err = recorded(s).Sign(ctx, newOp(), id, object.Mechanism{Type: object.MechRSAPKCS, Hash: object.HashSHA256}, make([]byte, 32))
	must(t, err)
}

// TestSizePolicies: the smallest key is refused when it is made, stored and
// used, and still verifies.
func TestSizePolicies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, ctx := w.session(object.RoleCryptoOfficer), t.Context()
	pub, small := w.newKey(s)
	signature, err := recorded(s).Sign(ctx, newOp(), small, ecdsa256, make([]byte, 32))
	must(t, err)
	info, err := s.Attributes(ctx, newOp(), pub, []object.AttributeType{object.AttrPublicKeyInfo})
	must(t, err)
	import256 := info.Merge(object.New(object.Number(object.AttrClass, uint64(object.ClassPublicKey))))
	_, rsaKey, err := s.Generate(ctx, newOp(), rsaGen, rsa2048, nil)
	must(t, err)
	aesKey := w.secret(s, 16, object.AttrEncrypt)
	by := w.secret(s, 32, object.AttrWrap, object.AttrUnwrap)
	wrapped, err := s.Wrap(ctx, newOp(), by, w.secret(s, 16, object.AttrExtractable), kwp)
	must(t, err)
	_, edwards, err := s.Generate(ctx, newOp(), object.Mechanism{Type: object.MechEdwardsGen}, nil, nil)
	must(t, err)

	for _, test := range []struct {
		policy object.PolicyID
		value  uint64
		text   string
		acts   map[string]func() error
	}{
		{object.PolicyMinRSA, 3072, "3072", map[string]func() error{
			"make": func() error { _, _, err := s.Generate(ctx, newOp(), rsaGen, rsa2048, nil); return err },
			"use": func() error {
				_, err := recorded(s).Sign(ctx, newOp(), rsaKey, object.Mechanism{Type: object.MechRSAPKCS, Hash: object.HashSHA256}, make([]byte, 32))
				return err
			},
		}},
		{object.PolicyMinEC, 384, "384", map[string]func() error{
			"make":   func() error { _, _, err := s.Generate(ctx, newOp(), ec, p256, nil); return err },
			"import": func() error { _, err := s.Store(ctx, newOp(), import256); return err },
			"use":    func() error { _, err := recorded(s).Sign(ctx, newOp(), small, ecdsa256, make([]byte, 32)); return err },
			"Ed25519": func() error {
				_, err := recorded(s).Sign(ctx, newOp(), edwards, object.Mechanism{Type: object.MechEdDSA}, nil)
				return err
			},
		}},
		{object.PolicyMinAES, 192, "192", map[string]func() error{
			"make": func() error { _, err := w.trySecret(s, 16); return err },
			"import": func() error {
				_, err := s.Unwrap(ctx, newOp(), by, kwp, wrapped, ofKind(object.ClassSecretKey, object.KeyAES))
				return err
			},
			"use": func() error { _, err := recorded(s).Encrypt(ctx, newOp(), aesKey, gcm, []byte("x")); return err },
		}},
	} {
		for name, do := range test.acts {
			if err := do(); err != nil {
				t.Errorf("%v at its default: %s: %v", test.policy, name, err)
			}
		}
		w.set(test.policy, test.value)
		for name, do := range test.acts {
			err := do()
			if err == nil {
				t.Errorf("%v is %d: %s was done", test.policy, test.value, name)
			}
			w.wantForbidden(err, test.policy, test.text)
		}
	}
	must(t, s.Verify(ctx, newOp(), pub, ecdsa256, make([]byte, 32), signature))
	if _, err := w.trySecret(s, 24); err != nil {
		t.Errorf("an AES key of the least size: %v", err)
	}
	if _, _, err := s.Generate(ctx, newOp(), ec, p384, nil); err != nil {
		t.Errorf("an EC key of the least size: %v", err)
	}
	if _, err := s.Store(ctx, newOp(), object.New(object.Number(object.AttrClass, uint64(object.ClassCertificate)), object.Bytes(object.AttrValue, certificateFor(t)))); err != nil {
		t.Errorf("a certificate is no key: %v", err)
	}
}

func TestUserSignsPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	officer, user, ctx := w.session(object.RoleCryptoOfficer), w.session(object.RoleCryptoUser), t.Context()
	pub, id := w.newKey(officer)
	mac, hmac := object.Mechanism{Type: object.MechAESCMAC}, w.secret(officer, 32, object.AttrSign, object.AttrVerify)
	sign := func(s *Session) error {
		_, err := recorded(s).Sign(ctx, newOp(), id, ecdsa256, make([]byte, 32))
		return err
	}
	makeMAC := func(s *Session) ([]byte, error) { return recorded(s).Sign(ctx, newOp(), hmac, mac, []byte("message")) }
	must(t, sign(user))
	tag, err := makeMAC(user)
	must(t, err)
	signature, err := recorded(user).Sign(ctx, newOp(), id, ecdsa256, make([]byte, 32))
	must(t, err)
	w.set(object.PolicyUserSigns, 0)
	w.wantForbidden(sign(user), object.PolicyUserSigns, "off")
	_, err = makeMAC(user)
	w.wantForbidden(err, object.PolicyUserSigns, "off")
	must(t, sign(officer))
	must(t, user.Verify(ctx, newOp(), pub, ecdsa256, make([]byte, 32), signature))
	must(t, user.Verify(ctx, newOp(), hmac, mac, []byte("message"), tag))
}

func TestImportPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, ctx := w.session(object.RoleCryptoOfficer), t.Context()
	by := w.secret(s, 32, object.AttrWrap, object.AttrUnwrap)
	wrapped, err := s.Wrap(ctx, newOp(), by, w.secret(s, 16, object.AttrExtractable), kwp)
	must(t, err)
	pub, _ := w.newKey(s)
	info, err := s.Attributes(ctx, newOp(), pub, []object.AttributeType{object.AttrPublicKeyInfo})
	must(t, err)
	acts := map[string]func() error{
		"unwrap": func() error {
			_, err := s.Unwrap(ctx, newOp(), by, kwp, wrapped, ofKind(object.ClassSecretKey, object.KeyAES))
			return err
		},
		"store": func() error {
			_, err := s.Store(ctx, newOp(), info.Merge(object.New(object.Number(object.AttrClass, uint64(object.ClassPublicKey)))))
			return err
		},
	}
	for name, do := range acts {
		if err := do(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.set(object.PolicyImport, 0)
	for _, do := range acts {
		w.wantForbidden(do(), object.PolicyImport, "off")
	}
	_, err = s.Store(ctx, newOp(), object.New(object.Number(object.AttrClass, uint64(object.ClassCertificate)), object.Bytes(object.AttrValue, certificateFor(t))))
	must(t, err)
}

// TestVerify: a signature by a public key, a MAC by its own, either wrong, and
// a key that may not.
func TestVerify(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, ctx := w.session(object.RoleCryptoOfficer), t.Context()
	edPub, edPriv, err := s.Generate(ctx, newOp(), object.Mechanism{Type: object.MechEdwardsGen}, nil, nil)
	must(t, err)
	_, hmacKey, err := s.Generate(ctx, newOp(), object.Mechanism{Type: object.MechGenericSecretGen}, nil, secretTemplate(32, object.AttrSign, object.AttrVerify))
	must(t, err)
	ecPub, ecPriv := w.newKey(s)
	long := []byte(strings.Repeat("a whole message ", 1000))
	for _, test := range []struct {
		sign, verify object.ID
		m            object.Mechanism
		data         []byte
	}{
		{edPriv, edPub, object.Mechanism{Type: object.MechEdDSA}, long},
		{hmacKey, hmacKey, object.Mechanism{Type: object.MechSHA384HMAC}, long},
		{ecPriv, ecPub, object.Mechanism{Type: object.MechECDSA, Hash: object.HashSHA384}, make([]byte, 48)},
	} {
		signature, err := recorded(s).Sign(ctx, newOp(), test.sign, test.m, test.data)
		must(t, err)
		op := newOp()
		must(t, s.Verify(ctx, op, test.verify, test.m, test.data, signature))
		if last := w.lastRecord(); last.Kind != audit.Use || last.Action != "key.verify" || last.Object != test.verify || last.Op != op || last.Outcome != audit.OK {
			t.Errorf("record of a verification: %+v", last)
		}
		signature[0] ^= 1
		wantCode(t, s.Verify(ctx, newOp(), test.verify, test.m, test.data, signature), object.ErrSignatureInvalid)
		if last := w.lastRecord(); last.Kind != audit.Use || last.Outcome != object.ErrSignatureInvalid.String() {
			t.Errorf("record of a wrong signature: %+v", last)
		}
		wantCode(t, s.Verify(ctx, newOp(), test.verify, test.m, test.data, signature[1:]), object.ErrSignatureLength)
	}
	wantCode(t, s.Verify(ctx, newOp(), ecPriv, ecdsa256, make([]byte, 32), nil), object.ErrKeyNotPermitted)
	_, err = recorded(s).Sign(ctx, newOp(), ecPriv, ecdsa256, long)
	wantCode(t, err, object.ErrDataLength)
}

// TestDeriveStoresAKey that outlives the process, recorded with both keys.
func TestDeriveStoresAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, ctx := w.session(object.RoleCryptoOfficer), t.Context()
	_, base, err := s.Generate(ctx, newOp(), object.Mechanism{Type: object.MechGenericSecretGen}, nil, secretTemplate(32, object.AttrDerive))
	must(t, err)
	hkdf := object.Mechanism{Type: object.MechHKDFDerive, Hash: object.HashSHA256, Info: []byte("test")}
	template := ofKind(object.ClassSecretKey, object.KeyAES).Merge(secretTemplate(32, object.AttrSign))
	id, err := s.Derive(ctx, newOp(), base, hkdf, template)
	must(t, err)
	last := w.lastRecord()
	if last.Kind != audit.Change || last.Action != "key.derive" || last.Object != id || !strings.Contains(last.Detail, base.String()) || last.Outcome != audit.OK {
		t.Errorf("record of a derivation: %+v", last)
	}
	cmac := object.Mechanism{Type: object.MechAESCMAC}
	before, err := recorded(s).Sign(ctx, newOp(), id, cmac, []byte("m"))
	must(t, err)
	w.restart()
	s = w.session(object.RoleCryptoOfficer)
	after, err := recorded(s).Sign(ctx, newOp(), id, cmac, []byte("m"))
	must(t, err)
	if string(before) != string(after) {
		t.Error("the derived key is another after a restart")
	}
	_, err = s.Derive(ctx, newOp(), id, hkdf, template)
	wantCode(t, err, object.ErrKeyNotPermitted)
}

func TestPartitionIsFullOfBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, ctx := w.session(object.RoleCryptoOfficer), t.Context()
	_, id := w.newKey(s)
	w.maxBytes = s.p.bytes + 4096
	big := object.New(object.Bytes(object.AttrID, make([]byte, 5000)))
	err := s.SetAttributes(ctx, newOp(), id, big)
	wantCode(t, err, object.ErrBusy)
	if err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("the refusal does not name the limit: %v", err)
	}
	_, _, err = s.Generate(ctx, newOp(), ec, p256, big)
	wantCode(t, err, object.ErrBusy)
	must(t, s.SetAttributes(ctx, newOp(), id, object.New(object.Bytes(object.AttrID, make([]byte, 4000)))))
	_, err = w.trySecret(s, 16)
	wantCode(t, err, object.ErrBusy)
	must(t, s.SetAttributes(ctx, newOp(), id, object.New(object.Bytes(object.AttrID, []byte{1})))) // shrinking always fits
	w.secret(s, 16)
	there := s.p.bytes
	s.Close()
	s = w.session(object.RoleCryptoOfficer)
	if s.p.bytes != there {
		t.Errorf("%d bytes were counted, and %d when they were read", there, s.p.bytes)
	}
	must(t, s.Destroy(ctx, newOp(), id))
	if sum := 0; true {
		for _, e := range s.p.objects {
			sum += charge(e.attrs)
		}
		if s.p.bytes != sum {
			t.Errorf("%d bytes are counted, %d are there", s.p.bytes, sum)
		}
	}
}
