package vault

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"moongate/internal/durable"
)

// A key file is a first line that says what it is, and a line of an id (16
// hexadecimal digits), a space and a key (64) for each key, mode 0600:
//
//	moongate master key, version 1
//	0123456789abcdef 00112233...
const (
	masterKind = "master"
	deviceKind = "device"

	maxKeysOfFile = 2
	keyIDSize     = 8
	keyLineSize   = 2*keyIDSize + 1 + 2*len(key{}) + 1
)

// namedKey is a key with its id, 16 hexadecimal digits, which is not secret.
type namedKey struct {
	id  string
	key key
}

func newID() string {
	id := make([]byte, keyIDSize)
	rand.Read(id)
	return hex.EncodeToString(id)
}

func newNamedKey() namedKey { return namedKey{newID(), newKey()} }

func wipe(keys []namedKey) {
	for i := range keys {
		clear(keys[i].key[:])
	}
}

func firstLine(kind string) string { return "moongate " + kind + " key, version 1\n" }

func encodeKeyFile(kind string, keys []namedKey) []byte {
	// Grown once, so that no copy of a key is left behind.
	b := make([]byte, 0, len(firstLine(kind))+len(keys)*keyLineSize)
	b = append(b, firstLine(kind)...)
	for _, k := range keys {
		b = append(append(b, k.id...), ' ')
		b = append(hex.AppendEncode(b, k.key[:]), '\n')
	}
	return b
}

// decodeKeyFile reads a key file's text; there is one encoding.
func decodeKeyFile(kind string, text []byte) ([]namedKey, error) {
	bad := fmt.Errorf("it is not %q and one or two lines of an id and a key; restore it from a backup", firstLine(kind)[:len(firstLine(kind))-1])
	rest, ok := bytes.CutPrefix(text, []byte(firstLine(kind)))
	if !ok || len(rest) == 0 || len(rest)%keyLineSize != 0 || len(rest)/keyLineSize > maxKeysOfFile {
		return nil, bad
	}
	var keys []namedKey
	for line := range slices.Chunk(rest, keyLineSize) {
		id, digits := line[:2*keyIDSize], line[2*keyIDSize+1:keyLineSize-1]
		var k namedKey
		// The errors of encoding/hex are left out: they quote a digit.
		if _, err := hex.Decode(make([]byte, keyIDSize), id); err != nil {
			return nil, bad
		}
		if _, err := hex.Decode(k.key[:], digits); err != nil {
			return nil, bad
		}
		k.id = string(id)
		keys = append(keys, k)
	}
	again := encodeKeyFile(kind, keys)
	defer clear(again)
	if !bytes.Equal(again, text) || len(keys) == maxKeysOfFile && keys[0].id == keys[1].id {
		wipe(keys)
		return nil, bad
	}
	return keys, nil
}

func readKeyFile(path, kind string) ([]namedKey, error) {
	text, err := readOwn(path, len(firstLine(kind))+maxKeysOfFile*keyLineSize)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	keys, err := decodeKeyFile(kind, text)
	if err != nil {
		return nil, fmt.Errorf("%s key %s: %w", kind, path, err)
	}
	return keys, nil
}

// readOwn reads a regular file of at most limit bytes that only its owner can
// reach.
func readOwn(path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening a file of the vault: %w", err)
	}
	defer f.Close() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading a file of the vault: %w", err)
	}
	if mode := info.Mode(); !mode.IsRegular() || mode.Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %v: others can reach it; if it is still secret, run `chmod 600 %s`", path, mode, path)
	}
	text := make([]byte, limit+1)
	n, err := io.ReadFull(f, text)
	if err == nil {
		return nil, fmt.Errorf("%s has more than %d bytes; restore it from a backup", path, limit)
	}
	if err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return text[:n], nil
}

// replaceOwn replaces a file that held a secret, or makes it, and overwrites
// what held it before, as far as the file system lets that happen: neither flash
// nor copy-on-write promises it.
func replaceOwn(path string, text []byte) error {
	before, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return durable.WriteFile(path, text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("replacing a file of the vault: %w", err)
	}
	if err := durable.WriteFile(path, text, 0o600); err != nil {
		return errors.Join(err, before.Close())
	}
	if err := errors.Join(overwrite(before), before.Close()); err != nil {
		return fmt.Errorf("%s is replaced, but overwriting what it was on before: %w", filepath.Base(path), err)
	}
	return nil
}

// removeOwn removes a file that held a secret, durably, and overwrites what held
// it as replaceOwn does. One that is gone already is no error.
func removeOwn(path string) error {
	before, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := errors.Join(os.Remove(path), durable.SyncDir(filepath.Dir(path))); err != nil {
		return errors.Join(err, before.Close())
	}
	return errors.Join(overwrite(before), before.Close())
}

// overwrite fills a file with zeros that has no name any more; one that has
// another is somebody's copy, and stays.
func overwrite(f *os.File) error {
	info, err := f.Stat()
	if err != nil || links(info) > 0 {
		return err
	}
	if _, err := f.WriteAt(make([]byte, info.Size()), 0); err != nil {
		return err
	}
	return f.Sync()
}
