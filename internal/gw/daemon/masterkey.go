package daemon

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"moongate/internal/durable"
	"moongate/internal/gw/vault"
)

// figuresOf are a vault's: whether it is locked, and when its master key
// expires, in seconds since 1970 (0 for never).
func figuresOf(v *vault.Vault) []prometheus.Collector {
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "moongate_vault_locked", Help: "1 while the master key is on an HSM that has not unwrapped it: software private keys cannot be used."}, func() float64 {
			if v.Locked() != nil {
				return 1
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "moongate_master_key_on_hsm", Help: "1 where the master key is stored on the HSM."}, func() float64 {
			if v.Properties().OnHSM {
				return 1
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "moongate_master_key_expiry_seconds", Help: "When the master key expires, in seconds since 1970; 0 for never."}, func() float64 {
			if at := v.Properties().ExpireAt; !at.IsZero() {
				return float64(at.Unix())
			}
			return 0
		}),
	}
}

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
