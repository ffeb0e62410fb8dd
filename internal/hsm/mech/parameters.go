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
	paramIV
	paramSalt
	paramInfo
	paramPeer
)

// parameterNames say how docs and errors call them.
var parameterNames = map[parameter]string{
	paramHash: "hash", paramHashOptional: "hash (optional)", paramSaltLength: "salt length", paramSessionKeyLen: "session key length",
	paramAAD: "AAD", paramIV: "IV", paramSalt: "salt", paramInfo: "info", paramPeer: "peer",
}

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
	// MaxInfo bounds the salt of HKDF, and its info.
	MaxInfo = 4 << 10

	ivSize = 16
)

func (row *Info) uses(list ...parameter) bool {
	return slices.ContainsFunc(list, func(p parameter) bool { return slices.Contains(row.parameters, p) })
}

// checkParameters refuses what the row does not use, and what no key could
// use.
func (row *Info) checkParameters(m object.Mechanism) error {
	switch {
	case m.Hash != object.HashNone && !row.uses(paramHash, paramHashOptional):
		return unused(row, "hash")
	case m.SaltLength != 0 && !row.uses(paramSaltLength):
		return unused(row, "salt length")
	case m.SessionKeyLen != 0 && !row.uses(paramSessionKeyLen):
		return unused(row, "session key length")
	case len(m.AAD) != 0 && !row.uses(paramAAD):
		return unused(row, "additional authenticated data")
	case len(m.IV) != 0 && !row.uses(paramIV):
		return unused(row, "IV")
	case len(m.Salt) != 0 && !row.uses(paramSalt):
		return unused(row, "salt")
	case len(m.Info) != 0 && !row.uses(paramInfo):
		return unused(row, "info")
	case len(m.Peer) != 0 && !row.uses(paramPeer):
		return unused(row, "peer's public key")
	}
	if err := row.checkNumbers(m); err != nil {
		return err
	}
	switch {
	case len(m.AAD) > MaxAAD:
		return object.Errorf(object.ErrMechanismParam, "%d bytes of additional authenticated data, at most %d", len(m.AAD), MaxAAD)
	case row.uses(paramIV) && len(m.IV) != ivSize:
		return object.Errorf(object.ErrMechanismParam, "IV has %d bytes, expected %d", len(m.IV), ivSize)
	case len(m.Salt) > MaxInfo || len(m.Info) > MaxInfo:
		return object.Errorf(object.ErrMechanismParam, "HKDF salt has %d bytes and info %d, at most %d each", len(m.Salt), len(m.Info), MaxInfo)
	case row.uses(paramPeer) && len(m.Peer) == 0:
		return object.Errorf(object.ErrMechanismParam, "%v needs the peer's public key", m.Type)
	}
	return nil
}

func (row *Info) checkNumbers(m object.Mechanism) error {
	if m.Hash != object.HashNone && m.Hash.Size() == 0 {
		return object.Errorf(object.ErrMechanismParam, "hash 0x%x is not known; SHA-256, SHA-384 and SHA-512 are", uint32(m.Hash))
	}
	if row.uses(paramHash) && m.Hash == object.HashNone {
		return object.Errorf(object.ErrMechanismParam, "%v needs a hash: SHA-256, SHA-384 or SHA-512", m.Type)
	}
	// FIPS 186-5, section 5.4, bounds the salt by the digest. An empty one is
	// refused because crypto/rsa cannot make it.
	if size := uint32(m.Hash.Size()); row.uses(paramSaltLength) && (m.SaltLength == 0 || m.SaltLength > size) {
		return object.Errorf(object.ErrMechanismParam, "PSS salt length is %d, expected 1 to %d", m.SaltLength, size)
	}
	if row.uses(paramSessionKeyLen) && (m.SessionKeyLen < minSessionKey || m.SessionKeyLen > MaxSessionKey) {
		return object.Errorf(object.ErrMechanismParam, "session key length is %d, expected %d to %d", m.SessionKeyLen, minSessionKey, MaxSessionKey)
	}
	return nil
}

func unused(row *Info, field string) error {
	return object.Errorf(object.ErrMechanismParam, "%v has no %s to %v with; leave it out", row.Mechanism, field, row.Function)
}
