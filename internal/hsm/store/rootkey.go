package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
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
	rand.Read(key[:]) // never fails: the program ends instead
	text := hex.AppendEncode(nil, key[:])
	defer clear(text)
	err = publish(path, func(temporary string) error {
		f, err := os.OpenFile(temporary, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.Write(append(text, '\n'))
		return errors.Join(err, f.Sync(), f.Close())
	})
	if errors.Is(err, fs.ErrExist) {
		return LoadRootKey(path)
	}
	if err != nil {
		return RootKey{}, fmt.Errorf("creating root key %s: %w", path, err)
	}
	return key, nil
}

// LoadRootKey reads the device root key; the error matches fs.ErrNotExist
// where there is no file.
func LoadRootKey(path string) (RootKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return RootKey{}, fmt.Errorf("opening root key: %w", err)
	}
	defer f.Close() // only read
	info, err := f.Stat()
	if err != nil {
		return RootKey{}, fmt.Errorf("reading root key: %w", err)
	}
	if mode := info.Mode(); mode.Perm()&0o077 != 0 {
		return RootKey{}, fmt.Errorf("root key %s has mode %v: others can reach it; if it is still secret, run `chmod 600 %s`", path, mode.Perm(), path)
	}
	var key RootKey
	text := make([]byte, 2*len(key)+2)
	defer clear(text)
	n, err := io.ReadFull(f, text)
	if err != io.ErrUnexpectedEOF && err != nil {
		return RootKey{}, fmt.Errorf("reading root key %s: %w", path, err)
	}
	if n != 2*len(key)+1 || text[n-1] != '\n' {
		return RootKey{}, fmt.Errorf("root key %s is not 64 hexadecimal digits and a newline; restore it from a backup", path)
	}
	if _, err := hex.Decode(key[:], text[:n-1]); err != nil {
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
