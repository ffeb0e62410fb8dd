package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

// key is one of the vault's keys, 256 random or derived bits.
type key [32]byte

func newKey() key {
	var k key
	rand.Read(k[:]) // never fails: the program ends instead
	return k
}

// Sizes of a sealed value's parts, in bytes: a random id of the secret, a random
// nonce, the plaintext's length, the tag.
const (
	secretIDSize = 16
	nonceSize    = 12
	tagSize      = 16
	overhead     = secretIDSize + nonceSize + tagSize
)

// errAuthentication: a seal does not open, since it or its context was changed
// or the key is another one; nobody can tell which.
var errAuthentication = errors.New("authentication failed")

// contextOf writes words so that no two lists of them have one text.
func contextOf(words ...string) []byte {
	var b []byte
	for _, w := range words {
		b = binary.BigEndian.AppendUint16(b, uint16(len(w)))
		b = append(b, w...)
	}
	return b
}

// seal appends id, nonce and the sealed plaintext to dst: AES-256-GCM under a
// key of this one secret, HKDF-Expand (RFC 5869) of k with context and id as its
// info, which are the associated data, too. So no key ever sees two secrets,
// and 96 random bits are nonce enough.
func seal(dst []byte, k *key, context, id, plain []byte) []byte {
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	dst = append(append(dst, id...), nonce...)
	info := append(context[:len(context):len(context)], id...)
	return aead(k, info).Seal(dst, nonce, plain, info)
}

// unseal is the inverse of seal.
func unseal(k *key, context, sealed []byte) ([]byte, error) {
	if len(sealed) < overhead {
		return nil, errAuthentication
	}
	id, rest := sealed[:secretIDSize], sealed[secretIDSize:]
	info := append(context[:len(context):len(context)], id...)
	plain, err := aead(k, info).Open(nil, rest[:nonceSize], rest[nonceSize:], info)
	if err != nil {
		return nil, errAuthentication
	}
	return plain, nil
}

func aead(k *key, info []byte) cipher.AEAD {
	derived, err := hkdf.Expand(sha256.New, k[:], string(info), len(k))
	if err != nil {
		panic("vault: " + err.Error()) // the length is a constant that HKDF can give
	}
	defer clear(derived)
	block, err := aes.NewCipher(derived)
	if err != nil {
		panic("vault: " + err.Error()) // the key has 32 bytes
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic("vault: " + err.Error()) // AES has blocks of 16 bytes
	}
	return gcm
}

func newSecretID() []byte {
	id := make([]byte, secretIDSize)
	rand.Read(id)
	return id
}

// padding makes the length of a secret say little: a plaintext is filled to a
// multiple of it by one byte 0x80 and zeros (ISO/IEC 7816-4).
const padding = 32

func pad(plain []byte) []byte {
	padded := make([]byte, (len(plain)/padding+1)*padding)
	copy(padded, plain)
	padded[len(plain)] = 0x80
	return padded
}

func unpad(padded []byte) ([]byte, error) {
	for i := len(padded) - 1; i >= 0; i-- {
		switch padded[i] {
		case 0:
			continue
		case 0x80:
			return padded[:i], nil
		}
		break
	}
	return nil, errAuthentication // what this package sealed is padded
}
