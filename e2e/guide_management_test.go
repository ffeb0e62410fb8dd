package e2e

import (
	"fmt"
	"os"
	"strings"
	"time"

	"moongate/internal/gw/flow"
)

// managementSteps are the guide's steps of the gateway's administration, on the
// gateway of gatewaySteps. What the guide does in the web UI is done at the
// command line: what is behind both is the same.
var managementSteps = []guideStep{
	{"G3.8", (*guide).clearSessions},
	{"G13.1", (*guide).importCertificate},
	{"G13.2", (*guide).keyOnHSM},
	{"G13.3", (*guide).commitCertificate},
	{"G14.1", (*guide).markForwardTrust},
	{"G14.2", (*guide).commitForwardTrust},
	{"G15.1", (*guide).lockIcon},
}

// importedCA is the certificate of G13, and its name on the gateway.
const importedCA = "imported-trust"

// configure types lines into the gateway's configuration mode, and returns what it
// printed.
func (g *guide) configure(lines ...string) string {
	g.t.Helper()
	for _, l := range lines {
		shown, _, _ := strings.Cut(l, `\n`) // not the whole of a certificate
		fmt.Fprintf(g.t.Output(), "  gateway# %s\n", g.words(shown))
	}
	out := g.gatewayCLI().run(0, "configure\n"+g.words(strings.Join(lines, "\n"))+"\n")
	g.show(out)
	if strings.Contains(out, "Error") {
		g.t.Fatalf("the gateway refused")
	}
	return out
}

func (g *guide) commitCandidate() {
	g.t.Helper()
	if out := g.configure("commit"); !strings.Contains(out, "Configuration committed successfully") {
		g.t.Fatalf("commit printed\n%s", out)
	}
}

// gatewayShows runs a command of the operational mode.
func (g *guide) gatewayShows(command string) string {
	g.t.Helper()
	return g.gatewayRuns(0, "", command)
}

func (g *guide) clearSessions() {
	c := g.gatewayCLI()
	fmt.Fprintln(g.t.Output(), "  gateway> clear session all")
	out := c.run(1, "n\n", "clear session all")
	if !strings.Contains(out, "nothing was done") {
		g.t.Errorf("an n did not stop it:\n%s", out)
	}
	out = c.run(0, "y\n", "clear session all")
	g.show(out)
	// The HSM serves again: each handshake of the protected server needs it.
	s := g.inspection.at(g.t)
	before := s.countRecords()
	g.visit("app.test", "--tls-max 1.3")
	g.signedFor(s.recordAfter(before, func(r *flow.Record) bool { return r.Kind == flow.Inbound && r.ClientLeg != nil }))
}

func (g *guide) importCertificate() {
	answer := g.co()
	g.workstation.run("./cmu gen -modulusBits=2048 -publicExp=65537 -sign=T -verify=T -label="+importedCA, answer)
	now := time.Now()
	g.workstation.run("./cmu selfSign -C=CA -O=thales -startDate="+now.AddDate(0, 0, -1).Format("20060102")+
		" -endDate="+now.AddDate(1, 0, 0).Format("20060102")+` -CN="imported.thales.com" -label=`+importedCA, answer)
	list := g.workstation.list("-class=certificate -label=" + importedCA)
	if len(list) != 1 {
		g.t.Fatalf("%d certificates are called %s", len(list), importedCA)
	}
	g.workstation.run(fmt.Sprintf("./cmu export -handle=%d -outputFile=%s.pem", list[0].Handle, importedCA), answer)
	text, err := os.ReadFile(g.workstation.path(importedCA + ".pem"))
	must(g.t, err)
	g.configure(`set shared certificate ` + importedCA + ` public-key "` + strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", `\n`) + `"`)
}

func (g *guide) keyOnHSM() {
	g.configure("set shared certificate " + importedCA + " private-key-on-hsm yes")
}

func (g *guide) commitCertificate() {
	g.commitCandidate()
	if out := g.gatewayShows("show certificate name " + importedCA); !strings.Contains(out, "imported.thales.com") {
		g.t.Errorf("its details are not listed")
	}
}

func (g *guide) markForwardTrust() {
	g.configure("set shared ssl-decrypt forward-trust-certificate rsa " + importedCA)
}

func (g *guide) commitForwardTrust() {
	g.commitCandidate()
	s := g.inspection.at(g.t)
	before := s.countRecords()
	g.browse("https://"+local("localhost", g.inspection.rsa.Address)+"/", g.workstation.path(importedCA+".pem"))
	r := s.recordAfter(before, func(r *flow.Record) bool { return r.Kind == flow.Forward && r.ClientLeg != nil })
	g.equal("the leaf's issuer", r.ClientLeg.Certificate.Issuer, "CN=imported.thales.com,O=thales,C=CA")
	g.signedFor(r)
}

// lockIcon: the state that the web UI shows as a lock.
func (g *guide) lockIcon() {
	out := g.gatewayShows("show certificate name " + importedCA)
	if !strings.Contains(out, "key: locked") {
		g.t.Errorf("the key is not said to be locked in the HSM")
	}
}
