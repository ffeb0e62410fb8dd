package p11

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"math/big"

	"moongate/internal/hsm/object"
)

// Limits of a session key, in bytes: what hsm/mech has.
const (
	minSessionKey = 16
	maxSessionKey = 256
	pkcs1Overhead = 11
)

// Decrypt decrypts what CKM_AES_GCM made, or a session key of RSAES-PKCS1-v1_5
// (RFC 8017, section 7.2) of exactly m.SessionKeyLen bytes. When the padding or
// the length of that is wrong the answer is as many pseudorandom bytes, the same
// for each try in this process's life, in the same time and without an error.
//
// The padding is looked at here, in constant time, and not by the module: it
// applies the bare permutation (CKM_RSA_X_509), which knows no wrong padding.
// Of a token that does not do that CKM_RSA_PKCS is asked; then the answer tells
// nothing still, but how long the module takes for a wrong padding is its own.
func (s *session) Decrypt(ctx context.Context, _ object.OperationID, id object.ID, m object.Mechanism, ciphertext []byte) ([]byte, object.Receipt, error) {
	n, err := s.key(ctx, id, object.AttrDecrypt)
	if err != nil {
		return nil, nil, err
	}
	var out []byte
	switch m.Type {
	case object.MechRSAPKCS:
		out, err = s.token.decryptSessionKey(ctx, n, m, bytes.Clone(ciphertext))
	case object.MechAESGCM:
		out, err = s.token.openGCM(ctx, n, m, bytes.Clone(ciphertext))
	default:
		err = object.Errorf(object.ErrMechanism, "%v is not done through moongate-p11; CKM_RSA_PKCS and CKM_AES_GCM are", m.Type)
	}
	return out, nil, err
}

func (t *Token) decryptSessionKey(ctx context.Context, n *entry, m object.Mechanism, ciphertext []byte) ([]byte, error) {
	public, is := n.public.(*rsa.PublicKey)
	if !is {
		return nil, wrongKey(n, m.Type)
	}
	size, k := int(m.SessionKeyLen), public.Size()
	switch {
	case m.Hash != object.HashNone || m.SaltLength != 0 || len(m.AAD) != 0 || len(m.IV) != 0 || len(m.Salt) != 0 || len(m.Info) != 0 || len(m.Peer) != 0:
		return nil, object.Errorf(object.ErrMechanismParam, "%v takes a session key length to decrypt with, and nothing else", m.Type)
	case m.SessionKeyLen < minSessionKey || m.SessionKeyLen > maxSessionKey || size > k-pkcs1Overhead:
		return nil, object.Errorf(object.ErrMechanismParam, "session key length is %d, expected %d to %d", m.SessionKeyLen, minSessionKey, min(maxSessionKey, k-pkcs1Overhead))
	case len(ciphertext) != k:
		return nil, object.Errorf(object.ErrDataLength, "ciphertext has %d bytes, a %d-bit key takes %d", len(ciphertext), public.N.BitLen(), k)
	case new(big.Int).SetBytes(ciphertext).Cmp(public.N) >= 0:
		return nil, object.Errorf(object.ErrEncryptedData, "ciphertext is not less than the modulus")
	}
	out, err := t.rejection(n, size, ciphertext)
	if err != nil {
		return nil, err
	}
	if t.can(mechRSAX509) {
		block, err := t.use(ctx, n.id, "C_Decrypt", func(session uint, n *entry) ([]byte, error) {
			return t.module.Decrypt(session, Mechanism{Type: mechRSAX509}, n.handle, ciphertext)
		})
		if err != nil {
			return nil, refusal("decrypting", err)
		}
		defer clear(block)
		if len(block) > k {
			return nil, object.Errorf(object.ErrDeviceError, "decrypting: the module gave %d bytes, the modulus has %d", len(block), k)
		}
		return unpad(out, block, k), nil
	}
	if err := t.has(m.Type); err != nil {
		return nil, err
	}
	key, err := t.use(ctx, n.id, "C_Decrypt", func(session uint, n *entry) ([]byte, error) {
		key, err := t.module.Decrypt(session, Mechanism{Type: uint(m.Type)}, n.handle, ciphertext)
		if code, answered := errors.AsType[CKR](err); answered && !isLoss(err) && code != ckrKeyHandleInvalid && code != ckrObjectHandleInvalid {
			return nil, nil // whatever it is, nobody may see it
		}
		return key, err
	})
	if err != nil {
		return nil, refusal("decrypting", err)
	}
	defer clear(key)
	padded := make([]byte, size)
	copy(padded, key)
	subtle.ConstantTimeCopy(subtle.ConstantTimeEq(int32(len(key)), int32(size)), out, padded)
	return out, nil
}

// unpad lays the session key over out, which is as long, where the block is
// padded as EME-PKCS1-v1_5 has it: 0, 2, bytes that are not 0, 0, the key. It
// takes the same time whatever is in the block.
func unpad(out, block []byte, k int) []byte {
	em := make([]byte, k)
	defer clear(em)
	copy(em[k-len(block):], block) // some modules drop zeros in front
	padding := em[2 : k-len(out)-1]
	good := subtle.ConstantTimeByteEq(em[0], 0) & subtle.ConstantTimeByteEq(em[1], 2) & subtle.ConstantTimeByteEq(em[k-len(out)-1], 0)
	for _, b := range padding {
		good &= 1 ^ subtle.ConstantTimeByteEq(b, 0)
	}
	subtle.ConstantTimeCopy(good, out, em[k-len(out):])
	return out
}

// rejection is what stands in for a session key that is not there
// (draft-irtf-cfrg-rsa-guidance). It is made every time, so that its making
// tells nothing.
func (t *Token) rejection(n *entry, size int, ciphertext []byte) ([]byte, error) {
	mac := hmac.New(sha256.New, t.rejectKey)
	mac.Write(valueOf(n.attributes, object.AttrPublicKeyInfo))
	mac.Write(ciphertext)
	out, err := hkdf.Expand(sha256.New, mac.Sum(nil), string(binary.BigEndian.AppendUint32(nil, uint32(size))), size)
	if err != nil {
		return nil, object.Errorf(object.ErrGeneral, "deriving: %v", err)
	}
	return out, nil
}
