package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"moongate/e2e/peers"
	"moongate/e2e/world"
	"moongate/internal/gw/flow"
)

// TestInbound: clients of a protected server see its certificate, whose key is
// on the HSM, by every key exchange that is allowed.
func TestInbound(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	origin := peers.NewOrigin(t, server(t, ca, "ec", []string{"app.test"}))
	s := start(t, ca, world.GatewaySettings{
		Inbound:        []world.Site{{Name: "app", Server: origin.Address, Hosts: []string{"app.test"}}},
		InboundProfile: map[string]string{"ssl-protocol-settings/keyxchg-algo-rsa": "yes"},
	})
	address := s.gateway.Inbound["app"]
	cas := s.bundle("app-rsa", "app-ecdsa")

	t.Run("TLS 1.2 and 1.3, RSA and ECDSA, by OpenSSL", func(t *testing.T) {
		for _, test := range []struct {
			name, args, cipher, group string
		}{
			{"TLS 1.3 ECDSA", "-tls1_3 -sigalgs ECDSA+SHA256", "TLSv1.3", "X25519"},
			{"TLS 1.3 RSA", "-tls1_3 -sigalgs RSA-PSS+SHA256", "TLSv1.3", "X25519"},
			{"TLS 1.2 ECDHE-ECDSA", "-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256", "X25519"},
			{"TLS 1.2 ECDHE-RSA", "-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "X25519"},
			{"TLS 1.2 RSA key exchange", "-tls1_2 -cipher AES128-GCM-SHA256", "AES128-GCM-SHA256", ""},
		} {
			t.Run(test.name, func(t *testing.T) {
				before := s.countRecords()
				// The server answers HTTP, so that the connection is used.
				out := command(t, "sh", "-c", "printf 'GET / HTTP/1.0\\r\\nHost: app.test\\r\\n\\r\\n' | openssl s_client -quiet -no_ign_eof -ign_eof -connect "+address+
					" -servername app.test -verify_return_error -verify_hostname app.test -CAfile "+cas+" "+test.args)
				if !strings.Contains(out, "200 OK") {
					t.Fatalf("openssl: %s", out)
				}
				r := s.recordAfter(before, func(r *flow.Record) bool { return r.Kind == flow.Inbound && r.ClientLeg != nil })
				if r.HSMCalls == 0 || r.Verdict != flow.Trusted || r.Rule != "app" || r.ServerLeg == nil {
					t.Errorf("record: %+v", r)
				}
				if r.ClientLeg.Group != test.group {
					t.Errorf("group %q, want %q", r.ClientLeg.Group, test.group)
				}
			})
		}
	})
	t.Run("by curl, HTTP/2", func(t *testing.T) {
		out := command(t, "curl", "-sS", "--fail", "--noproxy", "*", "--http2", "--cacert", cas,
			"--connect-to", "app.test:443:"+address, "https://app.test/")
		if !strings.HasPrefix(out, "HTTP/2.0 TLS 1.3 app.test") {
			t.Errorf("the protected server saw %q", out)
		}
	})
	t.Run("bodies", func(t *testing.T) {
		client := s.inboundClient("app", "app.test")
		resp, err := client.Get("https://" + address + "/bytes/104857600")
		must(t, err)
		path := filepath.Join(t.TempDir(), "body")
		f, err := os.Create(path)
		must(t, err)
		n, err := io.Copy(f, resp.Body)
		must(t, err)
		resp.Body.Close()
		must(t, f.Close())
		want := patternDigest(t, big)
		if got := fileDigest(t, path); n != big || got != want {
			t.Errorf("%d bytes came down with SHA-256 %s, want %s", n, got, want)
		}
		resp, err = client.Post("https://"+address+"/sha256", "application/octet-stream", io.LimitReader(peers.NewPattern(), big))
		must(t, err)
		got, err := io.ReadAll(resp.Body)
		must(t, err)
		resp.Body.Close()
		if string(got) != want {
			t.Errorf("the protected server got SHA-256 %s, want %s", got, want)
		}
	})
	t.Run("WebSocket", func(t *testing.T) {
		client := s.inboundClient("app", "app.test")
		client.Timeout = 0
		client.Transport.(*http.Transport).ForceAttemptHTTP2 = false
		ws, _, err := websocket.Dial(t.Context(), "wss://"+address+"/echo", &websocket.DialOptions{HTTPClient: client})
		must(t, err)
		defer ws.CloseNow()
		must(t, ws.Write(t.Context(), websocket.MessageText, []byte("hello")))
		_, echo, err := ws.Read(t.Context())
		must(t, err)
		if string(echo) != "hello" {
			t.Errorf("echo %q", echo)
		}
	})
}

// TestInboundServerName: a configured server name is asked for and verified
// instead of the client's.
func TestInboundServerName(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	origin := peers.NewOrigin(t, server(t, ca, "rsa", []string{"app.test"}))
	s := start(t, ca, world.GatewaySettings{Inbound: []world.Site{{Name: "app", Server: origin.Address, ServerName: "app.test", Hosts: []string{"other.test"}}}})
	resp, err := s.inboundClient("app", "other.test").Get("https://" + s.gateway.Inbound["app"] + "/")
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	if !strings.HasSuffix(strings.TrimSpace(string(body)), "app.test") {
		t.Errorf("the protected server was asked for %q", body)
	}
}

// TestInboundServerMustProveItself: who is not the protected server is not
// presented with the protected server's certificate.
func TestInboundServerMustProveItself(t *testing.T) {
	t.Parallel()
	impostor := peers.NewOrigin(t, server(t, newCA(t), "ec", []string{"app.test"}))
	s := start(t, newCA(t), world.GatewaySettings{Inbound: []world.Site{{Name: "app", Server: impostor.Address, Hosts: []string{"app.test"}}}})
	if resp, err := s.inboundClient("app", "app.test").Get("https://" + s.gateway.Inbound["app"] + "/"); err == nil {
		resp.Body.Close()
		t.Fatal("a client got through to a server that is not the protected one")
	}
	r := s.record(func(r *flow.Record) bool { return r.Kind == flow.Inbound })
	if r.FailureStage != flow.StageVerify || r.ClientLeg != nil || r.HSMCalls != 0 {
		t.Errorf("record: %+v", r)
	}
}

// TestRSAKeyExchangeIsOffByDefault: without forward secrecy only where a
// profile says so.
func TestRSAKeyExchangeIsOffByDefault(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	origin := peers.NewOrigin(t, server(t, ca, "ec", []string{"app.test"}))
	s := start(t, ca, world.GatewaySettings{Inbound: []world.Site{{Name: "app", Server: origin.Address, Hosts: []string{"app.test"}}}})
	conn, err := tls.Dial("tcp", s.gateway.Inbound["app"], &tls.Config{
		InsecureSkipVerify: true, ServerName: "app.test", MaxVersion: tls.VersionTLS12,
		CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256},
	})
	if err == nil {
		conn.Close()
		t.Fatal("an RSA key exchange was accepted")
	}
}

// inboundClient trusts a site's certificates, and asks for the name.
func (s *setting) inboundClient(site, name string) *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(s.gateway.Certificates[site+"-rsa"])
	roots.AddCert(s.gateway.Certificates[site+"-ecdsa"])
	c := s.client()
	c.Transport.(*http.Transport).Proxy = nil
	c.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: roots, ServerName: name}
	return c
}
