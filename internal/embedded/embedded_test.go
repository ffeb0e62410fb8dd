package embedded

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"moongate/internal/gw/config"
	"moongate/internal/selfsign"
)

func TestCredentials(t *testing.T) {
	t.Parallel()
	l := layout{t.TempDir()}
	if _, err := ReadCredentials(l.credentials()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before there are any: %v", err)
	}
	made, err := loadOrMakeCredentials(l)
	must(t, err)
	again, err := loadOrMakeCredentials(l)
	must(t, err)
	if diff := cmp.Diff(made, again); diff != "" {
		t.Error("the second start has other passwords")
	}
	seen := map[string]bool{}
	for _, name := range credentialNames {
		if seen[made[name]] || len(made[name]) < 26 {
			t.Errorf("%s is %d characters, or another's", name, len(made[name]))
		}
		seen[made[name]] = true
	}
	info, err := os.Stat(l.credentials())
	must(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestBadCredentials(t *testing.T) {
	t.Parallel()
	good := ""
	for _, name := range credentialNames {
		good += name + "=secret-" + name + "\n"
	}
	for name, test := range map[string]struct {
		text, says string
		mode       fs.FileMode
	}{
		"readable by others": {good, "chmod 600", 0o640},
		"empty":              {"", "has no line hsm-admin=", 0o600},
		"a line missing":     {strings.Replace(good, "partition-co=secret-partition-co\n", "", 1), "has no line partition-co=", 0o600},
		"no equals sign":     {good + "secret-x\n", "line 6", 0o600},
		"no value":           {strings.Replace(good, "secret-hsm-so", "", 1), "line 2", 0o600},
		"unknown name":       {good + "x=secret-x\n", "line 6", 0o600},
		"twice":              {good + "hsm-so=secret-x\n", "line 6", 0o600},
		"an empty line":      {"\n" + good, "line 1", 0o600},
	} {
		path := filepath.Join(t.TempDir(), "credentials")
		must(t, os.WriteFile(path, []byte(test.text), test.mode))
		_, err := ReadCredentials(path)
		if err == nil || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret-") {
			t.Errorf("%s: the error quotes a password: %v", name, err)
		}
	}
}

// TestCredentialsAreNotMadeAnew: fresh passwords would fit no HSM that is there.
func TestCredentialsAreNotMadeAnew(t *testing.T) {
	t.Parallel()
	l := layout{t.TempDir()}
	must(t, os.Mkdir(l.hsm(), 0o700))
	must(t, os.WriteFile(l.hsmRootKey(), nil, 0o600))
	if _, err := loadOrMakeCredentials(l); err == nil || !strings.Contains(err.Error(), "put it back") {
		t.Errorf("passwords were made for an HSM that has others: %v", err)
	}
	if exists(l.credentials()) {
		t.Error("a credentials file was written")
	}
}

func TestPorts(t *testing.T) {
	t.Parallel()
	var p Ports
	must(t, p.choose(""))
	seen := map[int]bool{0: true}
	for _, port := range []int{p.HSM, p.HSMShell, p.HSMFigures, p.Proxy, p.Inbound, p.Origin} {
		if seen[port] {
			t.Errorf("ports %+v", p)
		}
		seen[port] = true
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	p = Ports{Inbound: taken.Addr().(*net.TCPAddr).Port}
	if err := p.choose("127.0.0.1"); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "name another with -inbound-port") {
		t.Errorf("a port that is taken: %v", err)
	}
}

// TestPortsAreReadBack: what the first start wrote is what later ones use, and
// it is a configuration.
func TestPortsAreReadBack(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.xml")
	want := DefaultPorts
	certificates := map[string][]byte{}
	for _, spec := range specs {
		var key crypto.Signer
		var err error
		if spec.ec {
			key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		} else {
			key, err = rsa.GenerateKey(rand.Reader, 2048)
		}
		must(t, err)
		request := selfsign.Request{Subject: pkix.Name{CommonName: spec.subject}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), CA: spec.ca}
		if !spec.ca {
			request.Names = []string{"localhost"}
		}
		der, err := selfsign.Certificate(key, request)
		must(t, err)
		certificates[spec.label] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	raw, err := makeAuthority()
	must(t, err)
	block, _ := pem.Decode(raw)
	u := &up{l: layout{t.TempDir()}, ports: want}
	must(t, writeConfiguration(path, want, u.hsmsOf(), certificates, pem.EncodeToMemory(block)))
	snapshot, _, err := config.Load(path)
	must(t, err)
	settings := filepath.Join(t.TempDir(), "hsm.toml")
	must(t, writeHSMSettings(settings, want))
	hsm, err := readHSMSettings(settings)
	must(t, err)
	if got := portsOf(snapshot, hsm); got != want {
		t.Errorf("read %+v, wrote %+v", got, want)
	}
}

func TestDataDirectory(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		prepare func(dir string)
		taken   bool // over
	}{
		"not there":            {func(string) {}, true},
		"nor its parent":       {func(dir string) {}, true},
		"empty":                {func(dir string) { must(t, os.Mkdir(dir, 0o755)) }, true},
		"of a new file system": {func(dir string) { must(t, os.MkdirAll(dir+"/lost+found", 0o755)) }, true},
		"ours": {func(dir string) {
			must(t, os.MkdirAll(dir+"/hsm", 0o700))
			must(t, os.WriteFile(dir+"/lock", nil, 0o600))
		}, true},
		"somebody's": {func(dir string) { must(t, os.MkdirAll(dir+"/holiday", 0o755)) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			if name == "nor its parent" {
				dir = filepath.Join(dir, "data")
			}
			test.prepare(dir)
			before, _ := os.Stat(dir)
			err := makeTop(dir)
			if !test.taken {
				after, statErr := os.Stat(dir)
				must(t, statErr)
				if err == nil || !strings.Contains(err.Error(), "holiday") || after.Mode() != before.Mode() {
					t.Errorf("%v; mode %v, was %v", err, after.Mode(), before.Mode())
				}
				return
			}
			must(t, err)
			after, err := os.Stat(dir)
			must(t, err)
			if after.Mode() != 0o711|fs.ModeDir {
				t.Errorf("mode %v", after.Mode())
			}
		})
	}
}

// TestLinkIsTheAdministrators: what is there is not written again.
func TestLinkIsTheAdministrators(t *testing.T) {
	t.Parallel()
	l := layout{t.TempDir()}
	must(t, os.Mkdir(l.hsm(), 0o700))
	must(t, os.WriteFile(l.hsmCertificate(1), []byte("certificate"), 0o644))
	u := &up{l: l, cred: Credentials{"partition-co": "first"}}
	u.hsms = u.hsmsOf()
	must(t, u.ensureLink())
	files := l.gateway()
	must(t, os.WriteFile(files.Password(), []byte("changed\n"), 0o600))
	key, err := os.ReadFile(files.ClientKey())
	must(t, err)
	must(t, u.ensureLink())
	for path, want := range map[string]string{files.Password(): "changed\n", files.ClientKey(): string(key), files.ServerCertificate("hsm1"): "certificate"} {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s was written again: %v", path, err)
		}
	}
	for path, want := range map[string]fs.FileMode{files.Password(): 0o600, files.ClientKey(): 0o600, files.Dir(): 0o700 | fs.ModeDir, files.HSM(): 0o700 | fs.ModeDir} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
	// The second half of a pair was not written.
	must(t, os.Remove(files.ClientCertificate()))
	must(t, u.ensureLink())
	if again, err := os.ReadFile(files.ClientKey()); err != nil || string(again) == string(key) {
		t.Errorf("a key without its certificate was kept: %v", err)
	}
}

func TestClosedTo(t *testing.T) {
	t.Parallel()
	top, err := os.MkdirTemp("", "closed-")
	must(t, err)
	defer os.RemoveAll(top)
	inner := filepath.Join(top, "a", "b")
	must(t, os.MkdirAll(inner, 0o755))
	for _, test := range []struct {
		top, a fs.FileMode
		want   string
	}{{0o711, 0o755, ""}, {0o700, 0o755, top}, {0o755, 0o710, filepath.Join(top, "a")}, {0o700, 0o700, filepath.Join(top, "a")}} {
		must(t, os.Chmod(top, test.top))
		must(t, os.Chmod(filepath.Join(top, "a"), test.a))
		if got := closedTo(inner); got != test.want {
			t.Errorf("modes %v and %v: closed at %q, want %q", test.top, test.a, got, test.want)
		}
	}
	if got := closedTo(filepath.Join(top, "missing", "x")); got != filepath.Join(top, "missing") {
		t.Errorf("what is missing is closed at %q", got)
	}
}

func TestUserFor(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		u, why := userFor("nobody-of-this-name", 65179, "/", "/")
		if u != nil || !strings.Contains(why, "not root") {
			t.Errorf("%v, %s", u, why)
		}
		return
	}
	top, err := os.MkdirTemp("", "user-")
	must(t, err)
	defer os.RemoveAll(top)
	must(t, os.Chmod(top, 0o711))
	program := filepath.Join(top, "program")
	must(t, os.WriteFile(program, nil, 0o755))
	u, why := userFor("nobody-of-this-name", 65179, filepath.Join(top, "data"), program)
	if u == nil || *u != (user{65179, 65179}) {
		t.Errorf("%v, %s", u, why)
	}
	if u, _ := userFor("daemon", 65179, top, program); u == nil || u.uid == 65179 {
		t.Errorf("a user of the system is not taken: %v", u)
	}
	must(t, os.Chmod(program, 0o700))
	if u, why := userFor("nobody-of-this-name", 65179, top, program); u != nil || !strings.Contains(why, "may not be run by other users") {
		t.Errorf("a program that is root's alone: %v, %s", u, why)
	}
}

func TestGive(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("this takes root")
	}
	top := t.TempDir()
	outside, dir := filepath.Join(top, "outside"), filepath.Join(top, "dir")
	must(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o700))
	for _, path := range []string{outside, filepath.Join(dir, "sub", "file")} {
		must(t, os.WriteFile(path, nil, 0o600))
	}
	must(t, os.Symlink(outside, filepath.Join(dir, "soft")))
	must(t, os.Link(outside, filepath.Join(dir, "hard")))
	must(t, give(dir, &user{65170, 65171}))
	owner := func(path string) uint32 {
		info, err := os.Lstat(path)
		must(t, err)
		return info.Sys().(*syscall.Stat_t).Uid
	}
	for path, want := range map[string]uint32{dir: 65170, dir + "/sub": 65170, dir + "/sub/file": 65170, dir + "/soft": 65170, outside: 0} {
		if got := owner(path); got != want {
			t.Errorf("%s belongs to %d, want %d", path, got, want)
		}
	}
	must(t, give(dir, nil))
	if owner(dir+"/sub/file") != 0 {
		t.Error("it did not come back")
	}
}

func TestShellWord(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/data/a-b_c.pem": "/data/a-b_c.pem", "/my data/x": "'/my data/x'", "/it's": `'/it'\''s'`, "/$HOME": "'/$HOME'", "/ä": "'/ä'",
	} {
		if got := shellWord(path); got != want {
			t.Errorf("%s is written %s, want %s", path, got, want)
		}
	}
}

// shell makes a program of a shell script.
func shell(t *testing.T, script string) *program {
	t.Helper()
	log, err := openMessages(filepath.Join(t.TempDir(), "log"))
	must(t, err)
	return &program{name: "script", path: "/bin/sh", args: []string{"-c", script}, log: log, logger: slog.New(slog.DiscardHandler)}
}

// TestProgramThatDoesNotStart says why, in the program's own words.
func TestProgramThatDoesNotStart(t *testing.T) {
	t.Parallel()
	p := shell(t, "echo the port is taken >&2; exit 3")
	_, err := p.log.Write([]byte("of an earlier start\n"))
	must(t, err)
	must(t, p.log.Close())
	p.log, err = openMessages(p.log.path)
	must(t, err)
	err = p.run(t.Context(), func(string) { t.Error("it was ready") })
	if err == nil || !strings.Contains(err.Error(), "script did not start: exit status 3\nthe port is taken") || strings.Contains(err.Error(), "earlier") {
		t.Errorf("error %v", err)
	}
	p = shell(t, "")
	p.path = "/nowhere/program"
	if err := p.run(t.Context(), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a program that is not there: %v", err)
	}
}

// TestProgramIsStartedAgain, whatever it prints, and stopped with SIGTERM.
func TestProgramIsStartedAgain(t *testing.T) {
	t.Parallel()
	mark := filepath.Join(t.TempDir(), "stopped")
	p := shell(t, `
		if [ ! -e "`+mark+`.1" ]; then : >"`+mark+`.1"; echo chatter; echo listening 1; head -c 200000 /dev/zero | tr '\0' x; exit 1; fi
		trap ': >"`+mark+`"; exit 0' TERM
		echo listening 2
		while :; do sleep 0.01; done`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	lines := make(chan string, 10)
	ended := make(chan error, 1)
	go func() { ended <- p.run(ctx, func(line string) { lines <- line }) }()
	for _, want := range []string{"listening 1", "listening 2"} {
		select {
		case line := <-lines:
			if line != want {
				t.Errorf("it said %q, want %q", line, want)
			}
		case err := <-ended:
			t.Fatalf("it ended: %v", err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("a stop: %v", err)
	}
	if !exists(mark) {
		t.Error("it was not asked to stop")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestMessagesAreBounded: whoever makes a program talk fills no disk.
func TestMessagesAreBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	m, err := openMessages(path)
	must(t, err)
	m.limit = 1000
	line := []byte(strings.Repeat("x", 99) + "\n")
	for range 50 {
		_, err := m.Write(line)
		must(t, err)
	}
	must(t, m.Close())
	for _, name := range []string{path, path + ".1"} {
		info, err := os.Stat(name)
		must(t, err)
		if info.Size() == 0 || info.Size() > 1000 {
			t.Errorf("%s has %d bytes", name, info.Size())
		}
	}
}
