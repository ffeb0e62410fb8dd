package moongate_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// layers says what each package may import of this module: its row, and
// nothing else. The standard library and outside modules are not listed here;
// those that a layer must not see are in forbidden. A package without a row
// fails the test, so that a new package argues its place.
var layers = map[string][]string{
	// Leaves.
	"internal/durable": {},
	// failing makes system calls fail, for the tests of what writes files.
	"internal/durable/failing": {},
	// harden is the first thing that both daemons do.
	"internal/harden": {},
	// selfsign asks a crypto.Signer for one signature: cmu and embedded share it.
	"internal/selfsign": {},
	// keyfile reads and writes files of certificates and keys: bytes to values.
	"internal/keyfile": {},
	"internal/audit":   {"internal/durable"},
	// shell and sshd know no appliance: the HSM and the gateway both use them.
	"internal/shell": {},
	"internal/sshd":  {"internal/durable"},
	// login is what both appliances' logins share: delays, SSH public keys.
	"internal/login": {},
	// passphrase is Argon2id with its text.
	"internal/passphrase": {},
	// ownsocket is a unix socket for the program's own user and root.
	"internal/ownsocket": {},
	// xmltext writes text into XML, for the configuration and the API.
	"internal/xmltext": {},
	// httpd serves HTTP until it is told to stop.
	"internal/httpd": {},
	// syslog sends lines; what they say is its callers'.
	"internal/syslog": {},

	// The HSM. Only partition says yes or no; server never sees a key.
	"internal/hsm/object": {},
	"internal/hsm/mech":   {"internal/hsm/object"},
	"internal/hsm/wire":   {"internal/hsm/object"},
	// replica is the rules by which partitions come to hold the same, and the
	// messages between them: no I/O; store keeps what the rules ask for.
	"internal/hsm/replica":   {"internal/hsm/object"},
	"internal/hsm/store":     {"internal/hsm/object", "internal/hsm/replica", "internal/durable"},
	"internal/hsm/partition": {"internal/hsm/object", "internal/hsm/mech", "internal/hsm/replica", "internal/hsm/store", "internal/audit"},
	"internal/hsm/server":    {"internal/hsm/wire", "internal/hsm/object"},
	// settings is the process's configuration file, and nothing but that.
	"internal/hsm/settings": {},
	// doctor looks at what the daemon would use, from outside; mech for what is
	// known of the cryptographic module.
	"internal/hsm/doctor": {"internal/hsm/daemon", "internal/hsm/settings", "internal/hsm/mech"},
	// users are the appliance's accounts, which outlive the HSM's own roles;
	// mech for how a password is derived.
	"internal/hsm/users": {"internal/hsm/mech", "internal/hsm/object", "internal/durable", "internal/login"},
	// durable for the certificates that are delivered by scp.
	"internal/hsm/adminshell": {"internal/hsm/partition", "internal/hsm/users", "internal/hsm/object", "internal/audit", "internal/shell", "internal/sshd", "internal/durable", "internal/ownsocket"},
	// client only for the certificate that both ends of a pinned connection
	// have: it is made in one place.
	"internal/hsm/daemon": {"internal/hsm/...", "internal/audit", "internal/durable", "internal/harden", "internal/httpd", "internal/ownsocket", "internal/sshd", "internal/syslog", "client"},

	// A third party's PKCS#11 module behind the HSM's protocol: p11 is a backend
	// over a Module, cryptoki loads one (the only cgo), handover is what the
	// process and its supervisor say to each other.
	"internal/p11":          {"internal/hsm/object", "internal/hsm/server"},
	"internal/p11/cryptoki": {"internal/p11"},
	"internal/p11/handover": {},

	// The client of an HSM: what any Go program may use.
	// durable for the audit checkpoint that it remembers.
	"client": {"internal/hsm/wire", "internal/hsm/object", "internal/durable"},

	// ha is several of them as one: it knows the words of replication, and
	// remembers a group's record in a file.
	"client/ha": {"client", "internal/hsm/object", "internal/durable"},

	// The gateway. flow holds the data plane's words; intercept knows no
	// certificate store and no HSM, only a flow.Certifier.
	"internal/gw/flow":   {},
	"internal/gw/config": {"internal/durable", "internal/xmltext"},
	// vault for the words of what wraps its master key.
	// p11host starts and watches moongate-p11; handover for what they say.
	"internal/gw/p11host": {"client", "internal/ownsocket", "internal/p11/handover"},
	"internal/gw/keys":    {"client", "internal/gw/flow", "internal/gw/vault"},
	// hsmlink makes and keeps the way to HSMs; p11host for that to a module.
	"internal/gw/hsmlink":   {"client", "client/ha", "internal/durable", "internal/gw/config", "internal/gw/keys", "internal/gw/p11host", "internal/gw/vault"},
	"internal/gw/certstore": {"internal/gw/config", "internal/gw/keys", "internal/gw/vault", "internal/selfsign", "internal/keyfile"},
	"internal/gw/verify":    {"internal/gw/flow"},
	"internal/gw/policy":    {"internal/gw/config", "internal/gw/flow"},
	"internal/gw/mint":      {"internal/gw/certstore", "internal/gw/flow"},
	"internal/gw/inbound":   {"internal/gw/certstore", "internal/gw/flow"},
	"internal/gw/intercept": {"internal/gw/flow", "internal/gw/policy"},
	// plane makes the data plane of a snapshot and changes it under way.
	"internal/gw/plane": {"internal/gw/config", "internal/gw/flow", "internal/gw/keys", "internal/gw/certstore", "internal/gw/verify", "internal/gw/policy", "internal/gw/mint", "internal/gw/inbound", "internal/gw/intercept"},
	// syslog for what is forwarded.
	"internal/gw/logstore": {"internal/gw/flow", "internal/durable", "internal/syslog"},

	// The gateway's management: one door, mgmt, and three ways to it.
	"internal/gw/revision": {"internal/gw/config", "internal/durable"},
	"internal/gw/vault":    {"internal/durable", "internal/passphrase"},
	// admin knows accounts as it is given them, not where they are kept.
	"internal/gw/admin": {"internal/durable", "internal/login", "internal/passphrase"},
	"internal/gw/jobs":  {"internal/durable"},
	// backup knows files, and no gateway.
	"internal/gw/backup": {"internal/durable", "internal/passphrase"},
	// keyfile, login and syslog for their words alone.
	"internal/gw/mgmt": {"client/ha", "internal/gw/config", "internal/gw/hsmlink", "internal/gw/revision", "internal/gw/vault", "internal/gw/admin", "internal/gw/jobs", "internal/gw/certstore", "internal/gw/keys", "internal/gw/plane", "internal/gw/policy", "internal/gw/flow", "internal/gw/logstore", "internal/keyfile", "internal/login", "internal/syslog"},
	// config for its nodes and the schema, admin and jobs for words, vault and
	// revision for those of a change of the master key, and of locks.
	"internal/gw/ops": {"internal/xmltext", "internal/gw/mgmt", "internal/gw/config", "internal/gw/hsmlink", "internal/gw/admin", "internal/gw/jobs", "internal/gw/logstore", "internal/gw/plane", "internal/gw/revision", "internal/gw/vault"},
	"internal/gw/api": {"internal/gw/mgmt", "internal/gw/ops", "internal/gw/config", "internal/gw/admin", "internal/gw/jobs", "internal/gw/logstore"},
	"internal/gw/web": {"internal/gw/mgmt", "internal/gw/ops", "internal/gw/config", "internal/gw/admin", "internal/gw/jobs", "internal/gw/logstore", "internal/gw/plane", "internal/gw/revision", "internal/gw/vault", "internal/gw/hsmlink", "internal/gw/flow"},
	"internal/gw/cli": {"internal/gw/mgmt", "internal/gw/hsmlink", "internal/gw/ops", "internal/gw/config", "internal/gw/admin", "internal/gw/jobs", "internal/shell", "internal/sshd"},

	"internal/gw/daemon": {"internal/gw/...", "client", "internal/durable", "internal/harden", "internal/httpd", "internal/ownsocket", "internal/selfsign", "internal/sshd", "internal/syslog"},

	// Programs only wire.
	"cmd/moongate-hsm": {"internal/hsm/...", "internal/audit", "internal/durable"},
	"cmd/moongate":     {"internal/embedded", "internal/gw/daemon"},
	// server, for the process is an HSM of its own to its clients; client for
	// certificates and password files.
	"cmd/moongate-p11": {"internal/p11", "internal/p11/cryptoki", "internal/p11/handover", "internal/hsm/server", "internal/harden", "internal/ownsocket", "internal/durable", "client"},
	"cmd/cmu":          {"client", "client/ha", "internal/hsm/object", "internal/selfsign", "internal/durable"},

	// embedded is `moongate up`: it provisions an HSM and a gateway and
	// supervises them as two processes; it never opens the HSM's store.
	// admin for the hash of the first administrator's password.
	"internal/embedded": {"internal/gw/config", "internal/gw/daemon", "internal/gw/admin", "internal/selfsign", "client", "client/ha", "internal/durable"},

	// wycheprooftest is for the tests of mech, and of what stands before it.
	"internal/hsm/mech/wycheprooftest": {"internal/hsm/mech", "internal/hsm/object"},

	// p11test is for tests with a real token.
	"internal/p11/p11test": {},

	// keystest is for the tests of the packages that use keys.
	"internal/gw/keys/keystest": {"internal/gw/keys", "internal/gw/flow"},

	// mgmttest is for the tests of the interfaces to mgmt.
	"internal/gw/mgmt/mgmttest": {"internal/gw/..."},

	// Proof: tests and benchmarks see everything, and nothing sees them.
	"e2e":   {"..."},
	"bench": {"..."},
}

// forbidden names outside packages that a layer must not import, with the reason.
var forbidden = []struct{ pkg, imports, reason string }{
	{"internal/hsm/object", "os", "objects and their rules are pure: no I/O"},
	{"internal/hsm/mech", "os", "mechanisms are functions of key bytes: no I/O"},
	{"internal/hsm/mech", "net", "mechanisms are functions of key bytes: no I/O"},
	{"internal/hsm/replica", "os", "rules and messages are functions of values: no I/O"},
	{"internal/keyfile", "os", "a codec reads and writes what it is given: no I/O"},
	{"internal/hsm/wire", "os", "a codec reads and writes what it is given: no I/O"},
	{"internal/gw/flow", "net/http", "the data plane's words carry no protocol stack"},
	{"internal/gw/policy", "os", "a decision is a function of the snapshot and the hello"},
	{"internal/gw/policy", "crypto/tls", "a decision is a function of the snapshot and the hello"},
	{"internal/gw/intercept", "os", "the data plane owns connections, never files"},
}

const module = "moongate"

type goPackage struct {
	ImportPath string
	Imports    []string
}

func TestLayers(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range packages(t) {
		path, inside := strings.CutPrefix(p.ImportPath, module+"/")
		if !inside {
			continue
		}
		allowed, listed := layers[layerOf(path)]
		seen[layerOf(path)] = true
		if !listed {
			t.Errorf("%s has no row in layers: say what it is for and what it may import", path)
			continue
		}
		for _, imported := range p.Imports {
			target, ours := strings.CutPrefix(imported, module+"/")
			if !ours || within(target, layerOf(path)) {
				continue
			}
			if !slices.ContainsFunc(allowed, func(row string) bool { return matches(row, target) }) {
				t.Errorf("%s imports %s, which its row in layers does not name", path, target)
			}
		}
		for _, rule := range forbidden {
			if path == rule.pkg && slices.Contains(p.Imports, rule.imports) {
				t.Errorf("%s imports %s: %s", path, rule.imports, rule.reason)
			}
		}
	}
	for row := range layers {
		if !seen[row] {
			t.Errorf("layers has a row for %s, and there is no such package", row)
		}
	}
}

// layerOf is the row that governs a package: its own path, or that of the tree
// (e2e, bench) that it lies in.
func layerOf(path string) string {
	if top, _, nested := strings.Cut(path, "/"); nested && (top == "e2e" || top == "bench") {
		return top
	}
	return path
}

func within(path, row string) bool { return path == row || strings.HasPrefix(path, row+"/") }

func matches(row, path string) bool {
	if prefix, tree := strings.CutSuffix(row, "..."); tree {
		return strings.HasPrefix(path, prefix)
	}
	return row == path
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var list []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); err == io.EOF {
			return list
		} else if err != nil {
			t.Fatalf("decoding go list: %v", err)
		}
		list = append(list, p)
	}
}
