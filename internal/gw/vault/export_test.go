package vault

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

var phrase = []byte("a long passphrase")

func TestExportAndImport(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	old := sealed(t, v, "private-key", "old")
	_, err := v.RenewDataKeys()
	must(t, err)
	must(t, v.ChangeMaster(t.Context(), Change{New: []byte(masterOne)}))
	text := sealed(t, v, "private-key", "secret")
	file, err := v.Device().Seal(WebKey, []byte("web key"))
	must(t, err)
	export, err := v.Export(phrase)
	must(t, err)
	reader, err := open(v.Dir(), Options{ReadOnly: true}, quickCosts)
	must(t, err)
	byReader, err := reader.Export(phrase)
	must(t, err)
	must(t, reader.Close())
	if bytes.Equal(export, byReader) {
		t.Error("two exports are the same")
	}
	for _, export := range [][]byte{export, byReader} {
		dir := t.TempDir()
		must(t, Import(filepath.Join(dir, "vault"), export, phrase))
		again := openIn(t, dir)
		wantSecret(t, again, "private-key", old, "old")
		wantSecret(t, again, "private-key", text, "secret")
		if got, err := again.Device().Open(WebKey, file); err != nil || string(got) != "web key" {
			t.Errorf("the device key opens %q, %v", got, err)
		}
		if p, want := again.Properties(), v.Properties(); p.ID != want.ID || p.Created != want.Created {
			t.Errorf("properties %+v, want %+v", p, want)
		}
		must(t, again.ChangeMaster(t.Context(), Change{Current: []byte(masterOne), New: []byte(masterTwo)}))
		if err := Import(filepath.Join(dir, "vault"), export, phrase); !errors.Is(err, fs.ErrExist) {
			t.Errorf("over a vault: %v", err)
		}
		wantSecret(t, again, "private-key", text, "secret")
	}
	// An empty directory is no vault, and may be one.
	empty := filepath.Join(t.TempDir(), "vault")
	must(t, os.Mkdir(empty, 0o700))
	must(t, Import(empty, export, phrase))
}

func TestImportRefuses(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	for _, short := range [][]byte{nil, []byte("elevenbytes"), bytes.Repeat([]byte("x"), maxPassphrase+1)} {
		if _, err := v.Export(short); err == nil {
			t.Errorf("a passphrase of %d bytes was taken", len(short))
		}
	}
	export, err := v.Export(phrase)
	must(t, err)
	dir := filepath.Join(t.TempDir(), "vault")
	for _, wrong := range [][]byte{nil, []byte("another passphrase"), append(phrase, ' ')} {
		if err := Import(dir, export, wrong); !errors.Is(err, ErrPassphrase) {
			t.Errorf("with the passphrase %q: %v", wrong, err)
		}
	}
	for i := 0; i < len(export); i += 1 + len(export)/50 { // each costs a derivation
		if err := Import(dir, flip(export, i), phrase); err == nil {
			t.Fatalf("with byte %d changed it was imported", i)
		}
	}
	for what, bad := range map[string][]byte{
		"nothing": nil, "cut": export[:len(export)-1], "longer": append(bytes.Clone(export), '\n'), "huge": make([]byte, 1<<20),
		"of a later version": bytes.Replace(export, []byte("version 1"), []byte("version 2"), 1),
	} {
		if err := Import(dir, bad, phrase); err == nil {
			t.Errorf("%s was imported", what)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused import left something: %v", err)
	}
}

func FuzzParseExport(f *testing.F) {
	export, err := newVault(f).Export(phrase)
	must(f, err)
	f.Add(export)
	f.Add(bytes.Replace(export, []byte(exportVersion1), []byte(exportVersion2), 1))
	f.Add([]byte(exportVersion1))
	f.Fuzz(func(t *testing.T, text []byte) {
		kdf, head, _, err := parseExport(text)
		rest := kdfField + kdf.String() + "\n"
		if err == nil && string(head) != exportVersion1+rest && string(head) != exportVersion2+rest {
			t.Errorf("read with the head %q", head)
		}
	})
}
