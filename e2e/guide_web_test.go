package e2e

import (
	"strings"

	"moongate/e2e/browser"
	"moongate/e2e/world"
)

// consoleSteps and iconSteps are the guide's steps that are a browser's alone. The
// whole of the guide in the web UI is TestWebGuide.
var (
	consoleSteps = []guideStep{{"G2.1", (*guide).webConsole}}
	iconSteps    = []guideStep{{"G15.2", (*guide).errorIcon}}
)

// webConsole reaches the gateway's web console, and logs in.
func (g *guide) webConsole() {
	g.browser = browser.Start(g.whole, "https://"+world.T(g.whole).Forward(g.hosts.gateway, g.firewall.Web))
	p := g.console()
	p.Menu("Device", "Setup", "HSM")
	p.Sees("Hardware Security Module Provider", "No HSM is configured")
}

// console is the web console, logged in to, in the present step.
func (g *guide) console() *browser.Page {
	g.t.Helper()
	p := g.browser.PageFor(g.t, 1280, 800)
	p.Open("/")
	p.Fill("Name", "admin")
	p.Fill("Password", g.firewall.Admin)
	p.Press("Log In")
	p.Sees("Dashboard")
	return p
}

// errorIcon: without its HSMs the imported certificate has the error icon, with
// the reason beside it; the lock is back when they are.
func (g *guide) errorIcon() {
	p := g.console()
	p.Menu("Device", "Certificate Management", "Certificates")
	row := p.In(importedCA)
	row.Icon("on the HSM")
	p.Shot("guide-lock-icon")
	members := []*world.HSM{g.hsm, g.others[0]}
	for _, h := range members {
		h.Kill9()
	}
	g.gatewayIs("hsm1", "tcp", "port-refused")
	p.Menu("Device", "Certificate Management", "Certificates")
	row.Icon("connection was refused")
	if !strings.Contains(row.Text(), "connection was refused") {
		g.t.Errorf("the reason is not text: %q", row.Text())
	}
	p.Shot("guide-error-icon")
	for _, h := range members {
		must(g.t, h.Restart(g.t.Context()))
	}
	g.groupIs("hsm1", "hsm2")
	p.Menu("Device", "Certificate Management", "Certificates")
	row.Icon("on the HSM")
}
