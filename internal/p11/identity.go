package p11

import (
	"crypto/sha256"
	"encoding/binary"

	"moongate/internal/hsm/object"
)

// identity is an object's ID: a hash of what the object is. PKCS#11 has no name
// for an object that survives a session, let alone one that the members of a
// group agree on; what is in it is the same for all of them. The ID of a key is
// another after its CKA_ID or label was changed; of a secret key with a CKA_ID
// of 16 bytes or more, which can only be its own, the label does not count.
// Objects that are alike in all of it cannot be told apart, and one of them is
// shown.
func identity(t object.Template) object.ID {
	h := sha256.New()
	add := func(b []byte) {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
		h.Write(b)
	}
	add([]byte("moongate pkcs11 object"))
	for _, typ := range []object.AttributeType{
		object.AttrClass, object.AttrKeyType, object.AttrID, object.AttrLabel, object.AttrPublicKeyInfo,
		object.AttrModulus, object.AttrECParams, object.AttrValueLen, object.AttrCertificateType, object.AttrValue,
	} {
		value, _ := t.Get(typ)
		if id, _ := t.Get(object.AttrID); typ == object.AttrLabel && t.Class() == object.ClassSecretKey && len(id) >= 16 {
			value = nil
		}
		add(value)
	}
	var id object.ID
	copy(id[:], h.Sum(nil))
	// Version 8, of our own making (RFC 9562, section 5.8).
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}
