package partition

import (
	"bytes"
	"time"

	"moongate/internal/hsm/object"
)

// What the partition's policies and the key itself add to permit's answer: its
// dates, its size, and how it may leave.

// traits are what of a key's attributes is asked at each use, read once.
type traits struct {
	life
	class   object.Class
	keyType object.KeyType
	bits    int
}

func traitsOf(attrs object.Template) traits {
	t := traits{life: lifeOf(attrs), class: attrs.Class()}
	if t.class != object.ClassCertificate {
		t.keyType, _ = attrs.KeyType()
		t.bits = keyBits(t.keyType, attrs)
	}
	return t
}

// curveBits are the sizes of curves by their CKA_EC_PARAMS.
var curveBits = []struct {
	params []byte
	bits   int
}{
	{[]byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}, 256}, // P-256
	{[]byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22}, 384},                   // P-384
	{[]byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23}, 521},                   // P-521
}

// keyBits is a key's size as its attributes tell it, 0 where they do not.
func keyBits(keyType object.KeyType, attrs object.Template) int {
	switch keyType {
	case object.KeyRSA:
		n, _ := attrs.Number(object.AttrModulusBits)
		return int(n)
	case object.KeyAES, object.KeyGeneric:
		n, _ := attrs.Number(object.AttrValueLen)
		return 8 * int(n)
	case object.KeyEC:
		params, _ := attrs.Get(object.AttrECParams)
		for _, c := range curveBits {
			if bytes.Equal(c.params, params) {
				return c.bits
			}
		}
	case object.KeyEdwards, object.KeyMontgomery:
		return 256
	}
	return 0
}

// sizePolicies say which policy bounds the keys of a type.
var sizePolicies = map[object.KeyType]object.PolicyID{
	object.KeyRSA: object.PolicyMinRSA, object.KeyAES: object.PolicyMinAES,
	object.KeyEC: object.PolicyMinEC, object.KeyEdwards: object.PolicyMinEC, object.KeyMontgomery: object.PolicyMinEC,
}

// checkSize refuses a key that is smaller than the partition's keys may be.
func (p *partition) checkSize(t traits) error {
	id, bounded := sizePolicies[t.keyType]
	if !bounded || t.class == object.ClassCertificate {
		return nil
	}
	if least := p.policy(id); uint64(t.bits) < least {
		return p.forbidden(id, "the key has %d", t.bits)
	}
	return nil
}

// forbidden is the refusal of what a policy does not allow: it names the
// policy, its value, what met it, and who may change it.
func (p *partition) forbidden(id object.PolicyID, format string, args ...any) error {
	info, _ := id.Info()
	met := object.Errorf(object.ErrPolicy, format, args...).Detail
	return object.Errorf(object.ErrPolicy, "policy %s of partition %s is %s, and %s; the Partition Security Officer may change it (`partition changePolicy`)",
		info.Name, p.label, info.Format(p.policy(id)), met)
}

// judge says yes (nil) or no to a use of a key.
func (p *partition) judge(role object.Role, act action, m object.Mechanism, e *entry, now time.Time) error {
	if err := permit(role, act, e.attrs); err != nil {
		return err
	}
	// MACs are made by Sign, and so are signatures under this policy.
	if act == actSign && role == object.RoleCryptoUser && !p.allows(object.PolicyUserSigns) {
		return p.forbidden(object.PolicyUserSigns, "this session is logged in as the Crypto User")
	}
	if act == actDecrypt && m.Type == object.MechRSAPKCS && !p.allows(object.PolicyPKCS1Decrypt) {
		return p.forbidden(object.PolicyPKCS1Decrypt, "the mechanism is %v", m.Type)
	}
	if act == actUnwrap && !p.allows(object.PolicyImport) {
		return p.forbidden(object.PolicyImport, "an unwrapped key was made elsewhere")
	}
	// As with dates: what was signed with a small key can still be checked.
	if act != actVerify {
		if err := p.checkSize(e.traits); err != nil {
			return err
		}
	}
	return e.life.check(act, now)
}

// admit says yes or no to a new object, as its template turned out.
func (p *partition) admit(attrs object.Template) error {
	t := traitsOf(attrs)
	if err := p.checkSize(t); err != nil {
		return err
	}
	if attrs.Bool(object.AttrExtractable) {
		if err := p.checkExtractable(t.class); err != nil {
			return err
		}
	}
	return checkDates(attrs)
}

// checkExtractable refuses a key that may leave where none of its class may.
// It is asked when a key is made, and again when it leaves: the policy may have
// been taken back in between.
func (p *partition) checkExtractable(class object.Class) error {
	id := object.PolicySecretExtractable
	if class == object.ClassPrivateKey {
		id = object.PolicyPrivateExtractable
	}
	if !p.allows(id) {
		return p.forbidden(id, "the key's CKA_EXTRACTABLE is true")
	}
	return nil
}

// checkLeave says yes or no to wrapping a key under another.
func (p *partition) checkLeave(target, wrapping *entry) error {
	if !counted(target.class) {
		return object.Errorf(object.ErrKeyUnextractable, "object %v is a %v object; only private and secret keys are wrapped", target.id, target.class)
	}
	if !target.attrs.Bool(object.AttrExtractable) {
		return object.Errorf(object.ErrKeyUnextractable, "key %v was made with CKA_EXTRACTABLE false", target.id)
	}
	if err := p.checkExtractable(target.class); err != nil {
		return err
	}
	if target.class == object.ClassPrivateKey && wrapping.strength() < target.strength() {
		return object.Errorf(object.ErrKeySize, "the wrapping key has a strength of %d bits and private key %v one of %d; wrap it under a key of at least its own strength",
			wrapping.strength(), target.id, target.strength())
	}
	return nil
}

// strength is a key's security strength in bits (SP 800-57 part 1, table 2).
func (t traits) strength() int {
	switch t.keyType {
	case object.KeyRSA:
		switch {
		case t.bits >= 4096:
			return 152 // SP 800-56B, appendix D
		case t.bits >= 3072:
			return 128
		}
		return 112
	case object.KeyEC, object.KeyEdwards, object.KeyMontgomery:
		return min(t.bits/2, 256)
	}
	return min(t.bits, 256)
}
