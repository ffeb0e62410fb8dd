package adminshell

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/partition"
	"moongate/internal/hsm/users"
)

const poPassword = "po-password"

func TestLastAttempt(t *testing.T) {
	t.Parallel()
	a, _ := newServed(t)
	s := as(t, a, users.RoleAdmin)
	wrong := []string{"wrong-password"}
	s.fails("password incorrect", "hsm login", wrong, "SO login attempts left: 2")
	s.fails("password incorrect", "hsm login", wrong, "SO login attempts left: 1")
	// Nothing is asked for a password, and nothing counted, without the word.
	for _, answer := range []string{"quit", soPassword, ""} {
		s.fails("Command failed", "hsm login", []string{answer}, "CAUTION: This is the last attempt. A wrong password destroys every key", "not confirmed")
	}
	s.fails("Command failed", "partition create -p p1", nil, "CAUTION: This is the last attempt.")
	s.ok("hsm login", "proceed", soPassword) // and all three are there again
	s.fails("password incorrect", "hsm login", wrong, "SO login attempts left: 2")
	s.fails("password incorrect", "hsm login", wrong, "SO login attempts left: 1")
	// Another session of a login that stays.
	other := as(t, a, users.RoleOperator)
	s.fails("password incorrect", "hsm login", []string{"proceed", "wrong-password"}, "the HSM was zeroized")
	other.fails("not initialised", "partition create -p p1", nil, "run `hsm init -label LABEL`")
	if out := s.ok("hsm show"); !strings.Contains(out, "no; run `hsm init") {
		t.Errorf("hsm show printed\n%s", out)
	}
}

func TestInitAndZeroize(t *testing.T) {
	t.Parallel()
	a, _ := newServed(t)
	s, console := as(t, a, users.RoleAdmin), as(t, a, users.RoleConsole)
	s.fails("already exists", "hsm init -label x", nil, "`hsm zeroize`")
	s.ok("hsm login", soPassword)
	s.ok("partition create -p p1")
	s.fails("Command failed", "hsm zeroize", []string{"quit"}, "Every key, partition, client registration")
	s.ok("partition show -p p1")
	other := as(t, a, users.RoleAdmin)
	other.fails("password incorrect", "hsm zeroize -f", []string{"wrong-password"})
	s.ok("hsm zeroize", "proceed")
	// Every command that needs an HSM says so, and names what to do.
	for _, c := range commands() {
		line := c.words
		for _, o := range c.options {
			if o.required {
				line += " -" + o.name + " x"
			}
		}
		if c.needs == needHSM {
			console.fails("not initialised", line, nil, "run `hsm init -label LABEL`")
		}
	}
	s.fails("Command failed", "hsm init -label again", []string{"no"})
	s.fails("Command failed", "hsm init -label again -f", []string{soPassword, "another-password"}, "differ")
	s.ok("hsm init -label again", "proceed", soPassword, soPassword)
	if got := s.shell.Interpreter().Prompt(); got != "[again] moonsh:> " {
		t.Errorf("the prompt is %q", got)
	}
	s.fails("object not found", "partition show -p p1", nil)
	s.fails("Command failed", "partition create -p p1", nil) // logged out by the zeroization
	// The password may be what was lost: the console needs none.
	console.ok("hsm zeroize -force")
	s.fails("not initialised", "hsm login", nil)
}

func TestPartitionOfficers(t *testing.T) {
	t.Parallel()
	a, _ := newServed(t)
	s := as(t, a, users.RoleAdmin)
	s.ok("hsm login", soPassword)
	s.ok("partition create -p p1")
	// Until there is one, the HSM's Security Officer stands in.
	s.ok("partition changePolicy -p p1 -policy min-rsa-bits -value 3072")
	s.ok("partition changePolicy -p p1 -policy 7 -value off")
	s.fails("role has no password yet", "partition login -p p1", nil, "`partition init -partition p1`")
	s.ok("partition init -p p1", poPassword, poPassword)
	// From now on each act asks, or a login stays.
	s.ok("role init -p p1 -role co", poPassword, coPassword, coPassword)
	s.fails("password incorrect", "partition changePolicy -p p1 -policy activation -value on", []string{soPassword})
	s.ok("partition login -p p1", poPassword)
	s.ok("partition changePolicy -p p1 -policy activation -value on")
	if out := s.ok("my info"); !strings.Contains(out, "HSM Security Officer, Security Officer of partition p1") {
		t.Errorf("my info printed\n%s", out)
	}
	out := s.ok("partition showPolicies -p p1")
	for _, row := range []string{"4       min-rsa-bits              3072", "7       user-may-sign             off", "8       activation                on"} {
		if !strings.Contains(out, row) {
			t.Errorf("showPolicies does not say %q:\n%s", row, out)
		}
	}
	s.ok("role changePw -p p1 -role po", poPassword, "po-password-2", "po-password-2")
	s.fails("not logged in", "role unlock -p p1 -role co", nil) // the old login ended with the old password
	s.ok("partition login -p p1", "po-password-2")
	s.ok("role unlock -p p1 -role co")
	s.ok("role init -p p1 -role cu", coPassword, cuPassword, cuPassword)
	if out := s.ok("role list -p p1"); strings.Count(out, "initialised, 0 wrong passwords in a row") != 3 {
		t.Errorf("role list printed\n%s", out)
	}
	s.fails("forbidden by policy", "role reset -p p1 -role co", []string{"co-password-2", "co-password-2"})
	s.fails("Command failed", "role recreate -p p1", []string{"quit"}, "destroy every key")
	s.ok("role recreate -p p1", "proceed", "co-password-3", "co-password-3")
	if out := s.ok("partition showContents -p p1", "co-password-3"); !strings.HasPrefix(out, "Number of objects: 0\n") {
		t.Errorf("showContents printed\n%s", out)
	}
	s.fails("password incorrect", "partition showContents -p p1 -role co", []string{coPassword})
	s.ok("partition deactivate -p p1")
	s.ok("partition logout")
	s.fails("Command failed", "role unlock -p p1 -role co", nil)
	// Which the HSM's Security Officer alone unlocks.
	s.ok("role unlock -p p1 -role po")
	s.fails("Syntax error", "role reset -p p1 -role po", nil, "expected co or cu")
	s.fails("bad argument", "partition changePolicy -p p1 -policy nonsense -value 1", nil, "is not known")
	s.fails("bad argument", "partition changePolicy -p p1 -policy 4 -value 17", nil, "expected 2048 or 3072 or 4096")
}

// TestOfficersAreWiped: what a Partition Security Officer's password opened is
// wiped when its command, its login or its session ends.
func TestOfficersAreWiped(t *testing.T) {
	t.Parallel()
	a, _ := newServed(t)
	for name, end := range map[string]func(*admin){
		"command": func(s *admin) {},
		"logout":  func(s *admin) { s.ok("partition logout") },
		"login":   func(s *admin) { s.ok("partition login -p login", poPassword) },
		"session": func(s *admin) { s.shell.Close() },
	} {
		s := as(t, a, users.RoleAdmin)
		s.ok("partition create -p "+name, soPassword)
		s.ok("partition init -p "+name, soPassword, poPassword, poPassword)
		if name != "command" {
			s.ok("partition login -p "+name, poPassword)
		}
		s.term.answers = []string{poPassword}
		off := object.PolicyValue{ID: object.PolicyImport}
		var held *partition.PartitionOfficer
		must(t, s.shell.partitionsDo(t.Context(), name, "test", func(p *partition.PartitionOfficer) error {
			held = p
			return p.SetPolicy(t.Context(), off)
		}))
		end(s)
		if err := held.SetPolicy(t.Context(), off); object.CodeOf(err) != object.ErrNotLoggedIn {
			t.Errorf("%s: afterwards: %v", name, err)
		}
	}
}

func TestRoleReset(t *testing.T) {
	t.Parallel()
	a, _ := newServed(t)
	s := as(t, a, users.RoleAdmin)
	s.ok("hsm login", soPassword)
	s.ok("partition create -p p1")
	s.ok("role init -p p1 -role po", poPassword, poPassword)
	s.ok("partition login -p p1", poPassword)
	s.ok("partition changePolicy -p p1 -policy officer-reset -value on")
	s.ok("role init -p p1 -role co", coPassword, coPassword)
	s.ok("role reset -p p1 -role co", "co-password-2", "co-password-2")
	s.fails("password incorrect", "partition showContents -p p1", []string{coPassword})
	s.ok("partition showContents -p p1", "co-password-2")
}

func TestAccounts(t *testing.T) {
	t.Parallel()
	a, _ := newServed(t)
	s := as(t, a, users.RoleAdmin)
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGxlv0xYBFzV3F8m1v7yTzQbDkXPm0yYxVnT0u1Yw5yX bob@desk"
	s.ok("user add bob -role Operator", "bobs-password", "bobs-password")
	s.ok("user add -username carol -role monitor -noPassword")
	s.fails("already exists", "user add bob -role monitor -noP", nil)
	s.fails("bad argument", "user add Bob -role monitor", nil)
	s.fails("bad argument", "user add dave -role root", nil, "expected admin, operator, monitor or audit")
	s.fails("password length out of range", "user add dave -role monitor", []string{"short", "short"})
	s.fails("object not found", "user password dave", nil) // nothing is left of it
	s.ok("user role bob -role monitor")
	s.ok("user disable bob")
	s.ok("user enable bob")
	s.ok("user unlock bob")
	s.ok("user password bob", "bobs-password-2", "bobs-password-2")
	if out := s.ok(fmt.Sprintf("user publicKey add bob -key %q", key)); !strings.Contains(out, "ssh-ed25519 SHA256:") {
		t.Errorf("publicKey add printed\n%s", out)
	}
	s.ok("user publicKey add carol", key) // asked for
	s.files = map[string][]byte{"file": []byte(key + "\n")}
	s.fails("already exists", "user publicKey add carol -file k.pub", nil)
	s.files = nil
	s.fails("Command failed", "user publicKey add carol -file k.pub", nil, "names a file of the HSM's own console")
	s.fails("bad argument", "user publicKey add carol -key nonsense", nil)
	if out := s.ok("user publicKey list bob"); !strings.Contains(out, "bob@desk\nNumber of keys: 1\n") {
		t.Errorf("publicKey list printed\n%s", out)
	}
	s.ok("user publicKey delete bob -key bob@desk")
	if out := s.ok("user list"); !strings.Contains(out, "bob       monitor   enabled  set       0") {
		t.Errorf("user list printed\n%s", out)
	}
	s.fails("action prohibited", "user delete admin -f", nil, "last enabled account")
	s.fails("Command failed", "user delete bob", []string{"quit"})
	s.ok("user delete bob", "proceed")
	got := recorded(t, a, "user.delete")
	if len(got) != 4 || got[3] != "admin: ok: bob" {
		t.Errorf("user delete is recorded as %q", got)
	}
}

func TestMyself(t *testing.T) {
	t.Parallel()
	a, _ := newServed(t)
	must(t, a.Users.SetPassword("audit", []byte("old-password")))
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGxlv0xYBFzV3F8m1v7yTzQbDkXPm0yYxVnT0u1Yw5yX"
	for _, role := range users.Roles() {
		s := as(t, a, role)
		s.ok(fmt.Sprintf("my publicKey add -key %q", key))
		if out := s.ok("my publicKey list"); !strings.Contains(out, "Number of keys: 1\n") {
			t.Errorf("%s: my publicKey list printed\n%s", role, out)
		}
		var which string
		keys, err := a.Users.Keys(string(role))
		must(t, err)
		which = keys[0].Fingerprint
		s.ok("my publicKey delete -key " + which)
	}
	s := as(t, a, users.RoleAudit)
	s.fails("password incorrect", "my password set", []string{"not-the-old-one"}, "the name, the password or the key is wrong")
	want := []string{"audit: intent: audit", "audit: password incorrect: audit: the name, the password or the key is wrong"}
	if diff := cmp.Diff(want, recorded(t, a, "my.password.set")); diff != "" {
		t.Errorf("a wrong old password is recorded (-want +got):\n%s", diff)
	}
	s.ok("my password set", "old-password", "new-password", "new-password")
	as(t, a, users.RoleMonitor).ok("my password set", "new-password", "new-password") // it had none
	console := as(t, a, users.RoleConsole)
	console.ok("my info")
	for _, line := range []string{"my password set", "my publicKey list", "my publicKey add", "my publicKey delete -key x"} {
		console.fails("Command failed", line, nil, "the console has no account")
	}
}

// TestChangedAccounts: an account that was changed does nothing more in the
// sessions that it has.
func TestChangedAccounts(t *testing.T) {
	t.Parallel()
	a, _ := newServed(t)
	ad := as(t, a, users.RoleAdmin)
	for role, line := range map[users.Role]string{
		users.RoleOperator: "user disable operator", users.RoleMonitor: "user role monitor -role audit", users.RoleAudit: "user delete audit -f",
	} {
		s := as(t, a, role)
		s.ok("version")
		ad.ok(line)
		s.fails("not logged in", "version", nil, "changed by an administrator")
		s.fails("not logged in", "help", nil)
	}
}

// TestContents lists what a client made, with a label that would steer the
// terminal.
func TestContents(t *testing.T) {
	t.Parallel()
	a, _ := newServed(t)
	s := as(t, a, users.RoleAdmin)
	s.ok("hsm login", soPassword)
	s.ok("partition create -p p1")
	s.ok("role init -p p1 -role co", coPassword, coPassword)
	s.ok("role init -p p1 -role cu", coPassword, cuPassword, cuPassword)
	s.ok("ntls ipcheck disable")
	s.files = map[string][]byte{"certificate": newCertificate(t)}
	s.ok("client register -c gw -ip 192.0.2.7 -certificate c.pem")
	s.files = nil
	s.ok("client assignPartition -c gw -p p1")
	c, err := a.HSM.Client("gw")
	must(t, err)
	at, err := a.HSM.Attach(t.Context(), c.Fingerprint, netip.MustParseAddrPort("192.0.2.7:1"))
	must(t, err)
	defer at.Close()
	session, err := at.OpenSession("p1")
	must(t, err)
	defer session.Close()
	must(t, session.Login(t.Context(), object.OperationID{}, object.RoleCryptoOfficer, []byte(coPassword)))
	_, _, err = session.Generate(t.Context(), object.OperationID{}, object.Mechanism{Type: object.MechAESKeyGen}, nil, object.Template{
		object.Text(object.AttrLabel, "evil\x1b[2J\nhandle=7"), object.Number(object.AttrValueLen, 32),
	})
	must(t, err)
	for _, line := range []string{"partition showContents -p p1", "partition showContents -p p1 -role cu"} {
		pw := map[bool]string{true: cuPassword, false: coPassword}[strings.HasSuffix(line, "cu")]
		if out := s.ok(line, pw); !strings.HasPrefix(out, "handle=1\tclass=secret\tlabel=evil\\u001b[2J\\u000ahandle=7\nNumber of objects: 1\n") {
			t.Errorf("%s printed\n%q", line, out)
		}
	}
	var list []contentView
	body, _, _ := strings.Cut(s.ok("partition showContents -p p1 -json", coPassword), "\nCommand Result")
	if err := json.Unmarshal([]byte(body), &list); err != nil || len(list) != 1 || list[0].Label != "evil\x1b[2J\nhandle=7" {
		t.Errorf("%+v, %v\n%s", list, err, body)
	}
}
