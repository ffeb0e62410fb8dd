package keyfile

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
)

// encryptedKey is EncryptedPrivateKeyInfo (RFC 5958, section 3).
type encryptedKey struct {
	Algorithm  pkix.AlgorithmIdentifier
	Ciphertext []byte
}

// decryptPKCS8 returns the PrivateKeyInfo of an EncryptedPrivateKeyInfo; the
// caller clears it.
func decryptPKCS8(der, passphrase []byte, w *work) ([]byte, error) {
	var e encryptedKey
	if err := unmarshal(der, &e); err != nil {
		return nil, errors.New("the encrypted private key is damaged")
	}
	if len(passphrase) == 0 {
		return nil, ErrPassphraseMissing
	}
	return open(e.Algorithm, e.Ciphertext, newSecret(passphrase), w, beginsKey)
}

// beginsKey reports how a PrivateKeyInfo begins: a sequence of a version, 0 or
// 1, and a sequence.
func beginsKey(plain []byte) bool {
	b := inSequence(plain)
	return len(b) > 4 && b[0] == 2 && b[1] == 1 && b[2] <= 1 && b[3] == 0x30
}

// ExportRounds are OWASP's for PBKDF2 with HMAC-SHA-256 (2023).
const ExportRounds = 600_000

// EncryptKey returns a private key as encrypted PKCS #8: PBES2 with AES-256-CBC
// and PBKDF2 with HMAC-SHA-256 (RFC 8018), as OpenSSL 1.1 and later read it.
func EncryptKey(key crypto.Signer, passphrase []byte) ([]byte, error) {
	return encryptKey(key, passphrase, ExportRounds)
}

func encryptKey(key crypto.Signer, passphrase []byte, rounds int) ([]byte, error) {
	if len(passphrase) == 0 {
		return nil, errors.New("encrypting a private key: no passphrase")
	}
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a private key: %w", err)
	}
	salt, iv := make([]byte, 16), make([]byte, aes.BlockSize)
	rand.Read(salt) // never fails (crypto/rand, since Go 1.24)
	rand.Read(iv)
	derived, err := pbkdf2.Key(sha256.New, string(passphrase), salt, rounds, 32)
	if err != nil {
		return nil, fmt.Errorf("encrypting a private key: %w", err)
	}
	defer clear(derived)
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, fmt.Errorf("encrypting a private key: %w", err)
	}
	padding := aes.BlockSize - len(plain)%aes.BlockSize
	padded := slices.Concat(plain, bytes.Repeat([]byte{byte(padding)}, padding))
	clear(plain)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(padded, padded)
	return marshalEncrypted(salt, rounds, iv, padded)
}

func marshalEncrypted(salt []byte, rounds int, iv, ciphertext []byte) ([]byte, error) {
	prf := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}, Parameters: asn1.NullRawValue}
	derivation, err := identifier(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}, pbkdf2Parameters{Salt: salt, Rounds: rounds, PRF: prf})
	if err != nil {
		return nil, err
	}
	aes256, err := identifier(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}, iv)
	if err != nil {
		return nil, err
	}
	scheme, err := identifier(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}, struct{ Derivation, Cipher pkix.AlgorithmIdentifier }{derivation, aes256})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(encryptedKey{scheme, ciphertext})
}

func identifier(id asn1.ObjectIdentifier, parameters any) (pkix.AlgorithmIdentifier, error) {
	der, err := asn1.Marshal(parameters)
	if err != nil {
		return pkix.AlgorithmIdentifier{}, fmt.Errorf("encoding an encryption's parameters: %w", err)
	}
	return pkix.AlgorithmIdentifier{Algorithm: id, Parameters: asn1.RawValue{FullBytes: der}}, nil
}
