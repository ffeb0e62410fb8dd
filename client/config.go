package client

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"moongate/internal/hsm/wire"
)

// DefaultPort is the HSM's client port where an address names none.
const DefaultPort = wire.DefaultPort

// Config says which HSM, who we are there, and as what to log in.
type Config struct {
	// Address is the HSM's host name or IP address, with a port where it is
	// not DefaultPort; or, for one that is served on this machine, "unix:" and
	// the absolute path of its socket.
	Address string
	// ServerCertificates are the certificates that the HSM may show; one of
	// them must be the very one that it does. Names and dates in them are not
	// looked at.
	ServerCertificates []*x509.Certificate
	// Certificate is ours, registered with the HSM.
	Certificate tls.Certificate
	// FormerCertificate, where there is one, is shown to an HSM that does not
	// know Certificate: while ours is renewed the connection stands, whether
	// the HSM's administrator has registered the new one yet or not.
	FormerCertificate tls.Certificate
	// Version is the version of the protocol to speak; 0 is the newest that
	// both sides know.
	Version uint16
	// Partition is a partition's label; empty is the only one that is
	// assigned to us.
	Partition string
	// Role logs in with what Password returns; RoleNone does not log in.
	Role Role
	// Password is called for each login, one at a time. What it returns is
	// wiped after use. Close waits for it to return.
	Password func() ([]byte, error)

	// LocalAddress is the source address of connections, where it is valid; a
	// unix socket has none.
	LocalAddress netip.Addr
	// ConnectTimeout bounds an attempt to connect, from the name's resolution
	// to the login; 0 is 10 s.
	ConnectTimeout time.Duration
	// CallTimeout bounds a call whose context has no deadline; 0 is 30 s.
	// Generating a key may take ten times as long.
	CallTimeout time.Duration
	// KeepAlive is how long a connection may be silent before the HSM is
	// asked whether it is there; 0 is 10 s.
	KeepAlive time.Duration
	// MaxBackoff bounds the pause between attempts to connect, which begins
	// at 50 ms and doubles; 0 is 10 s.
	MaxBackoff time.Duration

	// CheckpointFile is where the last checkpoint of the HSM's audit log is
	// kept. With it, every connection begins with the proof that the log
	// continues the one of that checkpoint: an HSM whose past was changed, rolled
	// back or signed with another key is refused (StageAudit). The first
	// connection believes the HSM and says so in the log. Empty is no such check.
	// Several processes may share the file; its directory must be writable.
	CheckpointFile string
	// CheckpointInterval is how often a connection that lasts is checked again;
	// 0 is 5 min.
	CheckpointInterval time.Duration

	// NoWait makes every call one WithoutWaiting.
	NoWait bool

	// Software is our name and version in the HSM's log; at most 128 bytes.
	Software string
	// Logger receives connections, their ends and their reasons; nil is none.
	Logger *slog.Logger
}

// configFile is the file of LoadConfig. Paths are relative to its directory.
//
//	partition = "p1"                   # may be left out if only one is assigned
//	password-file = "partition.pass"   # optional; first line, mode 0600
//	audit-checkpoint = "audit.note"    # optional; see Config.CheckpointFile
//
//	[server]
//	name = "hsm-a"                     # optional; its name as a member of a group
//	address = "hsm.example.com:1792"   # port 1792 may be left out
//	certificate = "server.pem"         # what the HSM must show (pinned)
//
//	[client]
//	name = "gw1"                       # as registered with the HSM
//	certificate = "gw1.pem"
//	key = "gw1-key.pem"                # mode 0600
//
// [[servers]] and [ha] are those of client/ha.
type configFile struct {
	Partition    string `toml:"partition"`
	PasswordFile string `toml:"password-file"`
	Checkpoint   string `toml:"audit-checkpoint"`
	Server       struct {
		Name        string `toml:"name"`
		Address     string `toml:"address"`
		Certificate string `toml:"certificate"`
	} `toml:"server"`
	Client struct {
		Name        string `toml:"name"`
		Certificate string `toml:"certificate"`
		Key         string `toml:"key"`
	} `toml:"client"`
}

// LoadConfig reads a configuration file (TOML; see the example in
// docs/wire.md, section "Client configuration"). Unknown keys are refused.
// Password is set where the file names a password file, Role never is.
func LoadConfig(path string) (Config, error) {
	var file configFile
	meta, err := toml.DecodeFile(path, &file)
	if err != nil {
		return Config{}, fmt.Errorf("reading client configuration: %w", err)
	}
	for _, unknown := range meta.Undecoded() {
		if !ofGroups(unknown[0]) {
			return Config{}, fmt.Errorf("reading client configuration: %s: unknown key %q", path, unknown)
		}
	}
	for _, required := range []struct{ key, value string }{
		{"server.address", file.Server.Address},
		{"server.certificate", file.Server.Certificate},
		{"client.name", file.Client.Name},
		{"client.certificate", file.Client.Certificate},
		{"client.key", file.Client.Key},
	} {
		if required.value == "" {
			return Config{}, fmt.Errorf("reading client configuration: %s: %s is missing", path, required.key)
		}
	}

	in := func(name string) string {
		if filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(filepath.Dir(path), name)
	}
	config := Config{Address: file.Server.Address, Partition: file.Partition}
	if config.ServerCertificates, err = LoadCertificates(in(file.Server.Certificate)); err != nil {
		return Config{}, fmt.Errorf("reading client configuration: server.certificate: %w", err)
	}
	if config.Certificate, err = loadKeyPair(in(file.Client.Certificate), in(file.Client.Key)); err != nil {
		return Config{}, fmt.Errorf("reading client configuration: client.certificate and client.key: %w", err)
	}
	if cn := config.Certificate.Leaf.Subject.CommonName; cn != file.Client.Name {
		return Config{}, fmt.Errorf("reading client configuration: client.name is %q, but %s is the certificate of %q",
			file.Client.Name, file.Client.Certificate, cn)
	}
	if file.PasswordFile != "" {
		config.Password = PasswordFile(in(file.PasswordFile))
	}
	if file.Checkpoint != "" {
		config.CheckpointFile = in(file.Checkpoint)
	}
	return config, nil
}

// ofGroups reports whether a table of the file is for client/ha, which reads it
// as strictly: further HSMs, and how they are one.
func ofGroups(table string) bool { return table == "servers" || table == "ha" }

// PasswordFile returns a Config.Password that reads the first line of a file,
// which nobody but its owner may read.
func PasswordFile(path string) func() ([]byte, error) {
	return func() ([]byte, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if err := checkPrivate(f); err != nil {
			return nil, err
		}
		buf := make([]byte, wire.MaxPassword+1)
		defer clear(buf)
		n, err := io.ReadFull(f, buf)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return nil, err
		}
		line := buf[:n]
		if end := bytes.IndexAny(line, "\r\n"); end >= 0 {
			line = line[:end]
		}
		if len(line) == 0 || len(line) > wire.MaxPassword {
			return nil, fmt.Errorf("%s: its first line should be a password of 1 to %d bytes", path, wire.MaxPassword)
		}
		return bytes.Clone(line), nil
	}
}

// checkPrivate refuses a file that others than its owner may read.
func checkPrivate(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o: others can read it; chmod 600 it", f.Name(), mode)
	}
	return nil
}

// loadKeyPair reads our certificate and its key, which nobody but its owner
// may read.
func loadKeyPair(certificate, key string) (tls.Certificate, error) {
	f, err := os.Open(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	defer f.Close()
	if err := checkPrivate(f); err != nil {
		return tls.Certificate{}, err
	}
	secret, err := io.ReadAll(f)
	defer clear(secret)
	if err != nil {
		return tls.Certificate{}, err
	}
	public, err := os.ReadFile(certificate)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(public, secret)
}

// LoadCertificates reads the certificates of a PEM file: one at least, and no
// other kind of block.
func LoadCertificates(path string) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var list []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s holds a %s, expected certificates alone", path, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		list = append(list, cert)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s holds no PEM certificate", path)
	}
	return list, nil
}

// check refuses a configuration that cannot work, and fills in defaults.
func (c *Config) check() error {
	if c.Address == "" {
		return errors.New("client configuration: address is missing")
	}
	if len(c.ServerCertificates) == 0 {
		return errors.New("client configuration: the HSM's certificate is missing; fetch server.pem from it")
	}
	if len(c.Certificate.Certificate) == 0 || c.Certificate.PrivateKey == nil {
		return errors.New("client configuration: our certificate or its key is missing")
	}
	if len(c.FormerCertificate.Certificate) > 0 && c.FormerCertificate.PrivateKey == nil {
		return errors.New("client configuration: our former certificate has no key")
	}
	if c.Version != 0 && c.Version != wire.Version {
		return fmt.Errorf("client configuration: protocol version %d; this program speaks version %d alone", c.Version, wire.Version)
	}
	if c.Role != RoleNone && c.Password == nil {
		return fmt.Errorf("client configuration: role %v has no password", c.Role)
	}
	if len(c.Partition) > wire.MaxName {
		return fmt.Errorf("client configuration: partition has %d bytes, at most %d", len(c.Partition), wire.MaxName)
	}
	if len(c.Software) > wire.MaxSoftware {
		return fmt.Errorf("client configuration: software has %d bytes, at most %d", len(c.Software), wire.MaxSoftware)
	}
	if path, local := socketPath(c.Address); local && !filepath.IsAbs(path) {
		return fmt.Errorf("client configuration: address is %q; after unix: the absolute path of a socket is expected", c.Address)
	} else if local && c.LocalAddress.IsValid() {
		return fmt.Errorf("client configuration: address is %q, a socket of this machine, which is not reached from the local address %v; leave that out", c.Address, c.LocalAddress)
	} else if !local {
		c.Address = withPort(c.Address)
	}
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&c.ConnectTimeout, 10 * time.Second},
		{&c.CallTimeout, 30 * time.Second},
		{&c.KeepAlive, 10 * time.Second},
		{&c.MaxBackoff, 10 * time.Second},
		{&c.CheckpointInterval, 5 * time.Minute},
	} {
		if *d.value <= 0 {
			*d.value = d.fallback
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// socketPath is the path of an address that is a unix socket's.
func socketPath(address string) (string, bool) { return strings.CutPrefix(address, "unix:") }

// withPort adds DefaultPort to an address that names no port: "hsm",
// "192.0.2.1", "2001:db8::1", "[2001:db8::1]".
func withPort(address string) string {
	if _, err := netip.ParseAddr(address); err == nil {
		return net.JoinHostPort(address, DefaultPort)
	}
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	return net.JoinHostPort(strings.Trim(address, "[]"), DefaultPort)
}
