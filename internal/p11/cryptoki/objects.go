//go:build cgo

package cryptoki

import (
	"github.com/miekg/pkcs11"

	"moongate/internal/p11"
)

// page is how many objects are asked for at once, maxObjects how many are
// taken: a token that goes on for ever must not fill the memory.
const (
	page       = 256
	maxObjects = 100_000
)

func (m *module) Objects(session uint) ([]uint, error) {
	s := pkcs11.SessionHandle(session)
	onToken := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true)}
	if err := m.ctx.FindObjectsInit(s, onToken); err != nil {
		return nil, answer(err)
	}
	var list []uint
	for len(list) < maxObjects {
		found, _, err := m.ctx.FindObjects(s, page)
		if err != nil {
			_ = m.ctx.FindObjectsFinal(s)
			return nil, answer(err)
		}
		if len(found) == 0 {
			break
		}
		for _, object := range found {
			list = append(list, uint(object))
		}
	}
	return list, answer(m.ctx.FindObjectsFinal(s))
}

// Attributes asks for all at once, and where the module refuses that because of
// one, for each.
func (m *module) Attributes(session, object uint, types []uint) ([][]byte, error) {
	values := make([][]byte, len(types))
	all, err := m.attributes(session, object, types)
	if err == nil {
		for i, a := range all {
			values[i] = a.Value
		}
		return values, nil
	}
	if !absent(err) {
		return nil, answer(err)
	}
	for i, typ := range types {
		one, err := m.attributes(session, object, []uint{typ})
		if absent(err) {
			continue
		}
		if err != nil {
			return nil, answer(err)
		}
		values[i] = one[0].Value
	}
	return values, nil
}

func (m *module) attributes(session, object uint, types []uint) ([]*pkcs11.Attribute, error) {
	want := make([]*pkcs11.Attribute, len(types))
	for i, typ := range types {
		want[i] = &pkcs11.Attribute{Type: typ}
	}
	return m.ctx.GetAttributeValue(pkcs11.SessionHandle(session), pkcs11.ObjectHandle(object), want)
}

// absent reports whether the object has no such attribute, or does not tell it.
func absent(err error) bool {
	switch err {
	case pkcs11.Error(pkcs11.CKR_ATTRIBUTE_TYPE_INVALID), pkcs11.Error(pkcs11.CKR_ATTRIBUTE_SENSITIVE),
		pkcs11.Error(pkcs11.CKR_ATTRIBUTE_VALUE_INVALID):
		return true
	}
	return false
}

func templateOf(list []p11.Attribute) []*pkcs11.Attribute {
	out := make([]*pkcs11.Attribute, len(list))
	for i, a := range list {
		out[i] = &pkcs11.Attribute{Type: a.Type, Value: a.Value}
	}
	return out
}

func (m *module) GenerateKey(session, mechanism uint, template []p11.Attribute) (uint, error) {
	key, err := m.ctx.GenerateKey(pkcs11.SessionHandle(session), plain(mechanism), templateOf(template))
	return uint(key), answer(err)
}

func (m *module) GenerateKeyPair(session, mechanism uint, public, private []p11.Attribute) (uint, uint, error) {
	pub, priv, err := m.ctx.GenerateKeyPair(pkcs11.SessionHandle(session), plain(mechanism), templateOf(public), templateOf(private))
	return uint(pub), uint(priv), answer(err)
}

func (m *module) CreateObject(session uint, template []p11.Attribute) (uint, error) {
	object, err := m.ctx.CreateObject(pkcs11.SessionHandle(session), templateOf(template))
	return uint(object), answer(err)
}

func plain(mechanism uint) []*pkcs11.Mechanism {
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}
}
