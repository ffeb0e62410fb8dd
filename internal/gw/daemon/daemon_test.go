package daemon

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

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
	b.Set(awayPath+"/server-address", "127.0.0.1")
	b.Set(awayPath+"/port", strconv.Itoa(freePort(t)))
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
	for _, name := range []string{"https-port", "ssh-port", "metrics-port"} {
		b.Set(managementPath+"/"+name, strconv.Itoa(freePort(t)))
	}
	if change != nil {
		change(b)
	}
	text, err := b.Bytes()
	must(t, err)
	must(t, os.WriteFile(files.Config(), text, 0o600))
	return dir
}

// awayPath is the HSM server of a gateway.
var awayPath = config.DevicePath + "/deviceconfig/system/hsm-settings/provider/safenet-network/hsm-server/" + config.EntryStep("away")

const managementPath = config.DevicePath + "/deviceconfig/setting/management"

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
	if _, err := Check(In(gateway(t, 0, nil)).Config()); err != nil {
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
	nonsense := t.TempDir()
	must(t, os.WriteFile(In(nonsense).Config(), []byte("<config><nonsense/></config>"), 0o600))
	for _, test := range []struct{ name, dir, says string }{
		{"a directory that is not there", missing, "there is no gateway in " + missing},
		{"nonsense", nonsense, "nonsense"},
	} {
		if err := Run(t.Context(), options(test.dir)); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// running is a gateway that runs.
type running struct {
	t     *testing.T
	dir   string
	at    Addresses
	said  []string
	ended chan error
	stop  func()
}

func start(t *testing.T, dir string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: t, dir: dir, ended: make(chan error, 1)}
	ready := make(chan Addresses, 1)
	opts := options(dir)
	opts.Ready = func(a Addresses) { ready <- a }
	opts.Say = func(text string) { r.said = append(r.said, text) }
	go func() { r.ended <- Run(ctx, opts) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-r.ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(r.stop)
	select {
	case r.at = <-ready:
	case err := <-r.ended:
		r.ended <- nil
		t.Fatalf("Run: %v", err)
	}
	return r
}

// web asks the HTTPS listener, whose certificate must be the one on the disk.
func (r *running) web(path string) (int, string) {
	r.t.Helper()
	roots := x509.NewCertPool()
	raw, err := os.ReadFile(In(r.dir).WebCertificate())
	must(r.t, err)
	roots.AppendCertsFromPEM(raw)
	return r.get(&http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}}, "https://"+r.at.HTTPS+path)
}

func (r *running) get(tr *http.Transport, url string) (int, string) {
	r.t.Helper()
	tr.DisableKeepAlives = true
	c := http.Client{Transport: tr, Timeout: 20 * time.Second}
	res, err := c.Get(url)
	must(r.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	must(r.t, err)
	return res.StatusCode, string(body)
}

// login logs in over SSH and runs a command.
func (r *running) login(password, command string) (string, error) {
	return r.session(password, func(s *ssh.Session) ([]byte, error) { return s.Output(command) })
}

// pipe logs in over SSH and types lines, without a terminal.
func (r *running) pipe(lines string) (string, error) {
	return r.session(r.password(), func(s *ssh.Session) ([]byte, error) {
		var out, stderr bytes.Buffer // the two are written at the same time
		s.Stdin, s.Stdout, s.Stderr = strings.NewReader(lines), &out, &stderr
		if err := s.Shell(); err != nil {
			return nil, err
		}
		err := s.Wait()
		return append(out.Bytes(), stderr.Bytes()...), err
	})
}

func (r *running) session(password string, do func(*ssh.Session) ([]byte, error)) (string, error) {
	conn, err := ssh.Dial("tcp", r.at.SSH, &ssh.ClientConfig{
		User: FirstAdmin, Auth: []ssh.AuthMethod{ssh.Password(password)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 20 * time.Second,
	})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	session, err := conn.NewSession()
	if err != nil {
		return "", err
	}
	out, err := do(session)
	return string(out), err
}

func (r *running) password() string {
	r.t.Helper()
	raw, err := os.ReadFile(In(r.dir).FirstPassword())
	must(r.t, err)
	return strings.TrimSpace(string(raw))
}

// TestRun: a gateway starts without its HSM, on the address that it is told,
// alone on its data, with a management that somebody can come in by, and stops
// when it is told.
func TestRun(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	r := start(t, gateway(t, port, nil))
	at := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	if strings.Join(r.at.Plane, " ") != at {
		t.Errorf("it listens on %s", r.at.Plane)
	}
	if err := Run(t.Context(), options(r.dir)); err == nil || !strings.Contains(err.Error(), "another gateway runs on this data directory") {
		t.Errorf("a second Run: %v", err)
	}
	conn, err := net.Dial("tcp", at)
	must(t, err)
	must(t, conn.Close())

	if code, body := r.web("/health/alive"); code != http.StatusOK {
		t.Errorf("alive: %d %s", code, body)
	}
	if code, body := r.get(&http.Transport{}, "http://"+r.at.Metrics+"/health/ready"); code != http.StatusServiceUnavailable || !strings.Contains(body, "HSM") {
		t.Errorf("ready without the HSM: %d %s", code, body)
	}
	if code, body := r.get(&http.Transport{}, "http://"+r.at.Metrics+"/metrics"); code != http.StatusOK || !strings.Contains(body, "go_goroutines") {
		t.Errorf("figures: %d", code)
	}
	if code, body := r.web("/api/?type=keygen&user=admin&password=" + r.password()); code != http.StatusOK || !strings.Contains(body, "<key>") {
		t.Errorf("keygen: %d %s", code, body)
	}
	out, err := r.login(r.password(), "show system info")
	if err != nil || !strings.Contains(out, "moongate-version: test") {
		t.Errorf("over SSH: %v\n%s", err, out)
	}
	// What the person at the console must know is said, and no secret.
	said := strings.Join(r.said, "\n")
	for _, path := range []string{In(r.dir).FirstPassword(), "master.key"} {
		if !strings.Contains(said, path) {
			t.Errorf("it does not name %s: %s", path, said)
		}
	}
	if strings.Contains(said, r.password()) {
		t.Error("it says the password")
	}
	for path, clear := range map[string]string{In(r.dir).ClientKey(): "PRIVATE KEY", In(r.dir).Password(): "password\n"} {
		if raw, err := os.ReadFile(path); err != nil || strings.Contains(string(raw), clear) {
			t.Errorf("%s is not sealed: %v", path, err)
		}
	}
	r.stop()
	if conn, err := net.Dial("tcp", at); err == nil {
		conn.Close()
		t.Error("it listens after its end")
	}

	// The next start knows everything again, and says none of it.
	again := start(t, r.dir)
	if len(again.said) > 0 {
		t.Errorf("the second start says %q", again.said)
	}
	if _, err := again.login(r.password(), "show clock"); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}

// TestDegraded: what is wrong with the data plane does not keep anybody from
// mending it.
func TestDegraded(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { taken.Close() })
	unpinned := gateway(t, freePort(t), func(b *config.Builder) {
		b.Set(awayPath+"/port", portOf(taken)) // somebody listens there
	})
	must(t, os.Remove(In(unpinned).ServerCertificate("away")))
	for name, test := range map[string]struct{ dir, says string }{
		"a port that is taken":       {gateway(t, taken.Addr().(*net.TCPAddr).Port, nil), "address already in use"},
		"an HSM that is not pinned":  {unpinned, "HSM server away (tls): the HSM's certificate is not known; give it: `request hsm authenticate`"},
		"an HSM that is away":        {gateway(t, freePort(t), nil), "HSM server away (tcp): nothing listens at 127.0.0.1:"},
		"a management port is taken": {gateway(t, freePort(t), func(b *config.Builder) { b.Set(managementPath+"/metrics-port", portOf(taken)) }), "metrics listener"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, test.dir)
			// The log is written behind the scenes.
			for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
				out, err := r.login(r.password(), "show log system")
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(out, test.says) {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("the system log does not say %q:\n%s", test.says, out)
				}
			}
		})
	}
}

func portOf(l net.Listener) string { return strconv.Itoa(l.Addr().(*net.TCPAddr).Port) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
