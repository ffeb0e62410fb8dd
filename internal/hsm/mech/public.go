package mech

import (
	"bytes"
	"crypto"
	"crypto/x509"

	"moongate/internal/hsm/object"
)

// ParsePublic makes a key out of a public-key object's attributes, by
// CKA_PUBLIC_KEY_INFO, for Verify and Wrap. Other attributes that describe the
// key must fit it.
func (p Policy) ParsePublic(attributes object.Template) (*Key, error) {
	if class := attributes.Class(); class != object.ClassPublicKey {
		return nil, object.Errorf(object.ErrKeyType, "a %v object is not a public key", class)
	}
	key, facts, err := parsePublic(attributes)
	if err != nil {
		return nil, err
	}
	if err := contradiction(attributes, facts); err != nil {
		return nil, err
	}
	key.policy = p
	return key, nil
}

// CompletePublic turns a caller's template for a public key that was made
// elsewhere, which must hold CKA_PUBLIC_KEY_INFO, into the object's whole
// attributes. It is checked and completed as GenerateKeyPair does, with the
// same CKA_ID, so that a public key finds its private half.
func (p Policy) CompletePublic(template object.Template) (object.Template, error) {
	if err := template.CheckCreation(object.ClassPublicKey); err != nil {
		return nil, err
	}
	key, facts, err := parsePublic(template)
	if err != nil {
		return nil, err
	}
	if err := p.checkImport(key.keyType); err != nil {
		return nil, err
	}
	base, err := baseOf(object.ClassPublicKey, key.keyType, template)
	if err != nil {
		return nil, err
	}
	if err := contradiction(template, facts); err != nil {
		return nil, err
	}
	return withID(base, pairID(facts, template)).Merge(facts).Merge(notMadeHere()), nil
}

// parsePublic reads CKA_PUBLIC_KEY_INFO, which has one encoding for each key.
func parsePublic(attributes object.Template) (*Key, object.Template, error) {
	info, given := attributes.Get(object.AttrPublicKeyInfo)
	if !given {
		return nil, nil, object.Errorf(object.ErrTemplateIncomplete, "CKA_PUBLIC_KEY_INFO is missing: the DER SubjectPublicKeyInfo of the key")
	}
	parsed, err := x509.ParsePKIXPublicKey(info)
	if err != nil {
		return nil, nil, object.Errorf(object.ErrAttributeValue, "CKA_PUBLIC_KEY_INFO is not the DER SubjectPublicKeyInfo of an RSA, EC, Ed25519 or X25519 key: %v", err)
	}
	public := parsed.(crypto.PublicKey)
	facts, err := publicFacts(public)
	if err != nil {
		return nil, nil, err
	}
	if canonical, _ := facts.Get(object.AttrPublicKeyInfo); !bytes.Equal(canonical, info) {
		return nil, nil, object.Errorf(object.ErrAttributeValue, "CKA_PUBLIC_KEY_INFO is not DER as RFC 5280 and RFC 8410 have it: expected %x", canonical)
	}
	key := &Key{class: object.ClassPublicKey, public: public}
	if key.keyType, key.bits, err = measure(public); err != nil {
		return nil, nil, err
	}
	return key, facts, nil
}

// checkImport refuses a key that no mechanism that is allowed can use.
func (p Policy) checkImport(keyType object.KeyType) error {
	for i := range table {
		if row := &table[i]; row.KeyType == keyType && (row.Approved || !p.FIPS) {
			return nil
		}
	}
	return object.Errorf(object.ErrKeyType, "%v keys have no use in FIPS mode", keyType)
}
