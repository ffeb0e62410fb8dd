package vault

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestVersion1 opens what the first version of this package wrote: every later
// one must. Its keys are published here, and worth nothing.
func TestVersion1(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "vault"), 0o700))
	for _, name := range []string{masterFile, keyringFile, deviceFile} {
		write(t, filepath.Join(dir, "vault", name), golden(t, name))
	}
	v := openIn(t, dir)
	wantSecret(t, v, "private-key", line(t, "sealed"), "secret")
	wantSecret(t, v, "private-key", line(t, "sealed-before"), "an older secret")
	if got, err := v.Device().Open(WebKey, golden(t, "sealed-file")); err != nil || string(got) != "web key" {
		t.Errorf("the device's file opens as %q, %v", got, err)
	}
	if p := v.Properties(); p.Generated || p.ExpireAt.IsZero() || len(v.DataKeys()) != 2 {
		t.Errorf("properties %+v", p)
	}
	must(t, v.ChangeMaster(t.Context(), Change{Current: []byte(masterOne), New: []byte(masterTwo)}))

	other := t.TempDir()
	must(t, Import(filepath.Join(other, "vault"), golden(t, "export"), phrase))
	wantSecret(t, openIn(t, other), "private-key", line(t, "sealed"), "secret")
}

func golden(t *testing.T, name string) []byte {
	t.Helper()
	return read(t, filepath.Join("testdata", "version1", name))
}

func line(t *testing.T, name string) string {
	t.Helper()
	return strings.TrimSuffix(string(golden(t, name)), "\n")
}
