package e2e

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"moongate/e2e/world"
	"moongate/internal/gw/hsmlink"
)

// providerSteps tell the gateway where its HSMs are. What the guide does in the
// web UI is done at the command line: what is behind both is the same.
var providerSteps = []guideStep{
	{"G3.1", (*guide).chooseProvider},
	{"G3.2", (*guide).addServer},
	{"G3.3", (*guide).groupLimits},
	{"G3.4", (*guide).serverCount},
	{"G3.6", (*guide).clientVersion},
	{"G3.5", (*guide).commitServer},
}

// firewall is the gateway of the guide.
type firewall struct {
	*world.Gateway
	api  *xmlAPI
	desk *guideHost // where its administrator sits
}

// desk is the administrator's machine.
func (g *guide) desk() *guideHost {
	g.firewall.desk.g = g
	return g.firewall.desk
}

// gatewayCLI is the gateway's command line in the present step.
func (g *guide) gatewayCLI() *cli {
	g.t.Helper()
	ssh, err := g.firewall.OpenSSH(g.t.TempDir(), "admin", g.firewall.Admin)
	must(g.t, err)
	return &cli{g.t, ssh}
}

// prepareOthers makes the further HSMs as the first one was made, and all of
// them one domain; the same passwords open the partition on each.
func (g *guide) prepareOthers() {
	for _, host := range []*world.Host{g.hosts.second, g.hosts.third} {
		// They last as long as the guide, as the first one does.
		g.others = append(g.others, world.T(g.whole).HSMOn(host))
	}
	must(g.t, world.Introduce(g.t.Context(), g.w.Dir(), append([]*world.HSM{g.hsm}, g.others...)...))
	for _, h := range g.others {
		must(g.t, h.AddPartition(g.t.Context(), g.partition))
	}
}

// hsmProvider is where the HSM's settings are.
const hsmProvider = "set deviceconfig system hsm-settings provider "

func (g *guide) chooseProvider() {
	g.firewall = &firewall{Gateway: world.T(g.whole).ManagedOn(g.hosts.gateway)}
	g.firewall.api = newXMLAPI(g.whole, g.firewall.Gateway)
	g.firewall.desk = g.newHost("desk", g.hosts.workstation)
	if out := g.gatewayShows("show hsm state"); !strings.Contains(out, "o HSM is configured") {
		g.t.Error("an HSM is there before one is configured")
	}
	g.configure(hsmProvider + "none")
	g.refuses("set deviceconfig system hsm-settings provider abacus", "safenet-network")
}

// refuses types a line into the configuration mode that must be refused with
// words.
func (g *guide) refuses(line, words string) {
	g.t.Helper()
	fmt.Fprintf(g.t.Output(), "  gateway# %s\n", g.words(line))
	out := g.gatewayCLI().run(1, "configure\n"+g.words(line)+"\n")
	g.show(out)
	if !strings.Contains(out, words) {
		g.t.Errorf("%s: refused without the words %q", line, words)
	}
}

// serverLine is what configures an HSM server.
func (g *guide) serverLine(name string, host *world.Host) string {
	line := hsmProvider + "safenet-network hsm-server " + name + " server-address " + host.IP()
	return line + fmt.Sprintf(" ssh-port %d", host.SSHPort)
}

func (g *guide) addServer() {
	long := strings.Repeat("m", 31)
	g.refuses(hsmProvider+"safenet-network hsm-server "+long+"m server-address {hsm}", "31")
	g.refuses(hsmProvider+"safenet-network hsm-server münchen server-address {hsm}", "ASCII")
	g.refuses(hsmProvider+"safenet-network hsm-server hsm1 server-address 10.164.75.999", "10.164.75.999")
	g.configure(hsmProvider+"safenet-network hsm-server "+long+" server-address {hsm}",
		"delete deviceconfig system hsm-settings provider safenet-network hsm-server "+long)
	g.configure(g.serverLine("hsm1", g.hosts.hsm))
}

func (g *guide) groupLimits() {
	const group = hsmProvider + "safenet-network ha "
	g.refuses(group+"auto-recovery-retry 501", "500")
	g.refuses(group+"auto-recovery-retry -1", "500")
	g.refuses(group+"ha-group-name "+strings.Repeat("g", 32), "31")
	g.refuses(group+"ha-group-name größe", "ASCII")
	g.configure(group+"auto-recovery-retry 500 ha-group-name "+strings.Repeat("g", 31), group+"auto-recovery-retry 0")
}

// serverCount: one server is no group, seventeen are too many, and two without a
// group are warned about.
func (g *guide) serverCount() {
	g.refuses("validate full", "2")
	const servers = hsmProvider + "safenet-network hsm-server "
	var many []string
	for i := range 16 {
		many = append(many, fmt.Sprintf("%sextra%d server-address 10.164.74.%d", servers, i, i+1))
	}
	fmt.Fprintf(g.t.Output(), "  gateway# %s\n  gateway# ... 16 of them\n", many[0])
	if out := g.gatewayCLI().run(1, "configure\n"+strings.Join(many, "\n")+"\nvalidate full\n"); !strings.Contains(out, "16") {
		g.t.Errorf("seventeen servers are not refused by their number:\n%s", out)
	}
	g.gatewayCLI().run(0, "configure\nrevert config\ny\n")
	g.configure(g.serverLine("hsm1", g.hosts.hsm), g.serverLine("hsm2", g.hosts.second))
	if out := g.configure("validate full"); !strings.Contains(out, "arning") || !strings.Contains(out, "ha") {
		g.t.Error("two servers without a group are not warned about")
	}
	g.configure("delete deviceconfig system hsm-settings provider safenet-network hsm-server hsm2")
}

func (g *guide) clientVersion() {
	g.refuses("set deviceconfig system hsm-settings client-version 99", "automatic")
	g.configure("set deviceconfig system hsm-settings client-version 1")
	g.configure("set deviceconfig system hsm-settings client-version automatic")
}

func (g *guide) commitServer() {
	g.configure("set deviceconfig system hostname guide-gateway")
	g.commitCandidate()
	g.equal("the host name after the commit", strings.TrimSpace(g.gatewayShows("show system info | match ^hostname")), "hostname: guide-gateway")
	if out := g.gatewayShows("show hsm servers"); !strings.Contains(out, g.words("{hsm}:1792")) {
		g.t.Error("the server is not shown")
	}
	g.gatewayIs("hsm1", "tls", hsmlink.CodeNotPinned)
}

// gatewayIs waits until the gateway shows an HSM server in a state, with the
// code of what is wrong or none, which must be seen within two seconds.
func (g *guide) gatewayIs(server, state string, code hsmlink.Code) linkState {
	g.t.Helper()
	began := time.Now()
	var found linkState
	eventually(g.t, 30*time.Second, func() error {
		for _, s := range linkStates(g.t, g.firewall.api) {
			if s.Name == server {
				found = s
			}
		}
		if found.State != state || found.Code != string(code) {
			return fmt.Errorf("%s is at %q, %q (%s), expected %q, %q", server, found.State, found.Code, found.Reason, state, code)
		}
		return nil
	})
	took := time.Since(began)
	fmt.Fprintf(g.t.Output(), "  the gateway shows %s: %s %s\n", server, found.Status, strings.TrimSpace(state+" "+found.Reason))
	if took > seenWithin {
		g.t.Errorf("%s at %s was seen after %v", server, state, took)
	}
	return found
}

// gatewayRuns types a command of the operational mode, and what it asks for.
func (g *guide) gatewayRuns(status int, input, command string) string {
	g.t.Helper()
	fmt.Fprintf(g.t.Output(), "  gateway> %s\n", g.words(command))
	out := g.gatewayCLI().run(status, input, g.words(command))
	g.show(out)
	return out
}

// importIntoGateway brings server.pem to the gateway, the guide's way.
func (g *guide) importIntoGateway(fingerprint string) {
	g.desk().run("scp admin@{hsm}:server.pem .", "")
	g.desk().run("scp server.pem admin@{gateway}:", "")
	out := g.gatewayRuns(0, "", "request hsm server-certificate import server hsm1 file server.pem")
	if !strings.Contains(out, fingerprint) {
		g.t.Errorf("the gateway does not say the fingerprint %s", fingerprint)
	}
	g.gatewayIs("hsm1", "registered", hsmlink.CodeNotRegistered)
}

var addressForm = regexp.MustCompile(`(?m)^hsm1 +(\S+) +(\S+)$`)

// exportFromGateway fetches the client certificate, which is named after the
// address that the HSM sees.
func (g *guide) exportFromGateway() {
	m := addressForm.FindStringSubmatch(g.gatewayShows("show hsm client-address"))
	if m == nil {
		g.t.Fatal("the address that the HSM sees is not shown")
	}
	g.equal("the address that the HSM sees", m[1], g.hosts.gateway.From())
	g.equal("the file", m[2], g.hosts.gateway.From()+".pem")
	g.desk().run("scp admin@{gateway}:{firewall}.pem .", "")
	text, err := os.ReadFile(g.desk().path(m[2]))
	must(g.t, err)
	if strings.Contains(string(text), "PRIVATE") || !strings.Contains(string(text), "BEGIN CERTIFICATE") {
		g.t.Error("what is exported is not a certificate alone")
	}
}

// setupPartition: what is assigned and not yet logged in to says what to do.
func (g *guide) setupPartition() {
	s := g.gatewayIs("hsm1", "login", hsmlink.CodeNoPassword)
	if !strings.Contains(s.Fix, "request hsm login") {
		g.t.Errorf("the next thing to do is %q", s.Fix)
	}
	if out := g.gatewayShows("show hsm slots"); !strings.Contains(out, "p1") {
		g.t.Log("the partition is shown after the login alone")
	}
}
