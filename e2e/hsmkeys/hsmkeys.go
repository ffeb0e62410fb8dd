// Package hsmkeys reads private keys out of an HSM's files, for tests that
// must know a key to look for it. It needs what docs/store.md says a thief
// would need: the store, the device root key and a role's password. No program
// of the product can do this.
package hsmkeys

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// Read returns the private keys of a partition by label, *rsa.PrivateKey or
// *ecdsa.PrivateKey. It works on a copy in scratch, since the HSM has its own
// file locked.
func Read(hsmDir, scratch, partition string, officer []byte) (map[string]any, error) {
	raw, err := os.ReadFile(filepath.Join(hsmDir, store.FileName))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(scratch, store.FileName), raw, 0o600); err != nil {
		return nil, err
	}
	root, err := store.LoadRootKey(filepath.Join(hsmDir, "device.key"))
	if err != nil {
		return nil, err
	}
	st, err := store.Open(scratch, root, store.Options{MustExist: true})
	if err != nil {
		return nil, err
	}
	defer st.Close()
	found := map[string]any{}
	err = st.View(func(tx *store.Tx) error {
		id, key, err := open(st, tx, partition, officer)
		if err != nil {
			return err
		}
		for o, err := range tx.Objects(id, key) {
			if err != nil {
				return err
			}
			if o.Attributes.Class() != object.ClassPrivateKey {
				continue
			}
			whole, err := tx.Object(id, key, o.ID)
			if err != nil {
				return err
			}
			private, err := x509.ParsePKCS8PrivateKey(whole.Secret)
			if err != nil {
				return err
			}
			found[whole.Attributes.Text(object.AttrLabel)] = private
		}
		return nil
	})
	return found, err
}

// open finds the partition's record and opens its key as the Crypto Officer.
func open(st *store.Store, tx *store.Tx, name string, officer []byte) (object.ID, *store.PartitionKey, error) {
	for id, err := range tx.Records("partition") {
		if err != nil {
			return object.ID{}, nil, err
		}
		raw, err := tx.Record("partition", id)
		if err != nil {
			return object.ID{}, nil, err
		}
		var record struct {
			ID    object.ID
			Label string
			Roles map[string]struct {
				Password struct{ KDF mech.KDF }
				Key      []byte
			}
		}
		if err := json.Unmarshal(raw, &record); err != nil {
			return object.ID{}, nil, err
		}
		if record.Label != name {
			continue
		}
		role := record.Roles[object.RoleCryptoOfficer.String()]
		stretched, err := role.Password.KDF.Derive(officer)
		if err != nil {
			return object.ID{}, nil, err
		}
		context := append(append([]byte("role "), record.ID[:]...), byte(object.RoleCryptoOfficer))
		key, err := st.OpenKey(stretched, context, role.Key)
		if err != nil {
			return object.ID{}, nil, fmt.Errorf("opening the key of partition %s: %w", name, err)
		}
		return record.ID, key, nil
	}
	return object.ID{}, nil, errors.New("there is no such partition")
}
