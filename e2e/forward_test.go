package e2e

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"moongate/e2e/peers"
	"moongate/e2e/pki"
	"moongate/e2e/world"
	"moongate/internal/gw/flow"
)

// big is the body of the integrity tests.
const big = 100 << 20

// TestForward sends real traffic of every kind through one gateway.
func TestForward(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	root := t.TempDir()
	must(t, os.Chmod(root, 0o755))
	file, err := os.Create(filepath.Join(root, "big"))
	must(t, err)
	want := sha256.New()
	_, err = io.CopyN(io.MultiWriter(file, want), peers.NewPattern(), big)
	must(t, err)
	must(t, file.Close())
	must(t, os.WriteFile(filepath.Join(root, "index.html"), []byte("<title>nginx behind the gateway</title>\n"), 0o644))
	digest := hex.EncodeToString(want.Sum(nil))

	site := peers.Nginx(t, server(t, ca, "rsa", []string{"localhost", "127.0.0.1"}), root)
	origin := peers.NewOrigin(t, server(t, ca, "ec", []string{"localhost", "127.0.0.1", "one.test", "two.test"}))
	s := start(t, ca, world.GatewaySettings{
		Allowed: []string{site, origin.Address, local("localhost", site), local("localhost", origin.Address)},
	})
	proxy := "http://" + s.gateway.Proxy
	cas := s.bundle("forward-trust", "forward-trust-ecdsa")
	curl := func(args ...string) string {
		t.Helper()
		return command(t, "curl", append([]string{"-sS", "--fail", "--noproxy", "", "--proxy", proxy, "--cacert", cas}, args...)...)
	}
	siteURL, originURL := "https://"+local("localhost", site)+"/", "https://"+local("localhost", origin.Address)+"/"

	t.Run("the leaf is signed in the HSM and its record joins the audit", func(t *testing.T) {
		if out := curl("-v", siteURL); !strings.Contains(out, "nginx behind the gateway") {
			t.Fatalf("curl printed %q", out)
		}
		r := s.record(func(r *flow.Record) bool {
			return r.Target == local("localhost", site) && !r.Cached && r.ClientLeg != nil
		})
		if r.Authority != "forward-trust" || r.Verdict != flow.Trusted || r.HSMCalls == 0 || r.Rule != "forward" {
			t.Errorf("record: %+v", r)
		}
		if r.ClientLeg.Certificate.Subject != r.ServerLeg.Certificate.Subject || r.ClientLeg.Certificate.Issuer != "CN=forward-trust" {
			t.Errorf("leaf presented %+v, server's %+v", r.ClientLeg.Certificate, r.ServerLeg.Certificate)
		}
		found := false
		records, err := s.hsm.Audit(t.Context(), 100)
		must(t, err)
		for _, a := range records {
			found = found || a.Op == r.ID && a.Action == "key.sign" && a.Outcome == "ok"
		}
		if !found {
			t.Errorf("the HSM's audit has no signature with operation %s", r.ID)
		}
	})
	t.Run("openssl verifies the leaf", func(t *testing.T) {
		out := command(t, "sh", "-c", fmt.Sprintf("echo | openssl s_client -proxy %s -connect %s -servername localhost -verify_return_error -verify_hostname localhost -CAfile %s",
			s.gateway.Proxy, local("localhost", site), cas))
		if !strings.Contains(out, "Verify return code: 0 (ok)") {
			t.Errorf("openssl: %s", out)
		}
	})
	t.Run("an EC server gets a leaf of the EC authority", func(t *testing.T) {
		curl(originURL)
		r := s.record(func(r *flow.Record) bool { return r.Target == local("localhost", origin.Address) && r.ClientLeg != nil })
		if r.Authority != "forward-trust-ecdsa" {
			t.Errorf("signed by %s", r.Authority)
		}
	})
	t.Run("HTTP/2 and HTTP/1.1 pass as the client asks", func(t *testing.T) {
		for flag, want := range map[string]string{"--http2": "HTTP/2.0", "--http1.1": "HTTP/1.1"} {
			if out := curl(flag, originURL); !strings.HasPrefix(out, want) {
				t.Errorf("curl %s reached the origin as %q", flag, out)
			}
		}
		if out := curl("--http2", "-o", "/dev/null", "-w", "%{http_version}", siteURL); out != "2" {
			t.Errorf("nginx and curl speak HTTP/%s", out)
		}
	})
	t.Run("post-quantum on both legs", func(t *testing.T) {
		resp, err := s.trusting().Get(originURL)
		must(t, err)
		resp.Body.Close()
		r := s.record(func(r *flow.Record) bool {
			return r.Target == local("localhost", origin.Address) && r.ClientLeg != nil && r.ClientLeg.Group == "X25519MLKEM768"
		})
		if r.ServerLeg.Group != "X25519MLKEM768" || r.ServerLeg.Version != "TLS 1.3" {
			t.Errorf("server leg %+v", r.ServerLeg)
		}
	})
	t.Run("100 MB down", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "down")
		curl("-o", path, siteURL+"big")
		if got := fileDigest(t, path); got != digest {
			t.Errorf("%d MB came with SHA-256 %s, want %s", big>>20, got, digest)
		}
	})
	t.Run("100 MB up", func(t *testing.T) {
		for _, version := range []string{"--http1.1", "--http2"} {
			if got := curl(version, "-H", "Expect:", "--data-binary", "@"+filepath.Join(root, "big"), originURL+"sha256"); got != digest {
				t.Errorf("%s: the origin got SHA-256 %s, want %s", version, got, digest)
			}
		}
	})
	t.Run("WebSocket", func(t *testing.T) {
		client := s.trusting()
		client.Timeout = 0
		client.Transport.(*http.Transport).ForceAttemptHTTP2 = false
		ws, _, err := websocket.Dial(t.Context(), "wss://"+local("localhost", origin.Address)+"/echo", &websocket.DialOptions{HTTPClient: client})
		must(t, err)
		defer ws.CloseNow()
		for _, message := range []string{"hello", strings.Repeat("x", 20_000)} {
			must(t, ws.Write(t.Context(), websocket.MessageText, []byte(message)))
			_, echo, err := ws.Read(t.Context())
			must(t, err)
			if string(echo) != message {
				t.Errorf("echo of %d bytes is %d bytes", len(message), len(echo))
			}
		}
		must(t, ws.Close(websocket.StatusNormalClosure, ""))
	})
	t.Run("loopback is refused but for the exceptions", func(t *testing.T) {
		out, err := try(t.Context(), "curl", "-sS", "--fail", "--noproxy", "", "--proxy", proxy, "--cacert", cas, "https://"+s.hsm.Addr+"/")
		if err == nil || !strings.Contains(out, "403") {
			t.Errorf("the proxy went to the HSM's port: %s", out)
		}
		r := s.record(func(r *flow.Record) bool { return r.Target == s.hsm.Addr })
		if r.FailureStage != flow.StageDestination {
			t.Errorf("record: %+v", r)
		}
	})
	t.Run("a new SNI is a new leaf, a known one is cached", func(t *testing.T) {
		for i, name := range []string{"one.test", "two.test", "one.test"} {
			must(t, s.handshake(origin.Address, name))
			s.record(func(r *flow.Record) bool { return r.SNI == name && r.Cached == (i == 2) })
		}
	})
}

// TestExclusion: an excluded name is not decrypted, the client sees the
// server's own certificate.
func TestExclusion(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	cert := server(t, ca, "ec", []string{"localhost"})
	origin := peers.NewOrigin(t, cert)
	s := start(t, ca, world.GatewaySettings{Allowed: []string{local("localhost", origin.Address)}, Exclusions: []string{"localhost"}})
	client := s.client()
	client.Transport.(*http.Transport).TLSClientConfig.RootCAs.AddCert(ca.Root)
	resp, err := client.Get("https://" + local("localhost", origin.Address) + "/")
	must(t, err)
	defer resp.Body.Close()
	if !resp.TLS.PeerCertificates[0].Equal(cert.Leaf) {
		t.Errorf("the client saw %v", resp.TLS.PeerCertificates[0].Subject)
	}
	r := s.record(func(r *flow.Record) bool { return r.SNI == "localhost" })
	if r.Action != "no-decrypt" || r.HSMCalls != 0 || r.Verdict != flow.Unverified {
		t.Errorf("record: %+v", r)
	}
}

// TestBadServers: what does not verify never gets a trusted leaf.
func TestBadServers(t *testing.T) {
	t.Parallel()
	ca, stranger := newCA(t), newCA(t)
	selfSigned, err := pki.SelfSigned([]string{"localhost"})
	must(t, err)
	cases := []struct {
		name   string
		cert   tls.Certificate
		status flow.Status
	}{
		{"expired", server(t, ca, "rsa", []string{"localhost"}, pki.Expired), flow.Expired},
		{"self-signed", selfSigned, flow.SelfSigned},
		{"wrong name", server(t, ca, "ec", []string{"elsewhere.test"}), flow.WrongName},
		{"unknown issuer", server(t, stranger, "ec", []string{"localhost"}), flow.UnknownIssuer},
	}
	var allowed, targets []string
	for _, c := range cases {
		origin := peers.NewOrigin(t, c.cert)
		targets = append(targets, local("localhost", origin.Address))
		allowed = append(allowed, local("localhost", origin.Address))
	}
	lenient := start(t, ca, world.GatewaySettings{Allowed: allowed})
	strict := start(t, ca, world.GatewaySettings{Allowed: allowed, Profile: map[string]string{
		"ssl-forward-proxy/block-expired-certificate": "yes",
		"ssl-forward-proxy/block-untrusted-issuer":    "yes",
		"ssl-forward-proxy/block-if-sni-mismatch":     "yes",
	}})
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if resp, err := lenient.trusting().Get("https://" + targets[i] + "/"); err == nil {
				resp.Body.Close()
				t.Fatalf("a client that trusts forward-trust got through to a server that is %s", c.status)
			}
			r := lenient.record(func(r *flow.Record) bool { return r.Target == targets[i] })
			if r.Verdict != c.status || !strings.HasPrefix(r.Authority, "forward-untrust") || r.VerdictDetail == "" {
				t.Errorf("record: verdict %s (%s), authority %s", r.Verdict, r.VerdictDetail, r.Authority)
			}
			if !strings.Contains(r.FailureCause, "certificate") {
				t.Errorf("the client refused, and the record's cause is %q", r.FailureCause)
			}
			if resp, err := strict.trusting().Get("https://" + targets[i] + "/"); err == nil {
				resp.Body.Close()
				t.Fatal("a profile that blocks let it through")
			}
			r = strict.record(func(r *flow.Record) bool { return r.Target == targets[i] })
			if r.FailureStage != flow.StageVerify || r.Authority != "" || r.ClientLeg != nil || r.Action != "block" {
				t.Errorf("record: %+v", r)
			}
		})
	}
}

// TestOwnAuthorityIsNotTrustedUpstream: a server with a certificate that the
// gateway's own CA signed is nobody, also where the host's trust store holds
// that CA.
func TestOwnAuthorityIsNotTrustedUpstream(t *testing.T) {
	t.Parallel()
	s := start(t, newCA(t), world.GatewaySettings{Allowed: []string{"127.0.0.0/8"}})
	own := s.gateway.Certificates["forward-trust"]
	roots := s.bundle("forward-trust")
	must(t, s.gateway.Close())
	s.gateway.Env = []string{"SSL_CERT_FILE=" + roots, "SSL_CERT_DIR=/nonexistent"}
	must(t, s.gateway.Start(t.Context()))

	// Whoever can use the CA's key on the HSM makes a certificate for a key of
	// his own.
	c := s.dialHSM(t)
	key, err := c.FindKeyByPublic(t.Context(), own.PublicKey)
	must(t, err)
	cert, err := pki.SelfSigned([]string{"localhost", "127.0.0.1"})
	must(t, err)
	template := *cert.Leaf
	template.SignatureAlgorithm = 0
	der, err := x509.CreateCertificate(rand.Reader, &template, own, cert.Leaf.PublicKey, key)
	must(t, err)
	origin := peers.NewOrigin(t, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: cert.PrivateKey})
	if resp, err := s.trusting().Get("https://" + origin.Address + "/"); err == nil {
		resp.Body.Close()
		t.Fatal("a server with a certificate of the gateway's own CA is trusted")
	}
	r := s.record(func(r *flow.Record) bool { return r.Target == origin.Address })
	if r.Verdict != flow.OwnAuthority || !strings.HasPrefix(r.Authority, "forward-untrust") {
		t.Errorf("verdict %s (%s), authority %s", r.Verdict, r.VerdictDetail, r.Authority)
	}
}

// connect opens a CONNECT tunnel.
func (s *setting) connect(target string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(s.t.Context(), "tcp", s.gateway.Proxy)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
	answer := make([]byte, len("HTTP/1.1 200 Connection established\r\n\r\n"))
	if _, err := io.ReadFull(conn, answer); err != nil {
		conn.Close()
		return nil, fmt.Errorf("CONNECT %s: %w", target, err)
	}
	if !strings.HasPrefix(string(answer), "HTTP/1.1 200") {
		conn.Close()
		return nil, fmt.Errorf("CONNECT %s: %q", target, answer)
	}
	return conn, nil
}

// local replaces an address's host.
func local(host, address string) string {
	_, port, _ := net.SplitHostPort(address)
	return net.JoinHostPort(host, port)
}

func fileDigest(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	sum := sha256.New()
	_, err = io.Copy(sum, f)
	must(t, err)
	return hex.EncodeToString(sum.Sum(nil))
}
