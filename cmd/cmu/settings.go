package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/BurntSushi/toml"

	"moongate/internal/durable"
)

// settings is the client configuration file while it is being made, when parts
// of it may be missing still; client.LoadConfig reads the whole one.
type settings struct {
	Partition    string         `toml:"partition,omitempty"`
	PasswordFile string         `toml:"password-file,omitempty"`
	Server       serverSettings `toml:"server"`
	Client       clientSettings `toml:"client"`
}

type serverSettings struct {
	Address     string `toml:"address"`
	Certificate string `toml:"certificate"`
}

type clientSettings struct {
	Name        string `toml:"name"`
	Certificate string `toml:"certificate"`
	Key         string `toml:"key"`
}

const settingsHead = "# Client configuration for a network HSM, written by cmu; docs/cmu.md says what it may hold.\n" +
	"# Paths are relative to this file's directory.\n\n"

// readSettings reads the file; one that does not exist is empty.
func readSettings(path string) (settings, error) {
	var s settings
	meta, err := toml.DecodeFile(path, &s)
	if errors.Is(err, fs.ErrNotExist) {
		return settings{}, nil
	} else if err != nil {
		return settings{}, fmt.Errorf("reading client configuration: %w", err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return settings{}, fmt.Errorf("reading client configuration: %s: unknown key %q", path, unknown[0])
	}
	return s, nil
}

// write replaces the file, in a directory that others cannot read.
func (s settings) write(path string) error {
	var b bytes.Buffer
	b.WriteString(settingsHead)
	enc := toml.NewEncoder(&b)
	enc.Indent = ""
	if err := enc.Encode(s); err != nil {
		return fmt.Errorf("writing client configuration: %w", err)
	}
	if err := durable.WriteFile(path, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("writing client configuration: %w", err)
	}
	return nil
}

func makeConfigDir(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("making the configuration's directory: %w", err)
	}
	return nil
}

// checkSettings says which set-up step is missing.
func checkSettings(path string) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return &fixError{
			fmt.Errorf("there is no client configuration %s", path),
			"make one with `cmu client init`, or name one with -config= or $MOONGATE_CLIENT_CONF",
		}
	}
	s, err := readSettings(path)
	switch {
	case err != nil:
		return err
	case s.Client == clientSettings{}:
		return &fixError{fmt.Errorf("%s names no client certificate", path), "make one with `cmu client init`"}
	case s.Server == serverSettings{}:
		return &fixError{fmt.Errorf("%s names no HSM", path), "add it with `cmu server add -address=HSM -certificate=server.pem`"}
	}
	return nil
}
