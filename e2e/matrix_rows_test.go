package e2e

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/ops"
)

const (
	superuser   = admin.Superuser
	deviceadmin = admin.DeviceAdmin
	superreader = admin.SuperReader
)

// unknownOp is a command that the API does not have.
var unknownOp = []string{"type", "op", "cmd", "<configure></configure>"}

func inConfig(action, xpath string, more ...string) []string {
	return append([]string{"type", "config", "action", action, "xpath", xpath}, more...)
}

func inCommit(cmd string) []string { return []string{"type", "commit", "cmd", cmd} }

func configuring(lines ...string) []string { return append([]string{"configure"}, lines...) }

// steps is a multi-config.
func steps(inner string) []string {
	return []string{"type", "config", "action", "multi-config", "strict-transactional", "yes",
		"element", "<multi-configure-request>" + inner + "</multi-configure-request>"}
}

// another gives a cell something to commit.
func another(w *matrixWorld) { w.another() }

// waiting gives a cell a commit to confirm.
func waiting(w *matrixWorld) {
	w.another()
	id, err := w.Commit(w.t.Context(), console, mgmt.CommitRequest{Confirm: 24 * time.Hour})
	must(w.t, err)
	w.job(id)
}

// configurationRows are what both ways in have for the configuration, and what
// the API alone has.
func configurationRows() []operation {
	edit, read, load := admin.OpEditConfig, admin.OpReadConfig, admin.OpLoadConfig
	user := usersPath + "/entry[@name='second']"
	return []operation{
		{name: "get", least: superreader, needs: read, api: inConfig("get", systemPath), lines: configuring("show deviceconfig system")},
		{name: "show", least: superreader, needs: read, api: inConfig("show", systemPath), lines: []string{"show config running xpath " + systemPath}},
		{name: "set", least: deviceadmin, needs: edit, changes: true,
			api: inConfig("set", systemPath, "element", "<hostname>other</hostname>"), lines: configuring("set deviceconfig system hostname other")},
		{name: "edit that replaces", least: deviceadmin, needs: edit, changes: true, only: "API",
			api: inConfig("edit", systemPath+"/hostname", "element", "<hostname>other</hostname>"), lines: []string{"replace deviceconfig"}},
		{name: "delete", least: deviceadmin, needs: edit, changes: true,
			api: inConfig("delete", systemPath+"/hostname"), lines: configuring("delete deviceconfig system hostname")},
		{name: "rename", least: deviceadmin, needs: edit, changes: true,
			api: inConfig("rename", rulePath, "newname", "uno"), lines: configuring("rename rulebase decryption rules one to uno")},
		{name: "move", least: deviceadmin, needs: edit, changes: true,
			api: inConfig("move", rulePath, "where", "bottom"), lines: configuring("move rulebase decryption rules one bottom")},
		{name: "clone", least: deviceadmin, needs: edit, changes: true,
			api: inConfig("clone", rulesPath, "from", rulePath, "newname", "three"), lines: configuring("copy rulebase decryption rules one to three")},
		{name: "multi-config", least: deviceadmin, needs: edit, changes: true, only: "API",
			api:   steps(`<set id="1" xpath="` + systemPath + `"><hostname>other</hostname></set><delete id="2" xpath="` + rulePath + `"/>`),
			lines: []string{"multi-config"}},
		{name: "set an administrator", least: superuser, needs: admin.OpEditAdmins, first: edit, changes: true,
			api:   inConfig("set", user+"/permissions/role-based", "element", "<superreader>yes</superreader>"),
			lines: configuring("delete mgt-config users second")},
		{name: "delete an administrator in a multi-config", least: superuser, needs: admin.OpEditAdmins, first: edit, changes: true, only: "API",
			api:   steps(`<set id="1" xpath="` + systemPath + `"><hostname>other</hostname></set><delete id="2" xpath="` + user + `"/>`),
			lines: []string{"multi-config"}},
		{name: "set another's password", least: superuser, needs: admin.OpAdminPasswords, changes: true,
			api:   opOf("set password", "password=another-password", "admin=second"),
			lines: configuring("set mgt-config users second password", "another-password", "another-password")},

		{name: "commit", least: deviceadmin, needs: admin.OpCommit, changes: true, before: another,
			api: inCommit("<commit></commit>"), lines: configuring("commit")},
		{name: "commit of nothing", least: deviceadmin, needs: admin.OpCommit, says: "There are no changes to commit.",
			api: inCommit("<commit></commit>"), lines: configuring("commit")},
		{name: "commit force", least: deviceadmin, needs: admin.OpCommit, changes: true,
			api: inCommit("<commit><force></force></commit>"), lines: configuring("commit force")},
		{name: "commit confirmed", least: deviceadmin, needs: admin.OpCommit, changes: true, before: another,
			api: inCommit("<commit><confirmed>60</confirmed></commit>"), lines: configuring("commit confirmed 60")},
		{name: "commit confirm", least: deviceadmin, needs: admin.OpCommit, changes: true, before: waiting,
			api: inCommit("<commit><confirm></confirm></commit>"), lines: configuring("commit confirm")},
		{name: "validate", least: deviceadmin, needs: admin.OpValidate, before: another,
			api: opOf("validate full"), lines: configuring("validate full")},
		{name: "revert", least: deviceadmin, needs: admin.OpRevert, before: another, changes: true,
			api: opOf("revert config"), lines: configuring("revert config", "y")},
		{name: "load", least: deviceadmin, needs: load, changes: true,
			api: opOf("load config version", "=1"), lines: configuring("load config version 1")},

		{name: "keygen", least: superreader, needs: admin.OpOwnAPIKeys,
			api: []string{"type", "keygen", "user", "{user}", "password", "{password}"}, lines: []string{"request api-key generate"}},
		{name: "version", least: superreader, needs: admin.OpReadSystem, api: []string{"type", "version"}, lines: []string{"show system info"}},
		{name: "import a configuration", least: deviceadmin, needs: load, changes: true, only: "API",
			api: []string{"type", "import", "category", "configuration"}, file: wholeConfiguration, lines: []string{"import configuration"}},
		{name: "import a certificate", least: deviceadmin, needs: admin.OpCertificates, only: "API", says: "no PEM file",
			api: []string{"type", "import", "category", "certificate", "certificate-name", "new", "format", "pem"}, file: junk, lines: []string{"import certificate"}},
		{name: "import a private key", least: deviceadmin, needs: admin.OpCertificates, only: "API", says: "no PEM file",
			api: []string{"type", "import", "category", "private-key", "certificate-name", "ca", "format", "pem", "passphrase", "0123456789"}, file: junk, lines: []string{"import private-key"}},
		{name: "import both", least: deviceadmin, needs: admin.OpCertificates, only: "API", says: "no PKCS #12 file",
			api: []string{"type", "import", "category", "keypair", "certificate-name", "new", "format", "pkcs12", "passphrase", "0123456789"}, file: junk, lines: []string{"import keypair"}},
		{name: "export a certificate", least: superreader, needs: admin.OpExportCertificate, only: "API",
			api: []string{"type", "export", "category", "certificate", "certificate-name", "ca", "format", "pem"}, lines: []string{"export certificate"}},
		{name: "export a request", least: superreader, needs: admin.OpExportCertificate, only: "API",
			api: []string{"type", "export", "category", "certificate", "certificate-name", "ca", "format", "pkcs10"}, lines: []string{"export certificate"}},
		{name: "export a private key", least: superuser, needs: admin.OpExportKey, only: "API",
			api:   []string{"type", "export", "category", "certificate", "certificate-name", "ca", "format", "pem", "include-key", "yes", "passphrase", "a passphrase of it"},
			lines: []string{"export private-key"}},
		{name: "export the configuration", least: superreader, needs: read, only: "API",
			api: []string{"type", "export", "category", "configuration"}, lines: []string{"export configuration"}},
		{name: "export a version", least: superreader, needs: read, only: "API",
			api: []string{"type", "export", "category", "configuration", "version", "1"}, lines: []string{"export configuration"}},
		{name: "start a query of a log", least: superreader, needs: admin.OpReadLogs,
			api: []string{"type", "log", "log-type", "system"}, lines: []string{"show log system"}},
		{name: "fetch a query's result", least: superreader, needs: admin.OpReadLogs,
			api: []string{"type", "log", "action", "get", "job-id", "{log}"}, lines: []string{"show log config"}},
		{name: "end a query", least: superreader, only: "API",
			api: []string{"type", "log", "action", "finish", "job-id", "{log}"}, lines: []string{"finish log"}},
	}
}

// wholeConfiguration is one with another host name, and the administrators as
// they are: who may not change those may import it.
func wholeConfiguration(w *matrixWorld) []byte {
	text, err := w.ExportConfig(w.t.Context(), console, mgmt.Candidate)
	must(w.t, err)
	other := regexp.MustCompile(`<hostname>[^<]*</hostname>`).ReplaceAll(text, []byte("<hostname>other</hostname>"))
	if bytes.Equal(other, text) {
		w.t.Fatalf("no host name in %s", text)
	}
	return other
}

// junk is a file that is no certificate and no key.
func junk(*matrixWorld) []byte { return []byte("none") }

// commandLineRows are what the command line has for itself.
func commandLineRows() []operation {
	row := func(name string, lines ...string) operation {
		return operation{name: name, least: superreader, only: "CLI", api: unknownOp, lines: lines}
	}
	return []operation{
		row("help", "help"),
		row("set cli", "set cli pager off"),
		row("configure and leave it", "configure", "exit"),
		row("quit", "configure", "quit"),
		row("go to an element", "configure", "edit deviceconfig system"),
		row("go up", "configure", "up"),
		row("go to the top", "configure", "top"),
		row("find a command", "configure", "find command keyword hostname"),
		{name: "run an operational command", least: superreader, needs: admin.OpReadSystem, only: "CLI", api: unknownOp,
			lines: configuring("run show system info")},
		{name: "run an operational command that changes", least: deviceadmin, needs: admin.OpLock, only: "CLI", api: unknownOp, changes: true,
			lines: configuring("run request config-lock add")},
	}
}

// opRow is what the matrix knows of an operational command.
type opRow struct {
	words   string
	least   admin.Role
	needs   admin.Operation
	args    []string // name=value, =value, a flag, group/argument
	says    string
	before  func(*matrixWorld)
	changes bool
	first   admin.Operation
	spends  bool
}

// opRows are all operational commands.
func opRows() []opRow {
	config, system, sessions := admin.OpReadConfig, admin.OpReadSystem, admin.OpReadSessions
	certificate, lock := admin.OpCertificates, admin.OpLock
	var list []opRow
	reads := func(needs admin.Operation, words string, args ...string) {
		list = append(list, opRow{words: words, least: superreader, needs: needs, args: args})
	}
	reads(config, "check full-commit-required")
	reads(config, "check pending-changes")
	reads(config, "show certificate all")
	reads(config, "show certificate name", "=ca")
	reads(config, "show commit pending-confirm")
	reads(config, "show commit-locks")
	reads(config, "show config candidate")
	reads(config, "show config diff")
	reads(config, "show config list audit-comments")
	reads(config, "show config list change-summary")
	reads(config, "show config list changes")
	reads(config, "show config running")
	reads(config, "show config version", "=1")
	reads(config, "show config versions")
	reads(config, "show config-locks")
	reads(admin.OpReadAdmins, "show admins")
	reads(admin.OpReadJobs, "show jobs all")
	reads(admin.OpReadJobs, "show jobs id", "=1")
	reads(admin.OpReadJobs, "show jobs pending")
	reads(admin.OpReadJobs, "show jobs processed")
	for _, log := range []string{"traffic", "decryption", "system", "config"} {
		reads(admin.OpReadLogs, "show log "+log)
	}
	reads(system, "request password-hash", "password=some-long-password")
	reads(system, "show clock")
	reads(system, "show counter global")
	reads(system, "show high-availability all")
	reads(system, "show high-availability state")
	reads(system, "show hsm info")
	reads(system, "show hsm mkey-wrapping-keys")
	reads(system, "show hsm state")
	reads(system, "show plugins packages")
	reads(system, "show rule-hit-count vsys vsys-name", "=vsys1", "rule-base=decryption", "rules/all")
	reads(system, "show system info")
	reads(system, "show system masterkey-properties")
	reads(system, "show system setting ssl-decrypt certificate")
	reads(system, "show system setting ssl-decrypt certificate-cache")
	reads(system, "show system setting ssl-decrypt exclude-cache")
	reads(system, "show system setting ssl-decrypt session-cache")
	reads(system, "show system setting ssl-decrypt setting")
	reads(sessions, "show session all")
	reads(sessions, "show session info")
	reads(admin.OpExportCertificate, "request certificate csr", "certificate-name=ca")
	reads(admin.OpOwnAPIKeys, "request api-key generate")
	reads(admin.OpOwnAPIKeys, "show api-keys")
	return append(list, []opRow{
		{words: "show session id", least: superreader, needs: sessions, args: []string{"=77"}, says: "session 77 is not there"},
		{words: "test decryption-policy-match", least: superreader, needs: admin.OpExplain, args: []string{"source=192.0.2.1", "destination-host=a.example"}, says: "no such flow"},
		{words: "request api-key revoke", least: superreader, needs: admin.OpOwnAPIKeys, spends: true},
		{words: "set password", least: superreader, needs: admin.OpOwnPassword, args: []string{"password=another-password"}, changes: true},

		{words: "validate full", least: deviceadmin, needs: admin.OpValidate},
		{words: "revert config", least: deviceadmin, needs: admin.OpRevert, before: another, changes: true},
		{words: "load config from", least: deviceadmin, needs: admin.OpRevert, args: []string{"=running-config.xml"}, before: another, changes: true},
		{words: "load config version", least: deviceadmin, needs: admin.OpLoadConfig, args: []string{"=1"}, changes: true},
		{words: "request commit confirm", least: deviceadmin, needs: admin.OpCommit, before: waiting, changes: true},
		{words: "request config-lock add", least: deviceadmin, needs: lock, args: []string{"comment=mine"}, changes: true},
		{words: "request commit-lock add", least: deviceadmin, needs: lock, changes: true},
		{words: "request config-lock remove", least: deviceadmin, needs: lock, says: "not currently "},
		{words: "request commit-lock remove", least: deviceadmin, needs: lock, says: "not currently "},
		{words: "request config-lock remove", least: superuser, needs: admin.OpBreakLock, first: lock, args: []string{"admin=second"}, before: lockedBySecond("config"), changes: true},
		{words: "request commit-lock remove", least: superuser, needs: admin.OpBreakLock, first: lock, args: []string{"admin=second"}, before: lockedBySecond("commit"), changes: true},
		{words: "request certificate generate", least: deviceadmin, needs: certificate, args: []string{"certificate-name=leaf", "name=leaf.example", "algorithm=ECDSA"}, changes: true},
		{words: "request certificate import", least: deviceadmin, needs: admin.OpFiles, args: []string{"certificate-name=new", "file=none.pem"}, says: "you brought none of that name"},
		{words: "show hsm servers", least: superreader, needs: admin.OpReadSystem},
		{words: "show hsm slots", least: superreader, needs: admin.OpReadSystem},
		{words: "show hsm ha-status", least: superreader, needs: admin.OpReadSystem},
		{words: "show hsm client-address", least: superreader, needs: admin.OpReadSystem},
		{words: "show hsm client-certificate", least: superreader, needs: admin.OpReadSystem, says: "no HSM is configured"},
		{words: "request hsm host-key", least: deviceadmin, needs: admin.OpHSM, args: []string{"server=s"}, says: "no network HSM is configured"},
		{words: "request hsm authenticate", least: deviceadmin, needs: admin.OpHSM, args: []string{"server=s", "password=of-an-admin"}, says: "no network HSM is configured"},
		{words: "request hsm server-certificate import", least: deviceadmin, needs: admin.OpFiles, args: []string{"server=s", "file=none.pem"}, says: "you brought none of that name"},
		{words: "request hsm server-certificate forget", least: deviceadmin, needs: admin.OpHSM, args: []string{"server=s", "fingerprint=00"}, says: "no network HSM is configured"},
		{words: "request hsm client-certificate renew", least: deviceadmin, needs: admin.OpHSM, says: "HSM"},
		{words: "request hsm login", least: deviceadmin, needs: admin.OpHSM, args: []string{"password=of-a-partition"}, says: "no HSM is configured"},
		{words: "request hsm logout", least: deviceadmin, needs: admin.OpHSM, says: "HSM"},
		{words: "request hsm reset", least: deviceadmin, needs: admin.OpHSM, says: ""},
		{words: "request hsm ha create-ha-group", least: deviceadmin, needs: admin.OpHSM, args: []string{"password=of-a-partition"}, says: "no HA group is configured"},
		{words: "request hsm ha synchronize", least: deviceadmin, needs: admin.OpHSM, args: []string{"password=of-a-partition"}, says: "no HA group is configured"},
		{words: "request hsm ha replace-server", least: deviceadmin, needs: admin.OpHSM, args: []string{"password=of-a-partition"}, says: "no HA group is configured"},
		{words: "show files", least: deviceadmin, needs: admin.OpFiles},
		{words: "delete file", least: deviceadmin, needs: admin.OpFiles, args: []string{"=none.pem"}, says: "you brought none of that name"},
		{words: "load config from", least: deviceadmin, needs: admin.OpFiles, args: []string{"=none.xml"}, says: "you brought none of that name"},
		{words: "request certificate renew", least: deviceadmin, needs: certificate, args: []string{"certificate-name=ca"}, changes: true},
		{words: "request certificate revoke", least: deviceadmin, needs: certificate, args: []string{"certificate-name=ca"}, changes: true},
		{words: "clear session all", least: deviceadmin, needs: admin.OpClearSessions},
		{words: "clear session id", least: deviceadmin, needs: admin.OpClearSessions, args: []string{"=77"}, says: "session 77 is not there"},
		{words: "clear rule-hit-count vsys vsys-name", least: deviceadmin, needs: admin.OpResetCounters, args: []string{"=vsys1", "rule-base=decryption", "rules/all"}},

		{words: "set password", least: superuser, needs: admin.OpAdminPasswords, args: []string{"password=another-password", "admin=second"}, changes: true},
		{words: "request api-key revoke", least: superuser, needs: admin.OpAdminAPIKeys, args: []string{"admin=second"}},
		{words: "show api-keys", least: superuser, needs: admin.OpAdminAPIKeys, args: []string{"admin=second"}},
		{words: "request admin unlock", least: superuser, needs: admin.OpUnlockAdmin, args: []string{"=second"}},
		{words: "test hsm key", least: deviceadmin, needs: admin.OpTestKey, args: []string{"=ca"}},
		{words: "request master-key", least: superuser, needs: admin.OpMasterKey, args: []string{"new-master-key=short", "lifetime=24"}, says: "expected 16 to 256"},
		{words: "request master-key recover", least: superuser, needs: admin.OpMasterKey, args: []string{"master-key=short"}, says: "nothing is to be recovered"},
		{words: "request hsm mkey-wrapping-key-rotation", least: superuser, needs: admin.OpMasterKey, says: "no HSM is configured"},
	}...)
}

func lockedBySecond(kind string) func(*matrixWorld) {
	return func(w *matrixWorld) {
		out := w.types(visitor{account: "second", role: superuser}, []string{"request " + kind + "-lock add"})
		if strings.Contains(out, "Error") {
			w.t.Fatal(out)
		}
	}
}

// operationalRows are the operational commands, each as the API and as the
// command line is given it.
func operationalRows() []operation {
	var list []operation
	for _, r := range opRows() {
		o := operation{
			name: r.words, least: r.least, needs: r.needs, first: r.first, says: r.says, before: r.before, changes: r.changes, spends: r.spends,
			api: opOf(r.words, r.args...), lines: []string{lineOf(r.words, r.args...)},
		}
		if i := slices.IndexFunc(ops.Commands(), func(c *ops.Command) bool { return c.Words == r.words }); i >= 0 && ops.Commands()[i].Caution != "" {
			o.lines = append(o.lines, "y")
		}
		list = append(list, o)
	}
	return list
}

// lineOf is a command as it is typed.
func lineOf(words string, args ...string) string {
	line, open := words, ""
	for _, a := range args {
		group, a, grouped := cutGroup(a)
		if grouped && group != open {
			line, open = line+" "+group, group
		}
		name, value, _ := strings.Cut(a, "=")
		line += " " + strings.TrimSpace(name+" "+value)
	}
	return line
}

// opOf are the parameters of a command's request: its words are elements within
// one another, its arguments elements beside each other. A value without a name
// is an entry where arguments follow, else text.
func opOf(words string, args ...string) []string {
	inner, after := "", ""
	for i, a := range args {
		group, a, grouped := cutGroup(a)
		name, value, _ := strings.Cut(a, "=")
		element := fmt.Sprintf("<%s>%s</%s>", name, value, name)
		switch {
		case name == "" && len(args) == 1:
			element = value
		case name == "":
			element, after = `<entry name="`+value+`">`, "</entry>"
		case grouped:
			element = "<" + group + ">" + element + "</" + group + ">"
		}
		inner += element
		if i == len(args)-1 {
			inner += after
		}
	}
	list := strings.Fields(words)
	for _, word := range slices.Backward(list) {
		inner = "<" + word + ">" + inner + "</" + word + ">"
	}
	return []string{"type", "op", "cmd", inner}
}

func cutGroup(arg string) (group, rest string, grouped bool) {
	if group, rest, grouped = strings.Cut(arg, "/"); grouped {
		return group, rest, true
	}
	return "", arg, false
}
