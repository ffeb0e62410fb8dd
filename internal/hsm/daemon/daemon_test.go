package daemon

import (
	"bytes"
	"context"
	"crypto/fips140"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"moongate/client"
	"moongate/internal/hsm/adminshell"
	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/partition"
	"moongate/internal/hsm/store"
)

const soPassword = "so-password"

// newDir makes a directory whose path is short enough for a socket in it, and
// returns the path of an HSM's below it that is not there yet.
func newDir(t testing.TB) string {
	t.Helper()
	top, err := os.MkdirTemp("", "hsm-")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(top)) })
	return filepath.Join(top, "hsm")
}

func initOptions(dir string, hosts ...string) InitOptions {
	return InitOptions{Dir: dir, Label: "lab", Hosts: hosts, Officer: []byte(soPassword)}
}

func options(dir string) Options {
	return Options{Dir: dir, Listen: "127.0.0.1:0", Version: "test", Logger: slog.New(slog.DiscardHandler)}
}

// contents returns every file below dir by its path.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		files[path] = string(raw)
		return err
	}))
	return files
}

func TestInit(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	serial, err := Init(initOptions(dir, "hsm.example", "192.0.2.1"))
	must(t, err)
	files := In(dir)
	for path, want := range map[string]fs.FileMode{
		dir: 0o700 | fs.ModeDir, files.Inbox(): 0o700 | fs.ModeDir, files.RootKey(): 0o600, files.Store(): 0o600,
		files.CertificateKey(): 0o600, files.Certificate(): 0o644,
	} {
		info, err := os.Stat(path)
		must(t, err)
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
		}
	}
	cert := readCertificate(t, files)
	if !slices.Equal(cert.DNSNames, []string{"hsm.example"}) || len(cert.IPAddresses) != 1 {
		t.Errorf("the certificate is for %v and %v", cert.DNSNames, cert.IPAddresses)
	}

	before := contents(t, dir)
	_, err = Init(initOptions(dir, "other.example"))
	wantCode(t, err, object.ErrExists)
	after := contents(t, dir)
	for path, was := range before {
		if path != files.Store() && after[path] != was { // bbolt may write a page
			t.Errorf("a second Init changed %s", path)
		}
	}
	a, err := Open(options(dir))
	must(t, err)
	defer func() { must(t, a.Close()) }()
	if a.HSM.Serial() != serial || len(a.Fingerprint) != 64 {
		t.Errorf("opened serial %s with fingerprint %s, made %s", a.HSM.Serial(), a.Fingerprint, serial)
	}
	_, err = a.HSM.AuthenticateOfficer(t.Context(), partition.Operator{Name: "t"}, []byte(soPassword))
	must(t, err)
}

// TestInitIsCompleted: whatever an Init got done before it failed or was
// killed, the next one completes, with what it was told.
func TestInitIsCompleted(t *testing.T) {
	t.Parallel()
	whole := newDir(t)
	_, err := Init(initOptions(whole, "first.example"))
	must(t, err)
	copyOf := func(dir string, names ...string) {
		t.Helper()
		must(t, os.MkdirAll(dir, 0o700))
		for _, name := range names {
			raw, err := os.ReadFile(filepath.Join(whole, name))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(dir, name), raw, 0o600))
		}
	}
	for name, prepare := range map[string]func(dir string){
		"nothing":                   func(string) {},
		"a directory":               func(dir string) { copyOf(dir) },
		"a root key":                func(dir string) { copyOf(dir, "device.key") },
		"a certificate's key alone": func(dir string) { copyOf(dir, "device.key", "server.key") },
		"another key's certificate": func(dir string) {
			copyOf(dir, "device.key", "server.key", "server.pem")
			_, key, err := client.NewCertificate("x")
			must(t, err)
			must(t, os.WriteFile(filepath.Join(dir, "server.key"), key, 0o600))
		},
		"a temporary file": func(dir string) {
			copyOf(dir, "device.key")
			must(t, os.WriteFile(filepath.Join(dir, ".durable-server.key-1.tmp"), []byte("secret"), 0o600))
		},
		"all but the officer": func(dir string) {
			opts := initOptions(dir, "first.example")
			opts.Officer = []byte("short")
			_, err := Init(opts)
			wantCode(t, err, object.ErrPINLength)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := newDir(t)
			prepare(dir)
			if a, err := Open(options(dir)); object.CodeOf(err) != object.ErrNotInitialized {
				t.Errorf("Open before it is completed: %v, %v", a, err)
			}
			_, err := Init(initOptions(dir, "second.example"))
			must(t, err)
			a, err := Open(options(dir))
			must(t, err)
			must(t, a.Close())
			if names := readCertificate(t, In(dir)).DNSNames; !slices.Equal(names, []string{"second.example"}) {
				t.Errorf("the certificate is for %v", names)
			}
			if left, err := filepath.Glob(filepath.Join(dir, ".durable-*")); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		spoil func(t *testing.T, f Files)
		want  error
		says  string
	}{
		{"a missing root key", func(t *testing.T, f Files) { must(t, os.Remove(f.RootKey())) }, nil, "put it back"},
		{"another's root key", func(t *testing.T, f Files) {
			must(t, os.Remove(f.RootKey()))
			_, err := store.LoadOrCreateRootKey(f.RootKey())
			must(t, err)
		}, store.ErrRootKey, ""},
		{"a root key that others read", func(t *testing.T, f Files) { must(t, os.Chmod(f.RootKey(), 0o640)) }, nil, "chmod 600"},
		{"a missing store", func(t *testing.T, f Files) { must(t, os.Remove(f.Store())) }, &object.Error{Code: object.ErrNotInitialized}, "hsm.db is missing"},
		{"a missing certificate", func(t *testing.T, f Files) { must(t, os.Remove(f.Certificate())) }, fs.ErrNotExist, "put both back"},
		{"a missing audit log", func(t *testing.T, f Files) {
			a, err := Open(options(f.Dir()))
			must(t, err)
			must(t, a.Close())
			must(t, os.Remove(filepath.Join(f.Audit(), "audit.key")))
		}, nil, "opening the audit log"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := newDir(t)
			_, err := Init(initOptions(dir))
			must(t, err)
			test.spoil(t, In(dir))
			a, err := Open(options(dir))
			if err == nil {
				must(t, a.Close())
				t.Fatal("it opened")
			}
			if test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("Open: %v", err)
			}
			// Nothing that a second Init does makes it worse.
			before, _ := os.ReadFile(In(dir).RootKey())
			if _, err := Init(initOptions(dir)); err == nil && test.name != "a missing store" {
				t.Error("a second Init made an HSM of it")
			}
			if after, _ := os.ReadFile(In(dir).RootKey()); !bytes.Equal(before, after) {
				t.Error("a second Init changed the root key")
			}
		})
	}
}

func TestFIPSTakesItsModule(t *testing.T) {
	t.Parallel()
	if fips140.Enabled() {
		t.Skip("this process is in FIPS mode")
	}
	dir := newDir(t)
	opts := initOptions(dir)
	opts.FIPS = true
	if _, err := Init(opts); err == nil {
		t.Fatal("an HSM in FIPS mode was made by a process that is not")
	}
	// One that was made by a process in FIPS mode.
	root, err := store.LoadOrCreateRootKey(In(dir).RootKey())
	must(t, err)
	st, err := store.Open(dir, root, store.Options{})
	must(t, err)
	must(t, partition.Initialize(st, "lab", []byte(soPassword), mech.Policy{FIPS: true}, time.Now()))
	must(t, st.Close())
	for range 2 { // the first lets go of the store
		if _, err := Open(options(dir)); !errors.Is(err, ErrFIPSModule) {
			t.Errorf("Open: %v", err)
		}
	}
}

// TestRootHandsBack: what root makes in the HSM's directory belongs to the
// HSM's user afterwards.
func TestRootHandsBack(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("this takes root")
	}
	const uid, gid = 65170, 65172
	dir := newDir(t)
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.Chown(dir, uid, gid))
	outside := filepath.Join(filepath.Dir(dir), "outside")
	must(t, os.WriteFile(outside, nil, 0o600))
	must(t, os.Link(outside, filepath.Join(dir, "hard")))
	must(t, os.Symlink(outside, filepath.Join(dir, "soft")))
	_, err := Init(initOptions(dir))
	must(t, err)
	a, err := Open(options(dir))
	must(t, err)
	must(t, a.Close())
	for path := range contents(t, dir) {
		info, err := os.Lstat(path)
		must(t, err)
		s := info.Sys().(*syscall.Stat_t)
		if filepath.Base(path) == "hard" {
			if s.Uid != 0 {
				t.Error("a file with a name elsewhere was given away")
			}
		} else if s.Uid != uid || s.Gid != gid {
			t.Errorf("%s belongs to %d:%d", path, s.Uid, s.Gid)
		}
	}
}

// answers is a Terminal that knows one password.
type answers struct{ out bytes.Buffer }

func (a *answers) Write(p []byte) (int, error)      { return a.out.Write(p) }
func (a *answers) Ask(string, bool) (string, error) { return soPassword, nil }

// TestRun serves an HSM: clients and administrators reach it, what an
// administrator takes away is cut off at once, and it stops when it is told.
func TestRun(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	_, err := Init(initOptions(dir, "127.0.0.1"))
	must(t, err)
	at, stop := run(t, options(dir))

	if err := Run(t.Context(), options(dir)); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a second Run: %v", err)
	}
	cert, key, err := client.NewCertificate("c", "127.0.0.1")
	must(t, err)
	shell := &answers{}
	admin, err := adminshell.DialLocal(In(dir).Socket(), shell)
	must(t, err)
	defer admin.Close()
	do := func(line string) {
		t.Helper()
		shell.out.Reset()
		result, err := admin.Run(adminshell.Request{Words: strings.Fields(line), Files: map[string][]byte{"certificate": cert}})
		if result != 0 || err != nil {
			t.Fatalf("%s: %d, %v\n%s", line, result, err, &shell.out)
		}
	}
	do("hsm login")
	do("partition create -p p")
	do("role init -p p -role co") // the same password
	do("client register -c c -ip 127.0.0.1 -certificate c.pem")
	do("client assignPartition -c c -p p")

	pair, err := tls.X509KeyPair(cert, key)
	must(t, err)
	servers, err := client.LoadCertificates(In(dir).Certificate())
	must(t, err)
	config := client.Config{
		Address: at.NTLS, ServerCertificates: servers, Certificate: pair, Partition: "p", Role: client.RoleCryptoOfficer,
		Password: func() ([]byte, error) { return []byte(soPassword), nil },
	}
	c, err := client.Dial(t.Context(), config)
	must(t, err)
	defer c.Close()
	_, err = c.GenerateAES(t.Context(), 32, nil)
	must(t, err)
	do("client revokePartition -c c -p p")
	for !errors.Is(c.Status().Err, &client.HSMError{Code: object.ErrNotAssigned}) { // the live connection was cut
		time.Sleep(time.Millisecond)
	}
	if _, err := client.Dial(t.Context(), config); !errors.Is(err, &client.HSMError{Code: object.ErrNotAssigned}) {
		t.Errorf("a client without a partition: %v", err)
	}

	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, err := os.Stat(In(dir).Socket()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket after the end: %v", err)
	}
	a, err := Open(options(dir))
	must(t, err)
	must(t, a.Close())
}

// run runs an HSM until stop, which returns what Run returned.
func run(t testing.TB, opts Options) (Addresses, func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	ready, ended := make(chan Addresses, 1), make(chan error, 1)
	opts.Ready = func(at Addresses) { ready <- at }
	go func() { ended <- Run(ctx, opts) }()
	select {
	case at := <-ready:
		return at, func() error { cancel(); return <-ended }
	case err := <-ended:
		t.Fatalf("Run: %v", err)
		return Addresses{}, nil
	}
}

// TestRunOnATakenPort says which, and lets go of everything.
func TestRunOnATakenPort(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	_, err := Init(initOptions(dir))
	must(t, err)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	opts := options(dir)
	opts.Listen = taken.Addr().String()
	for range 2 {
		if err := Run(t.Context(), opts); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), opts.Listen) {
			t.Errorf("Run: %v", err)
		}
	}
}

func readCertificate(t *testing.T, f Files) *x509.Certificate {
	t.Helper()
	raw, err := os.ReadFile(f.Certificate())
	must(t, err)
	block, _ := pem.Decode(raw)
	cert, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	return cert
}

func wantCode(t *testing.T, err error, want object.Code) {
	t.Helper()
	if got := object.CodeOf(err); got != want {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
