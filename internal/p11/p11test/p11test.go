// Package p11test is for tests with a real token: SoftHSM2 in a directory of the
// test's own, filled by OpenSC's pkcs11-tool as an administrator would, and a
// module around it that misbehaves when told to.
package p11test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Module is SoftHSM2's (Debian package softhsm2).
const Module = "/usr/lib/softhsm/libsofthsm2.so"

// PINs of the tokens.
const (
	PIN   = "pin-6543-of-the-user"
	SOPIN = "pin-8765-of-the-so"
)

// Store is a directory of tokens.
type Store struct {
	Dir  string
	Conf string // for SOFTHSM2_CONF
}

// NewStore makes one with tokens of the given labels.
func NewStore(t testing.TB, labels ...string) *Store {
	t.Helper()
	s, err := MakeStore(t.TempDir(), labels...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// MakeStore is NewStore in a directory, for TestMain.
func MakeStore(dir string, labels ...string) (*Store, error) {
	if _, err := os.Stat(Module); err != nil {
		return nil, fmt.Errorf("%w; the tests need Debian's packages softhsm2 and opensc: run scripts/test-packages", err)
	}
	tokens := filepath.Join(dir, "tokens")
	if err := os.MkdirAll(tokens, 0o700); err != nil {
		return nil, err
	}
	s := &Store{Dir: tokens, Conf: filepath.Join(dir, "softhsm2.conf")}
	conf := "directories.tokendir = " + tokens + "\nobjectstore.backend = file\nlog.level = ERROR\n"
	if err := os.WriteFile(s.Conf, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	for _, label := range labels {
		if out, err := s.command("softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", SOPIN, "--pin", PIN).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("softhsm2-util: %w\n%s", err, out)
		}
	}
	return s, nil
}

// Env is the environment variable by which the module finds the tokens.
func (s *Store) Env() string { return "SOFTHSM2_CONF=" + s.Conf }

func (s *Store) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), s.Env())
	return cmd
}

// Tool runs pkcs11-tool, logged in to the token as its user, and returns what it
// printed.
func (s *Store) Tool(t testing.TB, token string, args ...string) string {
	t.Helper()
	all := append([]string{"--module", Module, "--token-label", token, "--login", "--pin", PIN}, args...)
	var out, errs bytes.Buffer
	cmd := s.command("pkcs11-tool", all...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("pkcs11-tool %s: %v\n%s%s", strings.Join(args, " "), err, &out, &errs)
	}
	return out.String()
}

// Generate makes a key pair as an administrator would: kind is rsa:2048 or
// EC:prime256v1 or the like, id hexadecimal digits.
func (s *Store) Generate(t testing.TB, token, kind, label, id string, more ...string) {
	t.Helper()
	s.Tool(t, token, append([]string{"--keypairgen", "--key-type", kind, "--label", label, "--id", id}, more...)...)
}

// Public reads a public key with pkcs11-tool.
func (s *Store) Public(t testing.TB, token, id string) crypto.PublicKey {
	t.Helper()
	file := filepath.Join(t.TempDir(), "public.der")
	s.Tool(t, token, "--read-object", "--type", "pubkey", "--id", id, "--output-file", file)
	der, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		t.Fatal(err)
	}
	return public
}
