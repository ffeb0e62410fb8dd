package mech

import (
	"crypto/rand"
	"crypto/rsa"

	"moongate/internal/hsm/object"
)

// GCMOverhead is how much longer a ciphertext of MechAESGCM is than its
// plaintext: 12 bytes of nonce in front, 16 of tag behind.
const GCMOverhead = 28

// Encrypt encrypts.
//
//   - MechAESGCM: nonce || ciphertext || tag, the nonce 12 random bytes. One
//     key is good for 2^32 messages (SP 800-38D, section 8.3).
func (k *Key) Encrypt(m object.Mechanism, plaintext []byte) ([]byte, error) {
	if err := k.check(Encrypt, m); err != nil {
		return nil, err
	}
	switch m.Type {
	case object.MechAESGCM:
		return k.gcm.Seal(nil, nil, plaintext, m.AAD), nil
	}
	return nil, notDone(Encrypt, m)
}

// Decrypt decrypts.
//
//   - MechRSAPKCS: RSAES-PKCS1-v1_5 (RFC 8017, section 7.2) for a plaintext of
//     exactly m.SessionKeyLen bytes. When the padding or the length is wrong,
//     that many random bytes are the result, in the same time and without an
//     error, so that nobody can tell. Only what the public key already tells
//     is an error: a ciphertext of another length than the modulus, or one
//     that is not less than it.
//   - MechAESGCM: what Encrypt makes; ErrEncryptedData when it was not made
//     with this key and m.AAD.
func (k *Key) Decrypt(m object.Mechanism, ciphertext []byte) ([]byte, error) {
	if err := k.check(Decrypt, m); err != nil {
		return nil, err
	}
	switch m.Type {
	case object.MechRSAPKCS:
		return k.decryptSessionKey(int(m.SessionKeyLen), ciphertext)
	case object.MechAESGCM:
		plaintext, err := k.gcm.Open(nil, nil, ciphertext, m.AAD)
		if err != nil {
			return nil, object.Errorf(object.ErrEncryptedData, "ciphertext was not made with this key and this additional authenticated data, or was changed")
		}
		return plaintext, nil
	}
	return nil, notDone(Decrypt, m)
}

// pkcs1Overhead is the least that PKCS #1 v1.5 padding takes of a modulus
// (RFC 8017, section 7.2.1).
const pkcs1Overhead = 11

func (k *Key) decryptSessionKey(size int, ciphertext []byte) ([]byte, error) {
	if room := k.rsa.Size() - pkcs1Overhead; size > room {
		return nil, object.Errorf(object.ErrMechanismParam, "session key length is %d, a %d-bit key has room for %d", size, k.bits, room)
	}
	if len(ciphertext) != k.rsa.Size() {
		return nil, object.Errorf(object.ErrDataLength, "ciphertext has %d bytes, a %d-bit key takes %d", len(ciphertext), k.bits, k.rsa.Size())
	}
	out := make([]byte, size)
	rand.Read(out) // never fails: the program ends instead
	//lint:ignore SA1019 the protocol that needs it is TLS 1.2's RSA key exchange, and this is its safe form
	if err := rsa.DecryptPKCS1v15SessionKey(nil, k.rsa, ciphertext, out); err != nil {
		return nil, object.Errorf(object.ErrEncryptedData, "ciphertext is not less than the modulus")
	}
	return out, nil
}
