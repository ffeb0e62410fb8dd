package client

import (
	"context"
	"crypto/aes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"moongate/internal/hsm/object"
)

// ImportKey brings a key into the HSM that was made elsewhere: an
// *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey or *ecdh.PrivateKey
// (X25519), or a []byte, which is a secret key: a generic one unless the
// template's AttrKeyType says AES. The template needs neither class nor, for
// private keys, type.
//
// The key never travels but wrapped: the HSM makes an RSA pair for this once,
// the key is wrapped here under its public half (MechRSAAESKeyWrap), unwrapped
// there, and the pair destroyed, whatever happens. Where that last step fails,
// the error says which objects to destroy, and the ID is that of the new key
// all the same if there is one. Not repeatable. It needs the Crypto Officer.
//
// A key that was made elsewhere has been elsewhere: its other copies are as
// good as this one.
func (c *Client) ImportKey(ctx context.Context, key any, t Template) (ID, error) {
	payload, base, err := importPayload(key)
	if err != nil {
		return ID{}, err
	}
	defer clear(payload)
	label := newImportLabel()
	id, err := c.importUnder(ctx, label, payload, base.Merge(t))
	return id, errors.Join(err, c.removeImportPair(ctx, label))
}

func newImportLabel() string {
	op := newOperation()
	return fmt.Sprintf("temporary import key %x", op[:8])
}

// importPayload is what is wrapped of a key, and what its template says unless
// the caller's says otherwise.
func importPayload(key any) ([]byte, Template, error) {
	var keyType KeyType
	switch key := key.(type) {
	case []byte:
		if len(key) == 0 {
			return nil, nil, keyArgument(ErrKeySize, "importing a secret key of no bytes")
		}
		return append([]byte(nil), key...), secretTemplate, nil
	case *rsa.PrivateKey:
		keyType = KeyRSA
	case *ecdsa.PrivateKey:
		keyType = KeyEC
	case ed25519.PrivateKey:
		keyType = KeyEdwards
	case *ecdh.PrivateKey:
		keyType = KeyMontgomery
		if key.Curve() != ecdh.X25519() {
			return nil, nil, keyArgument(ErrKeyType, "importing a key on %v as *ecdh.PrivateKey; give it as *ecdsa.PrivateKey", key.Curve())
		}
	default:
		return nil, nil, keyArgument(ErrKeyType, "importing a %T: expected *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey, *ecdh.PrivateKey or []byte", key)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, keyArgument(ErrDataInvalid, "importing a private key: %v", err)
	}
	return pkcs8, object.New(
		object.Number(AttrClass, uint64(ClassPrivateKey)), object.Number(AttrKeyType, uint64(keyType)),
	), nil
}

// importUnder takes the steps of an import, with a temporary pair that has the
// label.
func (c *Client) importUnder(ctx context.Context, label string, payload []byte, t Template) (ID, error) {
	pair, err := c.generateImportPair(ctx, label)
	if err != nil {
		return ID{}, err
	}
	public, err := c.PublicKey(ctx, pair.Public)
	if err != nil {
		return ID{}, err
	}
	rsaPublic, is := public.(*rsa.PublicKey)
	if !is {
		return ID{}, keyArgument(ErrDeviceError, "the HSM's RSA key has a public key of type %T", public)
	}
	wrapped, err := rsaAESWrap(rsaPublic, payload)
	if err != nil {
		return ID{}, &Error{Stage: StageKey, Err: err}
	}
	return c.UnwrapWith(ctx, pair.Private, Mechanism{Type: MechRSAAESKeyWrap, Hash: HashSHA256}, wrapped, t)
}

// generateImportPair makes a pair that wraps and unwraps, and nothing else: of
// 3072 bits, or 4096 where the partition has no smaller ones.
func (c *Client) generateImportPair(ctx context.Context, label string) (KeyPair, error) {
	name := object.Text(AttrLabel, label)
	public := object.New(name, object.Bool(AttrWrap, true), object.Bool(AttrVerify, false))
	private := object.New(name, object.Bool(AttrUnwrap, true), object.Bool(AttrSign, false))
	pair, err := c.GenerateRSA(ctx, 3072, public, private)
	if code := object.CodeOf(err); code == ErrPolicy || code == ErrKeySize {
		return c.GenerateRSA(ctx, 4096, public, private)
	}
	return pair, err
}

// rsaAESWrap is CKM_RSA_AES_KEY_WRAP with a fresh AES-256 key and SHA-256: the
// key by OAEP, then the payload by KWP under it (PKCS#11 v3.1, section 6.1.9).
func rsaAESWrap(public *rsa.PublicKey, payload []byte) ([]byte, error) {
	var key [32]byte
	defer clear(key[:])
	rand.Read(key[:]) // never fails (crypto/rand)
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("wrapping a key: %w", err)
	}
	out, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public, key[:], nil)
	if err != nil {
		return nil, fmt.Errorf("wrapping a key: %w", err)
	}
	return append(out, kwpWrap(block, payload)...), nil
}

// removeImportPair destroys the objects with the label. They are searched for,
// since the answer that named them may have been lost; and it takes its own
// time, since the caller's may be over.
func (c *Client) removeImportPair(ctx context.Context, label string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(c.config.CallTimeout, importCleanup))
	defer cancel()
	found, err := c.Find(ctx, object.New(object.Text(AttrLabel, label)), AttrLabel)
	for _, f := range found {
		if e := c.Destroy(ctx, f.ID); e != nil && object.CodeOf(e) != ErrKeyHandle && object.CodeOf(e) != ErrObjectNotFound {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		return fmt.Errorf("destroying the objects with the label %q, which should be destroyed by hand: %w", label, err)
	}
	return nil
}

const importCleanup = 10 * time.Second
