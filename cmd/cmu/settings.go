package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/BurntSushi/toml"

	"moongate/internal/durable"
)

// settings is the client configuration file while it is being made, when parts
// of it may be missing still; client.LoadConfig reads the whole one.
type settings struct {
	Partition    string            `toml:"partition,omitempty"`
	PasswordFile string            `toml:"password-file,omitempty"`
	Checkpoint   string            `toml:"audit-checkpoint,omitempty"`
	Server       serverSettings    `toml:"server"`
	Client       clientSettings    `toml:"client"`
	Servers      []furtherSettings `toml:"servers,omitempty"`
	HA           *haSettings       `toml:"ha,omitempty"`
}

type serverSettings struct {
	Name        string `toml:"name,omitempty"`
	Address     string `toml:"address"`
	Certificate string `toml:"certificate"`
}

// furtherSettings are those of an HSM beside the first one, which has its
// partition, password file and checkpoint at the top of the file.
type furtherSettings struct {
	serverSettings
	Partition    string `toml:"partition,omitempty"`
	PasswordFile string `toml:"password-file,omitempty"`
	Checkpoint   string `toml:"audit-checkpoint,omitempty"`
}

// haSettings are those of the group that the HSMs are; ha.Config says what they
// mean.
type haSettings struct {
	Label     string   `toml:"label"`
	Members   []string `toml:"members"`
	Retry     int      `toml:"retry"`
	NoReturn  bool     `toml:"no-return,omitempty"`
	Hedge     string   `toml:"hedge,omitempty"`
	Probe     string   `toml:"probe,omitempty"`
	StateFile string   `toml:"state-file,omitempty"`
}

// firstServer is the name of the first HSM where the file names none.
const firstServer = "server"

// names are those of the HSMs, in the order of the file.
func (s *settings) names() []string {
	if (s.Server == serverSettings{}) {
		return nil
	}
	list := []string{cmp.Or(s.Server.Name, firstServer)}
	for _, f := range s.Servers {
		list = append(list, f.Name)
	}
	return list
}

// server finds an HSM by its name; nil where the file has none of it.
func (s *settings) server(name string) *serverSettings {
	i := slices.Index(s.names(), name)
	switch {
	case i < 0:
		return nil
	case i == 0:
		return &s.Server
	}
	return &s.Servers[i-1].serverSettings
}

// isMember reports whether an HSM is one of the group.
func (s *settings) isMember(name string) bool {
	return s.HA != nil && slices.Contains(s.HA.Members, name)
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
