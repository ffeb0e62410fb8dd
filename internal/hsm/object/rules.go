package object

import (
	"slices"
	"time"
	"unicode/utf8"
)

// Check refuses a template that is not well formed: unknown attributes, wrong
// layouts, over the limits, unsorted or doubled. Every template that came from
// outside passes it first.
func (t Template) Check() error {
	if len(t) > MaxAttributes {
		return Errorf(ErrTemplateInconsist, "%d attributes, at most %d", len(t), MaxAttributes)
	}
	for i, a := range t {
		if i > 0 && a.Type <= t[i-1].Type {
			return Errorf(ErrTemplateInconsist, "%v is out of order or doubled", a.Type)
		}
		if err := a.check(); err != nil {
			return err
		}
	}
	return nil
}

func (a Attribute) check() error {
	info, known := attributes[a.Type]
	if !known {
		return Errorf(ErrAttributeType, "%v is not known", a.Type)
	}
	if len(a.Value) > MaxAttributeValue {
		return Errorf(ErrAttributeValue, "%v has %d bytes, at most %d", a.Type, len(a.Value), MaxAttributeValue)
	}
	switch info.kind {
	case KindBool:
		if len(a.Value) != 1 || a.Value[0] > 1 {
			return Errorf(ErrAttributeValue, "%v is %x, expected 00 or 01", a.Type, a.Value)
		}
	case KindNumber:
		if len(a.Value) != 8 {
			return Errorf(ErrAttributeValue, "%v has %d bytes, expected 8", a.Type, len(a.Value))
		}
	case KindText:
		if !utf8.Valid(a.Value) {
			return Errorf(ErrAttributeValue, "%v is not UTF-8", a.Type)
		}
		if len(a.Value) > MaxLabel {
			return Errorf(ErrAttributeValue, "%v has %d bytes, at most %d", a.Type, len(a.Value), MaxLabel)
		}
	case KindDate:
		// Parse alone would take what is not canonical: it reads no fewer digits,
		// but formatting back is what makes one encoding.
		day, err := time.Parse(dateLayout, string(a.Value))
		if len(a.Value) > 0 && (err != nil || day.Format(dateLayout) != string(a.Value)) {
			return Errorf(ErrAttributeValue, "%v is %q, expected a day as YYYYMMDD, or nothing", a.Type, a.Value)
		}
	}
	return nil
}

// CheckCreation refuses what a caller may not ask of a new object of the
// class: attributes that only the HSM sets, or that the class does not have.
func (t Template) CheckCreation(class Class) error {
	if err := t.Check(); err != nil {
		return err
	}
	for _, a := range t {
		info := attributes[a.Type]
		// A private key's public half is computed from it.
		if !info.setAtCreation || a.Type == AttrPublicKeyInfo && class == ClassPrivateKey {
			return Errorf(ErrAttributeReadOnly, "%v is set by the HSM", a.Type)
		}
		if !slices.Contains(info.classes, class) {
			return Errorf(ErrTemplateInconsist, "a %v object has no %v", class, a.Type)
		}
	}
	if got, given := t.Number(AttrClass); given && Class(got) != class {
		return Errorf(ErrTemplateInconsist, "CKA_CLASS is %v, expected %v", Class(got), class)
	}
	return nil
}

// CheckChange refuses what may not be changed on an object that exists.
func (t Template) CheckChange(class Class) error {
	if err := t.CheckCreation(class); err != nil {
		return err
	}
	for _, a := range t {
		if !attributes[a.Type].modifiable {
			return Errorf(ErrAttributeReadOnly, "%v cannot be changed; CKA_LABEL, CKA_ID, CKA_SUBJECT, CKA_START_DATE and CKA_END_DATE can", a.Type)
		}
	}
	return nil
}

// Defaults returns what a new object of the class has when its template does
// not say. Private and secret keys are sensitive and not extractable; a key may
// do nothing until its template or these say so.
func Defaults(class Class) Template {
	switch class {
	case ClassCertificate:
		return New(Number(AttrClass, uint64(class)), Bool(AttrToken, true), Bool(AttrPrivate, false),
			Text(AttrLabel, ""), Bytes(AttrID, nil), Number(AttrCertificateType, 0))
	case ClassPublicKey:
		return New(Number(AttrClass, uint64(class)), Bool(AttrToken, true), Bool(AttrPrivate, false),
			Text(AttrLabel, ""), Bytes(AttrID, nil), Bool(AttrVerify, true),
			Bool(AttrEncrypt, false), Bool(AttrWrap, false))
	case ClassPrivateKey:
		return New(Number(AttrClass, uint64(class)), Bool(AttrToken, true), Bool(AttrPrivate, true),
			Text(AttrLabel, ""), Bytes(AttrID, nil), Bool(AttrSensitive, true), Bool(AttrExtractable, false),
			Bool(AttrSign, true), Bool(AttrDecrypt, false), Bool(AttrUnwrap, false), Bool(AttrDerive, false))
	case ClassSecretKey:
		return New(Number(AttrClass, uint64(class)), Bool(AttrToken, true), Bool(AttrPrivate, true),
			Text(AttrLabel, ""), Bytes(AttrID, nil), Bool(AttrSensitive, true), Bool(AttrExtractable, false),
			Bool(AttrEncrypt, false), Bool(AttrDecrypt, false), Bool(AttrWrap, false), Bool(AttrUnwrap, false),
			Bool(AttrSign, false), Bool(AttrVerify, false), Bool(AttrDerive, false))
	}
	return nil
}

// Merge returns the template with over's attributes laid on top.
func (t Template) Merge(over Template) Template {
	for _, a := range over {
		t = t.With(a)
	}
	return t
}

// Complete lays a caller's template over the defaults of the class. Signing
// and verifying, which asymmetric keys do by default, give way to a use that
// excludes them (see CheckUses).
func (t Template) Complete(class Class) Template {
	base := Defaults(class)
	for _, typ := range []AttributeType{AttrSign, AttrVerify} {
		if base.Bool(typ) && base.Merge(t).CheckUses() != nil {
			base = base.With(Bool(typ, false))
		}
	}
	return base.Merge(t)
}

// CheckPolicy refuses a key that would be weaker than any key of this HSM may
// be, whatever its template says: private and secret keys are sensitive, stay
// so, and have one kind of use (see CheckUses). Whether keys may be
// extractable is a partition's policy.
func (t Template) CheckPolicy() error {
	switch t.Class() {
	case ClassPrivateKey, ClassSecretKey:
		if !t.Bool(AttrSensitive) {
			return Errorf(ErrTemplateInconsist, "CKA_SENSITIVE is false: private and secret keys are sensitive; leave it out")
		}
	}
	if !t.Bool(AttrToken) {
		return Errorf(ErrTemplateInconsist, "CKA_TOKEN is false: session objects are not supported; leave it out")
	}
	return t.CheckUses()
}
