package replica

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
)

// The one suite: HPKE (RFC 9180, base mode) with the hybrid KEM of ML-KEM-768
// and P-256 and HKDF-SHA256, export-only: the key that it exports seals one
// message under AES-256-GCM with a random nonce. (HPKE's own AEAD makes its
// nonces by counting, which Go's FIPS module does not count as approved.)
// Signatures are ECDSA with P-256 and SHA-256.

const (
	publicSize = 1184 + 65 // bytes of a public key: ML-KEM-768, P-256
	encSize    = 1088 + 65 // of an encapsulated key
	maxSign    = 80        // of an ASN.1 signature with P-256
	sealSize   = 12 + 16   // what a seal adds: nonce, tag
)

// Recipient is a key pair that one message is sealed to.
type Recipient struct{ private hpke.PrivateKey }

// NewRecipient makes a fresh key pair.
func NewRecipient() (*Recipient, error) {
	private, err := hpke.MLKEM768P256().GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("making a key to receive with: %w", err)
	}
	return &Recipient{private}, nil
}

// Public is the public key's encoding.
func (r *Recipient) Public() []byte { return r.private.PublicKey().Bytes() }

// open undoes sealTo: info and context must be the same.
func (r *Recipient) open(enc, info, sealed []byte) ([]byte, bool) {
	recipient, err := hpke.NewRecipient(enc, r.private, hpke.HKDFSHA256(), hpke.ExportOnly(), info)
	if err != nil {
		return nil, false
	}
	aead, err := exported(recipient.Export)
	if err != nil {
		return nil, false
	}
	plaintext, err := aead.Open(nil, nil, sealed, info)
	return plaintext, err == nil
}

// sealTo seals a message to a public key, bound to info.
func sealTo(public, info, plaintext []byte) (enc, sealed []byte, err error) {
	key, err := hpke.MLKEM768P256().NewPublicKey(public)
	if err != nil {
		return nil, nil, errPublic
	}
	enc, sender, err := hpke.NewSender(key, hpke.HKDFSHA256(), hpke.ExportOnly(), info)
	if err != nil {
		return nil, nil, fmt.Errorf("sealing to a public key: %w", err)
	}
	aead, err := exported(sender.Export)
	if err != nil {
		return nil, nil, err
	}
	return enc, aead.Seal(nil, nil, plaintext, info), nil
}

var errPublic = errors.New("the public key is no key")

func exported(export func(string, int) ([]byte, error)) (cipher.AEAD, error) {
	key, err := export("moongate hsm replica: seal", 32)
	if err != nil {
		return nil, fmt.Errorf("exporting a key: %w", err)
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("exporting a key: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// sign appends a signature over the message so far, for its context alone.
func sign(key *ecdsa.PrivateKey, context string, b []byte) ([]byte, error) {
	sum := signed(context, b)
	signature, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return append(append(b, byte(len(signature))), signature...), nil
}

func signed(context string, b []byte) [32]byte {
	return sha256.Sum256(slices.Concat([]byte(context), []byte{0}, b))
}

// verify checks a signature over b.
func verify(key *ecdsa.PublicKey, context string, b, signature []byte) bool {
	sum := signed(context, b)
	return key != nil && key.Curve == elliptic.P256() && ecdsa.VerifyASN1(key, sum[:], signature)
}
