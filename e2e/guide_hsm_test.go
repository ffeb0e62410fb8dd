package e2e

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"moongate/client"
	"moongate/e2e/world"
	"moongate/internal/gw/hsmlink"
)

// hsmSteps make the HSM.
var hsmSteps = []guideStep{
	{"G2.3", (*guide).staticAddress},
	{"G2.4", (*guide).prepareHSM},
}

// authenticationSteps make the HSM and its clients known to each other: the
// gateway, and a server that has no gateway but cmu.
var authenticationSteps = []guideStep{
	{"G4.3", (*guide).copyServerCertificate},
	{"G4.4", (*guide).importServerCertificate},
	{"G4.5", (*guide).exportClientCertificate},
	{"G4.6", (*guide).copyClientCertificate},
	{"G5.1", (*guide).accessHSM},
	{"G5.2", (*guide).registerClient},
	{"G5.3", (*guide).assignPartition},
	{"G5.4", (*guide).duplicateIsRefused},
	{"G5.5", (*guide).deleteClient},
	{"G6.1", (*guide).setupPartition},
	{"G6.2", (*guide).authenticate},
	{"G6.3", (*guide).statusOfLogin},
	{"G8.1", (*guide).green},
	{"G8.2", (*guide).red},
	{"G8.3", (*guide).serialNumber},
	{"G8.4", (*guide).partitionName},
	{"G8.5", (*guide).moduleState},
}

// keySteps make the key and the certificate for decryption.
var keySteps = []guideStep{
	{"G12.1", (*guide).separateHost},
	{"G12.2", (*guide).generateKey},
	{"G12.3", (*guide).listKey},
	{"G12.4", (*guide).selfSign},
	{"G12.5", (*guide).listCertificate},
	{"G12.6", (*guide).exportCertificate},
	{"G12.7", (*guide).useElsewhere},
}

// benefitSteps look back at the whole.
var benefitSteps = []guideStep{
	{"G1.1", (*guide).keysStay},
	{"G1.2", (*guide).lifeCycle},
	{"G1.3", (*guide).auditTrail},
	{"G1.4", (*guide).offloaded},
}

const (
	passwordPrompt = "Please enter password for token in slot 0 : \n"
	filePrompt     = "Please enter the name of the output file: \n"
)

// listed is an object as `cmu list -json` shows it.
type listed struct {
	Handle     uint64         `json:"handle"`
	UUID       client.ID      `json:"uuid"`
	Class      string         `json:"class"`
	Label      string         `json:"label"`
	ID         string         `json:"id"`
	Attributes map[string]any `json:"attributes"`
}

// list is what the partition holds.
func (h *guideHost) list(options string) []listed {
	h.g.t.Helper()
	line := "./cmu list -json " + options
	out, code := h.quiet(line, h.g.partition.CryptoOfficer+"\n")
	var list []listed
	if err := json.Unmarshal([]byte(out.stdout), &list); code != 0 || err != nil {
		h.g.t.Fatalf("%s: exit code %d, %v\n%s", line, code, err, out.stderr)
	}
	return list
}

// co is the Crypto Officer's password as typed.
func (g *guide) co() string { return g.partition.CryptoOfficer + "\n" }

func (g *guide) staticAddress() {
	elsewhere := g.newHost("elsewhere", g.hosts.workstation)
	const other = "10.164.79.1"
	elsewhere.run("./cmu client init -name=elsewhere -ip="+other, "")
	elsewhere.run("./cmu server add -address={hsm} -certificate="+g.hsm.ServerCertificate(), "")
	g.admin("client register -c elsewhere -ip " + other + " -certificate " + elsewhere.path(other+".pem"))
	out := elsewhere.verify(1, "./cmu verify", "", "tls ok", "registered FAIL", "assigned -")
	if !strings.Contains(out.stdout, "registered for "+other+" and calls from "+elsewhere.host.From()) {
		g.t.Error("the addresses are not named")
	}
	g.admin("client delete -client elsewhere -force")
}

func (g *guide) prepareHSM() {
	g.partition = &world.Partition{Label: "p1", CryptoOfficer: rand.Text(), CryptoUser: rand.Text()}
	g.admin("hsm show")
	g.admin("partition create -partition p1")
	g.admin("role init -partition p1 -role co", g.partition.CryptoOfficer, g.partition.CryptoOfficer)
	g.admin("role init -partition p1 -role cu", g.partition.CryptoOfficer, g.partition.CryptoUser, g.partition.CryptoUser)
	if out := g.admin("ntls show"); !strings.Contains(out, g.hsm.Addr) {
		g.t.Errorf("the HSM does not listen on %s", g.hsm.Addr)
	}
	g.prepareOthers()
}

func (g *guide) copyServerCertificate() {
	g.server = g.newHost("server", g.hosts.other)
	want, err := os.ReadFile(g.hsm.ServerCertificate())
	if err != nil {
		g.t.Fatal(err)
	}
	for _, line := range []string{"scp admin@{hsm}:server.pem .", "scp -O admin@{hsm}:server.pem legacy.pem"} {
		g.server.run(line, "")
	}
	for _, name := range []string{"server.pem", "legacy.pem"} {
		got, err := os.ReadFile(g.server.path(name))
		if err != nil || string(got) != string(want) {
			g.t.Errorf("%s is not the HSM's certificate: %v", name, err)
		}
	}
	// Nothing else is there to be copied.
	for _, file := range []string{"device.key", "hsm.db", "/etc/passwd", "../server.key"} {
		for _, protocol := range []string{"", "-O "} {
			if _, code := g.server.quiet("scp "+protocol+"admin@{hsm}:"+file+" stolen", ""); code == 0 {
				g.t.Errorf("%s%s was copied", protocol, file)
			}
		}
	}
}

func (g *guide) importServerCertificate() {
	added := g.server.run("./cmu server add -address={hsm} -certificate=server.pem", "")
	fingerprint := regexp.MustCompile(`[0-9a-f]{64}`).FindString(added.stdout)
	if out := g.admin("ntls show"); fingerprint == "" || !strings.Contains(out, fingerprint) {
		g.t.Error("the fingerprint is not the one that the HSM prints")
	}
	g.importIntoGateway(fingerprint)
	// A host that pinned another certificate takes this HSM for a stranger.
	misled := g.newHost("misled", g.hosts.other)
	misled.run("./cmu client init -name=misled -ip={me}", "")
	misled.run("./cmu server add -address={hsm} -certificate={me}.pem", "")
	misled.verify(1, "./cmu verify", "", "tcp ok", "tls FAIL", "registered -")
}

func (g *guide) exportClientCertificate() {
	out := g.server.run("./cmu client init -name=gw1 -ip={me}", "")
	if !strings.Contains(out.stdout, g.server.words("client register -c gw1 -ip {me}")) {
		g.t.Error("the line for the HSM is not printed")
	}
	if _, err := client.LoadCertificates(g.server.path(g.server.words("{me}.pem"))); err != nil {
		g.t.Error(err)
	}
	g.exportFromGateway()
}

func (g *guide) copyClientCertificate() {
	g.server.run("scp -O {me}.pem admin@{hsm}:", "")
	g.server.run("scp {me}.pem admin@{hsm}:", "")
	for _, line := range []string{"scp client.toml admin@{hsm}:", "scp {me}.pem admin@{hsm}:../hsm.db", "scp -O client.toml admin@{hsm}:x.pem"} {
		if _, code := g.server.quiet(line, ""); code == 0 {
			g.t.Errorf("%s was taken", line)
		}
	}
	g.desk().run("scp {firewall}.pem admin@{hsm}:", "")
}

func (g *guide) accessHSM() {
	if out := g.server.onHSM(0, "hsm show"); !strings.Contains(out, "not validated hardware") {
		g.t.Error("`hsm show` does not say what this HSM is")
	}
	stranger, err := g.hsm.OpenSSH(g.w.Dir(), "admin", "not the password")
	if err != nil {
		g.t.Fatal(err)
	}
	if r, err := stranger.SSH(g.t.Context(), "", "hsm show"); r.Status != 255 || r.Stdout != "" {
		g.t.Errorf("a wrong password was taken: %+v, %v", r, err)
	}
	// Commands from a script, without a terminal.
	out := g.server.run("ssh admin@{hsm} <<EOF\nhsm show\nclient list\nEOF", "")
	if strings.Count(out.stdout, "Command Result : 0 (Success)") != 2 {
		g.t.Error("not both commands were done")
	}
}

// onHSM types a command of the HSM's shell as the argument of ssh.
func (h *guideHost) onHSM(code int, command string) string {
	h.g.t.Helper()
	return h.on("{hsm}", code, command)
}

// on is onHSM of another HSM.
func (h *guideHost) on(hsm string, code int, command string) string {
	h.g.t.Helper()
	out, got := h.try("ssh admin@"+hsm+" '"+command+"'", "")
	if got != code {
		h.g.t.Fatalf("%s: exit code %d, expected %d", command, got, code)
	}
	return out.stdout
}

func (g *guide) registerClient() {
	g.server.verify(1, "./cmu verify", "", "tls ok", "registered FAIL")
	if out := g.server.onHSM(0, "client register -c gw1 -ip {me}"); !strings.Contains(out, "'client register' successful.") {
		g.t.Error("no success is told")
	}
	g.server.verify(1, "./cmu verify", "", "registered ok", "assigned FAIL")
	g.gatewayIs("hsm1", "registered", hsmlink.CodeNotRegistered)
	g.desk().onHSM(0, "client register -c firewall -ip {firewall}")
	g.gatewayIs("hsm1", "assigned", hsmlink.CodeNotAssigned)
}

func (g *guide) assignPartition() {
	if out := g.server.onHSM(0, "client assignpartition -c gw1 -p p1"); !strings.Contains(out, "'client assignPartition' successful.") {
		g.t.Error("no success is told")
	}
	g.server.verify(0, "./cmu verify -login=F", "", "registered ok", "assigned ok", "login -")
	g.desk().onHSM(0, "client assignpartition -c firewall -p p1")
	g.gatewayIs("hsm1", "login", hsmlink.CodeNoPassword)
}

func (g *guide) duplicateIsRefused() {
	out := g.server.onHSM(1, "client register -c gw1 -ip {me}")
	if !strings.Contains(out, "client delete -client gw1") || !strings.Contains(out, "Command Result : 65535") {
		g.t.Error("the duplicate was not refused with the command that helps")
	}
	if out := g.server.onHSM(0, "client register -c gw1 -ip {me} --replace"); !strings.Contains(out, "'client register' successful.") {
		g.t.Error("--replace does not replace")
	}
	g.server.onHSM(0, "client assignpartition -c gw1 -p p1")
}

func (g *guide) deleteClient() {
	live := g.server.dial(client.RoleCryptoOfficer, g.partition.CryptoOfficer)
	out := g.server.run("ssh admin@{hsm} 'client delete -client gw1'", "proceed\n")
	if !strings.Contains(out.stdout, "CAUTION: Are you sure you wish to delete client named: gw1") {
		g.t.Error("it does not ask before")
	}
	// Its connection ends, and it is not let in again.
	ctx, cancel := context.WithTimeout(g.t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for live.Status().Stage != client.StageRegistered {
		select {
		case <-tick.C:
		case <-ctx.Done():
			g.t.Fatalf("the connection stands: %+v", live.Status())
		}
	}
	g.server.onHSM(0, "client register -c gw1 -ip {me}")
	g.server.onHSM(0, "client assignpartition -c gw1 -p p1")
	g.server.verify(0, "./cmu verify -login=F", "", "assigned ok")
}

func (g *guide) authenticate() {
	out := g.server.verify(0, "./cmu verify", g.co(), "login ok")
	g.equal("what is asked for", out.stderr, passwordPrompt)
	if said := g.gatewayRuns(1, "not the password\n", "request hsm login password"); !strings.Contains(said, "refused the password") {
		g.t.Error("the gateway does not name a wrong password")
	}
	if said := g.gatewayRuns(0, g.co(), "request hsm login password"); !strings.Contains(said, "hsm1: authenticated to partition p1") {
		g.t.Error("no success is told")
	}
}

func (g *guide) statusOfLogin() {
	out := g.server.verify(1, "./cmu verify", "not the password\n", "assigned ok", "login FAIL")
	if !strings.Contains(out.stdout, "password incorrect") {
		g.t.Error("the cause is not named")
	}
	g.server.verify(0, "./cmu verify", g.co(), "login ok")
	g.gatewayIs("hsm1", hsmlink.StateAuthenticated, "")
}

func (g *guide) green() {
	out := g.server.verify(0, "./cmu verify", g.co(),
		"configuration ok", "name ok", "tcp ok", "tls ok", "registered ok", "assigned ok", "login ok")
	if strings.Contains(out.stdout, "FAIL") {
		g.t.Error("something fails")
	}
	g.equal("the light", g.gatewayIs("hsm1", hsmlink.StateAuthenticated, "").Status, "green")
	g.gatewayShows("show hsm state")
}

func (g *guide) red() {
	if err := g.hsm.Stop(); err != nil {
		g.t.Fatal(err)
	}
	out := g.server.verify(1, "./cmu verify", "", "name ok", "tcp FAIL", "tls -", "login -")
	if !strings.Contains(out.stdout, "what to do: check that the HSM runs") {
		g.t.Error("no help is given")
	}
	if strings.Contains(out.stdout, "serial") {
		g.t.Error("a serial number is shown of a partition that is not reached")
	}
	s := g.gatewayIs("hsm1", "tcp", hsmlink.CodePortRefused)
	g.equal("the light", s.Status, "red")
	g.equal("the serial number of what is not reached", s.Serial, "")
	g.gatewayShows("show hsm state")
	if err := g.hsm.Restart(g.t.Context()); err != nil {
		g.t.Fatal(err)
	}
	g.server.verify(0, "./cmu verify", g.co(), "tcp ok", "login ok")
	g.gatewayIs("hsm1", hsmlink.StateAuthenticated, "")
}

var assignedForm = regexp.MustCompile(`(?m)^assigned +ok +partition "(.*)", serial (\d+)$`)

// assigned is what `cmu verify` shows of the partition: its name, its serial
// number.
func (g *guide) assigned() (name, serial string) {
	g.t.Helper()
	out := g.server.verify(0, "./cmu verify", g.co(), "login ok")
	m := assignedForm.FindStringSubmatch(out.stdout)
	if m == nil {
		g.t.Fatal("the partition is not shown")
	}
	return m[1], m[2]
}

func (g *guide) serialNumber() {
	_, serial := g.assigned()
	out := g.admin("partition show -partition p1")
	if !regexp.MustCompile(`(?m)^Partition SN: +` + serial + `$`).MatchString(out) {
		g.t.Errorf("the HSM does not print the serial number %s", serial)
	}
	g.equal("the serial number at the gateway", g.gatewayIs("hsm1", hsmlink.StateAuthenticated, "").Serial, serial)
}

func (g *guide) partitionName() {
	name, _ := g.assigned()
	g.equal("the partition", name, "p1")
	g.equal("the partition at the gateway", g.gatewayIs("hsm1", hsmlink.StateAuthenticated, "").Partition, "p1")
}

func (g *guide) moduleState() {
	if out := g.gatewayShows("show hsm state"); !regexp.MustCompile(`(?m)^hsm1 .* p1 +Authenticated `).MatchString(out) {
		g.t.Error("the module's state is not shown")
	}
}

func (g *guide) separateHost() {
	g.workstation = g.newHost("workstation", g.hosts.workstation)
	h := g.workstation
	h.run("./cmu client init -name=workstation -ip={me}", "")
	h.run("scp admin@{hsm}:server.pem .", "")
	h.run("./cmu server add -address={hsm} -certificate=server.pem", "")
	h.run("scp {me}.pem admin@{hsm}:", "")
	h.onHSM(0, "client register -c workstation -ip {me}")
	h.onHSM(0, "client assignpartition -c workstation -p p1")
	h.verify(0, "./cmu verify", g.co(), "login ok")
	g.listedBefore = len(h.list(""))
}

func (g *guide) generateKey() {
	out := g.workstation.run(g.command(), g.co())
	g.equal("what is asked for", out.stderr, passwordPrompt)
}

var listForm = regexp.MustCompile(`^handle=\d+\tlabel=\S+\n$`)

// listLines is the guide's `cmu list`, which must print so many lines beside
// those of what was in the partition before.
func (g *guide) listLines(want int) {
	g.t.Helper()
	out := g.workstation.run("./cmu list", g.co())
	g.equal("what is asked for", out.stderr, passwordPrompt)
	lines := slices.Collect(strings.Lines(out.stdout))
	for _, line := range lines {
		if !listForm.MatchString(line) {
			g.t.Errorf("line %q is not handle=N, tab, label=L", line)
		}
	}
	if got := len(lines) - g.listedBefore; got != want {
		g.t.Errorf("%d objects, expected %d", got, want)
	}
}

func (g *guide) listKey() {
	g.listLines(2)
	keys := g.workstation.list("-class=private")
	if len(keys) != 1 {
		g.t.Fatalf("%d private keys, made one", len(keys))
	}
	g.key = keys[0]
}

func (g *guide) selfSign() {
	out := g.workstation.run(g.command(), g.co())
	asked, rest, _ := strings.Cut(out.stderr, "warning: ")
	g.equal("what is asked for", asked, passwordPrompt)
	if !strings.HasPrefix(rest, "the certificate ended on 2025-01-01") || strings.Count(rest, "\n") != 1 {
		g.t.Errorf("the end that has passed is not warned about: %q", rest)
	}
}

func (g *guide) listCertificate() {
	g.listLines(3)
	list := g.workstation.list("-class=certificate")
	if len(list) != 1 {
		g.t.Fatalf("%d certificates, made one", len(list))
	}
	g.certificate = list[0]
	g.equal("the certificate's CKA_ID", g.certificate.ID, g.key.ID)
}

func (g *guide) exportCertificate() {
	g.exported = g.workstation.path("forward-trust.pem")
	out := g.workstation.run("./cmu export", g.co()+"forward-trust.pem\n")
	g.equal("what is asked for", out.stderr, passwordPrompt+filePrompt)
}

func (g *guide) useElsewhere() {
	h := g.workstation
	h.run("openssl verify -check_ss_sig -x509_strict -no_check_time -CAfile forward-trust.pem forward-trust.pem", "")
	out := h.run("openssl x509 -in forward-trust.pem -noout -subject -dates -ext basicConstraints,keyUsage", "")
	for _, want := range []string{
		"subject=C = CA, O = thales, CN = test.thales.com\n", "notBefore=Jan  1 00:00:00 2019 GMT\n",
		"notAfter=Jan  1 23:59:59 2025 GMT\n", "CA:TRUE\n", "Certificate Sign, CRL Sign\n",
	} {
		if !strings.Contains(out.stdout, want) {
			g.t.Errorf("OpenSSL does not print %q", want)
		}
	}
	certificates, err := client.LoadCertificates(g.exported)
	if err != nil {
		g.t.Fatal(err)
	}
	c := h.dial(client.RoleCryptoUser, g.partition.CryptoUser)
	key, err := c.FindKeyByPublic(g.t.Context(), certificates[0].PublicKey)
	if err != nil {
		g.t.Fatal(err)
	}
	g.equal("the certificate's key on the HSM", key.ID().String(), g.key.UUID.String())
}

func (g *guide) keysStay() {
	for attribute, want := range map[string]bool{
		"CKA_SENSITIVE": true, "CKA_ALWAYS_SENSITIVE": true, "CKA_EXTRACTABLE": false, "CKA_NEVER_EXTRACTABLE": true, "CKA_LOCAL": true,
	} {
		if got := g.key.Attributes[attribute]; got != want {
			g.t.Errorf("%s is %v, expected %v", attribute, got, want)
		}
	}
	g.workstation.fails(1, "never leaves the HSM", fmt.Sprintf("./cmu export -handle=%d -outputFile=key.pem", g.key.Handle), g.co())
	if _, err := os.Stat(g.workstation.path("key.pem")); err == nil {
		g.t.Error("something was exported")
	}
	// Nor by a request that cmu would not make.
	ctx := g.t.Context()
	c := g.workstation.dial(client.RoleCryptoOfficer, g.partition.CryptoOfficer)
	if _, err := c.Attributes(ctx, g.key.UUID, client.AttrValue); client.CodeOf(err) != client.ErrAttributeSensitive {
		g.t.Errorf("asked for the key's value: %v", err)
	}
	wrapping, err := c.GenerateAES(ctx, 32, client.NewTemplate(client.BoolAttr(client.AttrWrap, true)))
	if err != nil {
		g.t.Fatal(err)
	}
	if _, err := c.Wrap(ctx, wrapping, g.key.UUID); client.CodeOf(err) != client.ErrKeyUnextractable {
		g.t.Errorf("asked to wrap the key: %v", err)
	}
	if err := c.Destroy(ctx, wrapping); err != nil {
		g.t.Error(err)
	}
}

func (g *guide) lifeCycle() {
	h := g.workstation
	h.run("./cmu gen -keyType=ECDSA -curve=P-256 -label=short-lived", g.co())
	h.run("./cmu selfSign -CN=short-lived.example -ca=F", g.co())
	made := h.list("-label=short-lived")
	if len(made) != 3 {
		g.t.Fatalf("%d objects, made a key pair and a certificate", len(made))
	}
	for _, o := range made {
		h.run(fmt.Sprintf("./cmu delete -handle=%d -force", o.Handle), g.co())
	}
	if left := h.list("-label=short-lived"); len(left) != 0 {
		g.t.Errorf("%d objects are left", len(left))
	}
	c := h.dial(client.RoleCryptoOfficer, g.partition.CryptoOfficer)
	if _, err := c.Key(g.t.Context(), made[0].UUID); client.CodeOf(err) != client.ErrObjectNotFound {
		g.t.Errorf("the destroyed key: %v", err)
	}
}

func (g *guide) auditTrail() {
	records, err := g.hsm.Audit(g.t.Context(), 1000)
	if err != nil {
		g.t.Fatal(err)
	}
	key, certificate := g.key.UUID.String(), g.certificate.UUID.String()
	for _, want := range []world.AuditRecord{
		{Kind: "login", Action: "login", Role: "so", Outcome: "ok"},
		{Kind: "admin", Action: "partition.create", Detail: "p1", Outcome: "ok"},
		{Kind: "admin", Action: "client.register", Detail: "gw1", Outcome: "ok"},
		{Kind: "admin", Action: "client.assignPartition", Detail: "gw1 p1", Outcome: "ok"},
		{Kind: "admin", Action: "client.delete", Detail: "gw1", Outcome: "ok"},
		{Kind: "login", Action: "login", Client: "gw1", Partition: "p1", Role: "co", Outcome: "ok"},
		{Kind: "login", Action: "login", Client: "gw1", Partition: "p1", Role: "co", Outcome: "password incorrect"},
		{Kind: "change", Action: "key.generate", Client: "workstation", Partition: "p1", Object: key, Outcome: "ok"},
		{Kind: "use", Action: "key.sign", Client: "workstation", Object: key, Mechanism: "CKM_RSA_PKCS", Outcome: "ok"},
		{Kind: "change", Action: "object.store", Client: "workstation", Object: certificate, Outcome: "ok"},
		{Kind: "change", Action: "object.destroy", Client: "workstation", Partition: "p1", Outcome: "ok"},
	} {
		i := slices.IndexFunc(records, func(r world.AuditRecord) bool { return covers(want, r) })
		if i < 0 {
			g.t.Errorf("the audit log has no record like %+v", want)
			continue
		}
		r := records[i]
		g.show(fmt.Sprintf("%d %s %-22s %s %s %s %s\n", r.Seq, r.Time.Format(time.RFC3339), r.Action, r.Client, r.Object, r.Outcome, r.Detail))
	}
	if out := g.admin("audit verify"); !strings.Contains(out, "The audit log is whole.") {
		g.t.Error("the audit log does not verify")
	}
}

// covers reports whether a record has every field that want has.
func covers(want, r world.AuditRecord) bool {
	for _, f := range [][2]string{
		{want.Kind, r.Kind}, {want.Action, r.Action}, {want.Client, r.Client}, {want.Partition, r.Partition}, {want.Role, r.Role},
		{want.Object, r.Object}, {want.Mechanism, r.Mechanism}, {want.Outcome, r.Outcome}, {want.Detail, r.Detail},
	} {
		if f[0] != "" && f[0] != f[1] {
			return false
		}
	}
	return true
}
