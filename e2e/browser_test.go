package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"moongate/e2e/peers"
	"moongate/e2e/world"
	"moongate/internal/gw/flow"
)

// TestBrowser sends headless Chromium through the forward proxy to nginx: it
// shows the page because it trusts the CA whose key is on the HSM, and nothing
// else vouches for the site.
func TestBrowser(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	root := t.TempDir()
	must(t, os.Chmod(root, 0o755))
	must(t, os.WriteFile(filepath.Join(root, "index.html"), []byte(`<!doctype html><title>nginx</title><h1 id="h">loading</h1>
<script>document.getElementById("h").textContent = "inspected page, script ran";</script>`), 0o644))
	site := peers.Nginx(t, server(t, ca, "rsa", []string{"localhost"}), root)
	s := start(t, ca, world.GatewaySettings{Allowed: []string{local("localhost", site)}})
	page := "https://" + local("localhost", site) + "/"

	if dom := s.chromium(page, ""); strings.Contains(dom, "inspected page") {
		t.Fatalf("a browser that does not trust the CA shows the page:\n%s", dom)
	}
	dom := s.chromium(page, "forward-trust")
	if !strings.Contains(dom, "inspected page, script ran") {
		t.Fatalf("chromium shows:\n%s", dom)
	}
	r := s.record(func(r *flow.Record) bool { return r.ClientLeg != nil && r.BytesDown > 0 })
	if r.ClientLeg.Version != "TLS 1.3" || r.ClientLeg.ALPN != "h2" || r.ClientLeg.Group != "X25519MLKEM768" || r.Authority != "forward-trust" {
		t.Errorf("the browser's leg: %+v, signed by %s", r.ClientLeg, r.Authority)
	}
}

// chromium loads a page through the proxy and returns its document. It trusts
// the named authority, through a certificate database of its own.
func (s *setting) chromium(page, authority string) string {
	t := s.t
	t.Helper()
	home := t.TempDir()
	database := filepath.Join(home, ".pki", "nssdb")
	must(t, os.MkdirAll(database, 0o700))
	command(t, "certutil", "-N", "-d", "sql:"+database, "--empty-password")
	if authority != "" {
		command(t, "certutil", "-A", "-d", "sql:"+database, "-n", authority, "-t", "C,,", "-i", s.bundle(authority))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--user-data-dir="+filepath.Join(home, "profile"), "--proxy-server=http://"+s.gateway.Proxy, "--proxy-bypass-list=<-loopback>",
		"--dump-dom", page)
	cmd.Env = append(os.Environ(), "HOME="+home)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	// Its helpers must end with it, and leave the directory before the test.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		t.Fatalf("chromium: %v\n%s", err, errs.String())
	}
	return out.String()
}
