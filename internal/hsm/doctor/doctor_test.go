package doctor

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"moongate/internal/hsm/daemon"
)

// newHSM makes an HSM that has what doctor looks for, at free ports.
func newHSM(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "hsm")
	if _, err := daemon.Init(daemon.InitOptions{Dir: dir, Label: "lab", Hosts: []string{"hsm.example"}, Officer: []byte("so-password")}); err != nil {
		t.Fatal(err)
	}
	configure(t, dir, "[ntls]\nlisten = \"127.0.0.1:0\"\n[ssh]\nlisten = \"127.0.0.1:0\"\n[metrics]\nlisten = \"off\"\n")
	return dir
}

func configure(t *testing.T, dir, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "hsm.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// only returns what a check found.
func only(t *testing.T, dir, name string) []Finding {
	t.Helper()
	var list []Finding
	for _, f := range Examine(t.Context(), Options{Dir: dir}) {
		if f.Check == name {
			list = append(list, f)
		}
	}
	if len(list) == 0 {
		t.Fatalf("%s was not looked at", name)
	}
	return list
}

func TestHealthy(t *testing.T) {
	t.Parallel()
	findings := Examine(t.Context(), Options{Dir: newHSM(t)})
	for _, f := range findings {
		if f.Level == Fail {
			t.Errorf("%s: %s (%s)", f.Check, f.Found, f.Fix)
		}
		if f.Level != OK && f.Fix == "" {
			t.Errorf("%s: %q comes with no fix", f.Check, f.Found)
		}
	}
	if !Healthy(findings) {
		t.Error("not healthy")
	}
}

// TestAilments: each is found by its check, as bad as it is, and named.
func TestAilments(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() }) // after the parallel cases
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		check string
		level Level
		want  string
		harm  func(t *testing.T, dir string, f daemon.Files)
	}{
		{"no directory", "data directory", Fail, "no HSM was made", func(t *testing.T, dir string, _ daemon.Files) { must(t, os.RemoveAll(dir)) }},
		{"open directory", "data directory", Fail, "mode 0755", func(t *testing.T, dir string, _ daemon.Files) { must(t, os.Chmod(dir, 0o755)) }},
		{"a file instead", "data directory", Fail, "not a directory", func(t *testing.T, dir string, _ daemon.Files) {
			must(t, os.RemoveAll(dir))
			must(t, os.WriteFile(dir, nil, 0o600))
		}},
		{"bad configuration", "configuration", Fail, "ntls.port is not known", func(t *testing.T, dir string, _ daemon.Files) {
			configure(t, dir, "[ntls]\nport = 1\n")
		}},
		{"no root key", "device root key", Fail, "no such file", func(t *testing.T, _ string, f daemon.Files) { must(t, os.Remove(f.RootKey())) }},
		{"open root key", "device root key", Fail, "mode 0644", func(t *testing.T, _ string, f daemon.Files) { must(t, os.Chmod(f.RootKey(), 0o644)) }},
		{"no store", "store", Fail, "no such file", func(t *testing.T, _ string, f daemon.Files) { must(t, os.Remove(f.Store())) }},
		{"no certificate", "server certificate", Fail, "server.pem", func(t *testing.T, _ string, f daemon.Files) { must(t, os.Remove(f.Certificate())) }},
		{"taken port", "ports", Fail, "another program uses", func(t *testing.T, dir string, _ daemon.Files) {
			configure(t, dir, "[ntls]\nlisten = \""+taken.Addr().String()+"\"\n")
		}},
		{"a foreign address", "ports", Fail, "not this machine's", func(t *testing.T, dir string, _ daemon.Files) {
			configure(t, dir, "[ntls]\nlisten = \"192.0.2.1:1792\"\n")
		}},
		{"no accounts", "accounts", Warn, "nobody can log in", func(t *testing.T, _ string, f daemon.Files) { _ = os.Remove(f.Users()) }},
		{"no collector", "collector", Warn, "not forwarded", func(*testing.T, string, daemon.Files) {}},
		{"a silent collector", "collector", Fail, "refused", func(t *testing.T, dir string, f daemon.Files) {
			configure(t, dir, "[syslog]\naddress = \"127.0.0.1:1\"\nca = \""+f.Certificate()+"\"\n")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := newHSM(t)
			c.harm(t, dir, daemon.In(dir))
			for _, f := range only(t, dir, c.check) {
				if f.Level == c.level && strings.Contains(f.Found, c.want) && f.Fix != "" {
					return
				}
			}
			t.Errorf("%+v; want %s with %q", only(t, dir, c.check), c.level, c.want)
		})
	}
}
