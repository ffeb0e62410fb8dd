package mech

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
)

// AES key wrap with padding: RFC 5649, also SP 800-38F's KWP.

// kwpIV is the constant half of the alternative initial value (section 3).
const kwpIV = 0xa65959a6

// kwpWrap wraps 1 to MaxWrapped bytes. The result is the plaintext padded to
// a multiple of 8, and 8 more.
func kwpWrap(block cipher.Block, plaintext []byte) []byte {
	n := (len(plaintext) + 7) / 8
	out := make([]byte, 8+8*n)
	binary.BigEndian.PutUint32(out, kwpIV)
	binary.BigEndian.PutUint32(out[4:], uint32(len(plaintext)))
	copy(out[8:], plaintext)
	if n == 1 {
		block.Encrypt(out, out) // section 4.1: one block, as it is
		return out
	}
	wrapRounds(block, out)
	return out
}

// kwpUnwrap undoes kwpWrap. ok is false when wrapped was not made with this
// key; which of the checks of section 3 failed does not show, in time either.
func kwpUnwrap(block cipher.Block, wrapped []byte) (plaintext []byte, ok bool) {
	n := len(wrapped)/8 - 1
	if len(wrapped)%8 != 0 || n < 1 || n > MaxWrapped/8 {
		return nil, false
	}
	out := make([]byte, len(wrapped))
	copy(out, wrapped)
	if n == 1 {
		block.Decrypt(out, out)
	} else {
		unwrapRounds(block, out)
	}
	size, valid := kwpCheck(out, n)
	if !valid {
		clear(out)
		return nil, false
	}
	return out[8 : 8+size : 8+size], true
}

// kwpCheck is section 3's three checks: the constant, that the length says
// 8*(n-1) < length <= 8*n, and that the padding is zero.
func kwpCheck(out []byte, n int) (size int, ok bool) {
	good := subtle.ConstantTimeEq(int32(binary.BigEndian.Uint32(out)), int32(kwpIV-1<<32))
	length := binary.BigEndian.Uint32(out[4:])
	// The padding is the distance to the end: 0 to 7, as an unsigned number.
	padding := uint32(8*n) - length
	good &= subtle.ConstantTimeEq(int32(padding&^7), 0)
	var nonzero byte
	for i := range uint32(8) {
		// The i-th byte from the end is padding when i < padding.
		isPadding := byte(subtle.ConstantTimeLessOrEq(int(i)+1, int(padding&7)))
		nonzero |= out[len(out)-1-int(i)] & -isPadding
	}
	good &= subtle.ConstantTimeByteEq(nonzero, 0)
	return int(length), good == 1
}
