package partition

import (
	"errors"
	"fmt"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

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
	sealed, err := h.store.SealKey(derived, sealContext(id, role), key)
	if err != nil {
		return nil, fmt.Errorf("sealing the partition's key: %w", err)
	}
	return &roleRecord{Password: password{KDF: kdf}, Key: sealed}, nil
}

func (h *HSM) unseal(id object.ID, role object.Role, r *roleRecord, pw []byte) (*store.PartitionKey, error) {
	derived, err := r.Password.KDF.Derive(pw)
	if err != nil {
		return nil, fmt.Errorf("deriving from the password: %w", err)
	}
	defer clear(derived[:])
	key, err := h.store.OpenKey(derived, sealContext(id, role), r.Key)
	if errors.Is(err, store.ErrTampered) {
		return nil, errPassword
	} else if err != nil {
		return nil, fmt.Errorf("opening the partition's key: %w", err)
	}
	return key, nil
}

// sealContext binds a sealed key to the partition and role it is for.
func sealContext(id object.ID, role object.Role) []byte {
	return append(append([]byte("role "), id[:]...), byte(role))
}
