package p11

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"moongate/internal/hsm/object"
)

// Which attributes are read of an object, by its class.
var (
	readAlways = []object.AttributeType{object.AttrClass, object.AttrPrivate, object.AttrLabel, object.AttrID}
	readKeys   = []object.AttributeType{object.AttrKeyType, object.AttrStartDate, object.AttrEndDate, object.AttrLocal, object.AttrKeyGenMechanism}
	readHidden = []object.AttributeType{object.AttrSensitive, object.AttrExtractable, object.AttrNeverExtractable, object.AttrAlwaysSensitive,
		object.AttrSign, object.AttrDecrypt, object.AttrUnwrap, object.AttrDerive}
	readOf = map[object.Class][]object.AttributeType{
		object.ClassCertificate: {object.AttrCertificateType, object.AttrValue, object.AttrSubject, object.AttrIssuer, object.AttrSerialNumber},
		object.ClassPublicKey:   join(readKeys, []object.AttributeType{object.AttrSubject, object.AttrVerify, object.AttrEncrypt, object.AttrWrap}),
		object.ClassPrivateKey:  join(readKeys, readHidden, []object.AttributeType{object.AttrSubject}),
		object.ClassSecretKey: join(readKeys, readHidden, []object.AttributeType{object.AttrEncrypt, object.AttrVerify, object.AttrWrap,
			object.AttrValueLen}),
	}
	// Of these a public key is made.
	readRSA = []object.AttributeType{object.AttrModulus, object.AttrPublicExponent}
	readEC  = []object.AttributeType{object.AttrECParams, object.AttrECPoint, object.AttrPublicKeyInfo}
)

func join(lists ...[]object.AttributeType) []object.AttributeType {
	var all []object.AttributeType
	for _, list := range lists {
		all = append(all, list...)
	}
	return all
}

// read asks the module for attributes of an object, those that it has.
func read(m Module, session, handle uint, types []object.AttributeType) (object.Template, error) {
	numbers := make([]uint, len(types))
	for i, typ := range types {
		numbers[i] = uint(typ)
	}
	values, err := m.Attributes(session, handle, numbers)
	if err != nil {
		return nil, err
	}
	var t object.Template
	for i, value := range values {
		if a, ok := fromModule(types[i], value); ok {
			t = t.With(a)
		}
	}
	return t, nil
}

// fromModule turns a value into the layout of its Kind; one that cannot be is
// left out.
func fromModule(typ object.AttributeType, value []byte) (object.Attribute, bool) {
	if value == nil || len(value) > object.MaxAttributeValue {
		return object.Attribute{}, false
	}
	kind, _ := typ.Kind()
	switch kind {
	case object.KindBool:
		return object.Bool(typ, len(value) > 0 && value[0] != 0), len(value) == 1
	case object.KindNumber:
		n, ok := ulong(value)
		return object.Number(typ, n), ok
	case object.KindText:
		return object.Text(typ, text(value)), true
	case object.KindDate:
		a := object.Bytes(typ, value)
		return a, object.New(a).Check() == nil
	}
	return object.Bytes(typ, value), true
}

// ulong reads a CK_ULONG, which has the machine's order and size.
func ulong(value []byte) (uint64, bool) {
	switch len(value) {
	case 8:
		return binary.NativeEndian.Uint64(value), true
	case 4:
		return uint64(binary.NativeEndian.Uint32(value)), true
	}
	return 0, false
}

// text makes of a label what the protocol takes: UTF-8, MaxLabel bytes.
func text(value []byte) string {
	s := strings.ToValidUTF8(string(value), "\ufffd")
	if len(s) > object.MaxLabel {
		s = s[:object.MaxLabel]
		for !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
	}
	return s
}

// toModule turns attributes into the module's layouts.
func toModule(t object.Template) []Attribute {
	var list []Attribute
	for _, a := range t {
		value := a.Value
		if kind, _ := a.Type.Kind(); kind == object.KindNumber {
			n := binary.BigEndian.Uint64(a.Value)
			value = binary.NativeEndian.AppendUint64(nil, n)
		}
		list = append(list, Attribute{uint(a.Type), value})
	}
	return list
}
