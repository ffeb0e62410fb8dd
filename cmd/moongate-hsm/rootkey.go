package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"moongate/internal/hsm/daemon"
	"moongate/internal/hsm/settings"
)

// maxPassphraseFile bounds what is read of a passphrase's file.
const maxPassphraseFile = 4 << 10

// passphrase returns who knows the root key's passphrase: the configured file,
// systemd's credential, or the person at the terminal.
func passphrase(s settings.Settings, term *console) func() ([]byte, error) {
	return func() ([]byte, error) {
		if s.RootKey.PassphraseFile != "" {
			return firstLine(s.RootKey.PassphraseFile, true)
		}
		if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
			if line, err := firstLine(filepath.Join(dir, "root-passphrase"), false); !errors.Is(err, os.ErrNotExist) {
				return line, err
			}
		}
		line, err := term.Ask("Please enter the passphrase of the device root key: ", true)
		return []byte(line), err
	}
}

// firstLine reads a secret's file; where it must be private, a file that others
// can reach is refused.
func firstLine(path string, private bool) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); private && mode&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o: others can reach the passphrase; chmod 600 it", path, mode)
	}
	if info.Size() > maxPassphraseFile {
		return nil, fmt.Errorf("%s has %d bytes, at most %d", path, info.Size(), maxPassphraseFile)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	line, rest, _ := bytes.Cut(raw, []byte("\n"))
	clear(rest)
	return line, nil
}

// rootKey is `moongate-hsm root-key`.
func rootKey(dir string, argv []string) int {
	if len(argv) != 1 || argv[0] != "seal" && argv[0] != "unseal" {
		return fail(errors.New("root-key: expected seal or unseal"))
	}
	term := newConsole()
	s, err := settings.LoadOrDefault(filepath.Join(dir, settings.FileName))
	if err != nil {
		return fail(err)
	}
	ask := passphrase(s, term)
	if argv[0] == "unseal" {
		if err := daemon.UnsealRootKey(dir, ask); err != nil {
			return fail(err)
		}
		fmt.Println("The device root key is plain: whoever reads the disk has it.")
		return 0
	}
	fresh, err := term.askTwice("Please enter the new passphrase of the device root key: ")
	if err != nil {
		return fail(err)
	}
	if err := daemon.SealRootKey(dir, ask, []byte(fresh)); err != nil {
		return fail(err)
	}
	fmt.Println("The device root key is sealed: without the passphrase every key is lost.")
	return 0
}
