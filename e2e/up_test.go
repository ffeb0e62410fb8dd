package e2e

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"moongate/e2e/world"
	"moongate/internal/gw/flow"
	"moongate/internal/gw/logstore"
)

// TestUp is a new user's first minutes: `moongate up` on an empty directory,
// the printed curl lines, the CA certificate, the HSM's audit, a stop, and a
// second start on the same data.
func TestUp(t *testing.T) {
	t.Parallel()
	program, err := world.Program(t.Context(), "moongate")
	must(t, err)
	hsmProgram, err := world.Program(t.Context(), "moongate-hsm")
	must(t, err)
	dir := filepath.Join(world.T(t).Dir(), "data")

	var serials []string
	for start := range 2 {
		u := startUp(t, program, dir)
		if len(u.curls) != 2 || !strings.Contains(u.curls[0], "--proxy") {
			t.Fatalf("start %d printed the curl lines %q", start, u.curls)
		}
		for _, line := range u.curls {
			out := command(t, "sh", "-c", line)
			if !strings.Contains(out, "It works") {
				t.Errorf("start %d: %s\n%s", start, line, out)
			}
		}
		r := lastForward(t, dir)
		ca := parsePEM(t, filepath.Join(dir, "forward-trust-ecdsa.pem"))
		if !ca.IsCA || ca.KeyUsage&x509.KeyUsageCertSign == 0 || r.ClientLeg.Certificate.Issuer != ca.Subject.String() || r.Verdict != flow.Trusted {
			t.Errorf("start %d: record %+v of CA %v", start, r, ca.Subject)
		}
		audit := command(t, hsmProgram, "-data", filepath.Join(dir, "hsm"), "audit", "tail", "-n", "50")
		if !strings.Contains(audit, fmt.Sprintf(`"action":"key.sign","op":%q`, r.ID)) {
			t.Errorf("start %d: the HSM's audit does not show the signature of flow %s:\n%s", start, r.ID, audit)
		}
		var info struct{ Serial string }
		show := command(t, hsmProgram, "-data", filepath.Join(dir, "hsm"), "hsm", "show", "-json")
		must(t, json.NewDecoder(strings.NewReader(show)).Decode(&info))
		serials = append(serials, info.Serial)

		second := exec.CommandContext(t.Context(), program, "up", "-data", dir)
		if out, err := second.CombinedOutput(); err == nil || !strings.Contains(string(out), "another") {
			t.Errorf("a second `moongate up` on the same data: %v\n%s", err, out)
		}
		u.stop()
		if start == 0 { // a published certificate that somebody removed is back after the next start
			must(t, os.Remove(filepath.Join(dir, "forward-trust.pem")))
		} else {
			parsePEM(t, filepath.Join(dir, "forward-trust.pem"))
		}
	}
	if serials[0] != serials[1] {
		t.Errorf("the second start made another HSM: %v", serials)
	}
	cred := command(t, program, "credentials", "-data", dir)
	for _, name := range []string{"hsm-admin", "hsm-so", "partition-co", "partition-cu", "gateway-admin"} {
		if !strings.Contains("\n"+cred, "\n"+name+"=") {
			t.Errorf("`moongate credentials` has no line %s=", name)
		}
	}
	info, err := os.Stat(filepath.Join(dir, "credentials"))
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("credentials have mode %v", info.Mode())
	}
	for _, log := range []string{"hsm.log", "gateway.log"} {
		text, err := os.ReadFile(filepath.Join(dir, log))
		must(t, err)
		for line := range strings.Lines(cred) {
			_, secret, _ := strings.Cut(strings.TrimSpace(line), "=")
			if strings.Contains(string(text), secret) {
				t.Errorf("%s holds a password", log)
			}
		}
	}
}

// TestUpRestartsItsProcesses: a process that dies is started again, and the
// other goes on.
func TestUpRestartsItsProcesses(t *testing.T) {
	t.Parallel()
	program, err := world.Program(t.Context(), "moongate")
	must(t, err)
	dir := filepath.Join(world.T(t).Dir(), "data")
	u := startUp(t, program, dir)
	defer u.stop()
	for _, child := range u.children(t) {
		must(t, syscall.Kill(child, syscall.SIGKILL))
	}
	deadline := time.Now().Add(recovery)
	for {
		var failure string
		for _, line := range u.curls {
			if out, err := try(t.Context(), "sh", "-c", line+" -sS"); err != nil {
				failure = out
			}
		}
		if failure == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v after both processes were killed: %s", recovery, failure)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// running is a `moongate up`.
type running struct {
	t     *testing.T
	cmd   *exec.Cmd
	curls []string
	said  []string // every line before `ready`
	done  chan error
}

// startUp starts `moongate up` on free ports and waits for its `ready`.
func startUp(t *testing.T, program, dir string, options ...string) *running {
	t.Helper()
	if _, err := world.Program(t.Context(), "moongate-hsm"); err != nil { // it runs that one beside itself
		t.Fatal(err)
	}
	u := &running{t: t, done: make(chan error, 1)}
	u.cmd = exec.Command(program, "up", "-data", dir, "-hsm-port", "0", "-hsm-ssh-port", "0", "-hsm-metrics-port", "0", "-proxy-port", "0", "-inbound-port", "0", "-origin-port", "0",
		"-web-port", "0", "-ssh-port", "0", "-gateway-metrics-port", "0")
	u.cmd.Args = append(u.cmd.Args, options...)
	var stderr strings.Builder
	u.cmd.Stderr = &stderr
	out, err := u.cmd.StdoutPipe()
	must(t, err)
	began := time.Now()
	must(t, u.cmd.Start())
	// Where the test fails before it stops it; its processes end with it.
	t.Cleanup(func() { _ = u.cmd.Process.Kill() })
	lines := make(chan string, 100)
	go func() {
		scanner := bufio.NewScanner(out)
		for scanner.Scan() {
			lines <- scanner.Text()
		}
		close(lines)
		u.done <- u.cmd.Wait()
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for {
		select {
		case line, open := <-lines:
			if !open {
				t.Fatalf("`moongate up` ended: %v\n%s", <-u.done, stderr.String())
			}
			u.said = append(u.said, line)
			if strings.HasPrefix(line, "curl ") {
				u.curls = append(u.curls, line)
			}
			if line == "ready" {
				t.Logf("ready after %v", time.Since(began).Round(time.Millisecond))
				go func() { // the pipe must not fill
					for range lines {
					}
				}()
				return u
			}
		case <-ctx.Done():
			_ = u.cmd.Process.Kill()
			t.Fatalf("`moongate up` is not ready after a minute\n%s", stderr.String())
		}
	}
}

// stop ends it as Ctrl-C does, and checks that it leaves nothing running.
func (u *running) stop() {
	u.t.Helper()
	children := u.children(u.t)
	must(u.t, u.cmd.Process.Signal(os.Interrupt))
	select {
	case err := <-u.done:
		must(u.t, err)
	case <-time.After(30 * time.Second):
		_ = u.cmd.Process.Kill()
		u.t.Fatal("`moongate up` does not stop")
	}
	for _, child := range children {
		if err := syscall.Kill(child, 0); err == nil {
			u.t.Errorf("process %d outlived `moongate up`", child)
		}
	}
}

// children are the processes that it supervises.
func (u *running) children(t *testing.T) []int {
	t.Helper()
	raw, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", u.cmd.Process.Pid))
	must(t, err)
	var list []int
	for _, path := range raw {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the thread has ended
		}
		must(t, err)
		for _, field := range strings.Fields(string(text)) {
			var pid int
			_, err := fmt.Sscan(field, &pid)
			must(t, err)
			list = append(list, pid)
		}
	}
	if len(list) < 2 {
		t.Fatalf("`moongate up` has the children %v, want an HSM and a gateway", list)
	}
	return list
}

// lastForward waits for and returns the newest record of the forward proxy.
func lastForward(t *testing.T, dir string) *flow.Record {
	t.Helper()
	reader := logstore.OpenReader(filepath.Join(dir, "gateway", "log"))
	defer reader.Close()
	var last *flow.Record
	for deadline := time.Now().Add(10 * time.Second); last == nil && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		list, err := reader.Query(t.Context(), logstore.Query{Log: logstore.Decryption, Filter: "kind eq forward and tls_version neq ''"})
		must(t, err)
		for _, e := range list {
			var r flow.Record
			must(t, json.Unmarshal(e.Record, &r))
			if last == nil && r.ClientLeg != nil {
				last = &r
			}
		}
	}
	if last == nil {
		t.Fatal("there is no record of a forward flow")
	}
	return last
}
