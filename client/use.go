package client

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// MaxMessage is the longest message, in bytes, that the HSM signs, verifies or
// encrypts at once.
const MaxMessage = wire.MaxMessage

// Sign signs with a mechanism: a digest, or the message for EdDSA and MACs.
// ECDSA returns r || s. Key.Sign is more convenient.
func (c *Client) Sign(ctx context.Context, id ID, m Mechanism, data []byte) ([]byte, error) {
	return c.use(ctx, wire.OpSign, id, m, data)
}

// Verify has the HSM check a signature, by a public key, or a MAC: nil where it
// is right, an HSMError with ErrSignatureInvalid or ErrSignatureLength where it
// is not. data is a digest or a message, as for Sign.
func (c *Client) Verify(ctx context.Context, id ID, m Mechanism, data, signature []byte) error {
	if err := checkUse(wire.OpVerify, m, data); err != nil {
		return err
	}
	if len(signature) > wire.MaxSignature {
		return keyArgument(ErrSignatureLength, "the signature has %d bytes, at most %d", len(signature), wire.MaxSignature)
	}
	_, err := c.call(ctx, wire.OpVerify, func(b []byte, session uint32) []byte {
		return (&wire.VerifyRequest{Session: session, ID: id, Mechanism: m, Data: data, Signature: signature}).Append(b)
	})
	return err
}

// MAC computes a message's code with a secret key: MechSHA256HMAC and its like,
// or MechAESCMAC.
func (c *Client) MAC(ctx context.Context, id ID, m MechanismType, message []byte) ([]byte, error) {
	return c.use(ctx, wire.OpSign, id, Mechanism{Type: m}, message)
}

// VerifyMAC checks what MAC makes, in constant time, as Verify does.
func (c *Client) VerifyMAC(ctx context.Context, id ID, m MechanismType, message, mac []byte) error {
	return c.Verify(ctx, id, Mechanism{Type: m}, message, mac)
}

// Encrypt encrypts with AES-GCM. The HSM chooses the nonce: the answer is 12
// bytes of it, the ciphertext and 16 bytes of tag.
func (c *Client) Encrypt(ctx context.Context, id ID, plaintext, aad []byte) ([]byte, error) {
	return c.EncryptWith(ctx, id, Mechanism{Type: MechAESGCM, AAD: aad}, plaintext)
}

// Decrypt is the reverse of Encrypt.
func (c *Client) Decrypt(ctx context.Context, id ID, ciphertext, aad []byte) ([]byte, error) {
	return c.DecryptWith(ctx, id, Mechanism{Type: MechAESGCM, AAD: aad}, ciphertext)
}

// EncryptWith encrypts with a mechanism: MechAESCBC, MechAESCBCPad and
// MechAESCTR take an IV of 16 bytes, which the caller chooses.
func (c *Client) EncryptWith(ctx context.Context, id ID, m Mechanism, plaintext []byte) ([]byte, error) {
	return c.use(ctx, wire.OpEncrypt, id, m, plaintext)
}

// DecryptWith is the reverse of EncryptWith. RSA keys decrypt as Key says.
func (c *Client) DecryptWith(ctx context.Context, id ID, m Mechanism, ciphertext []byte) ([]byte, error) {
	return c.use(ctx, wire.OpDecrypt, id, m, ciphertext)
}

func (c *Client) use(ctx context.Context, op wire.Op, id ID, m Mechanism, data []byte) ([]byte, error) {
	if err := checkUse(op, m, data); err != nil {
		return nil, err
	}
	body, err := c.call(ctx, op, func(b []byte, session uint32) []byte {
		return (&wire.UseRequest{Session: session, ID: id, Mechanism: m, Data: data}).Append(b)
	})
	return dataOf(body, err)
}

func dataOf(body []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	var a wire.DataAnswer
	if err := a.Decode(body); err != nil {
		return nil, stageError(StageRequest, err)
	}
	return a.Data, nil
}

// checkUse refuses what the HSM would take for a breach of the protocol.
func checkUse(op wire.Op, m Mechanism, data []byte) error {
	limit := wire.MaxMessage
	if op == wire.OpDecrypt {
		limit = wire.MaxData
	}
	if len(data) > limit {
		return keyArgument(ErrDataLength, "%v of %d bytes, at most %d at once", op, len(data), limit)
	}
	return checkMechanism(m)
}

func checkMechanism(m Mechanism) error {
	for _, p := range []struct {
		name  string
		value []byte
		limit int
	}{
		{"additional data", m.AAD, wire.MaxAAD},
		{"IV", m.IV, wire.MaxIV},
		{"salt", m.Salt, wire.MaxSalt},
		{"info", m.Info, wire.MaxSalt},
		{"peer's public key", m.Peer, wire.MaxPeer},
	} {
		if len(p.value) > p.limit {
			return keyArgument(ErrMechanismParam, "the %s has %d bytes, at most %d", p.name, len(p.value), p.limit)
		}
	}
	return nil
}

// Wrap returns the key target encrypted under the key wrapping, by RFC 5649.
func (c *Client) Wrap(ctx context.Context, wrapping, target ID) ([]byte, error) {
	return c.WrapWith(ctx, wrapping, target, Mechanism{Type: MechAESKWP})
}

// WrapWith wraps by MechAESKW, MechAESKWP, or, with a public RSA key,
// MechRSAAESKeyWrap: a secret key as it is, a private one as PKCS#8.
func (c *Client) WrapWith(ctx context.Context, wrapping, target ID, m Mechanism) ([]byte, error) {
	if err := checkMechanism(m); err != nil {
		return nil, err
	}
	body, err := c.call(ctx, wire.OpWrap, func(b []byte, session uint32) []byte {
		return (&wire.WrapRequest{Session: session, Wrapping: wrapping, Target: target, Mechanism: m}).Append(b)
	})
	return dataOf(body, err)
}

// Unwrap is the reverse of Wrap: it makes a new key with the template, which
// says its class and type. Not repeatable.
func (c *Client) Unwrap(ctx context.Context, unwrapping ID, wrapped []byte, t Template) (ID, error) {
	return c.UnwrapWith(ctx, unwrapping, Mechanism{Type: MechAESKWP}, wrapped, t)
}

// UnwrapWith is the reverse of WrapWith. Not repeatable.
func (c *Client) UnwrapWith(ctx context.Context, unwrapping ID, m Mechanism, wrapped []byte, t Template) (ID, error) {
	if err := checkMechanism(m); err != nil {
		return ID{}, err
	}
	if len(wrapped) > wire.MaxWrapped {
		return ID{}, keyArgument(ErrDataLength, "the wrapped key has %d bytes, at most %d", len(wrapped), wire.MaxWrapped)
	}
	body, err := c.call(ctx, wire.OpUnwrap, func(b []byte, session uint32) []byte {
		return (&wire.UnwrapRequest{Session: session, ID: unwrapping, Mechanism: m, Wrapped: wrapped, Template: t}).Append(b)
	})
	return idOf(body, err)
}

// DeriveECDH makes a secret key of what a private key and another's public key
// share: *ecdh.PublicKey, or *ecdsa.PublicKey, on the private key's curve. The
// key is the shared secret itself, a generic secret unless the template says
// otherwise; derive keys from it by DeriveHKDF. Not repeatable.
func (c *Client) DeriveECDH(ctx context.Context, base ID, peer crypto.PublicKey, t Template) (ID, error) {
	public, is := peer.(*ecdh.PublicKey)
	if ec, isEC := peer.(*ecdsa.PublicKey); isEC {
		var err error
		if public, err = ec.ECDH(); err != nil {
			return ID{}, keyArgument(ErrMechanismParam, "the peer's public key: %v", err)
		}
	} else if !is {
		return ID{}, keyArgument(ErrMechanismParam, "the peer's public key is a %T, expected *ecdh.PublicKey or *ecdsa.PublicKey", peer)
	}
	return c.Derive(ctx, base, Mechanism{Type: MechECDH1Derive, Peer: public.Bytes()}, secretTemplate.Merge(t))
}

// DeriveHKDF makes a secret key of another by RFC 5869, of as many bytes as
// the template's AttrValueLen says; a generic secret unless the template says
// otherwise. Not repeatable.
func (c *Client) DeriveHKDF(ctx context.Context, base ID, hash Hash, salt, info []byte, t Template) (ID, error) {
	return c.Derive(ctx, base, Mechanism{Type: MechHKDFDerive, Hash: hash, Salt: salt, Info: info}, secretTemplate.Merge(t))
}

// secretTemplate is what a derived or imported secret is unless somebody says
// otherwise.
var secretTemplate = object.New(
	object.Number(AttrClass, uint64(ClassSecretKey)), object.Number(AttrKeyType, uint64(KeyGeneric)),
)

// Derive makes a secret key of another key with a mechanism. Not repeatable.
func (c *Client) Derive(ctx context.Context, base ID, m Mechanism, t Template) (ID, error) {
	if err := checkMechanism(m); err != nil {
		return ID{}, err
	}
	body, err := c.call(ctx, wire.OpDerive, func(b []byte, session uint32) []byte {
		return (&wire.DeriveRequest{Session: session, Base: base, Mechanism: m, Template: t}).Append(b)
	})
	return idOf(body, err)
}

// Random returns n random bytes of the HSM's, 1 to 64 KiB.
func (c *Client) Random(ctx context.Context, n int) ([]byte, error) {
	if n < 1 || n > wire.MaxRandom {
		return nil, stageError(StageRequest, object.Errorf(ErrArgumentsBad, "%d random bytes, expected 1 to %d", n, wire.MaxRandom))
	}
	body, err := c.call(ctx, wire.OpRandom, func(b []byte, session uint32) []byte {
		return (&wire.RandomRequest{Session: session, N: uint32(n)}).Append(b)
	})
	return dataOf(body, err)
}
