package daemon

import (
	"errors"
	"fmt"

	"moongate/internal/durable"
	"moongate/internal/gw/vault"
)

// RecoverMasterKey takes the master key, as it was given, of a gateway that does
// not run: the HSM that wrapped it is lost, or its file is. From then on it is in
// the file. Nothing is changed where it is not the gateway's master key.
func RecoverMasterKey(dir string, given []byte) error {
	return asOwner(dir, func() error {
		lock, err := lockDirectory(In(dir))
		if errors.Is(err, durable.ErrLocked) {
			return fmt.Errorf("the gateway runs: enter the master key there, by `request master-key recover`: %w", err)
		}
		if err != nil {
			return err
		}
		return errors.Join(vault.Recover(In(dir).Vault(), given), lock.Unlock())
	})
}

// MasterKeyNote says what a backup of the gateway in a data directory, or a
// gateway that was restored there, needs beside it to read its secrets; "" for
// nothing.
func MasterKeyNote(dir string) string {
	p, err := vault.PropertiesIn(In(dir).Vault())
	if err != nil || !p.OnHSM {
		return ""
	}
	note := "Its master key is stored on the HSM: to use its software private keys it needs a partition that holds the wrapping key " + p.WrappingKey
	if p.Generated {
		return note + ". The master key was made at random, so that nobody can enter it instead."
	}
	return note + ", or the master key as it was given (`request master-key recover`, `moongate master-key recover`)."
}
