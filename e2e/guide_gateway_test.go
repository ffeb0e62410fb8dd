package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"testing"
	"time"

	"moongate/client"
	"moongate/e2e/peers"
	"moongate/e2e/world"
	"moongate/internal/gw/flow"
)

// gatewaySteps are the guide's steps of traffic. They come after keySteps, whose key and
// exported certificate they find in the guide.
var gatewaySteps = []guideStep{
	{"G11.1", (*guide).forwardProxy},
	{"G11.2", (*guide).inboundInspection},
	{"G11.3", (*guide).forwardSecrecy},
	{"G11.5", (*guide).ecdsaKeys},
}

// inspection is the gateway of these steps, with the servers around it.
type inspection struct {
	*setting
	rsa, ec *peers.Origin // what clients go to through the forward proxy
}

// forwardProxy makes a CA that is valid today with the guide's own commands
// (the guide's example ended in 2025), and has the gateway sign with it.
func (g *guide) forwardProxy() {
	answer := g.co()
	g.workstation.run("./cmu gen -modulusBits=2048 -publicExp=65537 -sign=T -verify=T -label=forward-trust", answer)
	now := time.Now()
	g.workstation.run("./cmu selfSign -C=CA -O=thales -startDate="+now.AddDate(0, 0, -1).Format("20060102")+
		" -endDate="+now.AddDate(1, 0, 0).Format("20060102")+` -CN="forward.thales.com" -label=forward-trust`, answer)
	list := g.workstation.list("-class=certificate -label=forward-trust")
	if len(list) != 1 {
		g.t.Fatalf("%d certificates are called forward-trust", len(list))
	}
	const exported = "forward-today.pem"
	g.workstation.run(fmt.Sprintf("./cmu export -handle=%d -outputFile=%s", list[0].Handle, exported), answer)

	ca := newCA(g.t)
	i := &inspection{setting: &setting{t: g.t, w: g.w, hsm: g.hsm, partition: g.partition, gateway: g.firewall.Gateway, ca: ca}}
	// The servers last as long as the guide, not as this step.
	i.rsa = g.origin(server(g.t, ca, "rsa", []string{"localhost", "app.test"}))
	i.ec = g.origin(server(g.t, ca, "ec", []string{"localhost", "app.test"}))
	lines, err := g.firewall.Equip(g.t.Context(), g.workstation.dial(client.RoleCryptoOfficer, g.partition.CryptoOfficer), world.GatewaySettings{
		TrustedRoots: []*x509.Certificate{ca.Root}, Allowed: []string{"127.0.0.0/8"},
		ForwardTrust: parsePEM(g.t, g.workstation.path(exported)),
		Inbound:      []world.Site{{Name: "app", Server: i.rsa.Address, ServerName: "app.test", Hosts: []string{"app.test"}}},
	})
	must(g.t, err)
	g.inspection = i
	// What was made on one HSM is on both when it is to be used.
	g.job(g.co(), "request hsm ha synchronize password")
	g.configure(lines...)
	g.commitCandidate()

	g.browse("https://"+local("localhost", i.rsa.Address)+"/", g.workstation.path(exported))
	r := i.at(g.t).record(func(r *flow.Record) bool { return r.Kind == flow.Forward && r.ClientLeg != nil })
	g.equal("the leaf's issuer", r.ClientLeg.Certificate.Issuer, "CN=forward.thales.com,O=thales,C=CA")
	g.signedFor(r)
}

// origin is a server that only the gateway reaches: on its own loopback.
func (g *guide) origin(certificate tls.Certificate) *peers.Origin {
	g.t.Helper()
	var l net.Listener
	must(g.t, g.hosts.gateway.Do(func() (err error) {
		l, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	}))
	return peers.NewOriginOn(g.whole, l, certificate)
}

// browse gets a page through the forward proxy with curl, which trusts one CA.
func (g *guide) browse(url, ca string) {
	g.t.Helper()
	g.workstation.run("curl -sS --fail --noproxy '' --proxy http://"+g.inspection.gateway.Proxy+" --cacert "+ca+" "+url, "")
}

// signedFor checks that the HSM's audit shows a signature for a flow.
func (g *guide) signedFor(r *flow.Record) {
	g.t.Helper()
	for _, h := range append([]*world.HSM{g.hsm}, g.others...) { // whichever member it was
		records, err := h.Audit(g.t.Context(), 200)
		must(g.t, err)
		for _, a := range records {
			if a.Op == r.ID && a.Action == "key.sign" && a.Outcome == "ok" && a.Client == "firewall" {
				return
			}
		}
	}
	g.t.Errorf("no HSM's audit shows a signature for flow %s", r.ID)
}

func (g *guide) inboundInspection() {
	s := g.inspection.at(g.t)
	before := s.countRecords()
	g.visit("app.test", "--tls-max 1.3")
	r := s.recordAfter(before, func(r *flow.Record) bool { return r.Kind == flow.Inbound && r.ClientLeg != nil })
	g.equal("the verdict on the protected server", string(r.Verdict), string(flow.Trusted))
	g.signedFor(r)
}

// visit gets a page from the protected server with curl.
func (g *guide) visit(name, options string) {
	g.t.Helper()
	s := g.inspection.at(g.t)
	g.workstation.run("curl -sS --fail --noproxy '*' --cacert "+s.bundle("app-rsa", "app-ecdsa")+" "+options+
		" --connect-to "+name+":443:"+s.gateway.Inbound["app"]+" https://"+name+"/", "")
}

func (g *guide) forwardSecrecy() {
	s := g.inspection.at(g.t)
	before := s.countRecords()
	g.visit("app.test", "--tls-max 1.2 --ciphers ECDHE-RSA-AES128-GCM-SHA256")
	r := s.recordAfter(before, func(r *flow.Record) bool { return r.Kind == flow.Inbound && r.ClientLeg != nil })
	g.equal("the cipher", r.ClientLeg.Cipher, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")
	g.signedFor(r)
}

func (g *guide) ecdsaKeys() {
	s := g.inspection.at(g.t)
	before := s.countRecords()
	g.visit("app.test", "--tls-max 1.2 --ciphers ECDHE-ECDSA-AES128-GCM-SHA256")
	r := s.recordAfter(before, func(r *flow.Record) bool { return r.Kind == flow.Inbound && r.ClientLeg != nil })
	g.equal("the certificate inbound", r.Authority, "app-ecdsa")
	g.signedFor(r)

	before = s.countRecords()
	g.browse("https://"+local("localhost", g.inspection.ec.Address)+"/", s.bundle("forward-trust-ecdsa"))
	r = s.recordAfter(before, func(r *flow.Record) bool { return r.Kind == flow.Forward && r.ClientLeg != nil })
	g.equal("the CA for an ECDSA server", r.Authority, "forward-trust-ecdsa")
	g.signedFor(r)
}

// offloaded looks back: every signature of the gateway's was the HSM's.
func (g *guide) offloaded() {
	s := g.inspection.at(g.t)
	list, err := s.gateway.Records()
	must(g.t, err)
	signed := map[string]bool{}
	for _, h := range append([]*world.HSM{g.hsm}, g.others...) {
		records, err := h.Audit(g.t.Context(), 1000)
		must(g.t, err)
		for _, a := range records {
			if a.Client == "firewall" && a.Action == "key.sign" && a.Outcome == "ok" {
				signed[a.Op] = true
			}
		}
	}
	inspected := 0
	for _, r := range list {
		if r.ClientLeg == nil || r.Cached || r.ClientLeg.Resumed {
			continue
		}
		inspected++
		if !signed[r.ID] {
			g.t.Errorf("flow %s was inspected without a signature of the HSM", r.ID)
		}
	}
	if inspected < 4 {
		g.t.Errorf("only %d flows were inspected", inspected)
	}
}

// at is the setting in the present step.
func (i *inspection) at(t *testing.T) *setting {
	s := *i.setting
	s.t = t
	return &s
}
