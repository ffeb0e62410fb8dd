package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"

	"moongate/internal/hsm/object"
)

// RootKey is the device's root key: 32 random bytes from a file.
type RootKey [32]byte

// PartitionKey seals one partition's objects: 32 random bytes that the caller
// keeps, sealed by [Store.SealKey].
type PartitionKey [32]byte

// Format prints no key, whatever the verb.
func (RootKey) Format(f fmt.State, _ rune)      { io.WriteString(f, "root key") }
func (PartitionKey) Format(f fmt.State, _ rune) { io.WriteString(f, "partition key") }

// NewPartitionKey returns a fresh random key.
func NewPartitionKey() *PartitionKey {
	key := new(PartitionKey)
	rand.Read(key[:]) // never fails: the program ends instead
	return key
}

// keyring is what a store derives from the root key at Open; it does not
// change. The root key itself is not kept.
type keyring struct {
	store object.ID

	check      [32]byte // the value that shows whether the root key fits
	records    [32]byte // administrative records
	tombstones [32]byte
	restored   [32]byte // objects that were restored over themselves
	passwords  [32]byte // mixed into what a password derives
	names      [32]byte // HMAC: hides kinds and ids
	digest     [32]byte // HMAC: the sets' digests
}

// newKeyring derives the subkeys: HKDF-SHA256 (RFC 5869) with the store's ID
// as its salt, so that one root key for two stores gives unrelated keys.
func newKeyring(root *RootKey, store object.ID) *keyring {
	k := &keyring{store: store}
	for _, sub := range []struct {
		name string
		key  *[32]byte
	}{
		{"check", &k.check},
		{"records", &k.records},
		{"tombstones", &k.tombstones},
		{"restored", &k.restored},
		{"passwords", &k.passwords},
		{"names", &k.names},
		{"digest", &k.digest},
	} {
		key, err := hkdf.Key(sha256.New, root[:], store[:], "moongate hsm store: "+sub.name, len(sub.key))
		if err != nil {
			panic("store: " + err.Error()) // only for a length over 255 hashes
		}
		copy(sub.key[:], key)
		clear(key)
	}
	return k
}

// wipe clears the subkeys; the store's ID stays.
func (k *keyring) wipe() {
	for _, key := range []*[32]byte{&k.check, &k.records, &k.tombstones, &k.restored, &k.passwords, &k.names, &k.digest} {
		clear(key[:])
	}
}

// context is what a sealed value is bound to: the format, what it is, the
// store, and fields of fixed size that say which one.
func (k *keyring) context(what string, fields ...[]byte) []byte {
	return contextIn(k.store, what, fields...)
}

func contextIn(store object.ID, what string, fields ...[]byte) []byte {
	b := []byte{format, byte(len(what))}
	b = append(b, what...)
	b = append(b, store[:]...)
	for _, f := range fields {
		b = append(b, f...)
	}
	return b
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// sealOverhead is the nonce in front and the tag behind.
const sealOverhead = 28

// aeadFor returns AES-256-GCM under a key of the context's own, so that no key
// seals more than one version of one value and the random nonces have nothing
// to collide with.
func aeadFor(key *[32]byte, context []byte) cipher.AEAD {
	sub, err := hkdf.Expand(sha256.New, key[:], string(context), 32)
	if err == nil {
		var block cipher.Block
		if block, err = aes.NewCipher(sub); err == nil {
			clear(sub)
			var aead cipher.AEAD
			if aead, err = cipher.NewGCMWithRandomNonce(block); err == nil {
				return aead
			}
		}
	}
	panic("store: " + err.Error()) // only for key sizes that AES does not have
}

// seal appends to dst: nonce (12 bytes), ciphertext, tag (16 bytes).
func seal(dst []byte, key *[32]byte, context, plaintext []byte) []byte {
	return aeadFor(key, context).Seal(dst, nil, plaintext, context)
}

func open(key *[32]byte, context, sealed []byte) ([]byte, bool) {
	plaintext, err := aeadFor(key, context).Open(nil, nil, sealed, context)
	return plaintext, err == nil
}

func (k *keyring) mac(key *[32]byte, parts ...[]byte) [32]byte {
	mac := hmac.New(sha256.New, key[:])
	for _, part := range parts {
		mac.Write(part)
	}
	return [32]byte(mac.Sum(nil))
}

// SealKey seals a partition's key for one role: under a key that the root key
// and stretched, which the role's password derived, give together. context
// says which partition and role; OpenKey must be given the same.
func (s *Store) SealKey(stretched [32]byte, context []byte, key *PartitionKey) ([]byte, error) {
	f := s.file.Load()
	f.using.RLock()
	defer f.using.RUnlock()
	kek, err := f.keys.passwordKey(stretched)
	if err != nil {
		return nil, err
	}
	defer clear(kek[:])
	sum := sha256.Sum256(context)
	return seal(nil, kek, f.keys.context("partition key", sum[:]), key[:]), nil
}

// OpenKey undoes SealKey. The error matches ErrTampered when the password was
// another, or the root key, the context, or when sealed was changed: nobody can
// tell which.
func (s *Store) OpenKey(stretched [32]byte, context, sealed []byte) (*PartitionKey, error) {
	f := s.file.Load()
	f.using.RLock()
	defer f.using.RUnlock()
	kek, err := f.keys.passwordKey(stretched)
	if err != nil {
		return nil, err
	}
	defer clear(kek[:])
	sum := sha256.Sum256(context)
	plaintext, ok := open(kek, f.keys.context("partition key", sum[:]), sealed)
	defer clear(plaintext)
	key := new(PartitionKey)
	if !ok || len(plaintext) != len(key) {
		return nil, tampered("does not open: the password is wrong, or it was changed", "partition key")
	}
	copy(key[:], plaintext)
	return key, nil
}

func (k *keyring) passwordKey(stretched [32]byte) (*[32]byte, error) {
	kek, err := hkdf.Extract(sha256.New, stretched[:], k.passwords[:])
	if err != nil {
		return nil, fmt.Errorf("deriving from the password: %w", err)
	}
	defer clear(kek)
	return (*[32]byte)(append([]byte(nil), kek...)), nil
}

// Seal seals what does not belong to one store: the same key and context open
// it anywhere. It returns nonce (12 bytes), ciphertext and tag (16 bytes);
// context is bound to it and not in it.
func Seal(key *[32]byte, context, plaintext []byte) []byte { return seal(nil, key, context, plaintext) }

// Unseal undoes Seal, and reports whether key, context and sealed belong
// together.
func Unseal(key *[32]byte, context, sealed []byte) ([]byte, bool) { return open(key, context, sealed) }
