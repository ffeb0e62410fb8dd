package mech

import (
	"crypto/aes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"

	"moongate/internal/hsm/object"
)

// ephemeralSize is the length of the AES key between the RSA key and the
// target: AES-256.
const ephemeralSize = 32

// rsaAESWrap returns the OAEP ciphertext of a fresh AES key, as long as the
// modulus, and then the payload under that key by KWP.
func (k *Key) rsaAESWrap(m object.Mechanism, payload []byte) ([]byte, error) {
	ephemeral := make([]byte, ephemeralSize)
	defer clear(ephemeral)
	rand.Read(ephemeral) // never fails: the program ends instead
	out, err := rsa.EncryptOAEP(hashes[m.Hash].New(), rand.Reader, k.public.(*rsa.PublicKey), ephemeral, nil)
	if err != nil {
		return failure(nil, err)
	}
	block, err := aes.NewCipher(ephemeral)
	if err != nil {
		return failure(nil, err)
	}
	return append(out, kwpWrap(block, payload)...), nil
}

// rsaAESUnwrap undoes rsaAESWrap. A first part that is not good OAEP, or not
// of an AES-256 key, is taken for a random key, with which the second part is
// not good: the answer and its time are those of a wrong second part, so that
// nobody learns which it was (Manger, CRYPTO 2001).
func (k *Key) rsaAESUnwrap(m object.Mechanism, wrapped []byte) ([]byte, bool) {
	size := k.rsa.Size()
	if len(wrapped) <= size || len(wrapped) > size+8+MaxWrapped {
		return nil, false
	}
	ephemeral := make([]byte, ephemeralSize)
	defer clear(ephemeral)
	rand.Read(ephemeral) // never fails: the program ends instead
	opened, err := rsa.DecryptOAEP(hashes[m.Hash].New(), nil, k.rsa, wrapped[:size], nil)
	defer clear(opened)
	good := subtle.ConstantTimeEq(int32(len(opened)), ephemeralSize)
	if err == nil && good == 1 {
		copy(ephemeral, opened)
	}
	block, err := aes.NewCipher(ephemeral)
	if err != nil {
		return nil, false
	}
	return kwpUnwrap(block, wrapped[size:])
}
