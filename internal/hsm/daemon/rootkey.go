package daemon

import (
	"bytes"
	"crypto/fips140"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"moongate/internal/harden"
	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/store"
)

// passphraseKDF is how a root key's passphrase is stretched: as every other
// password of the HSM, in the mode that this process runs in.
type passphraseKDF struct{}

func (passphraseKDF) policy() mech.Policy { return mech.Policy{FIPS: fips140.Enabled()} }

// New implements store.KDF.
func (p passphraseKDF) New() ([]byte, error) { return json.Marshal(mech.NewKDF(p.policy())) }

// Derive implements store.KDF. Parameters have one encoding, that of New.
func (p passphraseKDF) Derive(parameters, passphrase []byte) ([32]byte, error) {
	var kdf mech.KDF
	if err := json.Unmarshal(parameters, &kdf); err != nil {
		return [32]byte{}, fmt.Errorf("decoding how the passphrase is stretched: %w", err)
	}
	if again, err := json.Marshal(kdf); err != nil || !bytes.Equal(again, parameters) {
		return [32]byte{}, errors.New("how the passphrase is stretched is not written as it was")
	}
	if err := p.policy().CheckKDF(kdf); err != nil {
		return [32]byte{}, err
	}
	return kdf.Derive(passphrase)
}

// errNoPassphrase is the answer where nobody can be asked.
func errNoPassphrase() ([]byte, error) {
	return nil, errors.New("the device root key is sealed under a passphrase, and nobody was named who knows it: set root-key.passphrase-file, or start from a terminal")
}

// openRootKey reads the device's root key.
func openRootKey(files Files, ask func() ([]byte, error)) (*store.KeyFile, store.RootKey, error) {
	if ask == nil {
		ask = errNoPassphrase
	}
	file, root, err := store.OpenKeyFile(files.RootKey(), passphraseKDF{}, ask)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, root, fmt.Errorf("opening the device root key %s: %w", files.RootKey(), err)
	}
	return file, root, err
}

// SealRootKey seals the device root key of an HSM that does not run under a
// passphrase, or under another one.
func SealRootKey(dir string, ask func() ([]byte, error), fresh []byte) error {
	if len(fresh) == 0 {
		return errors.New("the passphrase is empty")
	}
	return withKeyFile(dir, func(f *store.KeyFile) error { return f.Seal(passphraseKDF{}, ask, fresh) })
}

// UnsealRootKey writes the device root key of an HSM that does not run in the
// plain again.
func UnsealRootKey(dir string, ask func() ([]byte, error)) error {
	return withKeyFile(dir, func(f *store.KeyFile) error { return f.Unseal(passphraseKDF{}, ask) })
}

func withKeyFile(dir string, do func(*store.KeyFile) error) (err error) {
	harden.Memory(slog.New(slog.DiscardHandler))
	files := In(dir)
	if _, err := os.Stat(files.Socket()); err == nil {
		return errors.New("stop the HSM first: one that runs keeps what the passphrase was stretched to")
	}
	if _, err := os.Stat(files.RootKey()); err != nil {
		return fmt.Errorf("there is no device root key: %w", err)
	}
	defer func() { err = errors.Join(err, handBack(dir)) }()
	return do(store.PlainKeyFile(files.RootKey()))
}
