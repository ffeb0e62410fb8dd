// Package e2e proves the whole by the programs themselves: a network HSM and a
// gateway as processes, between real clients and real servers.
package e2e

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"moongate/client"
	"moongate/e2e/peers"
	"moongate/e2e/pki"
	"moongate/e2e/world"
	"moongate/internal/gw/flow"
)

// setting is an HSM with a gateway in front of servers of the tests' own CA.
type setting struct {
	t         *testing.T
	w         world.Test
	hsm       *world.HSM
	partition *world.Partition
	link      *world.Registered
	gateway   *world.Gateway
	ca        *pki.CA
}

// newCA makes the CA of the tests' servers.
func newCA(t *testing.T) *pki.CA {
	t.Helper()
	ca, err := pki.New("e2e")
	must(t, err)
	return ca
}

// start brings an HSM and a gateway up, the gateway with the CA as a trusted
// root.
func start(t *testing.T, ca *pki.CA, settings world.GatewaySettings) *setting {
	t.Helper()
	s := &setting{t: t, w: world.T(t), ca: ca}
	s.hsm = s.w.HSM()
	s.partition = s.w.Partition(s.hsm, "p")
	settings.TrustedRoots = append(settings.TrustedRoots, ca.Root)
	s.link = s.w.Register(s.hsm, "gw", s.partition)
	s.gateway = s.w.Gateway(s.link, settings)
	return s
}

// dialHSM logs in to the gateway's partition as its Crypto Officer.
func (s *setting) dialHSM(t *testing.T) *client.Client {
	t.Helper()
	config, err := s.link.Config(client.RoleCryptoOfficer)
	must(t, err)
	c, err := client.Dial(t.Context(), config)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// server makes a certificate of the tests' CA.
func server(t *testing.T, ca *pki.CA, kind string, names []string, options ...pki.Option) tls.Certificate {
	t.Helper()
	cert, err := ca.Server(kind, names, options...)
	must(t, err)
	return cert
}

// client is an HTTP client through the forward proxy, which trusts the named
// authorities of the gateway. Each of its requests is a connection of its own.
func (s *setting) client(authorities ...string) *http.Client {
	roots := x509.NewCertPool()
	for _, name := range authorities {
		roots.AddCert(s.gateway.Certificates[name])
	}
	return &http.Client{
		Timeout: 60 * time.Second,
		Transport: &http.Transport{
			Proxy:             http.ProxyURL(&url.URL{Scheme: "http", Host: s.gateway.Proxy}),
			TLSClientConfig:   &tls.Config{RootCAs: roots},
			ForceAttemptHTTP2: true,
			DisableKeepAlives: true,
		},
	}
}

// trusting is a client that trusts the forward-trust CAs.
func (s *setting) trusting() *http.Client { return s.client("forward-trust", "forward-trust-ecdsa") }

// record waits for the record that match recognises.
func (s *setting) record(match func(*flow.Record) bool) *flow.Record {
	s.t.Helper()
	return s.recordAfter(0, match)
}

// countRecords returns how many records there are by now.
func (s *setting) countRecords() int {
	s.t.Helper()
	list, err := s.gateway.Records()
	must(s.t, err)
	return len(list)
}

// recordAfter waits for a record that match recognises beyond the first n.
func (s *setting) recordAfter(n int, match func(*flow.Record) bool) *flow.Record {
	s.t.Helper()
	r, err := s.gateway.WaitRecord(s.t.Context(), n, match)
	must(s.t, err)
	return r
}

// bundle writes certificates of the gateway into one PEM file.
func (s *setting) bundle(names ...string) string {
	s.t.Helper()
	var text []byte
	for _, name := range names {
		text = append(text, pki.PEM(s.gateway.Certificates[name])...)
	}
	path := filepath.Join(s.t.TempDir(), "authorities.pem")
	must(s.t, os.WriteFile(path, text, 0o644))
	return path
}

// command runs a real program and returns what it prints; it must succeed.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := try(t.Context(), name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func try(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "NO_PROXY=", "no_proxy=", "HTTPS_PROXY=", "https_proxy=", "SSLKEYLOGFILE=")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// patternDigest is the SHA-256 of the first n bytes of the origin's pattern.
func patternDigest(t *testing.T, n int64) string {
	t.Helper()
	sum := sha256.New()
	_, err := io.CopyN(sum, peers.NewPattern(), n)
	must(t, err)
	return hex.EncodeToString(sum.Sum(nil))
}

// cryptoSHA256 is what a signature is over.
const cryptoSHA256 = crypto.SHA256

func parsePEM(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	raw, err := os.ReadFile(path)
	must(t, err)
	block, _ := pem.Decode(raw)
	if block == nil {
		t.Fatalf("%s holds no PEM", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	return cert
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
