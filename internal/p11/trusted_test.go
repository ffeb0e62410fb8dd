package p11

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckModule(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(parts ...string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	make := func(path string, mode os.FileMode) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask
			t.Fatal(err)
		}
	}
	make(in("good", "lib.so"), 0o644)
	make(in("bad", "lib.so"), 0o666)
	make(in("open", "lib.so"), 0o644)
	make(in("foreign", "lib.so"), 0o644)
	for _, link := range [][2]string{{in("good", "lib.so"), in("link.so")}, {in("bad", "lib.so"), in("badlink.so")}, {in("good", "lib.so"), in("open", "link.so")}} {
		if err := os.Symlink(link[0], link[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(in("open"), 0o777); err != nil {
		t.Fatal(err)
	}
	cases := map[string]string{
		in("good", "lib.so"): "", in("link.so"): "",
		in("bad", "lib.so"): "everybody can write", in("badlink.so"): "everybody can write",
		in("open", "lib.so"): "everybody can write", in("open", "link.so"): "everybody can write",
		in("none.so"): "there is no module", in("good"): "is no file", "lib.so": "absolute path",
	}
	if os.Getuid() == 0 {
		if err := os.Lchown(in("foreign", "lib.so"), 65534, 65534); err != nil {
			t.Fatal(err)
		}
		cases[in("foreign", "lib.so")] = "another user"
	}
	for path, want := range cases {
		err := CheckModule(path)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, expected %q", path, err, want)
		}
	}
}
