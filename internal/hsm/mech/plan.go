package mech

import (
	"crypto/x509"

	"moongate/internal/hsm/object"
)

// plan is what a template says of a key whose bytes come from elsewhere: from
// a wrapped key or a derivation.
type plan struct {
	class    object.Class
	keyType  object.KeyType
	template object.Template
	base     object.Template // the template over the defaults
}

// plan checks a template as far as that goes without the key.
func (p Policy) plan(template object.Template) (*plan, error) {
	plan := &plan{class: template.Class(), template: template}
	if plan.class != object.ClassSecretKey && plan.class != object.ClassPrivateKey {
		return nil, object.Errorf(object.ErrTemplateIncomplete, "CKA_CLASS is missing, or not that of a secret or private key")
	}
	keyType, given := template.KeyType()
	if !given {
		return nil, object.Errorf(object.ErrTemplateIncomplete, "CKA_KEY_TYPE is missing")
	}
	plan.keyType = keyType
	if hidden := keyType == object.KeyAES || keyType == object.KeyGeneric; hidden != (plan.class == object.ClassSecretKey) {
		return nil, object.Errorf(object.ErrTemplateInconsist, "CKA_KEY_TYPE is %v, which no %v key has", keyType, plan.class)
	}
	if err := p.checkImport(keyType); err != nil {
		return nil, err
	}
	var err error
	plan.base, err = baseOf(plan.class, keyType, template)
	return plan, err
}

// planSecret is a plan for a secret key.
func (p Policy) planSecret(template object.Template) (*plan, error) {
	if template.Class() != object.ClassSecretKey {
		return nil, object.Errorf(object.ErrTemplateIncomplete, "CKA_CLASS is missing, or not that of a secret key")
	}
	return p.plan(template)
}

// material makes the new object of its secret, which it takes over: it is
// cleared where it is refused.
func (p *plan) material(secret []byte, history object.Template) (KeyMaterial, error) {
	material := KeyMaterial{Secret: secret}
	err := p.fill(&material, history)
	if err != nil {
		clear(secret)
		material.Clear()
		return KeyMaterial{}, err
	}
	return material, nil
}

func (p *plan) fill(material *KeyMaterial, history object.Template) error {
	facts := secretFacts(p.keyType, len(material.Secret))
	base := p.base
	if p.class == object.ClassSecretKey {
		if err := checkSecretSize(p.keyType, len(material.Secret)); err != nil {
			return err
		}
	} else {
		key, err := importPrivate(material.Secret)
		if err != nil {
			return err
		}
		if facts, err = publicFacts(key.public); err != nil {
			return err
		}
		facts = facts.Without(object.AttrECPoint)
		base = withID(base, pairID(facts, p.template))
		given := material.Secret
		if material.Secret, err = x509.MarshalPKCS8PrivateKey(key.private()); err != nil {
			return object.Errorf(object.ErrGeneral, "encoding private key: %v", err)
		}
		clear(given)
	}
	facts = facts.Merge(history).Merge(notMadeHere())
	if err := contradiction(p.template, facts); err != nil {
		return err
	}
	material.Attributes = base.Merge(facts)
	return nil
}
