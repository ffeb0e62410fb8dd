package mech

import (
	"bytes"
	"crypto/x509"

	"moongate/internal/hsm/object"
)

// CheckWhole refuses an object that came whole from another HSM and that this
// one would not have made: with attributes that its class does not have, a
// secret that does not fit them or is encoded otherwise than here, attributes
// that describe another key, or of a kind that has no use under the policy.
func (p Policy) CheckWhole(attributes object.Template, secret []byte) error {
	if err := attributes.CheckWhole(); err != nil {
		return err
	}
	class := attributes.Class()
	if class == object.ClassCertificate {
		return checkCertificate(attributes, secret)
	}
	keyType, typed := attributes.KeyType()
	if !typed {
		return object.Errorf(object.ErrTemplateIncomplete, "key has no CKA_KEY_TYPE")
	}
	if err := p.checkImport(keyType); err != nil {
		return err
	}
	if class == object.ClassPublicKey {
		if len(secret) > 0 {
			return object.Errorf(object.ErrDataInvalid, "a public key has no secret, and this one has %d bytes", len(secret))
		}
		_, facts, err := parsePublic(attributes)
		if err != nil {
			return err
		}
		return describes(attributes, facts)
	}
	key, err := p.ParseKey(attributes, secret)
	if err != nil {
		return err
	}
	facts := secretFacts(keyType, len(secret))
	if class == object.ClassPrivateKey {
		if facts, err = publicFacts(key.public); err != nil {
			return err
		}
		facts = facts.Without(object.AttrECPoint)
		if der, err := x509.MarshalPKCS8PrivateKey(key.private()); err != nil || !bytes.Equal(der, secret) {
			clear(der)
			return object.Errorf(object.ErrDataInvalid, "private key is not PKCS#8 as it is written here")
		} else {
			clear(der)
		}
	}
	return describes(attributes, facts)
}

// describes refuses attributes that describe another key than the facts do,
// also by those that no template may hold.
func describes(attributes, facts object.Template) error {
	if err := contradiction(attributes, facts); err != nil {
		return err
	}
	for _, typ := range []object.AttributeType{object.AttrModulus, object.AttrECPoint} {
		said, given := attributes.Get(typ)
		if is, has := facts.Get(typ); given && (!has || !bytes.Equal(said, is)) {
			return object.Errorf(object.ErrTemplateInconsist, "%v is not the key's", typ)
		}
	}
	return nil
}

func checkCertificate(attributes object.Template, secret []byte) error {
	if len(secret) > 0 {
		return object.Errorf(object.ErrDataInvalid, "a certificate has no secret, and this one has %d bytes", len(secret))
	}
	der, _ := attributes.Get(object.AttrValue)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return object.Errorf(object.ErrAttributeValue, "CKA_VALUE is not a DER certificate: %v", err)
	}
	if issuer, given := attributes.Get(object.AttrIssuer); given && !bytes.Equal(issuer, cert.RawIssuer) {
		return object.Errorf(object.ErrTemplateInconsist, "CKA_ISSUER is not what the certificate says")
	}
	return nil
}
