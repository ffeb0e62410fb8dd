package p11

import (
	"bytes"
	"context"

	"moongate/internal/hsm/object"
)

const (
	gcmNonce = 12 // bytes, in front of the ciphertext
	gcmTag   = 16 // bytes, behind it
	maxAAD   = 64 << 10
)

// Encrypt encrypts with CKM_AES_GCM, and nothing in its place: the answer is 12
// bytes of nonce, which the token makes, the ciphertext and 16 bytes of tag.
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
		sealed, err := t.module.Encrypt(session, Mechanism{Type: uint(m.Type), GCM: gcm}, n.handle, plaintext)
		if err != nil {
			return nil, err
		}
		// Some modules choose the nonce whatever they are told, and write theirs
		// over ours.
		return append(bytes.Clone(gcm.IV), sealed...), nil
	})
	if err != nil {
		return nil, refusal("encrypting", err)
	}
	if want := gcmNonce + len(plaintext) + gcmTag; len(out) != want {
		return nil, object.Errorf(object.ErrMechanism, "the module's CKM_AES_GCM gave %d bytes of nonce, ciphertext and tag, expected %d: it is not as PKCS#11 has it, and not used", len(out), want)
	}
	return out, nil
}

func (t *Token) openGCM(ctx context.Context, n *entry, m object.Mechanism, ciphertext []byte) ([]byte, error) {
	if err := t.checkGCM(n, m); err != nil {
		return nil, err
	}
	if len(ciphertext) < gcmNonce+gcmTag {
		return nil, object.Errorf(object.ErrEncryptedData, "ciphertext has %d bytes, at least %d are nonce and tag", len(ciphertext), gcmNonce+gcmTag)
	}
	aad := bytes.Clone(m.AAD)
	out, err := t.use(ctx, n.id, "C_Decrypt", func(session uint, n *entry) ([]byte, error) {
		gcm := &GCM{IV: ciphertext[:gcmNonce], AAD: aad}
		return t.module.Decrypt(session, Mechanism{Type: uint(m.Type), GCM: gcm}, n.handle, ciphertext[gcmNonce:])
	})
	if err != nil {
		return nil, refusal("decrypting", err)
	}
	return out, nil
}
