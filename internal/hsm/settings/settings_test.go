package settings

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/hsm-configuration.md")

//go:generate go test -run TestManual -update .

const manualPath = "../../../docs/hsm-configuration.md"

const preface = `# The HSM's configuration file

<!-- Written from the settings by go generate ./internal/hsm/settings. Do not edit. -->

` + "`moongate-hsm serve` reads `hsm.toml` in the HSM's data directory, or the file that `-config` names. It needs none: what is" + `
not said is as below, which is the whole file with every default. A key that is not known is an error that names it.
` + "The options `-listen`, `-ssh-listen` and `-metrics-listen` of `serve` win over the file; so does `ntls bind`, typed in the appliance" + `
shell, over ` + "`ntls.listen`" + `, until an option says otherwise. ` + "`moongate-hsm config` prints this file; `moongate-hsm doctor` checks yours." + `

` + "```toml\n"

func TestManual(t *testing.T) {
	want := preface + Manual() + "```\n"
	if *update {
		if err := os.WriteFile(manualPath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(manualPath)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/hsm-configuration.md is not what the settings say; run go generate ./internal/hsm/settings (-want +got):\n%s", diff)
	}
	// The manual is a file that says nothing but the defaults.
	s := Default()
	s.NTLS.Listen, s.Limits.Connections = "", 0
	if err := s.decode(Manual()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), s); diff != "" {
		t.Errorf("the manual does not say the defaults (-want +got):\n%s", diff)
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	if _, err := Load(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if s, err := LoadOrDefault(path); err != nil || s != Default() {
		t.Errorf("no file gives %+v, %v", s, err)
	}
	text := "[ssh]\nlisten = \"off\"\n[syslog]\naddress = \"logs.example:6514\"\nca = \"ca.pem\"\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.SSH.Listen, want.Syslog.Address, want.Syslog.CA = Off, "logs.example:6514", filepath.Join(dir, "ca.pem")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestRefusals: each names the key, the value and what was expected.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"[ntls]\nlisten = \"off\"":                         "ntls.listen",
		"[ntls]\nlisten = \"127.0.0.1\"":                   "ADDRESS:PORT",
		"[ntls]\nlisten = \"127.0.0.1:70000\"":             "1 to 65535",
		"[ntls]\nlisten = 1792":                            "listen",
		"[ntls]\nport = 1792":                              "ntls.port is not known; the keys are: ntls.listen",
		"[telnet]\nlisten = \"off\"":                       "telnet",
		"[log]\nlevel = \"loud\"":                          "debug, info, warn or error",
		"[log]\nformat = \"xml\"":                          "text or json",
		"[limits]\nconnections = 0":                        "limits.connections is 0; expected 1 to 100000",
		"[limits]\nsessions-per-connection = 20000":        "limits.sessions-per-connection",
		"[syslog]\naddress = \"logs.example:6514\"":        "syslog.ca",
		"[syslog]\nca = \"ca.pem\"":                        "syslog.address",
		"[syslog]\naddress = \":6514\"\nca = \"ca.pem\"":   "host",
		"[syslog]\naddress = \"a:1\"\nca=\"c\"\nkey=\"k\"": "go together",
		"[ntls":              "line 1",
		"listen = \"a:1\"\n": "listen",
	} {
		s := Default()
		err := s.decode(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want a refusal with %q", text, err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Manual())
	f.Add("[ssh]\nlisten = \"[::1]:22\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		s := Default()
		if err := s.decode(text); err == nil {
			if err := s.Check(); err != nil {
				t.Errorf("decoded and then refused: %v", err)
			}
		}
	})
}
