package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"moongate/e2e/pki"
	"moongate/e2e/world"
)

// TestFilesByScp brings files to the gateway and fetches files from it with
// OpenSSH's scp, in both protocols.
func TestFilesByScp(t *testing.T) {
	t.Parallel()
	g := world.T(t).Managed()
	dir := t.TempDir()
	ssh, err := g.OpenSSH(dir, "admin", g.Admin)
	must(t, err)
	c := &cli{t, ssh}
	scp := func(status int, words ...string) string {
		t.Helper()
		r, err := ssh.SCP(t.Context(), words...)
		if r.Status != status {
			t.Fatalf("scp %q: status %d, want %d, %v\n%s%s", words, r.Status, status, err, r.Stdout, r.Stderr)
		}
		return r.Stdout + r.Stderr
	}
	at := ssh.Target() + ":"

	ca := newCA(t)
	leaf, err := ca.Server("ec", []string{"brought.example"})
	must(t, err)
	certificate, key, err := pki.WriteFiles(dir, "brought", leaf)
	must(t, err)
	chain, err := os.ReadFile(certificate)
	must(t, err)

	scp(0, certificate, at+"brought.pem")
	scp(0, "-O", key, at+"key.pem")
	if out := c.run(0, "", "show files"); !strings.Contains(out, "brought.pem") || !strings.Contains(out, "key.pem") {
		t.Errorf("show files printed\n%s", out)
	}
	for _, command := range []string{
		"request certificate import certificate-name brought file brought.pem format pem",
		"request certificate import certificate-name brought file key.pem part private-key",
	} {
		if out := c.run(0, "", command); out != "Successfully imported brought into candidate configuration\n" {
			t.Errorf("%s printed %q", command, out)
		}
	}
	if out := c.run(0, "", "show certificate name brought"); !strings.Contains(out, "key: software") {
		t.Errorf("show certificate printed\n%s", out)
	}
	c.run(0, "", "delete file key.pem")
	if out := c.run(1, "", "request certificate import certificate-name b file key.pem"); !strings.Contains(out, `file "key.pem": you brought none of that name within the last 1h0m0s; copy it here first: scp key.pem admin@GATEWAY:`) {
		t.Errorf("a file that is gone: %q", out)
	}

	// What the gateway has is fetched.
	fetched := t.TempDir()
	scp(0, at+"cert_brought.pem", fetched)
	if got, err := os.ReadFile(filepath.Join(fetched, "cert_brought.pem")); err != nil || string(got) != string(chain) {
		t.Errorf("the certificate that was fetched: %v\n%s", err, got)
	}
	scp(0, "-O", at+"candidate-config.xml", fetched)
	whole := filepath.Join(fetched, "candidate-config.xml")
	if out := scp(1, whole, at); !strings.Contains(out, "bring it under another name") && !strings.Contains(strings.ToLower(out), "permission denied") {
		t.Errorf("writing the gateway's own file: %q", out)
	}
	c.run(0, "y\n", "revert config")
	scp(0, whole, at+"saved.xml")
	if out := c.run(0, "load config from saved.xml\ny\n"); !strings.Contains(out, "Config loaded from saved.xml") {
		t.Errorf("loading printed %q", out)
	}
	if out := c.run(0, "", "show certificate name brought"); !strings.Contains(out, "key: software") {
		t.Errorf("after the configuration was loaded the certificate is\n%s", out)
	}

	// A reader fetches, and brings nothing; another administrator's files are his own.
	c.commit("set mgt-config users reader permissions role-based superreader yes",
		"set mgt-config users reader password", "readers-password", "readers-password")
	reader, err := g.OpenSSH(t.TempDir(), "reader", "readers-password")
	must(t, err)
	r, _ := reader.SCP(t.Context(), at2(reader)+"running-config.xml", fetched)
	if r.Status != 0 {
		t.Errorf("a reader fetches: %d %s", r.Status, r.Stderr)
	}
	if r, _ := reader.SCP(t.Context(), certificate, at2(reader)); r.Status == 0 {
		t.Error("a reader brought a file")
	}
	if r, _ := reader.SCP(t.Context(), at2(reader)+"saved.xml", fetched); r.Status == 0 {
		t.Error("a reader fetched another's file")
	}
}

func at2(ssh *world.OpenSSH) string { return ssh.Target() + ":" }
