package mech

import (
	"slices"

	"moongate/internal/hsm/object"
)

// parameter is a field of object.Mechanism that a mechanism uses, and how.
type parameter uint8

const (
	paramHash         parameter = iota + 1 // mandatory
	paramHashOptional                      // where it is given, the digest must fit it
	paramSaltLength
	paramSessionKeyLen
	paramAAD
)

// Limits of parameters and data, in bytes.
const (
	// MaxSessionKey bounds what PKCS #1 v1.5 decryption returns. A smaller
	// key than minSessionKey could be found by trying, which would tell
	// whether the padding was right (see crypto/rsa.DecryptPKCS1v15SessionKey).
	MaxSessionKey = 256
	minSessionKey = 16

	MaxAAD = 64 << 10
	// MaxWrapped is the largest key that is wrapped.
	MaxWrapped = 8 << 10
)

func (row *Info) checkParameters(m object.Mechanism) error {
	uses := func(list ...parameter) bool {
		return slices.ContainsFunc(list, func(p parameter) bool { return slices.Contains(row.parameters, p) })
	}
	switch {
	case m.Hash != object.HashNone && !uses(paramHash, paramHashOptional):
		return unused(row, "hash")
	case m.SaltLength != 0 && !uses(paramSaltLength):
		return unused(row, "salt length")
	case m.SessionKeyLen != 0 && !uses(paramSessionKeyLen):
		return unused(row, "session key length")
	case len(m.AAD) != 0 && !uses(paramAAD):
		return unused(row, "additional authenticated data")
	}
	if m.Hash != object.HashNone && m.Hash.Size() == 0 {
		return object.Errorf(object.ErrMechanismParam, "hash 0x%x is not known; SHA-256, SHA-384 and SHA-512 are", uint32(m.Hash))
	}
	if uses(paramHash) && m.Hash == object.HashNone {
		return object.Errorf(object.ErrMechanismParam, "%v needs the hash that the digest was made with", m.Type)
	}
	// FIPS 186-5, section 5.4, bounds the salt by the digest. An empty one is
	// refused because crypto/rsa cannot make it.
	if size := uint32(m.Hash.Size()); uses(paramSaltLength) && (m.SaltLength == 0 || m.SaltLength > size) {
		return object.Errorf(object.ErrMechanismParam, "PSS salt length is %d, expected 1 to %d", m.SaltLength, size)
	}
	if uses(paramSessionKeyLen) && (m.SessionKeyLen < minSessionKey || m.SessionKeyLen > MaxSessionKey) {
		return object.Errorf(object.ErrMechanismParam, "session key length is %d, expected %d to %d", m.SessionKeyLen, minSessionKey, MaxSessionKey)
	}
	if len(m.AAD) > MaxAAD {
		return object.Errorf(object.ErrMechanismParam, "%d bytes of additional authenticated data, at most %d", len(m.AAD), MaxAAD)
	}
	return nil
}

func unused(row *Info, field string) error {
	return object.Errorf(object.ErrMechanismParam, "%v has no %s to %v with; leave it out", row.Mechanism, field, row.Function)
}
