package users

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
)

const password = "a password"

var (
	here  = netip.MustParseAddr("192.0.2.1")
	there = netip.MustParseAddr("198.51.100.1")
)

// quickKDF is as cheap as a stored derivation may be.
func quickKDF(p mech.Policy) mech.KDF {
	kdf := mech.NewKDF(p)
	if p.FIPS {
		kdf.Iterations = 100_000
		return kdf
	}
	kdf.Time, kdf.Memory, kdf.Threads = 1, 8<<10, 1
	return kdf
}

// newUsers1 makes accounts with one administrator, root, who has a password.
func newUsers1(t *testing.T) *Users {
	t.Helper()
	u, err := Create(filepath.Join(t.TempDir(), "users.json"), Options{NewKDF: quickKDF})
	must(t, err)
	must(t, u.Add("root", RoleAdmin))
	must(t, u.SetPassword("root", []byte(password)))
	return u
}

// reopen reads the accounts again, as after a crash.
func reopen(t *testing.T, u *Users) *Users {
	t.Helper()
	again, err := Open(u.path, u.opts)
	must(t, err)
	return again
}

func logIn(t *testing.T, u *Users, name, pw string, from netip.Addr) (Account, error) {
	t.Helper()
	return u.AuthenticatePassword(t.Context(), name, []byte(pw), from)
}

func newKey(t *testing.T, kind string) ssh.PublicKey {
	t.Helper()
	var public any
	switch kind {
	case "ed25519":
		p, _, err := ed25519.GenerateKey(rand.Reader)
		must(t, err)
		public = p
	case "ecdsa":
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(t, err)
		public = &k.PublicKey
	case "rsa2048", "rsa1024":
		bits := 2048
		if kind == "rsa1024" {
			bits = 1024
			t.Setenv("GODEBUG", "rsa1024min=0")
		}
		k, err := rsa.GenerateKey(rand.Reader, bits)
		must(t, err)
		public = &k.PublicKey
	}
	key, err := ssh.NewPublicKey(public)
	must(t, err)
	return key
}

func lineOf(key ssh.PublicKey, comment string) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + " " + comment + "\n"
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, want object.Code) {
	t.Helper()
	if got := object.CodeOf(err); got != want {
		t.Errorf("error %v has code %v, want %v", err, got, want)
	}
}
