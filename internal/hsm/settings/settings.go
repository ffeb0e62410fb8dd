// Package settings is an HSM's configuration file: what its process needs to
// know before it serves. It is TOML, strict: a key that is not known, a value
// that cannot be, is an error that names it. What administrators decide about
// the HSM itself (clients, partitions, policies, audit) is not here: they say
// it in the appliance shell, and it is recorded.
//
// The file is optional and every key has a default; Manual writes them all.
package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// FileName is the configuration file in the HSM's data directory.
const FileName = "hsm.toml"

// Off, as an address, says that a service is not to run.
const Off = "off"

// Settings are the whole of the file. The tag help is the manual's text.
type Settings struct {
	NTLS struct {
		Listen string `toml:"listen" help:"address and port of the client protocol"`
	} `toml:"ntls" help:"The client protocol, by which applications use keys."`

	SSH struct {
		Listen string `toml:"listen" help:"address and port of the appliance shell and of scp; off for none"`
	} `toml:"ssh" help:"The appliance shell over SSH."`

	Metrics struct {
		Listen string `toml:"listen" help:"address and port of /metrics (HTTP, Prometheus text); off for none. It names no key and no client, and asks for no password: keep it on a network of your own"`
	} `toml:"metrics" help:"Figures for Prometheus."`

	Log struct {
		Level  string `toml:"level" help:"debug, info, warn or error"`
		Format string `toml:"format" help:"text or json"`
	} `toml:"log" help:"The process's own log, on standard error."`

	RootKey struct {
		PassphraseFile string `toml:"passphrase-file" help:"file whose first line opens a device root key that is sealed under a passphrase, mode 0600; without it the passphrase is asked for. $CREDENTIALS_DIRECTORY/root-passphrase (systemd) is used where it is there"`
	} `toml:"root-key" help:"The device root key."`

	Syslog struct {
		Address     string `toml:"address" help:"host and port of a collector that takes RFC 5424 over TLS; empty for none"`
		CA          string `toml:"ca" help:"file with the certificates that the collector's must lead to, PEM"`
		ServerName  string `toml:"server-name" help:"name in the collector's certificate; the address's host by default"`
		Certificate string `toml:"certificate" help:"our certificate for the collector, PEM; empty for none"`
		Key         string `toml:"key" help:"its private key, PEM, mode 0600"`
	} `toml:"syslog" help:"Forwarding of the audit log."`

	Limits struct {
		Connections int `toml:"connections" help:"clients' connections at the same time"`
		Sessions    int `toml:"sessions-per-connection" help:"sessions of one connection"`
	} `toml:"limits" help:"What clients may hold at the same time."`
}

// Default returns the settings of an empty file.
func Default() Settings {
	var s Settings
	s.NTLS.Listen = "127.0.0.1:1792"
	s.SSH.Listen = "127.0.0.1:2022"
	s.Metrics.Listen = "127.0.0.1:9179"
	s.Log.Level, s.Log.Format = "info", "text"
	s.Limits.Connections, s.Limits.Sessions = 4096, 64
	return s
}

// Load reads a file over the defaults. Relative paths in it are of the file's
// directory. The error matches fs.ErrNotExist where there is no file.
func Load(path string) (Settings, error) {
	s := Default()
	raw, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	if err := s.decode(string(raw)); err != nil {
		return Default(), fmt.Errorf("%s: %w", path, err)
	}
	for _, p := range []*string{&s.RootKey.PassphraseFile, &s.Syslog.CA, &s.Syslog.Certificate, &s.Syslog.Key} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(filepath.Dir(path), *p)
		}
	}
	return s, nil
}

// LoadOrDefault is Load, and the defaults where there is no file.
func LoadOrDefault(path string) (Settings, error) {
	s, err := Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Default(), nil
	}
	return s, err
}

// decode reads TOML over s and checks the whole.
func (s *Settings) decode(text string) error {
	meta, err := toml.Decode(text, s)
	if err != nil {
		var parse toml.ParseError
		if errors.As(err, &parse) {
			return fmt.Errorf("line %d: %s", parse.Position.Line, parse.Message)
		}
		return err
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return fmt.Errorf("%s is not known; the keys are: %s", unknown[0], strings.Join(keys(), ", "))
	}
	return s.Check()
}

// Check refuses what cannot be.
func (s *Settings) Check() error {
	if s.NTLS.Listen == Off {
		return fmt.Errorf("ntls.listen is %q: an HSM without its client port serves nobody; expected ADDRESS:PORT", Off)
	}
	for _, l := range []struct{ key, value string }{
		{"ntls.listen", s.NTLS.Listen}, {"ssh.listen", s.SSH.Listen}, {"metrics.listen", s.Metrics.Listen},
	} {
		if l.value == Off {
			continue
		}
		if err := checkAddress(l.value, true); err != nil {
			return fmt.Errorf("%s is %q: %w", l.key, l.value, err)
		}
	}
	switch s.Log.Level {
	case "debug", "info", "warn", "error":
	default:
		return fmt.Errorf("log.level is %q; expected debug, info, warn or error", s.Log.Level)
	}
	if s.Log.Format != "text" && s.Log.Format != "json" {
		return fmt.Errorf("log.format is %q; expected text or json", s.Log.Format)
	}
	if s.Syslog.Address != "" {
		if err := checkAddress(s.Syslog.Address, false); err != nil {
			return fmt.Errorf("syslog.address is %q: %w", s.Syslog.Address, err)
		}
		if s.Syslog.CA == "" {
			return errors.New("syslog.ca is missing: the collector's certificate must lead to something that you chose")
		}
	}
	if (s.Syslog.Certificate == "") != (s.Syslog.Key == "") {
		return errors.New("syslog.certificate and syslog.key go together: give both or neither")
	}
	if s.Syslog.Address == "" && (s.Syslog.CA != "" || s.Syslog.Certificate != "" || s.Syslog.ServerName != "") {
		return errors.New("syslog.address is missing, and the other keys of [syslog] would do nothing")
	}
	for _, l := range []struct {
		key      string
		n, limit int
	}{{"limits.connections", s.Limits.Connections, 100_000}, {"limits.sessions-per-connection", s.Limits.Sessions, 10_000}} {
		if l.n < 1 || l.n > l.limit {
			return fmt.Errorf("%s is %d; expected 1 to %d", l.key, l.n, l.limit)
		}
	}
	return nil
}

func checkAddress(address string, listen bool) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return errors.New("expected ADDRESS:PORT, an IPv6 address in square brackets")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 && !listen {
		return fmt.Errorf("port %q; expected 1 to 65535", port)
	}
	if !listen && host == "" {
		return errors.New("the host is missing")
	}
	return nil
}
