package p11

import (
	"bytes"
	"context"
	"errors"

	"moongate/internal/hsm/object"
)

const (
	gcmNonce = 12 // bytes, in front of the ciphertext
	gcmTag   = 16 // bytes, behind it
	maxAAD   = 64 << 10
)

// Encrypt encrypts with CKM_AES_GCM, and nothing in its place: the answer is the
// nonce, which the token makes, the ciphertext and 16 bytes of tag. The nonce has
// 12 bytes, or 16 of a token that does not take one.
func (s *session) Encrypt(ctx context.Context, _ object.OperationID, id object.ID, m object.Mechanism, plaintext []byte) ([]byte, object.Receipt, error) {
	n, err := s.key(ctx, id, object.AttrEncrypt)
	if err != nil {
		return nil, nil, err
	}
	if m.Type != object.MechAESGCM {
		return nil, nil, object.Errorf(object.ErrMechanism, "%v is not done through moongate-p11; CKM_AES_GCM is", m.Type)
	}
	out, err := s.token.sealGCM(ctx, n, m, bytes.Clone(plaintext))
	return out, nil, err
}

func (t *Token) checkGCM(n *entry, m object.Mechanism) error {
	keyType, _ := n.attributes.KeyType()
	switch {
	case keyType != object.KeyAES:
		return object.Errorf(object.ErrKeyType, "key %q is a %v key, %v takes AES", n.attributes.Text(object.AttrLabel), keyType, m.Type)
	case m.Hash != object.HashNone || m.SaltLength != 0 || m.SessionKeyLen != 0 || len(m.IV) != 0 || len(m.Salt) != 0 || len(m.Info) != 0 || len(m.Peer) != 0:
		return object.Errorf(object.ErrMechanismParam, "%v takes additional authenticated data, and nothing else: the nonce is chosen here", m.Type)
	case len(m.AAD) > maxAAD:
		return object.Errorf(object.ErrMechanismParam, "%d bytes of additional authenticated data, at most %d", len(m.AAD), maxAAD)
	case !t.can(uint(m.Type)):
		return object.Errorf(object.ErrMechanism, "token %q has no CKM_AES_GCM, and nothing weaker is used in its place: keep the master key in software, or use a token that has it", t.Slot().Label)
	}
	return nil
}

func (t *Token) sealGCM(ctx context.Context, n *entry, m object.Mechanism, plaintext []byte) ([]byte, error) {
	if err := t.checkGCM(n, m); err != nil {
		return nil, err
	}
	aad := bytes.Clone(m.AAD)
	nonce, err := t.random(ctx, gcmNonce)
	if err != nil {
		return nil, err
	}
	out, err := t.use(ctx, n.id, "C_Encrypt", func(session uint, n *entry) ([]byte, error) {
		gcm := &GCM{IV: bytes.Clone(nonce), AAD: aad}
		how := Mechanism{Type: uint(m.Type), GCM: gcm}
		sealed, err := t.module.Encrypt(session, how, n.handle, plaintext)
		if code, _ := errors.AsType[CKR](err); code == ckrMechanismParamInvalid || code == ckrArgumentsBad {
			// In FIPS mode some tokens take no nonce, and make one.
			gcm.IV = nil
			sealed, err = t.module.Encrypt(session, how, n.handle, plaintext)
		}
		if err != nil {
			return nil, err
		}
		return nonceFirst(gcm.IV, sealed, len(plaintext)), nil
	})
	if err != nil {
		return nil, refusal("encrypting", err)
	}
	if out == nil {
		return nil, object.Errorf(object.ErrMechanism, "the module's CKM_AES_GCM gives neither a nonce of %d bytes nor one of %d: it is not used", gcmNonce, ownNonce)
	}
	return out, nil
}

// ownNonce is the length of the nonces that Thales Luna makes in FIPS mode.
const ownNonce = 16

// nonceFirst puts the nonce that was used in front of ciphertext and tag. Some
// tokens write theirs over the one that they were given, some append it. It
// returns nil where there is none that is known.
func nonceFirst(iv, sealed []byte, plaintext int) []byte {
	switch behind := len(sealed) - plaintext - gcmTag; {
	case behind == 0 && (len(iv) == gcmNonce || len(iv) == ownNonce):
		return append(bytes.Clone(iv), sealed...)
	case behind == gcmNonce || behind == ownNonce:
		at := len(sealed) - behind
		return append(bytes.Clone(sealed[at:]), sealed[:at]...)
	}
	return nil
}

func (t *Token) openGCM(ctx context.Context, n *entry, m object.Mechanism, ciphertext []byte) ([]byte, error) {
	if err := t.checkGCM(n, m); err != nil {
		return nil, err
	}
	if len(ciphertext) < gcmNonce+gcmTag {
		return nil, object.Errorf(object.ErrEncryptedData, "ciphertext has %d bytes, at least %d are nonce and tag", len(ciphertext), gcmNonce+gcmTag)
	}
	aad := bytes.Clone(m.AAD)
	open := func(nonce int) ([]byte, error) {
		return t.use(ctx, n.id, "C_Decrypt", func(session uint, n *entry) ([]byte, error) {
			gcm := &GCM{IV: ciphertext[:nonce], AAD: aad}
			return t.module.Decrypt(session, Mechanism{Type: uint(m.Type), GCM: gcm}, n.handle, ciphertext[nonce:])
		})
	}
	// The tag says which of the two nonces it is.
	out, err := open(gcmNonce)
	if _, answered := errors.AsType[CKR](err); answered && !isLoss(err) && len(ciphertext) >= ownNonce+gcmTag {
		if long, second := open(ownNonce); second == nil {
			return long, nil
		}
	}
	if code, _ := errors.AsType[CKR](err); code == ckrGeneralError || code == ckrFunctionFailed {
		err = object.Errorf(object.ErrEncryptedData, "ciphertext was not made with this key and this additional authenticated data, or was changed (the module answered %v)", code)
	}
	if err != nil {
		return nil, refusal("decrypting", err)
	}
	return out, nil
}
