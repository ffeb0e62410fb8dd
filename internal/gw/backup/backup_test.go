package backup

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"moongate/internal/passphrase"
)

var pass = []byte("a long passphrase")

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// made is a backup of a tree with a file of several pieces.
func made(t testing.TB) (sealed []byte, files map[string]string) {
	t.Helper()
	big := make([]byte, 3*pieceSize)
	rand.Read(big) // does not shrink
	files = map[string]string{"config.xml": "<config/>", "sub/deep/big": string(big), "empty": ""}
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600), os.Symlink("/etc/passwd", filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := newWriter(&b, pass, passphrase.Least)
	if err == nil {
		err = w.AddTree("", dir, func(p string) bool { return filepath.Base(p) == "lock" })
	}
	if err == nil {
		err = w.Add("note", 0o600, time.Now(), []byte("for the caller"))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), files
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	sealed, files := made(t)
	if n, err := Verify(bytes.NewReader(sealed), pass); err != nil || n != len(files)+1 {
		t.Errorf("verified %d files, %v", n, err)
	}
	dir := t.TempDir()
	var note string
	must(t, Extract(bytes.NewReader(sealed), pass, dir, map[string]func([]byte) error{
		"note": func(b []byte) error { note = string(b); return nil },
	}))
	got := map[string]string{}
	must(t, filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		raw, err := os.ReadFile(p)
		name, _ := filepath.Rel(dir, p)
		got[name] = string(raw)
		if info, ierr := e.Info(); ierr != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%s has mode %v, %v", name, info.Mode(), ierr)
		}
		return err
	}))
	if !cmp.Equal(got, files) || note != "for the caller" {
		t.Errorf("the files differ, or the note is %q", note)
	}
	if bytes.Contains(sealed, []byte("config.xml")) {
		t.Error("a name is in the clear")
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	sealed, _ := made(t)
	header := bytes.IndexByte(sealed[len(firstLine):], '\n') + len(firstLine) + 1
	piece := pieceSize + tagSize
	changed := func(at int) []byte { b := bytes.Clone(sealed); b[at] ^= 1; return b }
	for name, test := range map[string]struct {
		file []byte
		pass string
	}{
		"another passphrase":   {sealed, "another passphrase"},
		"a bit of a piece":     {changed(header + 100), string(pass)},
		"a bit of the last":    {changed(len(sealed) - 1), string(pass)},
		"a bit of the salt":    {changed(header - 3), string(pass)},
		"cut in a piece":       {sealed[:len(sealed)-5], string(pass)},
		"cut between pieces":   {sealed[:header+2*piece], string(pass)},
		"cut after the header": {sealed[:header], string(pass)},
		"a piece left out":     {append(bytes.Clone(sealed[:header+piece]), sealed[header+2*piece:]...), string(pass)},
		"something behind":     {append(bytes.Clone(sealed), 0), string(pass)},
		"another file":         {[]byte("PK\x03\x04 not ours"), string(pass)},
		"nothing":              {nil, string(pass)},
	} {
		if n, err := Verify(bytes.NewReader(test.file), []byte(test.pass)); err == nil {
			t.Errorf("%s: taken, %d files", name, n)
		}
	}
	if _, err := NewWriter(&bytes.Buffer{}, []byte("short")); err == nil || !strings.Contains(err.Error(), "12") {
		t.Errorf("a short passphrase: %v", err)
	}
}

// TestNamesStayInside: a backup that was made by somebody else, with the right
// passphrase, writes nothing outside of the directory.
func TestNamesStayInside(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"../out", "/etc/out", "a/../../out", "", "."} {
		var b bytes.Buffer
		w, err := newWriter(&b, pass, passphrase.Least)
		must(t, err)
		if err := w.Add(name, 0o600, time.Now(), nil); err == nil {
			t.Errorf("%q was written", name)
		}
	}
}

func FuzzReader(f *testing.F) {
	sealed, _ := made(f)
	f.Add(sealed)
	f.Add([]byte(firstLine + kdfField + "$argon2id$v=19$m=8192,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if n, err := Verify(bytes.NewReader(raw), pass); err == nil && !bytes.Equal(raw, sealed) {
			t.Errorf("a file that nobody made was taken, with %d files", n)
		}
	})
}
