package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"moongate/e2e/peers"
	"moongate/e2e/pki"
	"moongate/e2e/world"
)

// TestDisasterDrill runs the drill of docs/recovery.md as it is written: the HSM
// and the gateway are lost, and made anew of their backups.
func TestDisasterDrill(t *testing.T) {
	t.Parallel()
	script, printed := tour(t, filepath.Join("..", "docs", "recovery.md"))
	ca := newCA(t)
	origin := peers.NewOrigin(t, server(t, ca, "ec", []string{"app.test"}))
	s := start(t, ca, world.GatewaySettings{NoECDSA: true, Inbound: []world.Site{{Name: "app", Server: origin.Address, ServerName: "app.test", Hosts: []string{"app.test"}}}})
	s.softwareKey()
	c := s.cli(t)
	if out := c.run(0, "", "request master-key on-hsm yes"); !strings.Contains(out, "success") {
		t.Fatalf("the master key did not go to the HSM: %s", out)
	}
	var path []string
	for _, name := range []string{"moongate-hsm", "moongate"} {
		program, err := world.Program(t.Context(), name)
		must(t, err)
		path = append(path, filepath.Dir(program))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = world.T(t).Dir()
	// It leaves nothing running, also where it has to be stopped.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Env = append(os.Environ(), "PATH="+strings.Join(path, ":")+":"+os.Getenv("PATH"),
		"HSM="+s.hsm.Dir, fmt.Sprintf("HSM_PID=%d", s.hsm.PID()), "HSM_AT="+s.hsm.Addr, "HSM_SSH="+s.hsm.SSH,
		"GATEWAY="+s.gateway.Dir, fmt.Sprintf("GATEWAY_PID=%d", s.gateway.PID()), "GATEWAY_SSH="+s.gateway.SSH, "SERVER=world",
		"SO="+s.hsm.Password, "ADMIN="+s.hsm.Admin, "GATEWAY_ADMIN="+s.gateway.Admin, "PHRASE=a passphrase for the drill",
		"SITE=app.test", "SITE_AT="+s.gateway.Inbound["app"], "SITE_CA="+s.bundle("app-rsa", "app-ecdsa"))
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	err := cmd.Run()
	endGroup(t, cmd.Process.Pid)
	if err != nil {
		var said strings.Builder
		files, _ := filepath.Glob(filepath.Join(cmd.Dir, "*.[sl]*"))
		for _, file := range files {
			if text, err := os.ReadFile(file); err == nil {
				fmt.Fprintf(&said, "%s:\n%s\n", filepath.Base(file), text)
			}
		}
		t.Fatalf("%v\n%s\n%s\n%s", err, out.String(), problems.String(), said.String())
	}
	compareTour(t, out.String(), printed)
}

// endGroup kills what a script left running, and waits until it is gone: it may
// write below a directory that is to be removed.
func endGroup(t *testing.T, group int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); syscall.Kill(-group, syscall.SIGKILL) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Error("the script's processes do not end")
			return
		}
	}
}

// softwareKey imports a certificate with its key, in-software, and commits.
func (s *setting) softwareKey() {
	s.t.Helper()
	pair, err := newCA(s.t).Server("ec", []string{"software.example"})
	must(s.t, err)
	dir := s.t.TempDir()
	certificate, key, err := pki.WriteFiles(dir, softwareKey, pair)
	must(s.t, err)
	ssh, err := s.gateway.OpenSSH(dir, "admin", s.gateway.Admin)
	must(s.t, err)
	for name, file := range map[string]string{softwareKey + ".pem": certificate, softwareKey + ".key": key} {
		if r, err := ssh.SCP(s.t.Context(), file, "HSM:"+name); err != nil || r.Status != 0 {
			s.t.Fatalf("scp %s: %+v, %v", file, r, err)
		}
	}
	c := &cli{s.t, ssh}
	c.run(0, "", "request certificate import certificate-name "+softwareKey+" file "+softwareKey+".pem format pem")
	c.run(0, "", "request certificate import certificate-name "+softwareKey+" file "+softwareKey+".key part private-key")
	c.commit()
}
