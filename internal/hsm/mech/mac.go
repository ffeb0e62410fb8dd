package mech

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"hash"

	"moongate/internal/hsm/object"
)

// hmacHashes are the digests that the HMAC mechanisms are over.
var hmacHashes = map[object.MechanismType]func() hash.Hash{
	object.MechSHA256HMAC: sha256.New,
	object.MechSHA384HMAC: sha512.New384,
	object.MechSHA512HMAC: sha512.New,
}

// hmac is RFC 2104 (FIPS 198-1).
func (k *Key) hmac(m object.MechanismType, message []byte) []byte {
	mac := hmac.New(hmacHashes[m], k.value)
	mac.Write(message)
	return mac.Sum(nil)
}

// cmac is AES-CMAC: RFC 4493, section 2.4; SP 800-38B.
func cmac(block cipher.Block, message []byte) []byte {
	const size = 16
	var sum, subkey [size]byte
	block.Encrypt(subkey[:], subkey[:])
	double(&subkey) // K1
	whole := (len(message) - 1) / size * size
	if len(message) == 0 {
		whole = 0
	}
	for i := 0; i < whole; i += size {
		subtle.XORBytes(sum[:], sum[:], message[i:i+size])
		block.Encrypt(sum[:], sum[:])
	}
	var last [size]byte
	if copy(last[:], message[whole:]) < size {
		last[len(message)-whole] = 0x80
		double(&subkey) // K2
	}
	subtle.XORBytes(sum[:], sum[:], last[:])
	subtle.XORBytes(sum[:], sum[:], subkey[:])
	block.Encrypt(sum[:], sum[:])
	clear(subkey[:])
	return sum[:]
}

// double multiplies by x in GF(2^128) (RFC 4493, section 2.3), without a
// branch on the subkey.
func double(b *[16]byte) {
	carry := b[0] >> 7
	for i := range 15 {
		b[i] = b[i]<<1 | b[i+1]>>7
	}
	b[15] = b[15]<<1 ^ 0x87&-carry
}
