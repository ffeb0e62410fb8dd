package mech

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
)

// AES key wrap: RFC 3394, also SP 800-38F's KW.

// kwIV is the initial value (section 2.2.3.1).
const kwIV = 0xa6a6a6a6a6a6a6a6

// kwWrap wraps a multiple of 8 bytes, at least 16. The result is 8 bytes
// longer.
func kwWrap(block cipher.Block, plaintext []byte) []byte {
	out := make([]byte, 8+len(plaintext))
	binary.BigEndian.PutUint64(out, kwIV)
	copy(out[8:], plaintext)
	wrapRounds(block, out)
	return out
}

// kwUnwrap undoes kwWrap. ok is false when wrapped was not made with this key.
func kwUnwrap(block cipher.Block, wrapped []byte) (plaintext []byte, ok bool) {
	if len(wrapped)%8 != 0 || len(wrapped) < 24 || len(wrapped) > 8+MaxWrapped {
		return nil, false
	}
	out := append([]byte(nil), wrapped...)
	unwrapRounds(block, out)
	var want [8]byte
	binary.BigEndian.PutUint64(want[:], kwIV)
	if subtle.ConstantTimeCompare(out[:8], want[:]) != 1 {
		clear(out)
		return nil, false
	}
	return out[8:], true
}

// wrapRounds is section 2.2.1, in its index-based form: out is the initial
// value and at least two semiblocks, and becomes the ciphertext.
func wrapRounds(block cipher.Block, out []byte) {
	n := len(out)/8 - 1
	var b [16]byte // A || R[i]
	copy(b[:8], out)
	for t := range 6 * n {
		r := out[8+8*(t%n):][:8]
		copy(b[8:], r)
		block.Encrypt(b[:], b[:])
		counter := binary.BigEndian.Uint64(b[:]) ^ uint64(t+1)
		binary.BigEndian.PutUint64(b[:], counter)
		copy(r, b[8:])
	}
	copy(out, b[:8])
	clear(b[:])
}

// unwrapRounds is section 2.2.2: it undoes wrapRounds.
func unwrapRounds(block cipher.Block, out []byte) {
	n := len(out)/8 - 1
	var b [16]byte
	copy(b[:8], out)
	for t := 6*n - 1; t >= 0; t-- {
		r := out[8+8*(t%n):][:8]
		counter := binary.BigEndian.Uint64(b[:]) ^ uint64(t+1)
		binary.BigEndian.PutUint64(b[:], counter)
		copy(b[8:], r)
		block.Decrypt(b[:], b[:])
		copy(r, b[8:])
	}
	copy(out, b[:8])
	clear(b[:])
}
