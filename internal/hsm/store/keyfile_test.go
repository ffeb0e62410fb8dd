package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// quick stretches at once: what a KDF costs is not tested here.
type quick struct{ salt string }

func (q quick) New() ([]byte, error) { return []byte("quick " + q.salt), nil }

func (q quick) Derive(parameters, passphrase []byte) ([32]byte, error) {
	if !bytes.HasPrefix(parameters, []byte("quick ")) {
		return [32]byte{}, errors.New("parameters are not quick's")
	}
	return sha256.Sum256(append(bytes.Clone(parameters), passphrase...)), nil
}

func say(passphrase string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(passphrase), nil }
}

func never(t *testing.T) func() ([]byte, error) {
	return func() ([]byte, error) { t.Error("asked for a passphrase"); return nil, errors.New("asked") }
}

func TestRootKeySealedUnderAPassphrase(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "device.key")
	if _, _, err := OpenKeyFile(path, quick{}, never(t)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	_, key, err := CreateSealedRootKey(path, quick{"1"}, []byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := CreateSealedRootKey(path, quick{"1"}, []byte("x")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made over another: %v", err)
	}
	if _, err := LoadRootKey(path); !errors.Is(err, ErrSealed) {
		t.Errorf("LoadRootKey of a sealed file: %v", err)
	}
	if _, err := LoadOrCreateRootKey(path); !errors.Is(err, ErrSealed) {
		t.Errorf("LoadOrCreateRootKey of a sealed file: %v", err)
	}
	if _, got, err := OpenKeyFile(path, quick{}, say("open barley")); !errors.Is(err, ErrPassphrase) || got != (RootKey{}) {
		t.Errorf("a wrong passphrase: %x, %v", got, err)
	}
	asked := []byte("open sesame")
	k, got, err := OpenKeyFile(path, quick{}, func() ([]byte, error) { return asked, nil })
	if err != nil || got != key || string(k.Sealed()) != "quick 1" {
		t.Errorf("opened: %v, %q, %v", got == key, k.Sealed(), err)
	}
	if !bytes.Equal(asked, make([]byte, len(asked))) {
		t.Error("the passphrase was not cleared")
	}
	if raw, err := os.ReadFile(path); err != nil || bytes.Contains(raw, key[:]) || bytes.Contains(raw, []byte("sesame")) {
		t.Errorf("the file holds a secret: %v", err)
	}
}

func TestRootKeyFileIsSealedChangedAndUnsealed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "device.key")
	key, err := LoadOrCreateRootKey(path)
	if err != nil {
		t.Fatal(err)
	}
	k, got, err := OpenKeyFile(path, quick{}, never(t))
	if err != nil || got != key || k.Sealed() != nil {
		t.Fatalf("plain: %v, %v", got == key, err)
	}
	plain, err := os.Open(path) // what it was written on before
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if err := k.Seal(quick{"1"}, never(t), []byte("first")); err != nil {
		t.Fatal(err)
	}
	old := make([]byte, 64)
	if _, err := plain.ReadAt(old, 0); err != nil || bytes.Equal(old, PlainKeyFile("").encode(key)[:64]) {
		t.Errorf("the plain key was not overwritten: %v", err)
	}
	if err := k.Seal(quick{"2"}, say("wrong"), []byte("second")); !errors.Is(err, ErrPassphrase) {
		t.Errorf("changed by a wrong passphrase: %v", err)
	}
	if err := k.Unseal(quick{}, say("wrong")); !errors.Is(err, ErrPassphrase) {
		t.Errorf("unsealed by a wrong passphrase: %v", err)
	}
	if err := k.Seal(quick{"2"}, say("first"), []byte("second")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenKeyFile(path, quick{}, say("first")); !errors.Is(err, ErrPassphrase) {
		t.Errorf("the old passphrase: %v", err)
	}
	if _, got, err := OpenKeyFile(path, quick{}, say("second")); err != nil || got != key {
		t.Errorf("the new passphrase: %v", err)
	}
	if err := k.Unseal(quick{}, say("second")); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadRootKey(path); err != nil || got != key || k.Sealed() != nil {
		t.Errorf("plain again: %v", err)
	}
	if names, err := os.ReadDir(filepath.Dir(path)); err != nil || len(names) != 1 {
		t.Errorf("files: %v, %v", names, err)
	}
}

// Erase leaves a key that the same passphrase opens, without asking.
func TestEraseKeepsThePassphrase(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"at once", "by the next start"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "device.key")
			k, root, err := CreateSealedRootKey(path, quick{"1"}, []byte("open sesame"))
			if err != nil {
				t.Fatal(err)
			}
			opts := Options{KeyFile: k}
			if name != "at once" {
				opts.step = func(step string) error {
					if step == "replacing the root key" {
						return errors.New("cut")
					}
					return nil
				}
			}
			s, err := Open(dir, root, opts)
			if err != nil {
				t.Fatal(err)
			}
			err = s.Erase()
			if (err == nil) != (name == "at once") {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if done, err := FinishErase(dir, path); err != nil || done == (name == "at once") {
				t.Fatalf("FinishErase: %v, %v", done, err)
			}
			k, fresh, err := OpenKeyFile(path, quick{}, say("open sesame"))
			if err != nil || fresh == root {
				t.Fatalf("after erasing: %v", err)
			}
			if s, err = Open(dir, fresh, Options{MustExist: true, KeyFile: k}); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// goldenSealed is a root key's file as the first version sealed it.
const (
	goldenSealedKey = "95235e28435d6aff4af9b0d5f0dee8b7879087cb5c978c76336bdc98b342e187a9e73e1cdd4a2ba592abefd4366fc774b5ae67979aa29731d2ab1d4d"
	goldenSealed    = sealedFirstLine + "kdf quick 1\nkey " + goldenSealedKey + "\n"
)

func TestGoldenSealedRootKey(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "device.key")
	if err := os.WriteFile(path, []byte(goldenSealed), 0o600); err != nil {
		t.Fatal(err)
	}
	_, key, err := OpenKeyFile(path, quick{}, say("open sesame"))
	if want := (RootKey{31: 7}); err != nil || key != want {
		t.Errorf("golden: %v", err)
	}
	for name, change := range map[string]func(string) string{
		"another version":  func(s string) string { return strings.Replace(s, "version 1", "version 2", 1) },
		"other parameters": func(s string) string { return strings.Replace(s, "quick 1", "quick 2", 1) },
		"upper case":       func(s string) string { return strings.Replace(s, goldenSealedKey, strings.ToUpper(goldenSealedKey), 1) },
		"cut":              func(s string) string { return s[:len(s)-1] },
		"a line more":      func(s string) string { return s + "\n" },
		"no parameters":    func(s string) string { return strings.Replace(s, "quick 1", "", 1) },
		"control byte":     func(s string) string { return strings.Replace(s, "quick 1", "quick 1\r", 1) },
		"a changed digit": func(s string) string {
			last := s[len(s)-2]
			return s[:len(s)-2] + string(last^1) + "\n" // 0-9 and a-f stay digits, but for a and f
		},
		"long": func(s string) string { return s + strings.Repeat("x", maxKeyFile) },
	} {
		if err := os.WriteFile(path, []byte(change(goldenSealed)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, key, err := OpenKeyFile(path, quick{}, say("open sesame")); err == nil || key != (RootKey{}) {
			t.Errorf("%s: opened", name)
		}
	}
}

func FuzzSealedRootKey(f *testing.F) {
	f.Add([]byte(goldenSealed))
	f.Add([]byte(sealedFirstLine))
	f.Fuzz(func(t *testing.T, in []byte) {
		parameters, sealed, err := decodeSealed(in)
		if err != nil {
			return
		}
		s := &sealing{parameters: parameters}
		again := append(s.head(), keyField...)
		again = append(hex.AppendEncode(again, sealed), '\n')
		if !bytes.Equal(in, again) {
			t.Errorf("%q decodes to what encodes to %q", in, again)
		}
	})
}
