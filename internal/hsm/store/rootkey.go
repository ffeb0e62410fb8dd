package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"moongate/internal/durable"
)

// LoadOrCreateRootKey reads the device root key, and makes one where there is
// no file: 64 hexadecimal digits and a newline, mode 0600. A file that others
// than its owner can reach is refused. Of two processes that make one at the
// same time, both return the same key.
func LoadOrCreateRootKey(path string) (RootKey, error) {
	key, err := LoadRootKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key = newRootKey()
	text := PlainKeyFile(path).encode(key)
	defer clear(text)
	err = publishBytes(path, text)
	if errors.Is(err, fs.ErrExist) {
		return LoadRootKey(path)
	}
	if err != nil {
		return RootKey{}, fmt.Errorf("creating root key %s: %w", path, err)
	}
	return key, nil
}

func newRootKey() RootKey {
	var key RootKey
	rand.Read(key[:]) // never fails: the program ends instead
	return key
}

// LoadRootKey reads a device root key that is not sealed under a passphrase
// (ErrSealed); the error matches fs.ErrNotExist where there is no file.
func LoadRootKey(path string) (RootKey, error) {
	text, err := readKeyFile(path)
	if err != nil {
		return RootKey{}, err
	}
	defer clear(text)
	if isSealed(text) {
		return RootKey{}, fmt.Errorf("root key %s: %w", path, ErrSealed)
	}
	return decodePlain(path, text)
}

func decodePlain(path string, text []byte) (RootKey, error) {
	var key RootKey
	if len(text) != 2*len(key)+1 || text[len(text)-1] != '\n' {
		return RootKey{}, fmt.Errorf("root key %s is not 64 hexadecimal digits and a newline; restore it from a backup", path)
	}
	if _, err := hex.Decode(key[:], text[:len(text)-1]); err != nil {
		// The error of encoding/hex is left out: it quotes a digit.
		return RootKey{}, fmt.Errorf("root key %s is not 64 hexadecimal digits and a newline; restore it from a backup", path)
	}
	return key, nil
}

// publish makes the file path, whole and fsynced, or fails with an error that
// matches fs.ErrExist when there is one already. fill writes and syncs a
// temporary file of mode 0600. A crash may leave a temporary file behind.
func publish(path string, fill func(temporary string) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	temporary := f.Name()
	if err := errors.Join(f.Close(), fill(temporary)); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	// A link, unlike a rename, does not replace.
	if err := errors.Join(os.Link(temporary, path), os.Remove(temporary)); err != nil {
		return err
	}
	return durable.SyncDir(dir)
}
