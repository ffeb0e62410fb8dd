package mech

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"

	"moongate/internal/hsm/object"
)

// Key is a private or secret key, ready for use. It does not change after
// ParseKey and serves any number of goroutines.
type Key struct {
	policy  Policy
	class   object.Class
	keyType object.KeyType
	bits    int

	// KeyRSA
	rsa       *rsa.PrivateKey // precomputed
	rejectKey []byte          // see rejection

	// KeyEC
	ec *ecdsa.PrivateKey

	// KeyAES
	aes   cipher.Block
	gcm   cipher.AEAD // over aes; chooses its own nonces
	value []byte      // the key itself, for Wrap
}

// ParseKey makes a key out of a stored object's attributes and secret (see
// object.Object). It refuses a secret that does not fit the attributes: class,
// type, size, and the public half where the attributes name it. It does not
// keep secret itself, which the caller may clear.
func (p Policy) ParseKey(attributes object.Template, secret []byte) (*Key, error) {
	keyType, typed := attributes.KeyType()
	if !typed {
		return nil, object.Errorf(object.ErrTemplateIncomplete, "key has no CKA_KEY_TYPE")
	}
	switch class := attributes.Class(); class {
	case object.ClassPrivateKey:
		key, err := p.parsePrivate(secret)
		if err != nil {
			return nil, err
		}
		if key.keyType != keyType {
			return nil, object.Errorf(object.ErrDataInvalid, "CKA_KEY_TYPE is %v and the private key is %v", keyType, key.keyType)
		}
		if want, given := attributes.Get(object.AttrPublicKeyInfo); given {
			got, err := x509.MarshalPKIXPublicKey(key.Public())
			if err != nil || !bytes.Equal(got, want) {
				return nil, object.Errorf(object.ErrDataInvalid, "CKA_PUBLIC_KEY_INFO is not that of the private key")
			}
		}
		return key, nil
	case object.ClassSecretKey:
		if keyType != object.KeyAES {
			return nil, object.Errorf(object.ErrKeyType, "secret keys are AES, this one is %v", keyType)
		}
		if n, given := attributes.Number(object.AttrValueLen); given && n != uint64(len(secret)) {
			return nil, object.Errorf(object.ErrDataInvalid, "CKA_VALUE_LEN is %d and the key has %d bytes", n, len(secret))
		}
		return p.parseAES(secret)
	default:
		return nil, object.Errorf(object.ErrKeyType, "a %v object cannot act as a key here", class)
	}
}

// parsePrivate reads PKCS#8 DER.
func (p Policy) parsePrivate(der []byte) (*Key, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		// The error of crypto/x509 is left out: it may quote the key.
		return nil, object.Errorf(object.ErrDataInvalid, "private key is not PKCS#8 of a known kind")
	}
	key := &Key{policy: p, class: object.ClassPrivateKey}
	switch private := parsed.(type) {
	case *rsa.PrivateKey:
		key.keyType, key.rsa, key.bits = object.KeyRSA, private, private.N.BitLen()
		if err := checkRSA(&private.PublicKey); err != nil {
			return nil, err
		}
		private.Precompute()
		if key.rejectKey, err = rejectionKey(private); err != nil {
			return nil, object.Errorf(object.ErrGeneral, "deriving: %v", err)
		}
	case *ecdsa.PrivateKey:
		if _, err := curveOf(private.Curve); err != nil {
			return nil, err
		}
		key.keyType, key.ec, key.bits = object.KeyEC, private, private.Curve.Params().BitSize
	default:
		return nil, object.Errorf(object.ErrKeyType, "private keys are RSA or EC")
	}
	return key, nil
}

func (p Policy) parseAES(secret []byte) (*Key, error) {
	if err := checkSize(object.KeyAES, aesSizes, 8*len(secret)); err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, object.Errorf(object.ErrKeySize, "AES key: %v", err)
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, object.Errorf(object.ErrGeneral, "AES-GCM: %v", err)
	}
	return &Key{policy: p, class: object.ClassSecretKey, keyType: object.KeyAES, bits: 8 * len(secret), aes: block, gcm: gcm, value: bytes.Clone(secret)}, nil
}

// Type returns CKK_RSA and its like.
func (k *Key) Type() object.KeyType { return k.keyType }

// Class is ClassPrivateKey or ClassSecretKey.
func (k *Key) Class() object.Class { return k.class }

// Bits is the size: of the modulus, the curve's field, or the AES key.
func (k *Key) Bits() int { return k.bits }

// Public returns a private key's public half, *rsa.PublicKey or
// *ecdsa.PublicKey, and nil for a secret key.
func (k *Key) Public() crypto.PublicKey {
	switch {
	case k.rsa != nil:
		return &k.rsa.PublicKey
	case k.ec != nil:
		return &k.ec.PublicKey
	}
	return nil
}

// Format prints what may be known of a key, whatever the verb, so that no log
// or error holds its value.
func (k *Key) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "%v %v key of %d bits", k.keyType, k.class, k.bits)
}

// check refuses what the table does not hold for the key.
func (k *Key) check(f Function, m object.Mechanism) error {
	row, err := k.policy.row(f, m)
	if err != nil {
		return err
	}
	if row.KeyType != k.keyType || row.Class != k.class {
		return object.Errorf(object.ErrKeyType, "%v takes a %v %v key to %v, this one is %v %v",
			m.Type, row.KeyType, row.Class, f, k.keyType, k.class)
	}
	return nil
}
