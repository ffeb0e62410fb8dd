package adminshell

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"moongate/internal/audit"
	"moongate/internal/hsm/users"
)

// process is a Control that notes what it is asked.
type process struct {
	connections int
	did         []string
	fail        error
}

func (p *process) Services() []Service {
	return []Service{{Name: "ntls", Address: "192.0.2.1:1793", Running: true}, {Name: "ssh", Detail: "turned off"}, {Name: "syslog", Detail: "no collector"}}
}

func (p *process) RestartNTLS(context.Context) error { return p.note("restart") }

func (p *process) BindNTLS(_ context.Context, address string) error { return p.note("bind " + address) }

func (p *process) RegenerateCertificate(_ context.Context, hosts []string) (string, error) {
	return "aa11", p.note("regenerate " + strings.Join(hosts, " "))
}

func (p *process) Log(n int) []string {
	return []string{"first", "second\x1b[2J\nthird"}[max(0, 2-n):]
}

func (p *process) Figures() Figures {
	return Figures{Started: time.Now().Add(-time.Minute), Connections: p.connections, Operations: 12, Failed: 3, StoreBytes: 3 << 20, AuditBytes: 2048, FreeBytes: 5 << 30}
}

func (p *process) note(act string) error {
	p.did = append(p.did, act)
	return p.fail
}

// newServed is newAppliance with accounts and a process that serves it.
func newServed(t *testing.T) (*Appliance, *process) {
	t.Helper()
	a, p := newAppliance(t), &process{}
	a.Control, a.HostKeys = p, []string{"ssh-ed25519 SHA256:abc"}
	var err error
	a.Users, err = users.Create(filepath.Join(t.TempDir(), "users.json"), users.Options{NewKDF: quickKDF})
	must(t, err)
	for _, role := range users.Roles() {
		must(t, a.Users.Add(string(role), role))
	}
	return a, p
}

// as starts a session of the account that is named like its role.
func as(t *testing.T, a *Appliance, role users.Role) *admin {
	t.Helper()
	s := &admin{t: t, term: &script{}}
	who := Administrator{operator.Operator, role}
	if role != users.RoleConsole {
		who.Name, who.From = string(role), "192.0.2.9:5022"
	}
	s.shell = New(a, who, s.term)
	t.Cleanup(s.shell.Close)
	return s
}

// recorded returns the audit records of an action as "who: outcome: detail".
func recorded(t *testing.T, a *Appliance, action string) []string {
	t.Helper()
	var list []string
	for r, err := range audit.Records(a.AuditDir, 0) {
		must(t, err)
		if r.Action == action {
			list = append(list, r.Client+": "+r.Outcome+": "+r.Detail)
		}
	}
	return list
}

func TestServices(t *testing.T) {
	t.Parallel()
	a, p := newServed(t)
	s := as(t, a, users.RoleOperator)
	for line, want := range map[string]string{
		"service list":             "running",
		"service status SSH":       "turned off",
		"ntls show":                "Listening on:        192.0.2.1:1793",
		"status":                   "Operations:          12, 3 of them failed",
		"syslog show":              "no collector",
		"syslog tail":              "first\nsecond\\u001b[2J\\u000athird\n",
		"syslog tail -n 1":         "second",
		"network show":             "Hostname:",
		"sysconf fingerprint ssh":  "ssh-ed25519 SHA256:abc",
		"sysconf fingerprint ntls": "00ff",
		"hsm show":                 "keys 3.0 MiB, audit log 2.0 KiB, free 5.0 GiB",
		"version":                  "moongate-hsm test",
	} {
		if out := s.ok(line); !strings.Contains(out, want) {
			t.Errorf("%s does not say %q:\n%s", line, want, out)
		}
	}
	s.ok("service restart ntls")
	s.ok("ntls bind [::1]:1792")
	// Live connections are asked about.
	p.connections = 2
	s.fails("Command failed", "service restart ntls", []string{"quit"}, "2 client connections will be ended")
	s.ok("service restart ntls", "proceed")
	s.ok("ntls bind 127.0.0.1:1 -force")
	ad := as(t, a, users.RoleAdmin)
	ad.fails("Command failed", "sysconf regenCert", []string{"no"}, "Every client must add this HSM again")
	if out := ad.ok("sysconf regenCert hsm.example,10.0.0.1 -f"); !strings.Contains(out, "SHA-256: aa11\n") {
		t.Errorf("regenCert printed\n%s", out)
	}
	if want := []string{"restart", "bind [::1]:1792", "restart", "bind 127.0.0.1:1", "regenerate hsm.example 10.0.0.1"}; !slices.Equal(p.did, want) {
		t.Errorf("the process did %q, want %q", p.did, want)
	}
	s.fails("Syntax error", "service restart ssh", nil, "expected ntls")
	s.fails("Syntax error", "service status x", nil, "there is no service")
	p.fail = errors.New("the port is taken")
	s.fails("Command failed", "ntls bind 127.0.0.1:2 -f", nil, "the port is taken")
	got := recorded(t, a, "ntls.bind")
	if len(got) != 6 || got[0] != "operator: intent: [::1]:1792" || got[1] != "operator: ok: [::1]:1792" || !strings.HasPrefix(got[5], "operator: general error: 127.0.0.1:2") {
		t.Errorf("ntls bind is recorded as %q", got)
	}
}

func TestWithoutAProcess(t *testing.T) {
	t.Parallel()
	s := newAdmin(t, newAppliance(t))
	for _, c := range commands() {
		line := c.words
		for _, o := range c.options {
			if o.required {
				line += " -" + o.name + " x"
			}
		}
		if c.control {
			s.fails("Command failed", line, nil, "it is not running; start it with `moongate-hsm serve`")
		}
		if c.accounts {
			s.fails("Command failed", line, nil, "this appliance has no file of accounts")
		}
	}
	for _, line := range []string{"hsm show", "ntls show", "network show", "my info", "version", "audit show"} {
		s.ok(line)
	}
}

// TestJSONEverywhere: what lists or shows can print JSON, and prints one value.
func TestJSONEverywhere(t *testing.T) {
	t.Parallel()
	a, _ := newServed(t)
	s := as(t, a, users.RoleConsole)
	s.ok("partition create -p p1", soPassword)
	s.ok("role init -p p1 -role co", soPassword, coPassword, coPassword)
	s.files = map[string][]byte{"certificate": newCertificate(t)}
	s.ok("client register -c gw -ip 192.0.2.7 -certificate c.pem")
	other := newAppliance(t)
	der, _, err := other.HSM.HSMIdentity()
	must(t, err)
	s.files = map[string][]byte{"file": pemOf(der)}
	s.ok("hsm peer add -name other -file identity.pem -force", soPassword)
	values := map[string]string{"name": "other", "partition": "p1", "client": "gw", "role": "co", "username": "admin", "service": "ntls", "record": "0"}
	answers := map[string][]string{"partition showContents": {coPassword}}
	mustHave := []string{"list", "show", "showContents", "showPolicies", "status", "fingerprint", "tail", "info", "verify", "version"}
	for _, c := range commands() {
		has := slices.ContainsFunc(c.options, func(o option) bool { return o.name == "json" })
		fields := strings.Fields(c.words)
		if !has {
			if slices.Contains(mustHave, fields[len(fields)-1]) {
				t.Errorf("%s has no -json", c.words)
			}
			continue
		}
		if c.words == "my publicKey list" {
			continue // the console has no account; see TestMyself
		}
		line := c.words + " -json"
		for _, o := range c.options {
			if o.required {
				line += " -" + o.name + " " + values[o.name]
			}
		}
		body, _, _ := strings.Cut(s.ok(line, answers[c.words]...), "\nCommand Result")
		var v any
		if err := json.Unmarshal([]byte(body), &v); err != nil {
			t.Errorf("%s: %v\n%s", line, err, body)
		}
		if v == nil {
			t.Errorf("%s prints null", line)
		}
	}
}

func TestForcedLogin(t *testing.T) {
	t.Parallel()
	a, p := newServed(t)
	s := as(t, a, users.RoleAdmin)
	s.ok("partition create -p p1", soPassword)
	ip := func(s *admin, answers ...string) { t.Helper(); s.ok("ntls ipcheck disable", answers...) }
	ip(s) // as the guide's administrator: alone
	s.ok("sysconf forceSOLogin enable", soPassword)
	if out := s.ok("sysconf forceSOLogin show"); !strings.HasPrefix(out, "Forced SO login enabled.\n") {
		t.Errorf("show printed\n%s", out)
	}
	ip(s, soPassword)
	s.ok("service restart ntls", soPassword)
	s.ok("ntls bind 127.0.0.1:9", soPassword)
	s.ok("sysconf regenCert -f", soPassword)
	s.fails("password incorrect", "ntls bind 127.0.0.1:9", []string{"not the password"})
	if len(p.did) != 3 {
		t.Errorf("the process did %q", p.did)
	}
	s.ok("hsm login", soPassword)
	ip(s)
	s.ok("hsm logout")
	s.ok("sysconf forceSOLogin disable", soPassword)
	ip(s)
	// Partitions are the Security Officer's in any case.
	s.fails("Command failed", "partition create -p p2", nil)
}

func TestAuditCommands(t *testing.T) {
	t.Parallel()
	a, _ := newServed(t)
	s := as(t, a, users.RoleAudit)
	s.fails("role has no password yet", "audit login", []string{"auditor-pass"})
	s.ok("audit init", soPassword, "auditor-pass", "auditor-pass")
	s.fails("password incorrect", "audit login", []string{"wrong-password"})
	s.ok("audit config -strict on -segmentSize 64k", "auditor-pass") // asked for without a login
	s.ok("audit login", "auditor-pass")
	if out := s.ok("my info"); !strings.Contains(out, "Logged in as:  Auditor\n") {
		t.Errorf("my info printed\n%s", out)
	}
	s.ok("audit config -diskFull count")
	if out := s.ok("audit show"); !strings.Contains(out, "Strict:                 on\n") || !strings.Contains(out, "When the disk is full:  count\n") || !strings.Contains(out, "64.0 KiB") {
		t.Errorf("audit show printed\n%s", out)
	}
	for line, want := range map[string]string{
		"audit config":                      "say what to change",
		"audit config -strict perhaps":      "expected on or off",
		"audit config -diskFull ignore":     "ignore",
		"audit config -segmentSize 1":       "segment",
		"audit config -segmentSize 9999999": "", // allowed
		"audit config -segmentSize 1X":      "expected a number of bytes",
		"audit prove no":                    "expected the number of a record",
	} {
		if want == "" {
			s.ok(line)
			continue
		}
		s.fails("Syntax error", line, nil, want)
	}
	s.ok("audit archive")
	if out := s.ok("audit log verify"); !strings.Contains(out, "The audit log is whole.\n") {
		t.Errorf("audit log verify printed\n%s", out)
	}
	proof, _, _ := strings.Cut(s.ok("audit prove 1"), "\nCommand Result")
	if event, err := audit.VerifyProof([]byte(proof), a.Journal.VerifierKey()); err != nil || event.Seq != 1 {
		t.Errorf("the proof of record 1 proves %d, %v:\n%s", event.Seq, err, proof)
	}
	note, _, _ := strings.Cut(s.ok("audit checkpoint"), "\nCommand Result")
	if tree, err := audit.ParseCheckpoint([]byte(note), a.Journal.VerifierKey()); err != nil || tree.N < 5 {
		t.Errorf("the checkpoint covers %d, %v:\n%s", tree.N, err, note)
	}
	if out := s.ok("audit log list"); !strings.Contains(out, "(open)") {
		t.Errorf("audit log list printed\n%s", out)
	}
	s.ok("audit changePw", "auditor-pass", "auditor-new", "auditor-new")
	s.fails("Command failed", "audit config -strict off", nil) // logged out by that
	s.ok("audit config -strict off", "auditor-new")
	if got := recorded(t, a, "audit.config"); len(got) < 4 || !strings.HasPrefix(got[0], "audit: intent: ") {
		t.Errorf("audit config is recorded as %q", got)
	}
}
