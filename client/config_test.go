package client

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"moongate/internal/hsm/wire"
)

// files is a directory with a configuration that works for the token.
func (k *token) files(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	certificate, key, err := NewCertificate("gw1", "192.0.2.7")
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"server.pem":     string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.certificate.Certificate[0]})),
		"gw1.pem":        string(certificate),
		"gw1-key.pem":    string(key),
		"partition.pass": testPassword + "\nnot this\n",
		"client.toml":    goodFile(k.address),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func goodFile(address string) string {
	return `partition = "p1"
password-file = "partition.pass"
[server]
address = "` + address + `"
certificate = "server.pem"
[client]
name = "gw1"
certificate = "gw1.pem"
key = "gw1-key.pem"
`
}

func TestLoadConfig(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	k.run(t)
	config, err := LoadConfig(filepath.Join(k.files(t), "client.toml"))
	if err != nil {
		t.Fatal(err)
	}
	config.Role = RoleCryptoUser
	c := dial(t, config)
	if _, err := c.Random(t.Context(), 1); err != nil {
		t.Error(err)
	}
}

func TestLoadConfigNamesTheCheckpoint(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	k.address = "127.0.0.1:1"
	dir := k.files(t)
	path := filepath.Join(dir, "client.toml")
	if config, err := LoadConfig(path); err != nil || config.CheckpointFile != "" {
		t.Errorf("without the key: %q, %v", config.CheckpointFile, err)
	}
	if err := os.WriteFile(path, []byte("audit-checkpoint = \"audit.note\"\n"+goodFile(k.address)), 0o600); err != nil {
		t.Fatal(err)
	}
	if config, err := LoadConfig(path); err != nil || config.CheckpointFile != filepath.Join(dir, "audit.note") {
		t.Errorf("with the key: %q, %v", config.CheckpointFile, err)
	}
}

func TestLoadConfigRefuses(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	k.address = "127.0.0.1:1"
	dir := k.files(t)
	for name, test := range map[string]struct{ old, new, want string }{
		"an unknown key":       {`partition = "p1"`, `partitoin = "p1"`, `unknown key "partitoin"`},
		"an unknown table":     {`[server]`, "[sever]\nx = 1\n[server]", `unknown key "sever`},
		"no address":           {`address = "127.0.0.1:1"`, ``, "server.address is missing"},
		"no certificate":       {`certificate = "server.pem"`, ``, "server.certificate is missing"},
		"no such file":         {`"server.pem"`, `"none.pem"`, "none.pem: no such file"},
		"a key for the server": {`"server.pem"`, `"gw1-key.pem"`, "holds a PRIVATE KEY"},
		"another's key":        {`"gw1-key.pem"`, `"server.pem"`, "client.certificate and client.key"},
		"another name":         {`name = "gw1"`, `name = "gw2"`, `certificate of "gw1"`},
		"not TOML":             {`[server]`, `[server`, "reading client configuration"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(dir, strings.ReplaceAll(name, "'", "")+".toml")
			text := goodFile(k.address)
			if !strings.Contains(text, test.old) {
				t.Fatalf("the file has no %q", test.old)
			}
			if err := os.WriteFile(path, []byte(strings.Replace(text, test.old, test.new, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := LoadConfig(path); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("LoadConfig: %v, want %q in it", err, test.want)
			}
		})
	}
}

// TestLoadConfigLeavesGroups: the tables of client/ha are no trouble.
func TestLoadConfigLeavesGroups(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	k.address = "127.0.0.1:1"
	path := filepath.Join(k.files(t), "client.toml")
	text := goodFile(k.address) + "\n[[servers]]\nname = \"b\"\n\n[ha]\nlabel = \"two\"\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadConfig(path); err != nil {
		t.Error(err)
	}
}

func TestLoadConfigWantsThePrivateKeyPrivate(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	k.address = "127.0.0.1:1"
	dir := k.files(t)
	if err := os.Chmod(filepath.Join(dir, "gw1-key.pem"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadConfig(filepath.Join(dir, "client.toml")); err == nil || !strings.Contains(err.Error(), "gw1-key.pem has mode 0644") {
		t.Errorf("LoadConfig: %v", err)
	}
}

func TestPasswordFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pass")
	for _, test := range []struct {
		name, content, want string
		mode                os.FileMode
	}{
		{"a line", "secret\nmore\n", "secret", 0o600},
		{"no newline", "secret", "secret", 0o400},
		{"of Windows", "secret\r\n", "secret", 0o600},
		{"longest", strings.Repeat("x", wire.MaxPassword), strings.Repeat("x", wire.MaxPassword), 0o600},
		{"too long", strings.Repeat("x", wire.MaxPassword+1), "", 0o600},
		{"empty", "", "", 0o600},
		{"empty line", "\nsecret", "", 0o600},
		{"others may read", "secret", "", 0o640},
	} {
		os.Remove(path)
		if err := os.WriteFile(path, []byte(test.content), test.mode); err != nil {
			t.Fatal(err)
		}
		got, err := PasswordFile(path)()
		if string(got) != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s: %q, %v", test.name, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error tells the password: %v", test.name, err)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	for name, change := range map[string]func(*Config){
		"no address":     func(c *Config) { c.Address = "" },
		"no pin":         func(c *Config) { c.ServerCertificates = nil },
		"no certificate": func(c *Config) { c.Certificate = tls.Certificate{} },
		"no key":         func(c *Config) { c.Certificate.PrivateKey = nil },
		"no password":    func(c *Config) { c.Password = nil },
		"partition":      func(c *Config) { c.Partition = strings.Repeat("x", wire.MaxName+1) },
		"software":       func(c *Config) { c.Software = strings.Repeat("x", wire.MaxSoftware+1) },
	} {
		k.address = "127.0.0.1:1"
		config := k.config(t)
		change(&config)
		if c, err := Open(config); err == nil {
			t.Errorf("%s: Open takes it", name)
			c.Close()
		}
	}
}

func TestAddressesWithoutAPort(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"hsm":                "hsm:1792",
		"hsm:1":              "hsm:1",
		"192.0.2.1":          "192.0.2.1:1792",
		"192.0.2.1:1":        "192.0.2.1:1",
		"2001:db8::1":        "[2001:db8::1]:1792",
		"[2001:db8::1]":      "[2001:db8::1]:1792",
		"[2001:db8::1]:1793": "[2001:db8::1]:1793",
	} {
		if got := withPort(in); got != want {
			t.Errorf("%s became %s, want %s", in, got, want)
		}
	}
}

func TestNewCertificate(t *testing.T) {
	t.Parallel()
	certificate, key, err := NewCertificate("gw1.example.com", "192.0.2.7", "2001:db8::1", "gw1", "not a name")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if leaf.Subject.CommonName != "gw1.example.com" || strings.Join(leaf.DNSNames, " ") != "gw1.example.com gw1" || len(leaf.IPAddresses) != 2 {
		t.Errorf("for %q, %q, %v", leaf.Subject.CommonName, leaf.DNSNames, leaf.IPAddresses)
	}
	if err := leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature); err != nil {
		t.Error(err)
	}
	if years := time.Until(leaf.NotAfter).Hours() / 24 / 365; years < 19.9 || years > 20.1 {
		t.Errorf("valid for %.1f years", years)
	}
	for _, name := range []string{"", strings.Repeat("x", 65)} {
		if _, _, err := NewCertificate(name); err == nil {
			t.Errorf("a name of %d bytes is taken", len(name))
		}
	}
}
