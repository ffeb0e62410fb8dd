package client

import (
	"crypto/cipher"
	"encoding/binary"
)

// kwpWrap is AES key wrap with padding (RFC 5649) of at least one byte. The
// result is the plaintext padded to a multiple of 8, and 8 more.
func kwpWrap(block cipher.Block, plaintext []byte) []byte {
	n := (len(plaintext) + 7) / 8
	out := make([]byte, 8+8*n)
	binary.BigEndian.PutUint32(out, 0xa65959a6) // section 3
	binary.BigEndian.PutUint32(out[4:], uint32(len(plaintext)))
	copy(out[8:], plaintext)
	if n == 1 {
		block.Encrypt(out, out) // section 4.1: one block, as it is
		return out
	}
	// RFC 3394, section 2.2.1, in its index-based form. b is A || R[i].
	var b [16]byte
	copy(b[:8], out)
	for t := range 6 * n {
		r := out[8+8*(t%n):][:8]
		copy(b[8:], r)
		block.Encrypt(b[:], b[:])
		binary.BigEndian.PutUint64(b[:], binary.BigEndian.Uint64(b[:])^uint64(t+1))
		copy(r, b[8:])
	}
	copy(out, b[:8])
	clear(b[:])
	return out
}
