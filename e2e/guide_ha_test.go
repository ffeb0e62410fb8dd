package e2e

import (
	"fmt"
	"regexp"
	"strings"

	"moongate/e2e/world"
	"moongate/internal/gw/hsmlink"
)

// haSteps make further HSMs known to the gateway, automatically, and all of them
// a group.
var haSteps = []guideStep{
	{"G4.1", (*guide).chooseServer},
	{"G4.2", (*guide).authenticateAutomatically},
	{"G7.3", (*guide).createGroup},
	{"G7.4", (*guide).synchronizeGroup},
	{"G7.5", (*guide).replaceServer},
	{"G7.1", (*guide).furtherServer},
	{"G7.2", (*guide).removeServer},
	{"G3.7", (*guide).serviceRoute},
}

var hostKeyForm = regexp.MustCompile(`SHA256:[A-Za-z0-9+/]{43}`)

// hostKey asks the gateway for an HSM's SSH host key, and compares it with what
// the HSM itself prints.
func (g *guide) hostKey(server string, h *world.HSM) string {
	g.t.Helper()
	shown := hostKeyForm.FindString(g.gatewayShows("request hsm host-key server " + server))
	printed, err := h.Shell(g.t.Context(), "sysconf fingerprint ssh")
	must(g.t, err)
	if shown == "" || !strings.Contains(printed, shown) {
		g.t.Fatalf("the host key %q is not one that the HSM prints:\n%s", shown, printed)
	}
	return shown
}

func (g *guide) chooseServer() {
	g.configure(g.serverLine("hsm2", g.hosts.second))
	g.commitCandidate()
	g.gatewayIs("hsm2", "tls", hsmlink.CodeNotPinned)
	g.hostKey("hsm2", g.others[0])
	g.gatewayRuns(1, "", "request hsm host-key server hsm9")
}

// authenticateAutomatically: the fingerprint comes before the password.
func (g *guide) authenticateAutomatically() {
	h := g.others[0]
	fingerprint := g.hostKey("hsm2", h)
	password := h.Admin + "\n"
	const command = "request hsm authenticate server hsm2 "
	if out := g.gatewayRuns(1, password, command+"password"); !strings.Contains(out, "fingerprint") {
		g.t.Error("without a confirmed fingerprint it does not ask for one")
	}
	wrong := "SHA256:" + strings.Repeat("A", 43)
	if out := g.gatewayRuns(1, password, command+"fingerprint "+wrong+" password"); !strings.Contains(out, fingerprint) {
		g.t.Error("another fingerprint is not refused with the one that was seen")
	}
	if strings.Contains(h.Log(), "SSH login") {
		g.t.Error("the password was sent to a host key that was not confirmed")
	}
	if out := g.gatewayRuns(1, "not the password\n", command+"fingerprint "+fingerprint+" password"); !strings.Contains(out, "login") {
		g.t.Error("a wrong password is not named")
	}
	out := g.gatewayRuns(0, password, command+"fingerprint "+fingerprint+" password")
	if !strings.Contains(out, "Authenticated with HSM server hsm2") {
		g.t.Error("no success is told")
	}
	g.gatewayIs("hsm2", "registered", hsmlink.CodeNotRegistered)
	// The certificate is there already: the rest is the HSM's administrator's.
	g.desk().on("{hsm2}", 0, "client register -c firewall -ip {firewall}")
	g.desk().on("{hsm2}", 0, "client assignpartition -c firewall -p p1")
	g.gatewayIs("hsm2", "login", hsmlink.CodeNoPassword)
	if out := g.gatewayRuns(0, g.co(), "request hsm login server hsm2 password"); !strings.Contains(out, "hsm2: authenticated to partition p1") {
		g.t.Error("no success is told")
	}
	g.gatewayIs("hsm2", hsmlink.StateAuthenticated, "")
}

// job runs a command that is a job, and waits for its end, which must be good.
func (g *guide) job(input, command string) string {
	g.t.Helper()
	out := g.gatewayRuns(0, input, command)
	id := regexp.MustCompile(`jobid (\d+)`).FindStringSubmatch(out)
	if id == nil {
		return out
	}
	var shown string
	eventually(g.t, returnsWithin, func() error {
		shown = g.gatewayCLI().run(0, "", "show jobs id "+id[1])
		if !strings.Contains(shown, "FIN") {
			return fmt.Errorf("the job goes on:\n%s", shown)
		}
		return nil
	})
	g.show(shown)
	if !strings.Contains(shown, "OK") {
		g.t.Errorf("%s: the job did not succeed", command)
	}
	return out + shown
}

// groupIs waits until the gateway shows a group of these members, all of them
// live and with the same contents.
func (g *guide) groupIs(members ...string) string {
	g.t.Helper()
	var out string
	eventually(g.t, returnsWithin, func() error {
		out = g.gatewayCLI().run(0, "", "show hsm ha-status")
		live := regexp.MustCompile(`(?m)^(\S+) +live +\S+ +\S+ +\d+ +\d+ +\d+ +([0-9a-f]{16}|-) `).FindAllStringSubmatch(out, -1)
		digests := map[string]bool{}
		for _, m := range live {
			digests[m[2]] = true
		}
		if len(live) != len(members) || len(digests) != 1 {
			return fmt.Errorf("the group is not live members %v with the same contents:\n%s", members, out)
		}
		return nil
	})
	for _, m := range members {
		if !strings.Contains(out, "\n"+m+" ") {
			g.t.Errorf("%s is not a member", m)
		}
	}
	fmt.Fprintf(g.t.Output(), "  gateway> show hsm ha-status\n")
	g.show(out)
	return out
}

func (g *guide) createGroup() {
	g.configure(hsmProvider+"safenet-network ha ha-group-name guide-ha", hsmProvider+"safenet-network ha auto-recovery-retry 0")
	g.commitCandidate()
	if out := g.gatewayShows("show hsm ha-status"); !strings.Contains(out, "create-ha-group") {
		g.t.Error("a group that was not created does not say what creates it")
	}
	g.job(g.co(), g.command())
	g.groupIs("hsm1", "hsm2")
}

func (g *guide) synchronizeGroup() {
	// A key that is made on one HSM behind the gateway's back comes to the other.
	c := g.server.dial(2, g.partition.CryptoOfficer)
	_, err := c.GenerateAES(g.t.Context(), 32, label("made-elsewhere"))
	must(g.t, err)
	g.job(g.co(), g.command())
	g.groupIs("hsm1", "hsm2")
	for _, h := range []*world.HSM{g.hsm, g.others[0]} {
		if out, err := h.Shell(g.t.Context(), "partition showContents -partition p1", g.partition.CryptoOfficer); err != nil || !strings.Contains(out, "made-elsewhere") {
			g.t.Errorf("an HSM does not have the key: %v\n%s", err, out)
		}
	}
}

// introduceThird authenticates hsm3 automatically, with everything that the HSM's
// administrator would do besides.
func (g *guide) introduceThird() {
	h := g.others[1]
	fingerprint := g.hostKey("hsm3", h)
	g.gatewayRuns(0, h.Admin+"\n", "request hsm authenticate server hsm3 fingerprint "+fingerprint+" register yes client-name firewall partition p1 password")
}

// replaceServer puts hsm3 into hsm2's place.
func (g *guide) replaceServer() {
	g.configure(g.serverLine("hsm3", g.hosts.third))
	g.commitCandidate()
	g.introduceThird()
	g.configure("delete deviceconfig system hsm-settings provider safenet-network hsm-server hsm2")
	g.commitCandidate()
	if out := g.job(g.co(), g.command()); !strings.Contains(out, "hsm1, hsm3") {
		g.t.Error("the new members are not told")
	}
	g.gatewayRuns(0, g.co(), "request hsm login server hsm3 password")
	g.groupIs("hsm1", "hsm3")
}

// furtherServer: hsm2 comes back as a third member; the partition's login takes
// it into the group.
func (g *guide) furtherServer() {
	g.configure(g.serverLine("hsm2", g.hosts.second))
	g.commitCandidate()
	fingerprint := g.hostKey("hsm2", g.others[0])
	g.gatewayRuns(0, g.others[0].Admin+"\n", "request hsm authenticate server hsm2 fingerprint "+fingerprint+" password")
	if out := g.gatewayRuns(0, g.co(), "request hsm login password"); !strings.Contains(out, "added hsm2") {
		g.t.Error("it is not told that the group has hsm2")
	}
	g.groupIs("hsm1", "hsm2", "hsm3")
}

func (g *guide) removeServer() {
	g.configure("delete deviceconfig system hsm-settings provider safenet-network hsm-server hsm3")
	g.commitCandidate()
	if out := g.gatewayRuns(0, g.co(), "request hsm login password"); !strings.Contains(out, "removed hsm3") {
		g.t.Error("it is not told that hsm3 is out of the group")
	}
	g.groupIs("hsm1", "hsm2")
}

// serviceRoute has the HSMs see the gateway come from another address.
func (g *guide) serviceRoute() {
	const route = "deviceconfig system route service hsm source "
	second := "10.164.77.45"
	if g.net.Namespaces {
		g.configure("set " + route + "interface eth1")
	} else {
		second = "127.0.0.9"
		g.configure("set " + route + "address " + second)
	}
	out := g.configure("commit")
	if !strings.Contains(out, "from another address") {
		g.t.Error("it is not told what the change interrupts")
	}
	s := g.gatewayIs("hsm1", "registered", hsmlink.CodeAddress)
	if !strings.Contains(s.Reason, second) {
		g.t.Errorf("the HSM does not see the gateway come from %s", second)
	}
	g.configure("delete deviceconfig system route")
	g.commitCandidate()
	g.groupIs("hsm1", "hsm2")
}
