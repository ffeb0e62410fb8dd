package embedded

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"moongate/e2e/world"
)

// newPlace makes a directory that every user may pass, with the programs in
// it, and returns the options of an Up whose data directory's name has a space.
func newPlace(t *testing.T) Options {
	t.Helper()
	top, err := os.MkdirTemp("", "up-")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(top)) })
	must(t, os.Chmod(top, 0o711))
	for _, name := range []string{"moongate", "moongate-hsm"} {
		path, err := world.Program(t.Context(), name)
		must(t, err)
		// cp, and not this process: see world.place.
		out, err := exec.CommandContext(t.Context(), "cp", path, filepath.Join(top, name)).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		must(t, os.Chmod(filepath.Join(top, name), 0o755))
	}
	return Options{Dir: filepath.Join(top, "my data"), Programs: top, Out: io.Discard, Logger: slog.New(slog.DiscardHandler), Ports: testPorts(t)}
}

// Ports of the tests are kept over starts, and so must not be those that the
// kernel gives to whoever asks for any meanwhile (ip_local_port_range begins at
// 32768). Each test has a hundred of its own.
var (
	firstTestPort = 20_000 + 100*rand.IntN(60)
	testPortSets  atomic.Int64
)

func testPorts(t *testing.T) Ports {
	t.Helper()
	for range 60 {
		at := firstTestPort + 100*int(testPortSets.Add(1)-1)
		free := true
		for port := at; port < at+100 && free; port++ {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if free = err == nil; free {
				must(t, l.Close())
			}
		}
		if free {
			return Ports{HSM: at, HSMShell: at + 20, HSMFigures: at + 40, Proxy: at + 60, Inbound: at + 61, Origin: at + 62, Web: at + 63, Shell: at + 64, Figures: at + 65}
		}
	}
	t.Fatal("no hundred ports in a row are free")
	return Ports{}
}

// TestInterruptedProvisioningIsCompleted: a first start of two HSMs that is
// killed again and again, each time a step later, ends in the same
// demonstration.
func TestInterruptedProvisioningIsCompleted(t *testing.T) {
	t.Parallel()
	opts := newPlace(t)
	opts.HSMs = 2
	l := layout{opts.Dir}
	for _, step := range []string{
		l.credentials(), l.originAuthority(), l.hsmRootKey(), filepath.Join(l.hsm(), "hsm.db"), l.hsmCertificate(1),
		filepath.Join(l.hsmDir(2), hsmSettingsFile), filepath.Join(l.hsmDir(2), "admin.sock"),
		l.gateway().ClientKey(), l.gateway().Password(),
		l.published("forward-trust"), l.published("inbound-demo"), filepath.Join(l.dir, visitorName+".pem"),
	} {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Up(ctx, opts) }()
		var err error
		for running := true; running && !exists(step); {
			select {
			case err = <-ended:
				running = false
			case <-time.After(time.Millisecond):
			}
		}
		cancel()
		if err != nil {
			t.Fatalf("before %s: %v", step, err)
		}
		<-ended // the interruption, or nothing where it was too late
	}
	cred, err := ReadCredentials(l.credentials())
	must(t, err)

	up := startUp(t, opts)
	for _, line := range up.curls(t) {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", line+" -sS --max-time 20").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "It works") {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
	checkUsers(t, l)
	must(t, up.stop())
	now, err := ReadCredentials(l.credentials())
	must(t, err)
	if now["hsm-so"] != cred["hsm-so"] {
		t.Error("the passwords were made anew")
	}

	// What is wrong with an HSM that is whole is said, and not mended by init.
	must(t, os.WriteFile(filepath.Join(l.hsm(), "audit", "checkpoints"), []byte("nonsense\n"), 0o600))
	if err := Up(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "audit") || strings.Contains(err.Error(), "already") {
		t.Errorf("an HSM with a damaged audit log: %v", err)
	}
}

// checkUsers wants the two programs kept apart where the supervisor is root.
func checkUsers(t *testing.T, l layout) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	for dir, want := range map[string]uint32{l.hsm(): hsmUserID, l.gateway().Dir(): gatewayUserID} {
		must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			if got := info.Sys().(*syscall.Stat_t).Uid; got != want {
				t.Errorf("%s belongs to %d, want %d", path, got, want)
			}
			if mode := info.Mode(); path == dir && mode.Perm() != 0o700 {
				t.Errorf("%s has mode %v", path, mode)
			}
			return nil
		}))
	}
	status, err := filepath.Glob("/proc/self/task/*/children")
	must(t, err)
	users := map[string]bool{}
	for _, path := range status {
		children, _ := os.ReadFile(path) // a thread may have ended
		for _, pid := range strings.Fields(string(children)) {
			raw, _ := os.ReadFile("/proc/" + pid + "/status")
			for line := range strings.Lines(string(raw)) {
				if uids, is := strings.CutPrefix(line, "Uid:"); is {
					users[strings.Join(strings.Fields(uids), " ")] = true
				}
			}
		}
	}
	for _, uid := range []int{hsmUserID, gatewayUserID} {
		if all := strings.TrimSpace(strings.Repeat(strconv.Itoa(uid)+" ", 4)); !users[all] {
			t.Errorf("no child runs as user %d alone: %v", uid, users)
		}
	}
}

// TestUpOnTakenPorts: a port that cannot be had does not become the
// configuration's.
func TestUpOnTakenPorts(t *testing.T) {
	t.Parallel()
	opts := newPlace(t)
	must(t, opts.Ports.choose(""))
	l, err := newOrigin(local(opts.Ports.Proxy), mustAuthority(t))
	must(t, err)
	defer l.listener.Close()
	if err := Up(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "-proxy-port") {
		t.Errorf("Up: %v", err)
	}
	if exists(layout{opts.Dir}.gateway().Config()) {
		t.Error("the port was written into a configuration")
	}
}

func mustAuthority(t *testing.T) *authority {
	t.Helper()
	a, err := loadOrMakeAuthority(filepath.Join(t.TempDir(), "ca.pem"))
	must(t, err)
	return a
}

// running is an Up in this process.
type running struct {
	out   *output
	stop  func() error
	ended chan error
}

func startUp(t *testing.T, opts Options) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	r := &running{out: &output{ready: make(chan struct{})}, ended: make(chan error, 1)}
	opts.Out = r.out
	go func() { r.ended <- Up(ctx, opts) }()
	r.stop = sync.OnceValue(func() error { cancel(); return <-r.ended })
	select {
	case <-r.out.ready:
	case err := <-r.ended:
		t.Fatalf("Up: %v", err)
	}
	return r
}

func (r *running) curls(t *testing.T) []string {
	t.Helper()
	var list []string
	for line := range strings.Lines(r.out.String()) {
		if strings.HasPrefix(line, "curl ") {
			list = append(list, strings.TrimSpace(line))
		}
	}
	if len(list) != 2 {
		t.Fatalf("Up printed %q", list)
	}
	return list
}

// output is what Up prints.
type output struct {
	ready chan struct{} // closed when it says so

	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if string(p) == "ready\n" {
		close(o.ready)
	}
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
