package mech

import (
	"crypto/x509"

	"moongate/internal/hsm/object"
)

// Wrap encrypts another key, a secret or a private one, under k: a secret key
// as it is, a private one as PKCS#8 DER. Whether the key may leave
// (CKA_EXTRACTABLE) is for the caller to ask before.
//
//   - MechAESKW: RFC 3394; the target's length is a multiple of 8 bytes.
//   - MechAESKWP: RFC 5649.
//   - MechRSAAESKeyWrap: a fresh AES-256 key by RSA-OAEP with m.Hash, then the
//     target by KWP under it (PKCS#11 v3.1, RSA AES KEY WRAP).
func (k *Key) Wrap(m object.Mechanism, target *Key) ([]byte, error) {
	if err := k.check(Wrap, m); err != nil {
		return nil, err
	}
	payload, err := target.payload()
	if err != nil {
		return nil, err
	}
	defer clear(payload)
	switch m.Type {
	case object.MechAESKW:
		if len(payload)%8 != 0 {
			return nil, object.Errorf(object.ErrKeySize, "key has %d bytes, and %v wraps multiples of 8; use %v", len(payload), m.Type, object.MechAESKWP)
		}
		return kwWrap(k.aes, payload), nil
	case object.MechAESKWP:
		return kwpWrap(k.aes, payload), nil
	case object.MechRSAAESKeyWrap:
		return k.rsaAESWrap(m, payload)
	}
	return nil, notDone(Wrap, m)
}

// payload is what is wrapped of a key: a copy that the caller clears.
func (k *Key) payload() ([]byte, error) {
	switch k.class {
	case object.ClassSecretKey:
		return append([]byte(nil), k.value...), nil
	case object.ClassPrivateKey:
		return failure(x509.MarshalPKCS8PrivateKey(k.private()))
	}
	return nil, object.Errorf(object.ErrKeyUnextractable, "a %v key is not wrapped: it can be read", k.class)
}

// Unwrap decrypts what Wrap made, here or elsewhere, into a new key. The
// template says what it is: CKA_CLASS secret with CKA_KEY_TYPE AES or generic
// secret, where CKA_VALUE_LEN must fit if it is given, or CKA_CLASS private with
// the type of the PKCS#8 key inside. It is checked and completed as
// GenerateKeyPair does, with the same CKA_ID. The new key has not always been
// sensitive and was not made here, and its attributes say so. ErrEncryptedData
// when wrapped was not made under k, ErrDataInvalid when what is inside is no
// key of the kind.
func (k *Key) Unwrap(m object.Mechanism, wrapped []byte, template object.Template) (KeyMaterial, error) {
	if err := k.check(Unwrap, m); err != nil {
		return KeyMaterial{}, err
	}
	plan, err := k.policy.plan(template)
	if err != nil {
		return KeyMaterial{}, err
	}
	payload, err := k.unwrap(m, wrapped)
	if err != nil {
		return KeyMaterial{}, err
	}
	return plan.material(payload, keptInside(plan.base, false, false))
}

func (k *Key) unwrap(m object.Mechanism, wrapped []byte) ([]byte, error) {
	var payload []byte
	var ok bool
	switch m.Type {
	case object.MechAESKW:
		payload, ok = kwUnwrap(k.aes, wrapped)
	case object.MechAESKWP:
		payload, ok = kwpUnwrap(k.aes, wrapped)
	case object.MechRSAAESKeyWrap:
		payload, ok = k.rsaAESUnwrap(m, wrapped)
	default:
		return nil, notDone(Unwrap, m)
	}
	if !ok {
		return nil, object.Errorf(object.ErrEncryptedData, "wrapped key was not made under this key, or was changed")
	}
	return payload, nil
}
