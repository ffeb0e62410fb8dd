package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"moongate/e2e/peers"
	"moongate/e2e/pki"
	"moongate/e2e/world"
)

// TestPango: a client of another make manages the gateway, and traffic obeys.
func TestPango(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	certificate := server(t, ca, "ec", []string{"localhost", "app.test"})
	origin := peers.NewOrigin(t, certificate)
	s := start(t, ca, world.GatewaySettings{
		NoECDSA: true, Allowed: []string{"127.0.0.0/8"},
		Inbound: []world.Site{{Name: "app", Server: origin.Address, Hosts: []string{"app.test"}, RSAOnly: true}},
	})
	dir := t.TempDir()
	peer := filepath.Join(dir, "pango-peer")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", peer, ".")
	build.Dir = "pango"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building pango-peer: %v\n%s", err, out)
	}
	step := func(args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, peer, append([]string{"-address", s.gateway.Web}, args...)...)
		cmd.Env = append(os.Environ(), "PANGO_PASSWORD="+s.gateway.Admin)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", args[0], err, out)
		}
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Root)
	roots.AddCert(s.gateway.Certificates["forward-trust"])
	// Who issued what a client of the proxy sees.
	forward := func(want string) {
		t.Helper()
		client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
			Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: s.gateway.Proxy}), DisableKeepAlives: true,
			TLSClientConfig: &tls.Config{RootCAs: roots},
		}}
		resp, err := client.Get("https://" + local("localhost", origin.Address) + "/")
		must(t, err)
		resp.Body.Close()
		if got := resp.TLS.PeerCertificates[0].Issuer.CommonName; got != want {
			t.Errorf("the proxy's client sees a certificate of %q, want %q", got, want)
		}
	}
	// What a visitor of the protected server sees.
	visitor := func(want *x509.Certificate) {
		t.Helper()
		d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 30 * time.Second}, Config: &tls.Config{ServerName: "app.test", InsecureSkipVerify: true}}
		conn, err := d.DialContext(t.Context(), "tcp", s.gateway.Inbound["app"])
		must(t, err)
		defer conn.Close()
		if got := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]; !got.Equal(want) {
			t.Errorf("the visitor sees %s of %s, want %s of %s", got.Subject, got.Issuer, want.Subject, want.Issuer)
		}
	}
	own, ours := certificate.Leaf.Issuer.CommonName, "forward-trust"

	step("info")
	forward(ours)
	visitor(s.gateway.Certificates["app-rsa"])

	imported := server(t, ca, "ec", []string{"app.test"})
	chain, key, err := pki.WriteFiles(dir, "imported", imported)
	must(t, err)
	step("certificate", "pango-imported", chain, key)
	step("no-decrypt", "127.0.0.0/8")
	forward(own)
	step("inbound", "app", "pango-imported")
	visitor(imported.Leaf)
	step("everything-else")
	step("delete")
	forward(ours)
	visitor(imported.Leaf)
}
