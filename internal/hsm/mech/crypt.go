package mech

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"

	"moongate/internal/hsm/object"
)

// GCMOverhead is how much longer a ciphertext of MechAESGCM is than its
// plaintext: 12 bytes of nonce in front, 16 of tag behind.
const GCMOverhead = 28

// Encrypt encrypts.
//
//   - MechAESGCM: nonce || ciphertext || tag, the nonce 12 random bytes. One
//     key is good for 2^32 messages (SP 800-38D, section 8.3).
//   - MechAESCBC: whole blocks from m.IV (SP 800-38A, section 6.2), which
//     nobody may be able to predict. MechAESCBCPad adds 1 to 16 bytes of
//     padding (RFC 5652, section 6.3).
//   - MechAESCTR: SP 800-38A, section 6.5; m.IV is the first counter, counted
//     up as one number of 16 bytes. No counter may ever come twice under a key:
//     that is the caller's to see to.
//
// CBC and CTR say nothing of changes: whoever has no reason against it uses
// GCM. With them, a key needs CKA_ENCRYPT and CKA_DECRYPT (see checkBothWays).
func (k *Key) Encrypt(m object.Mechanism, plaintext []byte) ([]byte, error) {
	if err := k.check(Encrypt, m); err != nil {
		return nil, err
	}
	switch m.Type {
	case object.MechAESGCM:
		return k.gcm.Seal(nil, nil, plaintext, m.AAD), nil
	case object.MechAESCBC:
		return cbcEncrypt(k.aes, m.IV, plaintext)
	case object.MechAESCBCPad:
		return cbcEncrypt(k.aes, m.IV, pad(plaintext))
	case object.MechAESCTR:
		return ctr(k.aes, m.IV, plaintext), nil
	}
	return nil, notDone(Encrypt, m)
}

// Decrypt decrypts.
//
//   - MechRSAPKCS: RSAES-PKCS1-v1_5 (RFC 8017, section 7.2) for a plaintext of
//     exactly m.SessionKeyLen bytes. When the padding or the length is wrong,
//     that many pseudorandom bytes are the result, in the same time and
//     without an error. They depend on key, ciphertext and length alone, so
//     that asking again tells no more (implicit rejection,
//     draft-irtf-cfrg-rsa-guidance). Only what the public key already tells is
//     an error: a ciphertext of another length than the modulus, or one that
//     is not less than it. Whoever sees plaintexts can still test guesses
//     about them: CKA_DECRYPT is a permission to give with care.
//   - MechRSAOAEP: RSAES-OAEP (RFC 8017, section 7.1) with m.Hash for the label
//     and for MGF1; m.AAD is the label. One error, ErrEncryptedData, for all
//     that can be wrong inside.
//   - MechAESGCM: what Encrypt makes; ErrEncryptedData when it was not made
//     with this key and m.AAD.
//   - MechAESCBC, MechAESCBCPad, MechAESCTR: what Encrypt makes. Wrong padding
//     is ErrEncryptedData, whatever is wrong with it, found in a time that
//     does not depend on it. That the padding was wrong cannot be hidden from
//     the caller, who may decrypt anyway; a service that lets strangers choose
//     ciphertexts and shows them its errors is a padding oracle all the same
//     (Vaudenay, EUROCRYPT 2002), and must use GCM, or check a MAC first.
func (k *Key) Decrypt(m object.Mechanism, ciphertext []byte) ([]byte, error) {
	if err := k.check(Decrypt, m); err != nil {
		return nil, err
	}
	switch m.Type {
	case object.MechRSAPKCS:
		return k.decryptSessionKey(int(m.SessionKeyLen), ciphertext)
	case object.MechRSAOAEP:
		return k.decryptOAEP(m, ciphertext)
	case object.MechAESGCM:
		plaintext, err := k.gcm.Open(nil, nil, ciphertext, m.AAD)
		if err != nil {
			return nil, object.Errorf(object.ErrEncryptedData, "ciphertext was not made with this key and this additional authenticated data, or was changed")
		}
		return plaintext, nil
	case object.MechAESCBC:
		return cbcDecrypt(k.aes, m.IV, ciphertext)
	case object.MechAESCBCPad:
		return cbcDecryptPadded(k.aes, m.IV, ciphertext)
	case object.MechAESCTR:
		return ctr(k.aes, m.IV, ciphertext), nil
	}
	return nil, notDone(Decrypt, m)
}

func (k *Key) decryptOAEP(m object.Mechanism, ciphertext []byte) ([]byte, error) {
	if err := k.checkModulusLength(ciphertext); err != nil {
		return nil, err
	}
	plaintext, err := rsa.DecryptOAEP(hashes[m.Hash].New(), nil, k.rsa, ciphertext, m.AAD)
	if err != nil {
		return nil, object.Errorf(object.ErrEncryptedData, "ciphertext was not made for this key with this hash and label, or was changed")
	}
	return plaintext, nil
}

// checkModulusLength refuses a ciphertext that everybody can see is none.
func (k *Key) checkModulusLength(ciphertext []byte) error {
	if len(ciphertext) != k.rsa.Size() {
		return object.Errorf(object.ErrDataLength, "ciphertext has %d bytes, a %d-bit key takes %d", len(ciphertext), k.bits, k.rsa.Size())
	}
	return nil
}

// pkcs1Overhead is the least that PKCS #1 v1.5 padding takes of a modulus
// (RFC 8017, section 7.2.1).
const pkcs1Overhead = 11

func (k *Key) decryptSessionKey(size int, ciphertext []byte) ([]byte, error) {
	if room := k.rsa.Size() - pkcs1Overhead; size > room {
		return nil, object.Errorf(object.ErrMechanismParam, "session key length is %d, a %d-bit key has room for %d", size, k.bits, room)
	}
	if err := k.checkModulusLength(ciphertext); err != nil {
		return nil, err
	}
	out, err := k.rejection(size, ciphertext)
	if err != nil {
		return nil, err
	}
	//lint:ignore SA1019 the protocol that needs it is TLS 1.2's RSA key exchange, and this is its safe form
	if err := rsa.DecryptPKCS1v15SessionKey(nil, k.rsa, ciphertext, out); err != nil {
		return nil, object.Errorf(object.ErrEncryptedData, "ciphertext is not less than the modulus")
	}
	return out, nil
}

// rejectionKey is the secret behind an RSA key's implicit rejections. It is
// the private exponent's, so that every copy of the key rejects alike.
func rejectionKey(key *rsa.PrivateKey) ([]byte, error) {
	exponent := key.D.FillBytes(make([]byte, key.Size()))
	defer clear(exponent)
	return hkdf.Key(sha256.New, exponent, nil, "moongate hsm: implicit rejection", sha256.Size)
}

// rejection is what a decryption returns when it cannot return the plaintext.
// It is made every time, so that its making tells nothing.
func (k *Key) rejection(size int, ciphertext []byte) ([]byte, error) {
	mac := hmac.New(sha256.New, k.rejectKey)
	mac.Write(ciphertext)
	out, err := hkdf.Expand(sha256.New, mac.Sum(nil), string(binary.BigEndian.AppendUint32(nil, uint32(size))), size)
	if err != nil {
		return nil, object.Errorf(object.ErrGeneral, "deriving: %v", err)
	}
	return out, nil
}
