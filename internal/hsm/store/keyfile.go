package store

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"moongate/internal/durable"
)

// A root key's file is one of two texts, mode 0600.
//
// Plain: 64 hexadecimal digits and a newline.
//
// Sealed under a passphrase, three lines:
//
//	moongate hsm root key, sealed, version 1
//	kdf PARAMETERS
//	key HEX
//
// PARAMETERS are the KDF's own text; HEX is 120 digits: nonce (12 bytes), the
// root key under AES-256-GCM (32 bytes), tag (16 bytes). The GCM key is
// HKDF-SHA256-Expand of what the KDF stretched the passphrase to, with the
// first two lines as its info, which are also the associated data.
const (
	sealedFirstLine = "moongate hsm root key, sealed, version 1\n"
	sealedPrefix    = "moongate hsm root key, sealed, version "
	kdfField        = "kdf "
	keyField        = "key "

	maxKDFParameters = 1 << 10
	maxKeyFile       = len(sealedFirstLine) + len(kdfField) + maxKDFParameters + 1 + len(keyField) + 2*sealedKeySize + 1
	sealedKeySize    = len(RootKey{}) + sealOverhead
)

// KDF stretches passphrases: hsm/mech has those, and this package must not
// know it.
type KDF interface {
	// New returns the parameters of a fresh derivation: at most 1 KiB of
	// printable ASCII, in one encoding.
	New() ([]byte, error)
	// Derive stretches a passphrase as parameters say. It refuses parameters
	// that New could not have returned.
	Derive(parameters, passphrase []byte) ([32]byte, error)
}

var (
	// ErrPassphrase: the passphrase of a root key's file is wrong, or the
	// file was changed; nobody can tell which.
	ErrPassphrase = errors.New("the passphrase is wrong, or the file was changed")
	// ErrSealed: the root key's file is sealed under a passphrase.
	ErrSealed = errors.New("the root key is sealed under a passphrase")
)

// KeyFile is the file of a device's root key, and how it is written. It holds
// no root key; of one that is sealed it holds what the passphrase was stretched
// to, so that [Store.Erase] leaves one that the same passphrase opens.
type KeyFile struct {
	path string

	mu     sync.Mutex
	sealed *sealing // nil for a plain file; under mu
}

// sealing is how a root key is sealed under a passphrase.
type sealing struct {
	parameters []byte
	stretched  [32]byte
}

// PlainKeyFile returns the plain file at path, without looking at it.
func PlainKeyFile(path string) *KeyFile { return &KeyFile{path: path} }

// OpenKeyFile reads the root key from the file at path. Where the file is
// sealed, ask is called once for the passphrase, which is cleared afterwards;
// a wrong one is ErrPassphrase. The error matches fs.ErrNotExist where there
// is no file.
func OpenKeyFile(path string, kdf KDF, ask func() ([]byte, error)) (*KeyFile, RootKey, error) {
	text, err := readKeyFile(path)
	if err != nil {
		return nil, RootKey{}, err
	}
	defer clear(text)
	if !isSealed(text) {
		key, err := decodePlain(path, text)
		return PlainKeyFile(path), key, err
	}
	parameters, sealed, err := decodeSealed(text)
	if err != nil {
		return nil, RootKey{}, fmt.Errorf("root key %s: %w", path, err)
	}
	passphrase, err := ask()
	if err != nil {
		return nil, RootKey{}, fmt.Errorf("asking for the passphrase of root key %s: %w", path, err)
	}
	defer clear(passphrase)
	s := &sealing{parameters: bytes.Clone(parameters)}
	if s.stretched, err = kdf.Derive(parameters, passphrase); err != nil {
		return nil, RootKey{}, fmt.Errorf("stretching the passphrase of root key %s: %w", path, err)
	}
	key, ok := s.open(sealed)
	if !ok {
		clear(s.stretched[:])
		return nil, RootKey{}, fmt.Errorf("root key %s: %w", path, ErrPassphrase)
	}
	return &KeyFile{path: path, sealed: s}, key, nil
}

// CreateSealedRootKey makes a root key in a file sealed under a passphrase.
// The error matches fs.ErrExist where there is a file already.
func CreateSealedRootKey(path string, kdf KDF, passphrase []byte) (*KeyFile, RootKey, error) {
	s, err := newSealing(kdf, passphrase)
	if err != nil {
		return nil, RootKey{}, fmt.Errorf("creating root key %s: %w", path, err)
	}
	k := &KeyFile{path: path, sealed: s}
	key := newRootKey()
	text := k.encode(key)
	if err := publishBytes(path, text); err != nil {
		return nil, RootKey{}, fmt.Errorf("creating root key %s: %w", path, err)
	}
	return k, key, nil
}

// Seal rewrites the file so that fresh opens it: one that was plain is sealed,
// one that was sealed changes its passphrase, by its old one. ask and kdf are as
// in OpenKeyFile. The file is replaced as a whole and opens at any moment the
// old way or the new; what it was written on before is overwritten afterwards,
// as far as the file system lets that happen (see docs/store.md).
func (k *KeyFile) Seal(kdf KDF, ask func() ([]byte, error), fresh []byte) error {
	s, err := newSealing(kdf, fresh)
	if err != nil {
		return fmt.Errorf("sealing root key %s: %w", k.path, err)
	}
	return k.rewrite(kdf, ask, s)
}

// Unseal rewrites the file plain, so that it opens without a passphrase.
func (k *KeyFile) Unseal(kdf KDF, ask func() ([]byte, error)) error { return k.rewrite(kdf, ask, nil) }

// Sealed returns the parameters of the passphrase's derivation, nil for a
// plain file.
func (k *KeyFile) Sealed() []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.sealed == nil {
		return nil
	}
	return bytes.Clone(k.sealed.parameters)
}

func (k *KeyFile) rewrite(kdf KDF, ask func() ([]byte, error), s *sealing) error {
	// Nobody writes the file between its being read and its being replaced.
	k.mu.Lock()
	defer k.mu.Unlock()
	_, key, err := OpenKeyFile(k.path, kdf, ask)
	if err != nil {
		return err
	}
	defer clear(key[:])
	old, err := os.OpenFile(k.path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("rewriting root key: %w", err)
	}
	defer old.Close() // synced below
	text := (&KeyFile{sealed: s}).encode(key)
	defer clear(text)
	if err := durable.WriteFile(k.path, text, 0o600); err != nil {
		return fmt.Errorf("rewriting root key: %w", err)
	}
	if k.sealed != nil {
		clear(k.sealed.stretched[:])
	}
	k.sealed = s
	if err := overwrite(old); err != nil {
		return fmt.Errorf("root key %s is rewritten, but overwriting what it was on before: %w", k.path, err)
	}
	return nil
}

// encode returns the file's text for a key. The caller holds mu or owns k.
func (k *KeyFile) encode(key RootKey) []byte {
	if k.sealed == nil {
		return append(hex.AppendEncode(make([]byte, 0, 2*len(key)+1), key[:]), '\n')
	}
	b := k.sealed.head()
	sealed := seal(nil, &k.sealed.stretched, b, key[:])
	b = append(b, keyField...)
	b = hex.AppendEncode(b, sealed)
	return append(b, '\n')
}

// head is the file's first two lines.
func (s *sealing) head() []byte {
	b := append([]byte(sealedFirstLine), kdfField...)
	b = append(b, s.parameters...)
	return append(b, '\n')
}

func (s *sealing) open(sealed []byte) (RootKey, bool) {
	plaintext, ok := open(&s.stretched, s.head(), sealed)
	defer clear(plaintext)
	var key RootKey
	if !ok || len(plaintext) != len(key) {
		return RootKey{}, false
	}
	copy(key[:], plaintext)
	return key, true
}

func newSealing(kdf KDF, passphrase []byte) (*sealing, error) {
	parameters, err := kdf.New()
	if err != nil {
		return nil, err
	}
	if !validParameters(parameters) {
		return nil, fmt.Errorf("the parameters of the passphrase's derivation are not 1 to %d bytes of printable ASCII", maxKDFParameters)
	}
	s := &sealing{parameters: parameters}
	s.stretched, err = kdf.Derive(parameters, passphrase)
	return s, err
}

func validParameters(b []byte) bool {
	return len(b) > 0 && len(b) <= maxKDFParameters && bytes.IndexFunc(b, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

func isSealed(text []byte) bool { return bytes.HasPrefix(text, []byte(sealedPrefix)) }

// decodeSealed reads a sealed file's text; there is one encoding.
func decodeSealed(text []byte) (parameters, sealed []byte, err error) {
	rest, known := bytes.CutPrefix(text, []byte(sealedFirstLine))
	if !known {
		return nil, nil, errors.New("it is sealed in a version that is not known; run the version that wrote it, or a newer one")
	}
	errText := errors.New("it is not the three lines of a sealed root key; restore it from a backup")
	rest, isKDF := bytes.CutPrefix(rest, []byte(kdfField))
	parameters, rest, _ = bytes.Cut(rest, []byte("\n"))
	rest, isKey := bytes.CutPrefix(rest, []byte(keyField))
	if !isKDF || !isKey || !validParameters(parameters) || len(rest) != 2*sealedKeySize+1 || rest[len(rest)-1] != '\n' {
		return nil, nil, errText
	}
	digits := rest[:len(rest)-1]
	if sealed, err = hex.AppendDecode(nil, digits); err != nil || !bytes.Equal(hex.AppendEncode(nil, sealed), digits) {
		return nil, nil, errText
	}
	return parameters, sealed, nil
}

// readKeyFile reads the file, whichever form it has, and refuses one that
// others can reach.
func readKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening root key: %w", err)
	}
	defer f.Close() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading root key: %w", err)
	}
	if mode := info.Mode(); mode.Perm()&0o077 != 0 {
		return nil, fmt.Errorf("root key %s has mode %v: others can reach it; if it is still secret, run `chmod 600 %s`", path, mode.Perm(), path)
	}
	text := make([]byte, maxKeyFile+1)
	n, err := io.ReadFull(f, text)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return nil, fmt.Errorf("reading root key %s: %w", path, err)
	}
	return text[:n], nil
}

// publishBytes makes the file path of text, whole and fsynced, or fails with
// an error that matches fs.ErrExist.
func publishBytes(path string, text []byte) error {
	return publish(path, func(temporary string) error {
		f, err := os.OpenFile(temporary, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.Write(text)
		return errors.Join(err, f.Sync(), f.Close())
	})
}
