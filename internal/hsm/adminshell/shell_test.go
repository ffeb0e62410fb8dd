package adminshell

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"moongate/internal/hsm/partition"
)

func TestTranscripts(t *testing.T) {
	t.Parallel()
	appliance := newAppliance(t)
	s := newAdmin(t, appliance)
	s.files = map[string][]byte{"certificate": newCertificate(t)}
	for _, test := range []struct {
		line    string
		answers []string
		want    string
	}{
		{"partition create -partition p1", nil, "'partition create' successful.\n"},
		{"role init -partition p1 -role co", []string{coPassword, coPassword}, "'role init' successful.\n"},
		{"role init -partition p1 -role CU", []string{coPassword, cuPassword, cuPassword}, "'role init' successful.\n"},
		{"client register -client gw -ip 192.0.2.7 -certificate c.pem", nil, "'client register' successful.\n"},
		{"client assignPartition -client gw -partition p1", nil, "'client assignPartition' successful.\n"},
		{"client list", nil, "registered client 1: gw\n"},
		{"client show -c gw", nil, "ClientID:    gw\nIPAddress:   192.0.2.7\nPartitions:  \"p1\"\n"},
		{"ntls ipcheck disable", nil, "Client address check disabled.\n"},
		{"ntls ipcheck show", nil, "Client address check disabled.\n"},
		{"ntls ipcheck enable", nil, "Client address check enabled.\n"},
		{"ntls show", nil, "Listening on:        192.0.2.1:1792\nServer certificate:  /hsm/server.pem\nSHA-256:             00ff\n"},
		{"role changePw -p p1 -role cu", []string{cuPassword, "fresh-password", "fresh-password"}, "'role changePw' successful.\n"},
		{"role unlock -p p1 -role cu", nil, "'role unlock' successful.\n"},
		{"client revokePartition -c gw -p p1", nil, "'client revokePartition' successful.\n"},
		{"client delete -c gw -f", nil, "'client delete' successful.\n"},
		{"client list", nil, ""},
		{"partition delete -p p1 -f", nil, "'partition delete' successful.\n"},
		{"hsm changePw", []string{soPassword, "fresh-password", "fresh-password"}, "Please enter the HSM Administrators' password:\n'hsm changePw' successful.\n"},
		{"hsm changePw", []string{"fresh-password", soPassword, soPassword}, "Please enter the HSM Administrators' password:\n'hsm changePw' successful.\n"},
		{"hsm logout", nil, "'hsm logout' successful.\n"},
	} {
		if out := s.ok(test.line, test.answers...); out != test.want+"\nCommand Result : 0 (Success)\n" {
			t.Errorf("%s printed\n%s", test.line, out)
		}
	}
	// Without a login each act asks.
	out := s.ok("partition create -p p2", soPassword)
	if !strings.HasPrefix(out, "Please enter the HSM Administrators' password:\n") {
		t.Errorf("an act without a login printed\n%s", out)
	}
	s.fails("password incorrect", "partition create -p p3", []string{"not the password"}, "Error: the password is wrong\n")
	s.fails("Command failed", "partition create -p p3", nil, "Error: nobody is there\n")
	if out := s.ok("audit verify"); !strings.Contains(out, "The audit log is whole.\n") {
		t.Errorf("audit verify printed\n%s", out)
	}
	if out := s.ok("audit tail -n 1"); !strings.HasPrefix(out, "{") || strings.Count(out, "\n") != 3 {
		t.Errorf("audit tail -n 1 printed\n%s", out)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	s := newAdmin(t, newAppliance(t))
	s.files = map[string][]byte{"certificate": newCertificate(t)}
	s.ok("partition create -p p1")
	s.ok("client register -c gw -ip 192.0.2.7 -certificate c.pem")
	for _, test := range []struct {
		reason, line string
		answers      []string
		says         string
	}{
		{"Syntax error", "partition", nil, "is not complete"},
		{"Syntax error", "partition create", nil, "Usage: partition create -partition LABEL"},
		{"Syntax error", "role unlock -p p1 -role so", nil, `-role "so"; expected co or cu`},
		{"Syntax error", "audit tail -n 0", nil, "expected a number from 1 to 10000"},
		{"Syntax error", "audit tail -n ten", nil, "expected a number from 1 to 10000"},
		{"Syntax error", "help nonsense", nil, `"nonsense" is not a command`},
		// A duplicate names what to do.
		{"already exists", "client register -c gw -ip 192.0.2.7 -certificate c.pem", nil, "`client delete -client gw`, or register with -replace"},
		{"already exists", "client register -c gw2 -ip 192.0.2.8 -certificate c.pem", nil, `registered already, for client "gw"`},
		{"already exists", "partition create -p p1", nil, "choose another label"},
		{"bad argument", "client register -c gw2 -ip 192.0.2.7 -hostname h -certificate c.pem", nil, "exactly one of -ip and -hostname"},
		{"bad argument", "client register -c gw2 -ip 192.0.2.777 -certificate c.pem", nil, `-ip "192.0.2.777" is not an IP address`},
		{"bad argument", "partition create -p -f", nil, "begins with a dash"},
		{"object not found", "client show -c nobody", nil, "`client list` shows those that are"},
		{"object not found", "client assignPartition -c gw -p none", nil, "`partition list` shows those that are"},
		{"partition is not assigned to this client", "client revokePartition -c gw -p p1", nil, "is not assigned to client gw"},
		{"role has no password yet", "role init -p p1 -role cu", []string{coPassword, cuPassword, cuPassword}, "run `role init -partition p1 -role co`"},
		{"password length out of range", "role init -p p1 -role co", []string{"short", "short"}, "has 5 bytes; expected 8 to 256"},
		{"Command failed", "role init -p p1 -role co", []string{coPassword, cuPassword}, "the two passwords differ; nothing was changed"},
		{"Command failed", "client register -c gw2 -ip 192.0.2.9", nil, "there is no 192.0.2.9.pem in the HSM's inbox"},
		{"Syntax error", "client register -c gw2 -hostname ../x", nil, "is no address or host name"},
	} {
		s.fails(test.reason, test.line, test.answers, "Error: ", test.says)
	}
}

// TestPasswordsAreSecrets: they are asked for as such and come back nowhere.
func TestPasswordsAreSecrets(t *testing.T) {
	t.Parallel()
	appliance := newAppliance(t)
	s := newAdmin(t, appliance)
	printed := s.ok("hsm login", soPassword) + s.ok("partition create -p p1")
	for _, test := range []struct {
		line    string
		answers []string
	}{
		{"role init -p p1 -role co", []string{coPassword, coPassword}},
		{"role changePw -p p1 -role co", []string{coPassword, cuPassword, cuPassword}},
		{"role init -p p1 -role cu", []string{cuPassword, "short", "short"}},
		{"hsm login", []string{"wrong-password"}},
	} {
		_, out := s.run(test.line, test.answers...)
		printed += out
		for _, prompt := range s.term.prompts {
			if !strings.HasPrefix(prompt, "*") {
				t.Errorf("%s asks %q as no secret", test.line, prompt)
			}
		}
	}
	records, err := os.ReadFile(filepath.Join(appliance.AuditDir, "records.000000"))
	must(t, err)
	for _, secret := range []string{soPassword, coPassword, cuPassword, "wrong-password"} {
		if strings.Contains(printed, secret) || strings.Contains(string(records), secret) {
			t.Errorf("%q was printed or recorded", secret)
		}
	}
}

func TestConfirmation(t *testing.T) {
	t.Parallel()
	s := newAdmin(t, newAppliance(t))
	s.files = map[string][]byte{"certificate": newCertificate(t)}
	for _, test := range []struct{ what, make, remove, there string }{
		{"client", "client register -c x -ip 192.0.2.7 -certificate c.pem", "client delete -c x", "client show -c x"},
		{"partition", "partition create -p x", "partition delete -p x", "partition show -p x"},
	} {
		s.ok(test.make)
		for _, answer := range []string{"quit", "", "yes", "proceeds", "proceed now"} {
			s.fails("Command failed", test.remove, []string{answer}, "CAUTION: Are you sure you wish to delete", "not confirmed; nothing was changed")
		}
		s.fails("Command failed", test.remove, nil, "nobody is there")
		s.ok(test.there)
		s.ok(test.remove, " Proceed ")
		if want := fmt.Sprintf("Type 'proceed' to delete the %s, or 'quit' to quit now.\n> ", test.what); len(s.term.prompts) != 1 || s.term.prompts[0] != want {
			t.Errorf("%s asks %q", test.remove, s.term.prompts)
		}
		s.fails("object not found", test.there, nil)
		s.ok(test.make)
		s.ok(test.remove + " -force")
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	s := newAdmin(t, newAppliance(t))
	s.files = map[string][]byte{"certificate": newCertificate(t)}
	read := func(line string, v any) {
		t.Helper()
		out := s.ok(line + " -json")
		body, _, _ := strings.Cut(out, "\nCommand Result")
		dec := json.NewDecoder(strings.NewReader(body))
		dec.DisallowUnknownFields()
		if err := dec.Decode(v); err != nil || strings.TrimSpace(body[dec.InputOffset():]) != "" {
			t.Errorf("%s -json: %v\n%s", line, err, out)
		}
	}
	// Lists are lists when they are empty, too.
	for _, line := range []string{"partition list", "client list"} {
		if out := s.ok(line + " -json"); !strings.HasPrefix(out, "[]\n") {
			t.Errorf("%s of an empty HSM printed\n%s", line, out)
		}
	}
	s.ok("partition create -p p1")
	s.ok("client register -c gw -hostname GW.example -certificate c.pem")
	s.ok("client assignPartition -c gw -p p1")

	var info hsmView
	read("hsm show", &info)
	if info.Label != "lab" || info.Partitions != 1 || info.Clients != 1 || !info.AddressCheck || info.OfficerAttempts != 3 || len(info.Serial) != 13 {
		t.Errorf("hsm show: %+v", info)
	}
	var partitions []partition.PartitionStatus
	read("partition list", &partitions)
	var one partitionView
	read("partition show -p p1", &one)
	if len(partitions) != 1 || one.Label != "p1" || one.Active || len(one.Roles) != 3 || one.Roles[0].Role != "co" || one.Roles[0].Initialized || len(one.Clients) != 1 {
		t.Errorf("partitions: %+v, %+v", partitions, one)
	}
	var clients []partition.ClientStatus
	read("client list", &clients)
	var c partition.ClientStatus
	read("client show -c gw", &c)
	if len(clients) != 1 || c.Name != "gw" || c.Hostname != "gw.example" || c.Address != "" || len(c.Fingerprint) != 64 || len(c.Partitions) != 1 || c.Partitions[0] != "p1" {
		t.Errorf("clients: %+v, %+v", clients, c)
	}
	if out := s.ok("client fingerprint -c gw"); !strings.HasPrefix(out, "Certificate fingerprint (SHA-256): "+c.Fingerprint+"\n") {
		t.Errorf("client fingerprint printed\n%s", out)
	}
	var ntls struct{ Listen, Certificate, Fingerprint string }
	read("ntls show", &ntls)
	if ntls.Listen != "192.0.2.1:1792" || ntls.Certificate != "/hsm/server.pem" || ntls.Fingerprint != "00ff" {
		t.Errorf("ntls show: %+v", ntls)
	}
}

func TestCertificateFromTheInbox(t *testing.T) {
	t.Parallel()
	appliance := newAppliance(t)
	s := newAdmin(t, appliance)
	for _, name := range []string{"192.0.2.7", "gw.example"} {
		must(t, os.WriteFile(filepath.Join(appliance.Inbox, name+".pem"), newCertificate(t), 0o600))
	}
	s.ok("client register -c a -ip 192.0.2.7")
	s.ok("client register -c b -hostname gw.example")
}

func TestHelpIsNoCommand(t *testing.T) {
	t.Parallel()
	s := newAdmin(t, newAppliance(t))
	for _, line := range []string{"", "help", "?", "HELP"} {
		if out := s.ok(line); !strings.HasPrefix(out, Help()) {
			t.Errorf("%q printed\n%s", line, out)
		}
	}
	for _, line := range []string{"help partition create", "partition create -help", "partition create --help", "part cr -h", "partition create ?"} {
		if out := s.ok(line); !strings.HasPrefix(out, "Usage: partition create -partition LABEL\n") {
			t.Errorf("%q printed\n%s", line, out)
		}
	}
}
