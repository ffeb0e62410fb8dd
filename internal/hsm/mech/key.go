package mech

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"fmt"

	"moongate/internal/hsm/object"
)

// Key is a private, secret or public key, ready for use. It does not change
// after ParseKey or ParsePublic and serves any number of goroutines.
type Key struct {
	policy  Policy
	class   object.Class
	keyType object.KeyType
	bits    int

	// What operations here ask of the attributes.
	encrypts, decrypts                bool
	alwaysSensitive, neverExtractable bool

	// public is the public half of an asymmetric key: *rsa.PublicKey,
	// *ecdsa.PublicKey, ed25519.PublicKey or *ecdh.PublicKey (X25519).
	public crypto.PublicKey

	// KeyRSA, private
	rsa       *rsa.PrivateKey // precomputed
	rejectKey []byte          // see rejection

	ec      *ecdsa.PrivateKey  // KeyEC, private
	edwards ed25519.PrivateKey // KeyEdwards, private
	x25519  *ecdh.PrivateKey   // KeyMontgomery, private

	// KeyAES
	aes cipher.Block
	gcm cipher.AEAD // over aes; chooses its own nonces

	value []byte // KeyAES and KeyGeneric: the key itself
}

// ParseKey makes a key out of a stored private or secret key's attributes and
// secret (see object.Object). It refuses a secret that does not fit the
// attributes: class, type, size, and the public half where the attributes name
// it. It does not keep secret itself, which the caller may clear.
func (p Policy) ParseKey(attributes object.Template, secret []byte) (*Key, error) {
	keyType, typed := attributes.KeyType()
	if !typed {
		return nil, object.Errorf(object.ErrTemplateIncomplete, "key has no CKA_KEY_TYPE")
	}
	var key *Key
	var err error
	switch class := attributes.Class(); class {
	case object.ClassPrivateKey:
		if key, err = parsePrivate(secret); err != nil {
			return nil, err
		}
		if key.keyType != keyType {
			return nil, object.Errorf(object.ErrDataInvalid, "CKA_KEY_TYPE is %v and the private key is %v", keyType, key.keyType)
		}
		if want, given := attributes.Get(object.AttrPublicKeyInfo); given {
			got, err := x509.MarshalPKIXPublicKey(key.public)
			if err != nil || !bytes.Equal(got, want) {
				return nil, object.Errorf(object.ErrDataInvalid, "CKA_PUBLIC_KEY_INFO is not that of the private key")
			}
		}
	case object.ClassSecretKey:
		if n, given := attributes.Number(object.AttrValueLen); given && n != uint64(len(secret)) {
			return nil, object.Errorf(object.ErrDataInvalid, "CKA_VALUE_LEN is %d and the key has %d bytes", n, len(secret))
		}
		if key, err = parseSecret(keyType, secret); err != nil {
			return nil, err
		}
	default:
		return nil, object.Errorf(object.ErrKeyType, "a %v object cannot act as a key here", class)
	}
	key.policy = p
	key.encrypts, key.decrypts = attributes.Bool(object.AttrEncrypt), attributes.Bool(object.AttrDecrypt)
	key.alwaysSensitive, key.neverExtractable = attributes.Bool(object.AttrAlwaysSensitive), attributes.Bool(object.AttrNeverExtractable)
	return key, nil
}

// parsePrivate reads PKCS#8 DER.
func parsePrivate(der []byte) (*Key, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		// The error of crypto/x509 is left out: it may quote the key.
		return nil, object.Errorf(object.ErrDataInvalid, "private key is not PKCS#8 of a known kind")
	}
	key := &Key{class: object.ClassPrivateKey}
	switch private := parsed.(type) {
	case *rsa.PrivateKey:
		key.rsa, key.public = private, &private.PublicKey
	case *ecdsa.PrivateKey:
		key.ec, key.public = private, &private.PublicKey
	case ed25519.PrivateKey:
		key.edwards, key.public = private, private.Public()
	case *ecdh.PrivateKey:
		key.x25519, key.public = private, private.PublicKey()
	}
	if key.keyType, key.bits, err = measure(key.public); err != nil {
		return nil, err
	}
	if key.rsa != nil {
		if len(key.rsa.Primes) != 2 {
			return nil, object.Errorf(object.ErrDataInvalid, "RSA key has %d primes, expected 2", len(key.rsa.Primes))
		}
		key.rsa.Precompute()
		if key.rejectKey, err = rejectionKey(key.rsa); err != nil {
			return nil, object.Errorf(object.ErrGeneral, "deriving: %v", err)
		}
	}
	return key, nil
}

func parseSecret(keyType object.KeyType, secret []byte) (*Key, error) {
	if err := checkSecretSize(keyType, len(secret)); err != nil {
		return nil, err
	}
	key := &Key{class: object.ClassSecretKey, keyType: keyType, bits: 8 * len(secret), value: bytes.Clone(secret)}
	if keyType == object.KeyGeneric {
		return key, nil
	}
	var err error
	if key.aes, err = aes.NewCipher(secret); err != nil {
		return nil, object.Errorf(object.ErrKeySize, "AES key: %v", err)
	}
	if key.gcm, err = cipher.NewGCMWithRandomNonce(key.aes); err != nil {
		return nil, object.Errorf(object.ErrGeneral, "AES-GCM: %v", err)
	}
	return key, nil
}

// private is the private half as crypto/x509 marshals it, nil for other keys.
func (k *Key) private() crypto.PrivateKey {
	switch {
	case k.rsa != nil:
		return k.rsa
	case k.ec != nil:
		return k.ec
	case k.edwards != nil:
		return k.edwards
	case k.x25519 != nil:
		return k.x25519
	}
	return nil
}

// Type returns CKK_RSA and its like.
func (k *Key) Type() object.KeyType { return k.keyType }

// Class is ClassPrivateKey, ClassSecretKey or ClassPublicKey.
func (k *Key) Class() object.Class { return k.class }

// Bits is the size: of the modulus, the curve's field (P-521: 521; Ed25519
// and X25519: 256), or the secret.
func (k *Key) Bits() int { return k.bits }

// Public returns the public half of a private key, or a public key itself:
// *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey or *ecdh.PublicKey
// (X25519). It is nil for a secret key.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Format prints what may be known of a key, whatever the verb, so that no log
// or error holds its value.
func (k *Key) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "%v %v key of %d bits", k.keyType, k.class, k.bits)
}
