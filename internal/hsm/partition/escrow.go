package partition

import (
	"errors"
	"fmt"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// A Partition Security Officer's password opens a key of its own, which is
// random, made with the role, and opens no object. While PolicyOfficerReset is
// on, the partition's key is sealed under that key too: an escrow. A change of
// the password seals the officer's key anew, and by that the escrow.

// escrow is a partition's key sealed under its Partition Security Officer's,
// twice as every role's seal is: with the root key, and with the domain secret
// for after a backup was restored elsewhere.
type escrow struct {
	Key      []byte `json:"key"`
	Portable []byte `json:"portable"`
}

// newEscrow seals key for officer, the Partition Security Officer's own key.
func (h *HSM) newEscrow(id object.ID, officer, key *store.PartitionKey) (*escrow, error) {
	sealed, err := h.store.SealKey(*officer, escrowContext(id), key)
	if err != nil {
		return nil, fmt.Errorf("sealing the partition's key for its officer: %w", err)
	}
	portable, err := h.portableKey(*officer)
	if err != nil {
		return nil, err
	}
	defer clear(portable[:])
	return &escrow{sealed, store.Seal(portable, portableEscrow(id), key[:])}, nil
}

// openEscrow returns the partition's key, which is the caller's to clear.
func (h *HSM) openEscrow(id object.ID, officer *store.PartitionKey, e *escrow) (*store.PartitionKey, error) {
	key, err := h.store.OpenKey(*officer, escrowContext(id), e.Key)
	if !errors.Is(err, store.ErrTampered) {
		return key, err
	}
	portable, perr := h.portableKey(*officer)
	if perr != nil {
		return nil, perr
	}
	defer clear(portable[:])
	plaintext, ok := store.Unseal(portable, portableEscrow(id), e.Portable)
	defer clear(plaintext)
	key = new(store.PartitionKey)
	if !ok || len(plaintext) != len(key) {
		return nil, fmt.Errorf("opening the partition's key for its officer: %w", err)
	}
	copy(key[:], plaintext)
	return key, nil
}

func escrowContext(id object.ID) []byte { return append([]byte("escrow "), id[:]...) }

func portableEscrow(id object.ID) []byte {
	return append([]byte("moongate hsm portable escrow: "), id[:]...)
}
