package mech

import (
	"moongate/internal/hsm/object"
)

// Wrap encrypts another key, a secret one, under k. ErrKeyUnextractable for a
// private key; whether a secret key may leave (CKA_EXTRACTABLE) is for the
// caller to ask.
//
//   - MechAESKWP: RFC 5649.
func (k *Key) Wrap(m object.Mechanism, target *Key) ([]byte, error) {
	if err := k.check(Wrap, m); err != nil {
		return nil, err
	}
	if target.class != object.ClassSecretKey {
		return nil, object.Errorf(object.ErrKeyUnextractable, "a %v key is not wrapped; only secret keys are", target.class)
	}
	switch m.Type {
	case object.MechAESKWP:
		return kwpWrap(k.aes, target.value), nil
	}
	return nil, notDone(Wrap, m)
}

// Unwrap decrypts what Wrap made, here or elsewhere, into a new secret key.
// The template is checked as GenerateKeyPair does, and must say
// CKA_CLASS secret and CKA_KEY_TYPE AES; CKA_VALUE_LEN, where given, must fit.
// The new key has not always been sensitive and was not made here, and its
// attributes say so. ErrEncryptedData when wrapped was not made under k.
func (k *Key) Unwrap(m object.Mechanism, wrapped []byte, template object.Template) (KeyMaterial, error) {
	if err := k.check(Unwrap, m); err != nil {
		return KeyMaterial{}, err
	}
	if class := template.Class(); class != object.ClassSecretKey {
		return KeyMaterial{}, object.Errorf(object.ErrTemplateIncomplete, "CKA_CLASS is missing or not that of a secret key")
	}
	if keyType, given := template.KeyType(); !given || keyType != object.KeyAES {
		return KeyMaterial{}, object.Errorf(object.ErrTemplateIncomplete, "CKA_KEY_TYPE is missing or not AES")
	}
	base, err := baseOf(object.ClassSecretKey, template)
	if err != nil {
		return KeyMaterial{}, err
	}
	secret, err := k.unwrap(m, wrapped)
	if err != nil {
		return KeyMaterial{}, err
	}
	material := KeyMaterial{Secret: secret}
	facts := secretFacts(len(secret)).Merge(object.New(
		object.Bool(object.AttrLocal, false),
		object.Number(object.AttrKeyGenMechanism, unavailable),
		object.Bool(object.AttrAlwaysSensitive, false),
		object.Bool(object.AttrNeverExtractable, false),
	))
	err = checkSize(object.KeyAES, aesSizes, 8*len(secret))
	if err == nil {
		err = contradiction(template, facts)
	}
	if err != nil {
		material.Clear()
		return KeyMaterial{}, err
	}
	material.Attributes = base.Merge(facts)
	return material, nil
}

func (k *Key) unwrap(m object.Mechanism, wrapped []byte) ([]byte, error) {
	switch m.Type {
	case object.MechAESKWP:
		secret, ok := kwpUnwrap(k.aes, wrapped)
		if !ok {
			return nil, object.Errorf(object.ErrEncryptedData, "wrapped key was not made under this key, or was changed")
		}
		return secret, nil
	}
	return nil, notDone(Unwrap, m)
}
