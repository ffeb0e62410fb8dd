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

// TestVersion2 opens what the first version wrote that let the master key be on
// an HSM: this one's wrapping keys are those of a double.
func TestVersion2(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "version2"))))
	for _, name := range []string{keyringFile, deviceFile} {
		must(t, os.Chmod(filepath.Join(dir, "vault", name), 0o600))
	}
	d := newDouble(dir)
	v := openWith(t, dir, d)
	must(t, v.Unlock(t.Context()))
	wantSecret(t, v, "private-key", string(read(t, filepath.Join(dir, "sealed"))), "secret")
	if p := v.Properties(); p.Wraps != 2 || !p.AutoRenew || p.RemindAt.IsZero() || len(v.WrappingKeys()) != 2 {
		t.Errorf("properties %+v", p)
	}
	change(t, v, Change{Current: []byte(masterOne), New: []byte(masterTwo)})

	other := t.TempDir()
	must(t, Import(filepath.Join(other, "vault"), read(t, filepath.Join(dir, "export")), phrase))
	restored := openWith(t, other, d)
	must(t, restored.Unlock(t.Context()))
	wantSecret(t, restored, "private-key", string(read(t, filepath.Join(dir, "sealed"))), "secret")
}

func golden(t *testing.T, name string) []byte {
	t.Helper()
	return read(t, filepath.Join("testdata", "version1", name))
}

func line(t *testing.T, name string) string {
	t.Helper()
	return strings.TrimSuffix(string(golden(t, name)), "\n")
}
