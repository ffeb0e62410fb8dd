package daemon

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"moongate/client"
	"moongate/internal/gw/config"
	"moongate/internal/selfsign"
)

// gateway is one on disk: a forward proxy whose CAs are on an HSM that nobody
// serves. change alters its configuration.
func gateway(t *testing.T, port int, change func(*config.Builder)) string {
	t.Helper()
	dir := t.TempDir()
	files := In(dir)
	must(t, os.Mkdir(files.HSM(), 0o700))
	cert, key, err := client.NewCertificate("gw")
	must(t, err)
	for path, content := range map[string][]byte{
		files.ClientCertificate(): cert, files.ClientKey(): key, files.ServerCertificate("away"): cert,
		files.Password(): []byte("password\n"),
	} {
		must(t, os.WriteFile(path, content, 0o600))
	}
	b := config.NewBuilder()
	server := config.DevicePath + "/deviceconfig/system/hsm-settings/provider/safenet-network/hsm-server/" + config.EntryStep("away")
	b.Set(server+"/server-address", "127.0.0.1")
	b.Set(server+"/port", strconv.Itoa(freePort(t)))
	if port > 0 {
		forward := config.DevicePath + "/deviceconfig/setting/proxy/forward/" + config.EntryStep("proxy")
		b.Set(forward+"/address", "192.0.2.1") // not of this host
		b.Set(forward+"/port", strconv.Itoa(port))
	}
	for _, name := range []string{"trust", "untrust"} {
		entry := config.SharedPath + "/certificate/" + config.EntryStep(name)
		b.Set(entry+"/public-key", authority(t, name))
		b.Set(entry+"/private-key-on-hsm", "yes")
		b.Set(config.SharedPath+"/ssl-decrypt/forward-"+name+"-certificate/ecdsa", name)
	}
	if change != nil {
		change(b)
	}
	text, err := b.Bytes()
	must(t, err)
	must(t, os.WriteFile(files.Config(), text, 0o600))
	return dir
}

func authority(t *testing.T, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := selfsign.Certificate(crypto.Signer(key), selfsign.Request{
		Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), CA: true,
	})
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func options(dir string) Options {
	return Options{Dir: dir, Listen: "127.0.0.1", Version: "test", Logger: slog.New(slog.DiscardHandler)}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	if _, err := Check(In(gateway(t, 8080, nil)).Config()); err != nil {
		t.Errorf("a configuration that is in order: %v", err)
	}
	if _, err := Check(In(gateway(t, 0, nil)).Config()); err == nil || !strings.Contains(err.Error(), "has no listener") {
		t.Errorf("a configuration without a listener: %v", err)
	}
	path := filepath.Join(t.TempDir(), "config.xml")
	must(t, os.WriteFile(path, []byte("<config><nonsense/></config>"), 0o600))
	if _, err := Check(path); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("nonsense: %v", err)
	}
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "gateway")
	unconfigured := t.TempDir()
	unpinned := gateway(t, 8080, nil)
	must(t, os.Remove(In(unpinned).ServerCertificate("away")))
	for _, test := range []struct{ name, dir, says string }{
		{"a directory that is not there", missing, "there is no gateway in " + missing},
		{"no configuration", unconfigured, "reading the configuration"},
		{"an HSM that is not pinned", unpinned, "copy the HSM's server.pem to"},
	} {
		if err := Run(t.Context(), options(test.dir)); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// TestRun: a gateway starts without its HSM, on the address that it is told,
// alone on its data, and stops when it is told.
func TestRun(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	dir := gateway(t, port, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ready, ended := make(chan []string, 1), make(chan error, 1)
	opts := options(dir)
	opts.Ready = func(addresses []string) { ready <- addresses }
	go func() { ended <- Run(ctx, opts) }()
	var at string
	select {
	case addresses := <-ready:
		if at = strings.Join(addresses, " "); at != net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) {
			t.Errorf("it listens on %s", at)
		}
	case err := <-ended:
		t.Fatalf("Run: %v", err)
	}
	if err := Run(t.Context(), options(dir)); err == nil || !strings.Contains(err.Error(), "another gateway runs on this data directory") {
		t.Errorf("a second Run: %v", err)
	}
	other := gateway(t, port, nil)
	if err := Run(t.Context(), options(other)); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "forward listener proxy") {
		t.Errorf("a port that is taken: %v", err)
	}
	conn, err := net.Dial("tcp", at)
	must(t, err)
	must(t, conn.Close())
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if conn, err := net.Dial("tcp", at); err == nil {
		conn.Close()
		t.Error("it listens after its end")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
