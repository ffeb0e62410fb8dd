package e2e

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"moongate/client"
	"moongate/e2e/browser"
	"moongate/e2e/pki"
	"moongate/e2e/world"
	"moongate/internal/selfsign"
)

// TestWebGuide walks the administrator's guide in the web UI, menu by menu and
// label by label, in Chromium, on HSMs and a gateway that are processes on hosts
// of a network; and then asks of each page what is asked of all. $MOONGATE_SCREENSHOTS is
// where pictures go.
func TestWebGuide(t *testing.T) {
	t.Parallel()
	g := &webGuide{t: t, w: world.T(t)}
	g.prepare()
	for _, s := range []struct {
		name string
		do   func(*webGuide)
	}{
		{"log in", (*webGuide).logIn},
		{"bad values of the provider", (*webGuide).badProvider},
		{"add the servers", (*webGuide).addServers},
		{"service route", (*webGuide).serviceRoute},
		{"setup hardware security module, automatic", (*webGuide).automatic},
		{"setup hardware security module, manual", (*webGuide).manual},
		{"setup HSM partition", (*webGuide).setupPartition},
		{"HA group", (*webGuide).group},
		{"master key", (*webGuide).masterKey},
		{"import the certificate", (*webGuide).importCertificate},
		{"forward trust", (*webGuide).forwardTrust},
		{"red and green", (*webGuide).redAndGreen},
		{"keyboard", (*webGuide).keyboard},
	} {
		if !t.Run(s.name, func(t *testing.T) { s.do(g.at(t)) }) {
			t.Fatalf("%s failed; what comes after it needs it", s.name)
		}
	}
	t.Run("traffic", func(t *testing.T) { g.at(t).traffic() })
	t.Run("pages", func(t *testing.T) { g.at(t).pages() })
}

// webGuide is the walk.
type webGuide struct {
	t *testing.T
	w world.Test

	hosts     [3]*world.Host // two HSMs and the gateway
	hsms      [2]*world.HSM
	partition *world.Partition
	gateway   *world.Gateway
	desk      string            // directory of the administrator's machine
	authority *x509.Certificate // a CA whose key is on the HSM
	officer   *client.Client    // of the first HSM, as cmu is
	browser   *browser.Browser
	page      *browser.Page
	master    string
}

func (g *webGuide) at(t *testing.T) *webGuide {
	here := *g
	here.t = t
	if here.page != nil {
		here.page = here.page.For(t)
	}
	return &here
}

const (
	hsmOne, hsmTwo = "hsm1", "hsm2"
	webCertificate = "forward-trust"
)

// prepare is what the guide takes to be there: HSMs with a partition each, of one
// domain, and a gateway with an administrator.
func (g *webGuide) prepare() {
	net := g.w.Network()
	g.hosts = [3]*world.Host{net.Host(hsmOne, "10.164.75.32"), net.Host(hsmTwo, "10.164.75.33"), net.Host("gateway", "10.164.76.45", "10.164.77.45")}
	for i := range g.hsms {
		g.hsms[i] = g.w.HSMOn(g.hosts[i])
	}
	g.partition = g.w.Partition(g.hsms[0], "p1")
	must(g.t, world.Introduce(g.t.Context(), g.w.Dir(), g.hsms[0], g.hsms[1]))
	must(g.t, g.hsms[1].AddPartition(g.t.Context(), g.partition))
	g.makeCA("forward.thales.com")
	g.gateway = g.w.ManagedOn(g.hosts[2])
	g.desk = g.w.Dir()
	g.browser = browser.Start(g.t, "https://"+g.w.Forward(g.hosts[2], g.gateway.Web))
	g.page = g.browser.Page(1280, 800)
}

func (g *webGuide) logIn() {
	p := g.page
	p.Open("/")
	p.Fill("Name", "admin")
	p.Fill("Password", "not the password")
	p.Press("Log In")
	p.Sees("Invalid Credential")
	p.Fill("Password", g.gateway.Admin)
	p.Press("Log In")
	p.Sees("Dashboard")
	p.Shot("first-dashboard")
}

// commit presses Commit, and waits for the end of it.
func (g *webGuide) commit() {
	g.t.Helper()
	p := g.page
	p.In("Tools").Press("Commit")
	p.In("Commit").Press("Commit")
	p.Sees("Configuration committed successfully")
}

// server fills the provider's row for an HSM in, the first being number 1.
func (g *webGuide) server(number int, name string, host *world.Host) {
	row := g.page.In(fmt.Sprintf("Server %d", number))
	row.Fill("Module Name", name)
	row.Fill("Server Address", host.IP())
	row.Fill("Port", fmt.Sprint(host.ClientPort))
	row.Fill("SSH Port", fmt.Sprint(host.SSHPort))
}

// badProvider types what the guide does not allow; each is told beside its field,
// and nothing that was typed is lost.
func (g *webGuide) badProvider() {
	p := g.page
	p.Menu("Device", "Setup", "HSM")
	p.In("Hardware Security Module Provider").Press("Edit")
	p.Choose("Provider Configured", "SafeNet Network HSM")
	p.Press("OK")
	p.Sees("a network HSM needs a server")
	p.Press("Add")
	long := strings.Repeat("m", 32)
	g.server(1, long, g.hosts[0])
	p.Check("High Availability", true)
	p.Fill("Auto Recovery Retry", "501")
	p.Fill("High Availability Group Name", strings.Repeat("g", 32))
	p.Press("OK")
	for label, want := range map[string]string{"Module Name": "31", "Auto Recovery Retry": "0 to 500", "High Availability": "2 to 16", "High Availability Group Name": "31"} {
		if got := p.Beside(label); !strings.Contains(got, want) {
			g.t.Errorf("beside %s is %q, expected the words %q", label, got, want)
		}
	}
	if got := p.Value("Module Name"); got != long {
		g.t.Errorf("the name that was typed has become %q", got)
	}
	p.Shot("bad-values")
	for range 16 {
		p.Press("Add")
	}
	p.Sees("Server 17")
	p.Press("OK")
	p.Sees("17 servers, expected at most 16")
	p.Press("Cancel")
}

func (g *webGuide) addServers() {
	p := g.page
	p.Menu("Device", "Setup", "HSM")
	p.In("Hardware Security Module Provider").Press("Edit")
	p.Choose("Provider Configured", "SafeNet Network HSM")
	p.Press("Add")
	g.server(1, hsmOne, g.hosts[0])
	p.Press("Add")
	g.server(2, hsmTwo, g.hosts[1])
	p.Check("High Availability", true)
	p.Fill("Auto Recovery Retry", "2")
	p.Fill("High Availability Group Name", "ha-group")
	p.Choose("HSM Client Version", "Automatic")
	p.Shot("provider")
	p.Press("OK")
	p.Sees("SafeNet Network HSM", "ha-group", "Commit (")
	g.commit()
	p.Menu("Device", "Setup", "HSM")
	p.In(hsmOne).Sees("Red")
	p.Shot("not-yet-authenticated")
}

func (g *webGuide) serviceRoute() {
	p := g.page
	p.Menu("Device", "Setup", "Services")
	p.Press("Service Route Configuration")
	p.Choose("Service routes", "Customize")
	p.Sees("IPv4", "Service HSM", "Handshakes that need a key of the HSM wait")
	p.Fill("Source Address", g.hosts[2].From())
	p.Shot("service-route")
	p.Press("OK")
	p.In("HSM").Sees(g.hosts[2].From())
	g.commit()
}

// automatic: the HSM's fingerprint is shown, and confirmed, before the password.
func (g *webGuide) automatic() {
	p := g.page
	p.Menu("Device", "Setup", "HSM")
	p.Press("Setup Hardware Security Module")
	p.Choose("Server Name", fmt.Sprintf("%s (%s)", hsmOne, g.serverAddress(0)))
	p.Choose("HSM Authentication", "Automatic")
	p.Press("OK")
	p.Sees("SSH host key of the HSM")
	printed, err := g.hsms[0].Shell(g.t.Context(), "sysconf fingerprint ssh")
	must(g.t, err)
	if shown := hostKeyForm.FindString(p.Text()); shown == "" || !strings.Contains(printed, shown) {
		g.t.Fatalf("the fingerprint %q is not one that the HSM prints:\n%s", shown, printed)
	}
	p.Check("This is the HSM's key", true)
	p.Fill("HSM Administrator Password", "not the password")
	p.Press("OK")
	if got := p.Beside("HSM Administrator Password"); !strings.Contains(got, "refused the password") {
		g.t.Errorf("beside a wrong password it says %q", got)
	}
	p.Shot("fingerprint")
	p.Sees("login")
	p.Shot("fingerprint")
	p.Fill("HSM Administrator Password", g.hsms[0].Admin)
	p.Press("OK")
	p.Sees("Authenticated with HSM server " + hsmOne)
	g.register(0)
	p.In(hsmOne).Sees("login")
}

func (g *webGuide) serverAddress(i int) string { return g.hsms[i].Addr }

// register is what the HSM's administrator does (the guide's G5).
func (g *webGuide) register(i int) {
	g.t.Helper()
	_, err := g.hsms[i].Shell(g.t.Context(), "client register -c firewall -ip "+g.hosts[2].From(), "client assignpartition -c firewall -p p1")
	must(g.t, err)
}

// manual: server.pem comes by scp, and the client certificate goes so.
func (g *webGuide) manual() {
	ssh, err := g.hsms[1].OpenSSH(g.w.Dir(), "admin", g.hsms[1].Admin)
	must(g.t, err)
	copied := filepath.Join(g.desk, "server.pem")
	if r, err := ssh.SCP(g.t.Context(), "HSM:server.pem", copied); err != nil || r.Status != 0 {
		g.t.Fatalf("scp: %v %s", err, r.Stderr)
	}
	p := g.page
	p.Menu("Device", "Setup", "HSM")
	p.Press("Setup Hardware Security Module")
	p.Choose("Server Name", fmt.Sprintf("%s (%s)", hsmTwo, g.serverAddress(1)))
	p.Choose("HSM Authentication", "Manual")
	p.Press("OK")
	if got := p.Beside("Import And Install HSM Server Certificate"); !strings.Contains(got, "server.pem") {
		g.t.Errorf("without a file it says %q", got)
	}
	p.Browse("Import And Install HSM Server Certificate", copied)
	p.Press("OK")
	p.Sees("The certificate of HSM server " + hsmTwo + " is installed")
	p.Choose("HSM Authentication", "Manual")
	name, content := p.Download("Export HSM Client Certificate")
	if want := g.hosts[2].From() + ".pem"; name != want {
		g.t.Errorf("the client certificate's file is %s, expected %s", name, want)
	}
	exported := filepath.Join(g.desk, name)
	must(g.t, os.WriteFile(exported, content, 0o600))
	if r, err := ssh.SCP(g.t.Context(), exported, "HSM:"); err != nil || r.Status != 0 {
		g.t.Fatalf("scp: %v %s", err, r.Stderr)
	}
	g.register(1)
	p.Press("Cancel")
}

func (g *webGuide) setupPartition() {
	p := g.page
	p.Menu("Device", "Setup", "HSM")
	p.Press("Refresh")
	p.Press("Setup HSM Partition")
	p.Fill("Partition Password", "not the password")
	p.Press("OK")
	if got := p.Beside("Partition Password"); !strings.Contains(got, "password") {
		g.t.Errorf("beside a wrong password it says %q", got)
	}
	p.Fill("Partition Password", g.partition.CryptoOfficer)
	p.Press("OK")
	p.Sees("hsm1: authenticated to partition p1", "hsm2: authenticated to partition p1")
	for i, name := range []string{hsmOne, hsmTwo} {
		out, err := g.hsms[i].Shell(g.t.Context(), "partition show -partition p1")
		must(g.t, err)
		row := p.In(name)
		row.Sees("Green", "p1", "Authenticated")
		serial := ""
		for word := range strings.FieldsSeq(row.Text()) {
			if len(word) > 6 && !strings.Contains(word, ":") && strings.Contains(out, word) {
				serial = word
			}
		}
		if serial == "" {
			g.t.Errorf("%s: the row %q has no serial number of\n%s", name, row.Text(), out)
		}
	}
	p.Shot("green")
}

// group: the login to the partition has made it of the servers.
func (g *webGuide) group() {
	p := g.page
	p.Sees("High Availability Group ha-group", "whole")
	p.Press("Synchronize HA Group")
	p.Fill("Partition Password", "not the password")
	p.Press("OK")
	p.Sees("Synchronize HA Group", "password")
	p.Fill("Partition Password", g.partition.CryptoOfficer)
	p.Press("OK")
	p.Sees("whole")
	p.Shot("group")
}

func (g *webGuide) masterKey() {
	p := g.page
	p.Menu("Device", "Master Key and Diagnostics")
	p.In("Master Key").Press("Edit")
	g.master = rand.Text()
	p.Fill("New Master Key", g.master)
	p.Fill("Confirm Master Key", g.master+"?")
	p.Check("Stored on HSM", true)
	p.Fill("Life Time", "731")
	p.Fill("Time for Reminder", "366")
	p.Press("OK")
	for label, want := range map[string]string{"Confirm Master Key": "not the same", "Life Time": "1 to 730", "Time for Reminder": "1 to 365"} {
		if got := p.Beside(label); !strings.Contains(got, want) {
			g.t.Errorf("beside %s is %q, expected the words %q", label, got, want)
		}
	}
	p.Shot("master-key-bad-values")
	p.Fill("New Master Key", g.master)
	p.Fill("Confirm Master Key", g.master)
	p.Fill("Life Time", "730")
	p.Fill("Time for Reminder", "365")
	p.Fill("Partition Password", g.partition.CryptoOfficer)
	p.Press("OK")
	p.Sees("The master key was changed", "moongate-mkey-")
	p.Press("Rotate Wrapping Key")
	p.Fill("Partition Password", g.partition.CryptoOfficer)
	p.Press("Rotate")
	p.Sees("There is a new wrapping key on the HSM")
}

// importCertificate is the guide's G13, for a key of the HSM.
func (g *webGuide) importCertificate() {
	p := g.page
	p.Menu("Device", "Certificate Management", "Certificates")
	p.Press("Import")
	p.Choose("Certificate Type", "Local")
	p.Fill("Certificate Name", webCertificate)
	p.Browse("Certificate File", g.file("forward.pem", g.authority))
	p.Choose("File Format", "Base64 Encoded Certificate (PEM)")
	p.Check("Private Key resides on Hardware Security Module", true)
	p.Shot("import")
	p.Press("OK")
	g.commit()
	p.Menu("Device", "Certificate Management", "Certificates")
	p.In(webCertificate).Sees("forward.thales.com", "valid")
	p.In(webCertificate).Icon("HSM")
	p.Shot("lock")
	// One that is no CA, for what must be refused of it.
	pair := server(g.t, newCA(g.t), "rsa", []string{"leaf.example"})
	p.Press("Import")
	p.Fill("Certificate Name", "leaf")
	p.Browse("Certificate File", g.file("leaf.pem", pair.Leaf))
	p.Press("OK")
	p.Press("leaf")
	p.Check("Forward Trust Certificate", true)
	p.Press("OK")
	if got := p.Beside("Forward Trust Certificate"); !strings.Contains(got, "CA") {
		g.t.Errorf("a certificate that is no CA is refused as forward trust with %q beside the box", got)
	}
	p.Shot("no-ca")
}

func (g *webGuide) forwardTrust() {
	p := g.page
	p.Menu("Device", "Certificate Management", "Certificates")
	p.Press(webCertificate)
	p.Check("Forward Trust Certificate", true)
	p.Press("OK")
	g.commit()
	p.Menu("Device", "Certificate Management", "Certificates")
	p.In(webCertificate).Sees("Forward Trust")
}

// redAndGreen stops the HSMs and starts them again.
func (g *webGuide) redAndGreen() {
	p := g.page
	p.Menu("Device", "Setup", "HSM")
	for _, h := range g.hsms {
		h.Kill9()
	}
	p.In(hsmOne).Sees("Red") // by itself
	p.Sees("connection refused", "Fix:")
	p.Shot("red")
	p.Menu("Device", "Certificate Management", "Certificates")
	p.In(webCertificate).Icon("HSM")
	if text := p.In(webCertificate).Text(); !strings.Contains(text, "HSM") {
		g.t.Errorf("the reason is not text: %q", text)
	}
	p.Shot("error-icon")
	for _, h := range g.hsms {
		must(g.t, h.Restart(g.t.Context()))
	}
	p.Menu("Device", "Setup", "HSM")
	p.In(hsmOne).Sees("Green")
	p.In(hsmTwo).Sees("Green")
	p.Menu("Device", "Certificate Management", "Certificates")
	p.In(webCertificate).Icon("HSM")
}

// makeCA makes a CA on the HSM, as the guide does with cmu (G12).
func (g *webGuide) makeCA(name string) {
	g.t.Helper()
	registered, err := g.hsms[0].RegisterFrom(g.t.Context(), g.hosts[0], "cmu", g.partition)
	must(g.t, err)
	settings, err := registered.Config(client.RoleCryptoOfficer)
	must(g.t, err)
	settings.Address = g.w.Forward(g.hosts[0], g.hsms[0].Addr)
	g.officer, err = client.Dial(g.t.Context(), settings)
	must(g.t, err)
	g.t.Cleanup(func() { g.officer.Close() })
	text := client.TextAttr(client.AttrLabel, name)
	pair, err := g.officer.GenerateRSA(g.t.Context(), 2048, client.NewTemplate(text), client.NewTemplate(text, client.BoolAttr(client.AttrSign, true)))
	must(g.t, err)
	key, err := g.officer.Key(g.t.Context(), pair.Private)
	must(g.t, err)
	now := time.Now()
	der, err := selfsign.Certificate(key, selfsign.Request{
		Subject: pkix.Name{CommonName: name, Organization: []string{"thales"}, Country: []string{"CA"}}, CA: true, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
	})
	must(g.t, err)
	g.authority, err = x509.ParseCertificate(der)
	must(g.t, err)
}

// file writes a certificate to the administrator's machine.
func (g *webGuide) file(name string, c *x509.Certificate) string {
	g.t.Helper()
	at := filepath.Join(g.desk, name)
	must(g.t, os.WriteFile(at, pki.PEM(c), 0o600))
	return at
}
