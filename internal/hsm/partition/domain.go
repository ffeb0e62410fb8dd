package partition

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// A domain is a set of HSMs that trust each other with all of their keys: they
// share a secret of 32 random bytes, under which backups are sealed, and
// together with a password the keys of partitions, so that one HSM's backup
// opens on another. Every HSM begins with a domain of its own.

const domainSize = 32

// newDomain makes a fresh domain's secret.
func newDomain() []byte {
	secret := make([]byte, domainSize)
	rand.Read(secret) // never fails: the program ends instead
	return secret
}

// domainKey derives what the secret is used for, apart from every other use.
// It fails for a secret of another size alone.
func domainKey(secret, salt []byte, use string) (*[32]byte, error) {
	if len(secret) != domainSize {
		return nil, fmt.Errorf("the domain secret has %d bytes, expected %d", len(secret), domainSize)
	}
	derived, err := hkdf.Key(sha256.New, secret, salt, "moongate hsm domain: "+use, 32)
	if err != nil {
		return nil, fmt.Errorf("deriving from the domain secret: %w", err)
	}
	defer clear(derived)
	key := new([32]byte)
	copy(key[:], derived)
	return key, nil
}

// domainIdentity names a domain to whoever may know of it: 32 hexadecimal
// digits that say nothing of the secret.
func domainIdentity(secret []byte) (string, error) {
	key, err := domainKey(secret, nil, "identity")
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(key[:16]), nil
}

// domain returns the HSM's domain secret, which is the caller's to clear. An
// HSM of before there were domains gets one.
func (h *HSM) domain() ([]byte, error) {
	var record hsmRecord
	err := h.store.View(func(tx *store.Tx) error { return loadHSM(tx, &record) })
	if err != nil || len(record.Domain) > 0 {
		return record.Domain, err
	}
	err = h.store.Update(func(tx *store.Tx) error {
		if err := loadHSM(tx, &record); err != nil || len(record.Domain) > 0 {
			return err
		}
		record.Domain = newDomain()
		return save(tx, kindHSM, kindHSM, &record)
	})
	return record.Domain, err
}

// loadHSM reads the HSM's own record anew: nothing of an earlier reading stays.
func loadHSM(tx *store.Tx, record *hsmRecord) error {
	*record = hsmRecord{}
	err := load(tx, kindHSM, kindHSM, record)
	if errors.Is(err, store.ErrNotFound) {
		return object.Errorf(object.ErrNotInitialized, "this store holds no HSM; run `moongate-hsm init`")
	}
	return err
}
