package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"moongate/e2e/browser"
	"moongate/e2e/peers"
	"moongate/e2e/world"
)

// keyboard opens a dialog, fills it and sends it without the mouse.
func (g *webGuide) keyboard() {
	p := g.page
	p.Open("/device/certificates")
	// To the content, and to its first button.
	p.Keys(kb.Tab)
	if got := p.Focus(); got != "Skip to content" {
		g.t.Errorf("the first stop is %q", got)
	}
	p.Keys(kb.Enter)
	for i := 0; p.Focus() != "Generate"; i++ {
		if i > 20 {
			g.t.Fatal("Generate is not to be reached by Tab")
		}
		p.Keys(kb.Tab)
	}
	p.Submit()
	if got := p.Focus(); got != "Certificate Name" {
		g.t.Errorf("the dialog begins with %q", got)
	}
	p.Keys("by-keyboard" + kb.Tab + "keyboard.example")
	for range 12 {
		p.Keys(kb.Tab)
		if p.Focus() == "Expiration (days)" {
			p.Keys("90")
			break
		}
	}
	if p.Focus() != "Expiration (days)" {
		g.t.Fatalf("the dialog's fields are not to be reached by Tab: %q", p.Focus())
	}
	// Round and round: the dialog keeps the keyboard.
	seen := map[string]bool{}
	for range 20 {
		p.Keys(kb.Tab)
		seen[p.Focus()] = true
	}
	if !seen["Certificate Name"] || !seen["Cancel"] || seen["Dashboard"] {
		g.t.Errorf("Tab leads to %v", seen)
	}
	for p.Focus() != "Expiration (days)" {
		p.Keys(kb.Tab)
	}
	p.Submit()
	p.Sees("Certificate by-keyboard was made")
	// Escape closes a dialog.
	p.Open("/device/certificates/import")
	p.Sees("Import Certificate")
	p.Keys(kb.Escape)
	for i := 0; p.Path() != "/device/certificates"; i++ {
		if i > 100 {
			g.t.Fatalf("Escape leads to %s", p.Path())
		}
	}
}

// traffic has the gateway inspect some connections, so that there is something
// on every page.
func (g *webGuide) traffic() {
	gateway := g.hosts[2]
	ca := newCA(g.t)
	// On the gateway's own loopback.
	origin := func(certificate tls.Certificate) *peers.Origin {
		var l net.Listener
		must(g.t, gateway.Do(func() (err error) {
			l, err = net.Listen("tcp", "127.0.0.1:0")
			return err
		}))
		return peers.NewOriginOn(g.t, l, certificate)
	}
	site := origin(server(g.t, ca, "rsa", []string{"localhost", "app.test"}))
	lines, err := g.gateway.Equip(g.t.Context(), g.officer, world.GatewaySettings{
		TrustedRoots: []*x509.Certificate{ca.Root}, Allowed: []string{"127.0.0.0/8"}, ForwardTrust: g.authority,
		Inbound: []world.Site{{Name: "app", Server: site.Address, ServerName: "app.test", Hosts: []string{"app.test"}}},
	})
	must(g.t, err)
	ssh, err := g.gateway.OpenSSH(g.t.TempDir(), "admin", g.gateway.Admin)
	must(g.t, err)
	c := &cli{g.t, ssh}
	c.run(0, g.partition.CryptoOfficer+"\n", "request hsm ha synchronize password")
	c.commit(lines...)
	s := &setting{t: g.t, w: g.w, hsm: g.hsms[0], partition: g.partition, gateway: g.gateway, ca: ca}
	curl := func(words string) {
		cmd := exec.CommandContext(g.t.Context(), "sh", "-c", "curl -s -o /dev/null --max-time 5 "+words)
		_ = gateway.Do(cmd.Run) // some are refused, and are meant to be
	}
	bundle := s.bundle("app-rsa", "app-ecdsa")
	for i := range 6 {
		curl("--noproxy '' --proxy http://" + g.gateway.Proxy + " --cacert " + g.file("trust.pem", g.authority) + " https://" + local("localhost", site.Address) + fmt.Sprintf("/page/%d", i))
		curl("--noproxy '*' --cacert " + bundle + " --connect-to app.test:443:" + g.gateway.Inbound["app"] + " https://app.test/")
	}
	untrusted := origin(server(g.t, newCA(g.t), "rsa", []string{"localhost"}))
	curl("-k --noproxy '' --proxy http://" + g.gateway.Proxy + " https://" + local("localhost", untrusted.Address) + "/")
	curl("--noproxy '' --proxy http://" + g.gateway.Proxy + " https://" + local("localhost", site.Address) + "/") // does not trust the CA
	p := g.page
	p.Open("/objects/decryption-profile/add")
	p.Fill("Name", "strict")
	p.Press("OK")
	p.Sees("strict")
	p.Open("/monitor/decryption")
	p.Sees("localhost")
}

// webPages are the addresses of pages and dialogs, with the names that pictures
// of them have. The dark five are those that are opened most.
var webPages = []struct {
	name, path string
	dark       bool
}{
	{"dashboard", "/dashboard", true},
	{"monitor-decryption", "/monitor/decryption", true},
	{"monitor-traffic", "/monitor/traffic", false},
	{"monitor-system", "/monitor/system", false},
	{"monitor-config", "/monitor/config", false},
	{"sessions", "/monitor/sessions", false},
	{"jobs", "/monitor/jobs", false},
	{"policies", "/policies/decryption", true},
	{"rule", "/policies/decryption/add", false},
	{"what-if", "/policies/test", false},
	{"profiles", "/objects/decryption-profile", false},
	{"profile", "/objects/decryption-profile/edit/strict", false},
	{"management", "/device/setup/management", false},
	{"management-edit", "/device/setup/management/edit", false},
	{"services", "/device/setup/services", false},
	{"services-route", "/device/setup/services/route", false},
	{"hsm", "/device/setup/hsm", true},
	{"hsm-provider", "/device/setup/hsm/provider", false},
	{"hsm-authenticate", "/device/setup/hsm/authenticate", false},
	{"hsm-partition", "/device/setup/hsm/partition", false},
	{"hsm-group", "/device/setup/hsm/group/create", false},
	{"hsm-server", "/device/setup/hsm/server/hsm1", false},
	{"administrators", "/device/administrators", false},
	{"administrator", "/device/administrators/add", false},
	{"password", "/device/administrators/password", false},
	{"certificates", "/device/certificates", true},
	{"certificate-import", "/device/certificates/import", false},
	{"certificate-generate", "/device/certificates/generate", false},
	{"certificate", "/device/certificates/show/" + webCertificate, false},
	{"certificate-export", "/device/certificates/export/" + webCertificate, false},
	{"master-key", "/device/master-key", false},
	{"master-key-edit", "/device/master-key/edit", false},
	{"master-key-rotate", "/device/master-key/rotate", false},
	{"master-key-recover", "/device/master-key/recover", false},
	{"configuration", "/device/configuration", false},
	{"commit", "/commit", false},
	{"not-found", "/nowhere", false},
}

// maxPageWeight is what a first visit to a page may bring over the wire, in
// bytes.
const maxPageWeight = 300 << 10

// pages: every page is light, is accessible to those who hear it or use no mouse,
// and does not move sideways on a wide screen or a telephone's.
func (g *webGuide) pages() {
	for _, width := range []int{1280, 390} {
		g.t.Run(fmt.Sprint(width), func(t *testing.T) {
			t.Parallel()
			p := g.browser.PageFor(t, width, 844)
			p.Open("/login")
			g.judge(t, p, "login")
			p.Fill("Name", "admin")
			p.Fill("Password", g.gateway.Admin)
			p.Press("Log In")
			for _, page := range webPages {
				if weight := p.Weight(page.path); weight > maxPageWeight || weight < 10_000 {
					t.Errorf("%s weighs %d bytes, expected at most %d", page.path, weight, maxPageWeight)
				}
				g.judge(t, p, page.name)
			}
			p.Dark(true)
			for _, page := range webPages {
				if page.dark {
					p.Open(page.path)
					g.judge(t, p, page.name+"-dark")
				}
			}
			// By now there are samples to draw.
			p.Dark(false)
			p.Open("/dashboard")
			p.Shot("dashboard")
		})
	}
}

// judge looks at the page that is open.
func (g *webGuide) judge(t *testing.T, p *browser.Page, name string) {
	t.Helper()
	if over := p.Sideways(); len(over) > 0 {
		t.Errorf("%s: the page is wider than the window: %s", name, strings.Join(over, ", "))
	}
	for _, f := range p.Accessibility() {
		t.Errorf("%s: %s", name, f)
	}
	p.Shot(name)
}
