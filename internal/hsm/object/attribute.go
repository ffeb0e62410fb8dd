package object

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"
)

// AttributeType is a PKCS#11 CKA_ number.
type AttributeType uint32

const (
	AttrClass            AttributeType = 0x0000
	AttrToken            AttributeType = 0x0001
	AttrPrivate          AttributeType = 0x0002
	AttrLabel            AttributeType = 0x0003
	AttrValue            AttributeType = 0x0011
	AttrCertificateType  AttributeType = 0x0080
	AttrIssuer           AttributeType = 0x0081
	AttrSerialNumber     AttributeType = 0x0082
	AttrKeyType          AttributeType = 0x0100
	AttrSubject          AttributeType = 0x0101
	AttrID               AttributeType = 0x0102
	AttrSensitive        AttributeType = 0x0103
	AttrEncrypt          AttributeType = 0x0104
	AttrDecrypt          AttributeType = 0x0105
	AttrWrap             AttributeType = 0x0106
	AttrUnwrap           AttributeType = 0x0107
	AttrSign             AttributeType = 0x0108
	AttrVerify           AttributeType = 0x010a
	AttrDerive           AttributeType = 0x010c
	AttrStartDate        AttributeType = 0x0110
	AttrEndDate          AttributeType = 0x0111
	AttrModulus          AttributeType = 0x0120
	AttrModulusBits      AttributeType = 0x0121
	AttrPublicExponent   AttributeType = 0x0122
	AttrPublicKeyInfo    AttributeType = 0x0129 // DER SubjectPublicKeyInfo
	AttrValueLen         AttributeType = 0x0161
	AttrExtractable      AttributeType = 0x0162
	AttrLocal            AttributeType = 0x0163
	AttrNeverExtractable AttributeType = 0x0164
	AttrAlwaysSensitive  AttributeType = 0x0165
	AttrKeyGenMechanism  AttributeType = 0x0166
	AttrECParams         AttributeType = 0x0180 // DER OBJECT IDENTIFIER of the curve
	AttrECPoint          AttributeType = 0x0181 // DER OCTET STRING of the uncompressed point; of Ed25519 and X25519 the 32 bytes

	// Of our own.
	AttrHandle  AttributeType = 0x80000001 // Object.Handle, read only
	AttrCreated AttributeType = 0x80000002 // seconds since 1970, read only
	AttrUses    AttributeType = 0x80000003 // how often the key was used, read only
)

// Kind is how an attribute's value is laid out in bytes. There is one layout
// for each value.
type Kind uint8

const (
	KindBytes  Kind = iota // as they are
	KindBool               // one byte, 0 or 1
	KindNumber             // 8 bytes, big-endian
	KindText               // UTF-8
	KindDate               // 8 digits, year, month, day (CK_DATE), or empty for none
)

// Limits of a template.
const (
	MaxAttributes     = 64
	MaxAttributeValue = 64 << 10 // bytes
	MaxLabel          = 256      // bytes
)

type attributeInfo struct {
	name string
	kind Kind
	// setAtCreation: a caller's template may hold it.
	setAtCreation bool
	// modifiable: may be changed after creation.
	modifiable bool
	classes    []Class
}

var (
	allClasses  = []Class{ClassCertificate, ClassPublicKey, ClassPrivateKey, ClassSecretKey}
	allKeys     = []Class{ClassPublicKey, ClassPrivateKey, ClassSecretKey}
	hiddenKeys  = []Class{ClassPrivateKey, ClassSecretKey}
	publicOnly  = []Class{ClassPublicKey}
	asymmetric  = []Class{ClassPublicKey, ClassPrivateKey}
	certificate = []Class{ClassCertificate}
	encryptors  = []Class{ClassPublicKey, ClassSecretKey}
)

// attributes is the whole of what an object may carry.
var attributes = map[AttributeType]attributeInfo{
	AttrClass:            {"CKA_CLASS", KindNumber, true, false, allClasses},
	AttrToken:            {"CKA_TOKEN", KindBool, true, false, allClasses},
	AttrPrivate:          {"CKA_PRIVATE", KindBool, true, false, allClasses},
	AttrLabel:            {"CKA_LABEL", KindText, true, true, allClasses},
	AttrID:               {"CKA_ID", KindBytes, true, true, allClasses},
	AttrValue:            {"CKA_VALUE", KindBytes, true, false, certificate},
	AttrCertificateType:  {"CKA_CERTIFICATE_TYPE", KindNumber, true, false, certificate},
	AttrIssuer:           {"CKA_ISSUER", KindBytes, true, false, certificate},
	AttrSerialNumber:     {"CKA_SERIAL_NUMBER", KindBytes, true, false, certificate},
	AttrSubject:          {"CKA_SUBJECT", KindBytes, true, true, []Class{ClassCertificate, ClassPublicKey, ClassPrivateKey}},
	AttrKeyType:          {"CKA_KEY_TYPE", KindNumber, true, false, allKeys},
	AttrSensitive:        {"CKA_SENSITIVE", KindBool, true, false, hiddenKeys},
	AttrExtractable:      {"CKA_EXTRACTABLE", KindBool, true, false, hiddenKeys},
	AttrNeverExtractable: {"CKA_NEVER_EXTRACTABLE", KindBool, false, false, hiddenKeys},
	AttrAlwaysSensitive:  {"CKA_ALWAYS_SENSITIVE", KindBool, false, false, hiddenKeys},
	AttrEncrypt:          {"CKA_ENCRYPT", KindBool, true, false, encryptors},
	AttrDecrypt:          {"CKA_DECRYPT", KindBool, true, false, hiddenKeys},
	AttrWrap:             {"CKA_WRAP", KindBool, true, false, encryptors},
	AttrUnwrap:           {"CKA_UNWRAP", KindBool, true, false, hiddenKeys},
	AttrSign:             {"CKA_SIGN", KindBool, true, false, hiddenKeys},
	AttrVerify:           {"CKA_VERIFY", KindBool, true, false, []Class{ClassPublicKey, ClassSecretKey}},
	AttrDerive:           {"CKA_DERIVE", KindBool, true, false, hiddenKeys},
	AttrStartDate:        {"CKA_START_DATE", KindDate, true, true, allKeys},
	AttrEndDate:          {"CKA_END_DATE", KindDate, true, true, allKeys},
	AttrModulus:          {"CKA_MODULUS", KindBytes, false, false, asymmetric},
	AttrModulusBits:      {"CKA_MODULUS_BITS", KindNumber, true, false, asymmetric},
	AttrPublicExponent:   {"CKA_PUBLIC_EXPONENT", KindBytes, true, false, asymmetric},
	AttrPublicKeyInfo:    {"CKA_PUBLIC_KEY_INFO", KindBytes, true, false, asymmetric}, // at creation: of a public key alone
	AttrECParams:         {"CKA_EC_PARAMS", KindBytes, true, false, asymmetric},
	AttrECPoint:          {"CKA_EC_POINT", KindBytes, false, false, publicOnly},
	AttrValueLen:         {"CKA_VALUE_LEN", KindNumber, true, false, []Class{ClassSecretKey}},
	AttrLocal:            {"CKA_LOCAL", KindBool, false, false, allKeys},
	AttrKeyGenMechanism:  {"CKA_KEY_GEN_MECHANISM", KindNumber, false, false, allKeys},
	AttrHandle:           {"MGA_HANDLE", KindNumber, false, false, allClasses},
	AttrCreated:          {"MGA_CREATED", KindNumber, false, false, allClasses},
	AttrUses:             {"MGA_USES", KindNumber, false, false, hiddenKeys},
}

// AttributeTypes lists every attribute that is known, by number.
func AttributeTypes() []AttributeType {
	return slices.Sorted(maps.Keys(attributes))
}

func (t AttributeType) String() string {
	if info, known := attributes[t]; known {
		return info.name
	}
	return fmt.Sprintf("CKA_0x%08x", uint32(t))
}

// Kind returns the layout of the attribute's value, and whether the attribute
// is known at all.
func (t AttributeType) Kind() (Kind, bool) {
	info, known := attributes[t]
	return info.kind, known
}

// Attribute is one attribute with its value in the layout of its Kind.
type Attribute struct {
	Type  AttributeType
	Value []byte
}

// Bool, Number, Text, Bytes and Date make attributes.
func Bool(t AttributeType, v bool) Attribute {
	if v {
		return Attribute{t, []byte{1}}
	}
	return Attribute{t, []byte{0}}
}

func Number(t AttributeType, v uint64) Attribute {
	return Attribute{t, binary.BigEndian.AppendUint64(nil, v)}
}

func Text(t AttributeType, v string) Attribute { return Attribute{t, []byte(v)} }

func Bytes(t AttributeType, v []byte) Attribute { return Attribute{t, v} }

// Date makes a date attribute of a day in UTC; the zero time is no date.
func Date(t AttributeType, day time.Time) Attribute {
	if day.IsZero() {
		return Attribute{t, nil}
	}
	return Attribute{t, day.UTC().AppendFormat(nil, dateLayout)}
}

const dateLayout = "20060102"

// Template is a list of attributes, sorted by type, each type at most once.
// New makes one from attributes in any order; a decoder refuses any other
// order, so that there is one encoding for each template.
type Template []Attribute

// New sorts attributes into a Template. Of two with the same type the later
// one wins.
func New(list ...Attribute) Template {
	t := make(Template, 0, len(list))
	for _, a := range list {
		t = t.With(a)
	}
	return t
}

// With returns the template with a added, or replaced where its type is there.
func (t Template) With(a Attribute) Template {
	i, found := t.search(a.Type)
	if found {
		t = slices.Clone(t)
		t[i] = a
		return t
	}
	return slices.Insert(slices.Clone(t), i, a)
}

// Without returns the template less the attribute.
func (t Template) Without(typ AttributeType) Template {
	i, found := t.search(typ)
	if !found {
		return t
	}
	return slices.Delete(slices.Clone(t), i, i+1)
}

func (t Template) search(typ AttributeType) (int, bool) {
	return slices.BinarySearchFunc(t, typ, func(a Attribute, typ AttributeType) int {
		return cmp.Compare(a.Type, typ)
	})
}

// Get returns an attribute's raw value and whether it is there.
func (t Template) Get(typ AttributeType) ([]byte, bool) {
	i, found := t.search(typ)
	if !found {
		return nil, false
	}
	return t[i].Value, true
}

// Has reports whether the attribute is there.
func (t Template) Has(typ AttributeType) bool {
	_, found := t.search(typ)
	return found
}

// Bool returns a boolean attribute; one that is absent is false.
func (t Template) Bool(typ AttributeType) bool {
	v, _ := t.Get(typ)
	return len(v) == 1 && v[0] == 1
}

// Number returns a number; one that is absent or malformed is not ok.
func (t Template) Number(typ AttributeType) (uint64, bool) {
	v, _ := t.Get(typ)
	if len(v) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(v), true
}

// Date returns the beginning of a date attribute's day in UTC; one that is
// absent, empty or malformed is not ok.
func (t Template) Date(typ AttributeType) (time.Time, bool) {
	v, _ := t.Get(typ)
	day, err := time.Parse(dateLayout, string(v))
	return day, err == nil
}

// Text returns a text; one that is absent is empty.
func (t Template) Text(typ AttributeType) string {
	v, _ := t.Get(typ)
	return string(v)
}

// Class returns CKA_CLASS, or 0 where it is absent.
func (t Template) Class() Class {
	n, _ := t.Number(AttrClass)
	return Class(n)
}

// KeyType returns CKA_KEY_TYPE; ok is false where it is absent.
func (t Template) KeyType() (KeyType, bool) {
	n, ok := t.Number(AttrKeyType)
	return KeyType(n), ok
}

// Matches reports whether the template holds every attribute of pattern with
// the same value (PKCS#11 v3.1, C_FindObjectsInit). An empty pattern matches
// everything.
func (t Template) Matches(pattern Template) bool {
	for _, want := range pattern {
		got, found := t.Get(want.Type)
		if !found || string(got) != string(want.Value) {
			return false
		}
	}
	return true
}

// Select returns the attributes of the named types that are there. No types
// select all.
func (t Template) Select(types []AttributeType) Template {
	if len(types) == 0 {
		return t
	}
	var out Template
	for _, a := range t {
		if slices.Contains(types, a.Type) {
			out = append(out, a)
		}
	}
	return out
}
