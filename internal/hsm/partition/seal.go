package partition

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// A role's password opens the partition's key in two ways: together with the
// device root key, which is how it is opened every day; and together with the
// domain secret, which is how it is opened once after a backup was restored on
// an HSM with another root key. Either way both are needed.

// seal derives a fresh role record for pw that opens key.
func (h *HSM) seal(id object.ID, role object.Role, key *store.PartitionKey, pw []byte) (*roleRecord, error) {
	if err := checkPassword(pw); err != nil {
		return nil, err
	}
	kdf := h.newKDF(h.policy)
	derived, err := kdf.Derive(pw)
	if err != nil {
		return nil, fmt.Errorf("deriving from the password: %w", err)
	}
	defer clear(derived[:])
	r := &roleRecord{Password: password{KDF: kdf}}
	if r.Key, err = h.store.SealKey(derived, sealContext(id, role), key); err != nil {
		return nil, fmt.Errorf("sealing the partition's key: %w", err)
	}
	portable, err := h.portableKey(derived)
	if err != nil {
		return nil, err
	}
	defer clear(portable[:])
	r.Portable = store.Seal(portable, portableContext(id, role), key[:])
	return r, nil
}

// unseal opens the partition's key with a role's password.
func (h *HSM) unseal(id object.ID, role object.Role, r *roleRecord, pw []byte) (*store.PartitionKey, error) {
	derived, err := r.Password.KDF.Derive(pw)
	if err != nil {
		return nil, fmt.Errorf("deriving from the password: %w", err)
	}
	defer clear(derived[:])
	if len(r.Key) == 0 {
		return h.unsealPortable(id, role, r, derived)
	}
	key, err := h.store.OpenKey(derived, sealContext(id, role), r.Key)
	if errors.Is(err, store.ErrTampered) {
		return nil, errPassword
	} else if err != nil {
		return nil, fmt.Errorf("opening the partition's key: %w", err)
	}
	return key, nil
}

func (h *HSM) unsealPortable(id object.ID, role object.Role, r *roleRecord, derived [32]byte) (*store.PartitionKey, error) {
	portable, err := h.portableKey(derived)
	if err != nil {
		return nil, err
	}
	defer clear(portable[:])
	plaintext, ok := store.Unseal(portable, portableContext(id, role), r.Portable)
	defer clear(plaintext)
	key := new(store.PartitionKey)
	if !ok || len(plaintext) != len(key) {
		return nil, errPassword
	}
	copy(key[:], plaintext)
	return key, nil
}

// renew returns the record that a right login leaves behind, where it is
// another than r: one that opens under the root key after a backup was
// restored, that has a portable seal where an older version made none, and that
// is derived as passwords are derived today. It returns nil where r is all that.
// It derives, and so must not be called within a transaction.
func (h *HSM) renew(id object.ID, role object.Role, r *roleRecord, key *store.PartitionKey, pw []byte) (*roleRecord, error) {
	today := h.newKDF(h.policy)
	today.Salt = r.Password.KDF.Salt
	if len(r.Key) > 0 && len(r.Portable) > 0 && sameKDF(today, r.Password.KDF) {
		return nil, nil
	}
	return h.seal(id, role, key, pw)
}

func sameKDF(a, b mech.KDF) bool {
	return a.Name == b.Name && bytes.Equal(a.Salt, b.Salt) && a.Time == b.Time && a.Memory == b.Memory &&
		a.Threads == b.Threads && a.Iterations == b.Iterations
}

// portableKey is what the domain secret and a stretched password give together.
func (h *HSM) portableKey(derived [32]byte) (*[32]byte, error) {
	secret, err := h.domain()
	if err != nil {
		return nil, fmt.Errorf("reading the domain secret: %w", err)
	}
	defer clear(secret)
	salt, err := domainKey(secret, nil, "passwords")
	if err != nil {
		return nil, err
	}
	defer clear(salt[:])
	kek, err := hkdf.Extract(sha256.New, derived[:], salt[:])
	if err != nil {
		return nil, fmt.Errorf("deriving from the password: %w", err)
	}
	defer clear(kek)
	key := new([32]byte)
	copy(key[:], kek)
	return key, nil
}

// sealContext binds a sealed key to the partition and role it is for.
func sealContext(id object.ID, role object.Role) []byte {
	return append(append([]byte("role "), id[:]...), byte(role))
}

// portableContext does the same for a seal that no store is bound to.
func portableContext(id object.ID, role object.Role) []byte {
	return append([]byte("moongate hsm portable partition key: "), sealContext(id, role)...)
}
