package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"moongate/e2e/peers"
	"moongate/e2e/pki"
	"moongate/e2e/world"
	"moongate/internal/gw/flow"
)

// cli is the gateway's command line, reached by OpenSSH.
type cli struct {
	t   *testing.T
	ssh *world.OpenSSH
}

func (s *setting) cli(t *testing.T) *cli {
	t.Helper()
	ssh, err := s.gateway.OpenSSH(t.TempDir(), "admin", s.gateway.Admin)
	must(t, err)
	return &cli{t, ssh}
}

// run runs ssh with commands as words or as input, and checks its exit status.
func (c *cli) run(status int, input string, words ...string) string {
	c.t.Helper()
	r, err := c.ssh.SSH(c.t.Context(), input, words...)
	if r.Status != status {
		c.t.Fatalf("ssh %q: status %d, want %d, %v\n%s\n%s", words, r.Status, status, err, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// commit configures and commits by a script.
func (c *cli) commit(lines ...string) {
	c.t.Helper()
	script := "configure\n" + strings.Join(lines, "\n") + "\ncommit\n"
	if out := c.run(0, script); !strings.Contains(out, "100%\nConfiguration committed successfully\n") || strings.Contains(out, "Error") {
		c.t.Fatalf("%s\nprinted\n%s", script, out)
	}
}

// TestCLI drives the command line in its three ways.
func TestCLI(t *testing.T) {
	t.Parallel()
	s := start(t, newCA(t), world.GatewaySettings{NoECDSA: true})
	c := s.cli(t)

	// One command.
	out := c.run(0, "", "show system info")
	for _, field := range []string{"hostname: moongate", "sw-version: 11.1.0", "multi-vsys: off", "model: "} {
		if !strings.Contains(out, field) {
			t.Errorf("show system info lacks %q:\n%s", field, out)
		}
	}
	if out := c.run(0, "", "show system info | match sw-version"); out != "sw-version: 11.1.0\n" {
		t.Errorf("a match printed %q", out)
	}
	if out := c.run(1, "", "show sistem info"); !strings.Contains(out, "system") {
		t.Errorf("a wrong word: %q", out)
	}

	// A script.
	c.commit("set deviceconfig system hostname edge-7")
	if out := c.run(0, "configure\nset deviceconfig system hostname edge-8\nshow deviceconfig system hostname\nrun show config diff\nrevert config\ny\ncommit\n"); !strings.Contains(out, "hostname edge-8;") ||
		!strings.Contains(out, "edge-7") || !strings.HasSuffix(out, "There are no changes to commit.\n") {
		t.Errorf("a script printed\n%s", out)
	}
	if out := c.run(1, "configure\nset deviceconfig system hostname bad_name\n"); !strings.Contains(out, "host name") || !strings.Contains(out, "bad_name") {
		t.Errorf("a wrong value: %q", out)
	}

	// A person.
	p := newPTY(t, c.ssh.Env(), "ssh", "-F", c.ssh.Config(), c.ssh.Target())
	for _, step := range []struct{ types, sees string }{
		{"", "admin@edge-7> "},
		{"sh\tsys\tin\t\r", "show system info"},
		{"", "sw-version: 11.1.0"},
		{"configure\r", "Entering configuration mode\r\n[edit]\r\n"},
		{"", "admin@edge-7# "},
		{"set deviceconfig system hostn\t", "set deviceconfig system hostname "},
		{"\x15set rulebase decryption rules ?", "<name>"},
		{"\x15", "# "},
		{"edit deviceconfig system\r", "[edit deviceconfig system]"},
		{"set hostname edge-9\rshow\r", "hostname edge-9;"},
		{"top\r", "[edit]"},
		{"set mgt-config users guest permissions role-based superreader yes\r", "[edit]"},
		{"set mgt-config users guest password\r", "Enter password   : "},
		{"a-long-password-9\r", "Confirm password : "},
		{"a-long-password-9\r", "[edit]"},
		{"commit description \"by hand\"\r", "100%\r\nConfiguration committed successfully"},
		{"exit\r", "Exiting configuration mode"},
		{"", "admin@edge-9> "},
		{"show admins all\r", ""},
		{"exit\r", ""},
	} {
		p.types(step.types)
		p.sees(step.sees)
	}
	if status := p.wait(); status != 0 {
		t.Errorf("the session ended with %d\n%s", status, p.text())
	}
	if strings.Contains(p.text(), "a-long-password-9") {
		t.Error("a password was shown")
	}

	// A reader looks, and changes nothing.
	guest, err := s.gateway.OpenSSH(t.TempDir(), "guest", "a-long-password-9")
	must(t, err)
	r := &cli{t, guest}
	if out := r.run(0, "", "show system info"); !strings.Contains(out, "hostname: edge-9") {
		t.Errorf("a reader saw\n%s", out)
	}
	if out := r.run(1, "configure\nset deviceconfig system hostname mine\n"); !strings.Contains(out, "superreader") {
		t.Errorf("a reader's change: %s", out)
	}
	if out := c.run(0, "", "show log config | json"); !strings.Contains(out, "edge-9") || !strings.Contains(out, "admin") || strings.Contains(out, "argon2id") {
		t.Errorf("the configuration log:\n%s", out)
	}
}

// TestRulesAct: what is committed decides about the next connection.
func TestRulesAct(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	bank := peers.NewOrigin(t, server(t, ca, "rsa", []string{"localhost"}))
	s := start(t, ca, world.GatewaySettings{NoECDSA: true, Allowed: []string{"127.0.0.0/8"}})
	c := s.cli(t)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	must(t, os.WriteFile(roots, append(pki.PEM(s.gateway.Certificates["forward-trust"]), pki.PEM(ca.Root)...), 0o600))
	issuer := func() string {
		t.Helper()
		n := s.countRecords()
		out := command(t, "curl", "-sS", "--noproxy", "", "--proxy", "http://"+s.gateway.Proxy, "--cacert", roots,
			"-w", "%{certs}", "-o", filepath.Join(t.TempDir(), "body"), "https://"+local("localhost", bank.Address)+"/")
		r := s.recordAfter(n, func(r *flow.Record) bool { return r.Kind == flow.Forward })
		if r.Revocation != "not-checked" {
			t.Errorf("revocation %q", r.Revocation)
		}
		for line := range strings.Lines(out) {
			if name, ok := strings.CutPrefix(line, "Issuer:"); ok {
				return strings.TrimSpace(name) + " by " + r.Rule
			}
		}
		t.Fatalf("no issuer in\n%s", out)
		return ""
	}
	expect := func(want string) {
		t.Helper()
		if got := issuer(); got != want {
			t.Errorf("issued by %q, want %q", got, want)
		}
	}
	root := "CN = e2e intermediate" // the bank's own
	expect("CN = forward-trust by forward")
	c.commit(
		"set rulebase decryption rules banks action no-decrypt destination-host localhost",
		"set rulebase decryption rules banks type ssl-forward-proxy",
		"move rulebase decryption rules banks top")
	expect(root + " by banks")
	c.commit("set rulebase decryption rules banks disabled yes")
	expect("CN = forward-trust by forward")
	c.commit("set rulebase decryption rules banks disabled no negate-destination yes destination 192.0.2.0/24")
	expect(root + " by banks")
	c.commit("delete rulebase decryption rules banks")
	expect("CN = forward-trust by forward")
	// Back to a version.
	out := c.run(0, "", "show config versions")
	if strings.Count(out, "admin") < 4 {
		t.Errorf("versions:\n%s", out)
	}
	c.commit("load config version 2")
	expect(root + " by banks")
	if out := c.run(0, "", "show rule-hit-count vsys vsys-name vsys1 rule-base decryption rules all"); !strings.Contains(out, "banks") {
		t.Logf("hit counts:\n%s", out)
	}
}

// TestTwoAdministrators: locks keep another administrator out, by name, and
// roles hold.
func TestTwoAdministrators(t *testing.T) {
	t.Parallel()
	s := start(t, newCA(t), world.GatewaySettings{NoECDSA: true})
	c := s.cli(t)
	p := newPTY(t, c.ssh.Env(), "ssh", "-F", c.ssh.Config(), c.ssh.Target())
	for _, step := range []struct{ types, sees string }{
		{"", "> "},
		{"configure\r", "[edit]"},
		{"set mgt-config users bob permissions role-based deviceadmin yes\r", "[edit]"},
		{"set mgt-config users bob password\r", "Enter password   : "},
		{"bobs-long-password\r", "Confirm password : "},
		{"bobs-long-password\r", "[edit]"},
		{"commit\r", "Configuration committed successfully"},
		{"exit\r", "> "},
		{"exit\r", ""},
	} {
		p.types(step.types)
		p.sees(step.sees)
	}
	p.wait()
	ssh, err := s.gateway.OpenSSH(t.TempDir(), "bob", "bobs-long-password")
	must(t, err)
	bob := &cli{t, ssh}
	c.run(0, "", "request config-lock add comment mine")
	if out := bob.run(1, "configure\nset deviceconfig system hostname bobs\n"); !strings.Contains(out, "admin") || !strings.Contains(out, "lock") {
		t.Errorf("bob edits under admin's lock: %s", out)
	}
	c.run(0, "", "request config-lock remove")
	bob.run(0, "configure\nset deviceconfig system hostname bobs\n")
	c.run(0, "", "request commit-lock add")
	if out := bob.run(1, "configure\ncommit\n"); !strings.Contains(out, "admin") || !strings.Contains(out, "lock") {
		t.Errorf("bob commits under admin's lock: %s", out)
	}
	c.run(0, "", "request commit-lock remove")
	if out := bob.run(1, "configure\nset mgt-config users bob permissions role-based superuser yes\n"); !strings.Contains(out, "deviceadmin") {
		t.Errorf("bob makes himself a superuser: %s", out)
	}
	c.commit("set deviceconfig system hostname both") // and what bob changed
}

// TestNetmiko: an automation library of another make drives the command line.
func TestNetmiko(t *testing.T) {
	t.Parallel()
	s := start(t, newCA(t), world.GatewaySettings{NoECDSA: true})
	host, port, _ := strings.Cut(s.gateway.SSH, ":")
	script := fmt.Sprintf(`
from netmiko import ConnectHandler
c = ConnectHandler(device_type="paloalto_panos", host=%q, port=%s, username="admin", password=%q, fast_cli=False)
print("PROMPT", c.find_prompt())
print("INFO", c.send_command("show system info"))
print("MODE", c.check_config_mode())
c.config_mode()
print("MODE", c.check_config_mode())
print("SET", c.send_command("set deviceconfig system hostname netmiko-1", expect_string="#"))
print("COMMIT", c.commit())
c.exit_config_mode()
c.set_base_prompt()
print("PROMPT", c.find_prompt())
c.disconnect()
`, host, port, s.gateway.Admin)
	ctx := t.Context()
	cmd := exec.CommandContext(ctx, "/usr/bin/python3", "-c", script)
	cmd.WaitDelay = time.Minute
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"PROMPT admin@moongate>", "sw-version: 11.1.0", "MODE False", "MODE True", "onfiguration committed successfully", "PROMPT admin@netmiko-1>"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
}
