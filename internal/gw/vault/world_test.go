package vault

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"moongate/internal/passphrase"
)

// quickCosts are as cheap as a text may say.
var quickCosts = costs{master: passphrase.Least, export: passphrase.Least}

const (
	masterOne = "the first master key"
	masterTwo = "the second master key"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// openIn opens the vault below a directory, to be closed with the test.
func openIn(t testing.TB, dir string) *Vault {
	t.Helper()
	v, err := open(filepath.Join(dir, "vault"), Options{}, quickCosts)
	must(t, err)
	t.Cleanup(func() { must(t, v.Close()) })
	return v
}

func newVault(t testing.TB) *Vault {
	t.Helper()
	return openIn(t, memoryDir(t))
}

// reopen closes a vault and opens it again, as the next start does.
func reopen(t testing.TB, v *Vault) *Vault {
	t.Helper()
	must(t, v.Close())
	return openIn(t, filepath.Dir(v.Dir()))
}

func sealed(t testing.TB, v *Vault, kind, secret string) string {
	t.Helper()
	text, err := v.Seal(kind, []byte(secret))
	must(t, err)
	return text
}

// wantSecret reports a sealed text that does not open.
func wantSecret(t testing.TB, v *Vault, kind, text, want string) {
	t.Helper()
	got, err := v.Open(kind, text)
	if err != nil || string(got) != want {
		t.Errorf("%.20s...: opened as %q, %v; want %q", text, got, err, want)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	must(t, err)
	return raw
}

func write(t testing.TB, path string, raw []byte) {
	t.Helper()
	must(t, os.WriteFile(path, raw, 0o600))
}

// at is a clock that stands still.
func at(now time.Time) func() time.Time { return func() time.Time { return now } }

// memoryDir is a directory for tests that write a thousand times: in memory
// where the machine has that, since a kill loses nothing there either, and a
// busy disk takes its time to flush.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "moongate-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}
