package certstore

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"moongate/client"
	"moongate/internal/gw/config"
	"moongate/internal/gw/keys"
	"moongate/internal/gw/vault"
	"moongate/internal/hsm/daemon"
	"moongate/internal/hsm/partition"
)

// world is an Editor over a real vault and a configuration that its edits
// change; hsm leads to no HSM until one is switched on.
type world struct {
	*Editor
	t     *testing.T
	dir   string
	vault *vault.Vault
	hsm   *keys.Switch
	clock time.Time
	root  *config.Node
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), hsm: keys.NewSwitch(), clock: time.Now().Truncate(time.Second), root: config.Default()}
	var err error
	if w.vault, err = vault.Open(filepath.Join(w.dir, "vault"), vault.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.vault.Close() })
	w.Editor = NewEditor(w.vault, w.hsm, func() time.Time { return w.clock })
	return w
}

// apply applies edits that were made, and holds the whole against the schema.
func (w *world) apply(edits []config.Edit, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	if len(edits) == 0 {
		w.t.Fatal("no edits were made")
	}
	for _, e := range edits {
		if w.root, err = config.Apply(w.root, e); err != nil {
			w.t.Fatal(err)
		}
	}
	w.compile()
}

// compile compiles the configuration: what the certificates say again must
// agree with them.
func (w *world) compile() *config.Snapshot {
	w.t.Helper()
	snapshot, _, err := config.Compile(w.root, w.clock)
	if err != nil {
		w.t.Fatal(err)
	}
	return snapshot
}

// leaf is the text of an entry's leaf, "" when it is not there.
func (w *world) leaf(name, leaf string) string {
	w.t.Helper()
	nodes, err := config.Select(w.root, entryPath(name)+"/"+leaf)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(nodes) == 0 {
		return ""
	}
	return nodes[0].Text
}

func (w *world) certificate(name string) *x509.Certificate {
	w.t.Helper()
	f, err := findEntry(w.root, name)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(f.chain) == 0 {
		w.t.Fatalf("%s is a request", name)
	}
	return f.chain[0]
}

func (w *world) write(name string, data []byte) string {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), data, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return name
}

func (w *world) read(name string) []byte {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

// openssl runs the program, of scripts/test-packages, and returns what it prints.
func (w *world) openssl(args ...string) []byte {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), "openssl", args...)
	cmd.Dir = w.dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("openssl %q: %v\n%s", args, err, &stderr)
	}
	return out
}

// pki makes a root, an intermediate CA and a server's certificate with
// OpenSSL: root.pem, middle.pem, leaf.pem, leaf.key in PKCS #8.
func (w *world) pki() {
	w.t.Helper()
	w.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", "root.key", "-out", "root.pem", "-subj", "/CN=root", "-days", "90")
	sign := func(name, issuer, extensions string, days string) {
		w.openssl("req", "-newkey", "rsa:2048", "-noenc", "-keyout", name+".key", "-out", name+".csr", "-subj", "/C=DE/O=Müller/CN="+name+".example", "-utf8")
		w.write("ext", []byte(extensions))
		w.openssl("x509", "-req", "-in", name+".csr", "-CA", issuer+".pem", "-CAkey", issuer+".key", "-CAcreateserial", "-out", name+".pem", "-days", days, "-extfile", "ext")
	}
	sign("middle", "root", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign", "60")
	sign("leaf", "middle", "basicConstraints=CA:FALSE\nsubjectAltName=DNS:leaf.example", "50")
}

func (w *world) files(names ...string) []byte {
	w.t.Helper()
	var out []byte
	for _, name := range names {
		out = append(out, w.read(name)...)
	}
	return out
}

func publicPEM(t *testing.T, c *x509.Certificate) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(c.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// refused requires an error with a word in it, and no secret.
func refused(t *testing.T, what string, err error, word string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), word) {
		t.Errorf("%s: %v, expected %q in it", what, err, word)
	}
	if err != nil && (strings.Contains(err.Error(), "BEGIN") || strings.Contains(err.Error(), "MII")) {
		t.Errorf("%s: the error repeats what was given: %v", what, err)
	}
}

// realHSM switches on a network HSM on disk, until stop is called.
func (w *world) realHSM() (c *client.Client, stop func()) {
	w.t.Helper()
	t := w.t
	dir := filepath.Join(w.dir, "hsm")
	so, co := []byte("so-password"), []byte("co-password")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := daemon.Init(daemon.InitOptions{Dir: dir, Label: "test", Hosts: []string{"127.0.0.1"}, Officer: so})
	must(err)
	cert, key, err := client.NewCertificate("gateway")
	must(err)
	pair, err := tls.X509KeyPair(cert, key)
	must(err)
	appliance, err := daemon.Open(daemon.Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	must(err)
	officer, err := appliance.HSM.AuthenticateOfficer(t.Context(), partition.Operator{Name: "test", From: "here"}, so)
	must(err)
	must(officer.CreatePartition(t.Context(), "p"))
	must(officer.InitCryptoOfficer(t.Context(), "p", co))
	must(officer.RegisterClient(t.Context(), partition.Registration{Name: "gateway", Address: "127.0.0.1", Certificate: cert}))
	must(officer.AssignPartition(t.Context(), "gateway", "p"))
	must(appliance.Close())

	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- daemon.Run(ctx, daemon.Options{
			Dir: dir, Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler),
			Ready: func(at daemon.Addresses) { ready <- at.NTLS },
		})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("stopping the HSM: %v", err)
		}
	})
	t.Cleanup(stop)
	pinned, err := client.LoadCertificates(daemon.In(dir).Certificate())
	must(err)
	select {
	case address := <-ready:
		c, err = client.Dial(t.Context(), client.Config{
			Address: address, ServerCertificates: pinned, Certificate: pair, Partition: "p", Role: client.RoleCryptoOfficer,
			Password: func() ([]byte, error) { return []byte("co-password"), nil },
		})
		must(err)
	case err := <-ended:
		ended <- err
		t.Fatalf("starting the HSM: %v", err)
	}
	link := keys.Network(c)
	t.Cleanup(func() { link.Close() })
	must(link.Ready(t.Context()))
	w.hsm.Set(link)
	return c, stop
}

// try runs openssl where it may fail.
func (w *world) try(args ...string) (out []byte, failed bool) {
	cmd := exec.CommandContext(w.t.Context(), "openssl", args...)
	cmd.Dir = w.dir
	out, err := cmd.Output()
	return out, err != nil
}

// serves handshakes with a certificate, by ECDHE and where it is RSA by RSA key
// exchange.
func serves(t *testing.T, certificate *tls.Certificate) {
	t.Helper()
	suites := []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	if certificate.Leaf.PublicKeyAlgorithm == x509.RSA {
		suites = append(suites, tls.TLS_RSA_WITH_AES_128_GCM_SHA256)
	}
	for _, suite := range suites[len(suites)-2:] {
		ours, theirs := net.Pipe()
		server := tls.Server(ours, &tls.Config{Certificates: []tls.Certificate{*certificate}, CipherSuites: suites, MaxVersion: tls.VersionTLS12})
		ended := make(chan error, 1)
		go func() { ended <- server.HandshakeContext(t.Context()) }()
		c := tls.Client(theirs, &tls.Config{InsecureSkipVerify: true, CipherSuites: []uint16{suite}, MaxVersion: tls.VersionTLS12})
		err := c.HandshakeContext(t.Context())
		theirs.Close()
		isEC := certificate.Leaf.PublicKeyAlgorithm == x509.ECDSA
		if usable := isEC == (suite == tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256); usable && (err != nil || <-ended != nil) {
			t.Errorf("%s: %v", tls.CipherSuiteName(suite), err)
		} else if usable && !c.ConnectionState().PeerCertificates[0].Equal(certificate.Leaf) {
			t.Errorf("%s: another certificate", tls.CipherSuiteName(suite))
		}
		ours.Close()
	}
}
