package hsmlink

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/ssh"

	"moongate/client"
	"moongate/internal/gw/config"
	"moongate/internal/gw/keys"
	"moongate/internal/gw/vault"
	"moongate/internal/hsm/daemon"
	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/partition"
	"moongate/internal/hsm/users"
)

// TestMain runs more tests at a time than there are processors: they wait for
// states most of their time.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

const (
	// prompt is how soon a change must show.
	prompt = 2 * time.Second
	// patience bounds what a test waits for; it is not meant to pass.
	patience = 30 * time.Second
)

// Passwords, each found nowhere but where it belongs.
const (
	soPassword    = "so-password-2f1c"
	coPassword    = "co-password-77aa"
	cuPassword    = "cu-password-901b"
	adminPassword = "admin-password-c0de"
)

// hsm is a real HSM with its administration, served in this process, with a
// partition p.
type hsm struct {
	t       testing.TB
	name    string
	dir     string
	address string // of its clients' port
	ssh     string // of its administration
	running bool
	stop    func()
}

func newHSM(t testing.TB, name string) *hsm {
	t.Helper()
	h := initHSM(t, name)
	h.offline(h.provision)
	h.start()
	return h
}

// initHSM is an HSM without a partition, that does not run.
func initHSM(t testing.TB, name string) *hsm {
	t.Helper()
	h := &hsm{t: t, name: name, dir: filepath.Join(t.TempDir(), "hsm-"+name), address: "127.0.0.1:0", ssh: "127.0.0.1:0"}
	_, err := daemon.Init(daemon.InitOptions{Dir: h.dir, Label: name, Hosts: []string{"127.0.0.1"}, Officer: []byte(soPassword)})
	must(t, err)
	t.Cleanup(func() { h.kill() })
	return h
}

// provision makes an account and the partition.
func (h *hsm) provision(a *daemon.Appliance) {
	h.t.Helper()
	must(h.t, a.Users.Add("admin", users.RoleAdmin))
	must(h.t, a.Users.SetPassword("admin", []byte(adminPassword)))
	_, err := a.Users.AddKey("admin", string(ssh.MarshalAuthorizedKey(shellKey().PublicKey())))
	must(h.t, err)
	o := h.officer(a)
	must(h.t, o.CreatePartition(h.t.Context(), "p"))
	must(h.t, o.InitCryptoOfficer(h.t.Context(), "p", []byte(coPassword)))
	must(h.t, a.HSM.InitCryptoUser(h.t.Context(), operator, "p", []byte(coPassword), []byte(cuPassword)))
}

// newCluster is HSMs of one domain that have pinned each other.
func newCluster(t testing.TB, names ...string) []*hsm {
	t.Helper()
	var list []*hsm
	var open []*daemon.Appliance
	for _, name := range names {
		h := initHSM(t, name)
		a, err := daemon.Open(daemon.Options{Dir: h.dir, Logger: quiet, NewKDF: quickKDF})
		must(t, err)
		list, open = append(list, h), append(open, a)
	}
	for i, a := range open {
		for j, b := range open {
			if i != j {
				certificate, _, err := b.HSM.HSMIdentity()
				must(t, err)
				must(t, list[i].officer(a).AddPeer(t.Context(), list[j].name, certificate))
			}
		}
	}
	first := list[0].officer(open[0])
	for i := 1; i < len(list); i++ {
		o := list[i].officer(open[i])
		request, err := o.RequestDomain(t.Context(), list[0].name)
		must(t, err)
		share, err := first.ShareDomain(t.Context(), list[i].name, request)
		must(t, err)
		must(t, o.JoinDomain(t.Context(), list[0].name, share))
	}
	for i, h := range list {
		h.provision(open[i])
		must(t, open[i].Close())
		h.start()
	}
	return list
}

// quickKDF is as cheap as a stored derivation may be.
func quickKDF(p mech.Policy) mech.KDF {
	kdf := mech.NewKDF(p)
	kdf.Time, kdf.Memory, kdf.Threads = 1, 8<<10, 1
	return kdf
}

var operator = partition.Operator{Name: "test", From: "here"}

func (h *hsm) officer(a *daemon.Appliance) *partition.Officer {
	h.t.Helper()
	o, err := a.HSM.AuthenticateOfficer(h.t.Context(), operator, []byte(soPassword))
	must(h.t, err)
	return o
}

// offline opens the HSM, which does not run, for what do does.
func (h *hsm) offline(do func(*daemon.Appliance)) {
	h.t.Helper()
	a, err := daemon.Open(daemon.Options{Dir: h.dir, Logger: quiet, NewKDF: quickKDF})
	must(h.t, err)
	do(a)
	must(h.t, a.Close())
}

var quiet = slog.New(slog.DiscardHandler)

// start serves the HSM, from the second time on at the same addresses.
func (h *hsm) start() {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan daemon.Addresses, 1), make(chan error, 1)
	go func() {
		ended <- daemon.Run(ctx, daemon.Options{
			Dir: h.dir, Listen: h.address, SSH: h.ssh, Logger: quiet, Version: "test", NewKDF: quickKDF,
			Ready: func(at daemon.Addresses) { ready <- at },
		})
	}()
	select {
	case at := <-ready:
		h.address, h.ssh = at.NTLS, at.SSH
	case err := <-ended:
		cancel()
		h.t.Fatalf("starting HSM %s: %v", h.name, err)
	}
	h.running = true
	h.stop = func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			h.t.Errorf("stopping HSM %s: %v", h.name, err)
		}
	}
}

func (h *hsm) kill() {
	if h.running {
		h.running = false
		h.stop()
	}
}

// shellKey is the administrator's, for whom a password would take its time.
var shellKey = sync.OnceValue(func() ssh.Signer {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		panic(err)
	}
	return signer
})

// shell runs a command of the HSM's shell, as its administrator.
func (h *hsm) shell(line string) string {
	h.t.Helper()
	c, err := ssh.Dial("tcp", h.ssh, &ssh.ClientConfig{User: "admin", Auth: []ssh.AuthMethod{ssh.PublicKeys(shellKey())}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	must(h.t, err)
	defer c.Close()
	session, err := c.NewSession()
	must(h.t, err)
	defer session.Close()
	out, err := session.CombinedOutput(line)
	if failed := outcome(out); failed != nil {
		h.t.Fatalf("%s: %v (%v)", line, failed, err)
	}
	return string(out)
}

// register has the HSM register a client's certificate for an address.
func (h *hsm) register(name, address string, certificate []byte, partition bool) {
	h.t.Helper()
	must(h.t, os.WriteFile(filepath.Join(daemon.In(h.dir).Inbox(), address+".pem"), certificate, 0o600))
	h.shell("client register -client " + name + " -ip " + address + " -replace")
	if partition {
		h.shell("client assignPartition -client " + name + " -partition p")
	}
}

// certificate is server.pem.
func (h *hsm) certificate() []byte {
	h.t.Helper()
	text, err := os.ReadFile(daemon.In(h.dir).Certificate())
	must(h.t, err)
	return text
}

// client is a connection of somebody else's to the partition, as its officer.
func (h *hsm) client() *client.Client {
	h.t.Helper()
	text, key, err := client.NewCertificate("other")
	must(h.t, err)
	h.register("other", "127.0.0.1", text, true)
	pair, err := tls.X509KeyPair(text, key)
	must(h.t, err)
	block, _ := pem.Decode(h.certificate())
	pinned, err := x509.ParseCertificate(block.Bytes)
	must(h.t, err)
	c, err := client.Dial(h.t.Context(), client.Config{
		Address: h.address, ServerCertificates: []*x509.Certificate{pinned}, Certificate: pair, Role: client.RoleCryptoOfficer,
		Password: func() ([]byte, error) { return []byte(coPassword), nil }, MaxBackoff: 100 * time.Millisecond,
	})
	must(h.t, err)
	h.t.Cleanup(func() { c.Close() })
	return c
}

// server is the HSM as it is configured on a gateway.
func (h *hsm) server() config.HSMServer {
	h.t.Helper()
	return config.HSMServer{Name: h.name, Address: "127.0.0.1", Port: portOf(h.t, h.address), SSHPort: portOf(h.t, h.ssh)}
}

func portOf(t testing.TB, address string) uint16 {
	t.Helper()
	_, text, err := net.SplitHostPort(address)
	must(t, err)
	n, err := strconv.ParseUint(text, 10, 16)
	must(t, err)
	return uint16(n)
}

// gateway is a gateway's half: its files, its manager, its switch.
type gateway struct {
	t     testing.TB
	dir   string
	vault *vault.Vault
	m     *Manager
	sw    *keys.Switch
	log   *buffer
	made  crypto.PublicKey // of the key that keepSigning made

	module      string // the program that serves tokens
	environment []string
	registry    *prometheus.Registry

	mu     sync.Mutex
	events []Event
}

// buffer is a log in memory.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// newGateway makes one on disk. change alters its files before it starts.
func newGateway(t testing.TB, change func(dir string)) *gateway {
	t.Helper()
	g := &gateway{t: t, dir: t.TempDir(), sw: keys.NewSwitch(), log: &buffer{}}
	if change != nil {
		must(t, os.Mkdir(g.hsmDir(), 0o700))
		change(g.hsmDir())
	}
	g.start()
	t.Cleanup(func() { must(t, g.m.Close()) })
	return g
}

// figures is where this life of the gateway registers what it measures.
func (g *gateway) figures() *prometheus.Registry {
	g.registry = prometheus.NewPedanticRegistry()
	return g.registry
}

func (g *gateway) hsmDir() string { return filepath.Join(g.dir, "hsm") }

// start begins a life of the gateway; restart another.
func (g *gateway) start() {
	g.t.Helper()
	if g.vault == nil {
		v, err := vault.Open(filepath.Join(g.dir, "vault"), vault.Options{})
		must(g.t, err)
		g.t.Cleanup(func() { v.Close() })
		g.vault = v
	}
	var err error
	g.m, err = New(Options{
		Dir: g.hsmDir(), Device: g.vault.Device(), Version: "test", Hostname: "gw", Module: g.module, ModuleEnvironment: g.environment, Registerer: g.figures(),
		Logger: slog.New(slog.NewTextHandler(g.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Events: func(e Event) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.events = append(g.events, e)
		},
	})
	must(g.t, err)
}

// use commits an HSM. What began on the link before ends there, as in a gateway.
func (g *gateway) use(h *config.HSM) {
	g.t.Helper()
	link, err := g.m.Open(h)
	must(g.t, err)
	before := g.sw.Set(link)
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-time.After(grace):
		case <-over:
		}
		if err := before.Close(); err != nil {
			g.t.Errorf("closing the link before: %v", err)
		}
	}()
	g.t.Cleanup(func() { close(over); <-ended })
}

// network is a configuration of HSMs.
func network(hsms ...*hsm) *config.HSM {
	c := &config.HSM{Provider: config.NetworkHSM}
	for _, h := range hsms {
		c.Servers = append(c.Servers, h.server())
	}
	return c
}

// status is that of one server.
func (g *gateway) status(server string) ServerStatus {
	g.t.Helper()
	for _, s := range g.m.Status().Servers {
		if s.Name == server {
			return s
		}
	}
	g.t.Fatalf("no status of %s", server)
	return ServerStatus{}
}

// shows waits until a server's status has a problem with the code, at the
// stage; "" and StateAuthenticated for none. It must be so within limit.
func (g *gateway) shows(server, state string, code Code, limit time.Duration) ServerStatus {
	g.t.Helper()
	if state == StateAuthenticated && code == "" {
		limit = patience // a login takes the time that its password's derivation does
	}
	began, lag := time.Now(), time.Duration(0)
	for {
		s := g.status(server)
		if s.State == state && codeOf(s.Problem) == code {
			// A machine that wakes sleepers late is late with all else, too.
			if took := time.Since(began); took > limit+10*lag {
				g.t.Errorf("%s shows %s %s after %v, want %v", server, state, code, took, limit)
			}
			g.check(s)
			return s
		}
		if time.Since(began) > patience {
			g.t.Fatalf("%s is %s (%v), want %s %s\n%s", server, s.State, s.Problem, state, code, g.log)
		}
		slept := time.Now()
		time.Sleep(10 * time.Millisecond)
		lag = max(lag, time.Since(slept)-10*time.Millisecond)
	}
}

// check holds a status to its own rules.
func (g *gateway) check(s ServerStatus) {
	g.t.Helper()
	if len(s.Stages) != len(Stages) {
		g.t.Fatalf("%d stages", len(s.Stages))
	}
	seen := Green
	for i, stage := range s.Stages {
		if stage.Name != Stages[i] || stage.Since.IsZero() || (stage.Level == Red) != (stage.Problem != nil) {
			g.t.Errorf("stage %+v", stage)
		}
		if seen != Green && stage.Level != Waiting || seen == Green && stage.Level == Red && s.Problem != stage.Problem && *s.Problem != *stage.Problem {
			g.t.Errorf("stage %s is %s after one that is %s", stage.Name, stage.Level, seen)
		}
		seen = stage.Level
		if stage.Problem != nil && (stage.Problem.Code == "" || stage.Problem.Reason == "") {
			g.t.Errorf("problem %+v", stage.Problem)
		}
	}
	if (s.State == StateAuthenticated) != (s.Serial != "") {
		g.t.Errorf("state %s, serial number %q", s.State, s.Serial)
	}
	if g.m.Status().Age(time.Now()) > prompt {
		g.t.Errorf("a status that is %v old", g.m.Status().Age(time.Now()))
	}
}

// told waits for an event.
func (g *gateway) told(id, text string) {
	g.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		g.mu.Lock()
		for _, e := range g.events {
			if e.ID == id && strings.Contains(e.Text, text) {
				g.mu.Unlock()
				return
			}
		}
		all := g.events
		g.mu.Unlock()
		if time.Now().After(end) {
			g.t.Fatalf("no event %s that says %q, but %+v", id, text, all)
		}
	}
}

// introduce makes an HSM and the gateway known to each other, as far as the
// partition.
func (g *gateway) introduce(h *hsm) {
	g.t.Helper()
	_, err := g.m.ImportServerCertificate(h.name, h.certificate())
	must(g.t, err)
	own, err := g.m.ExportClientCertificate(g.t.Context(), h.name)
	must(g.t, err)
	h.register("gw", own.Address, own.PEM, true)
}

// login gives the password of a role to all servers.
func (g *gateway) login(role client.Role, password string, keep bool) {
	g.t.Helper()
	list, err := g.m.Login(g.t.Context(), LoginRequest{Role: role, Password: []byte(password), Keep: keep})
	must(g.t, err)
	for _, done := range list {
		must(g.t, done.Err)
	}
}

// hidden looks for secrets in all files below dirs and in the log.
func (g *gateway) hidden() {
	g.t.Helper()
	secrets := []string{soPassword, coPassword, cuPassword, adminPassword, "PRIVATE KEY"}
	look := func(where string, text []byte) {
		for _, secret := range secrets {
			if bytes.Contains(text, []byte(secret)) {
				g.t.Errorf("%s holds %q in the clear", where, secret)
			}
		}
	}
	look("the log", []byte(g.log.String()))
	g.mu.Lock()
	for _, e := range g.events {
		look("event "+e.ID, []byte(e.Text))
	}
	g.mu.Unlock()
	must(g.t, filepath.WalkDir(g.hsmDir(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		look(path, text)
		return err
	}))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lock locks the partition's Crypto Officer, while the HSM is down.
func (h *hsm) lock(fingerprint string) {
	h.t.Helper()
	for range 4 {
		h.offline(func(a *daemon.Appliance) {
			attached, err := a.HSM.Attach(h.t.Context(), fingerprint, netip.MustParseAddrPort("127.0.0.1:1"))
			must(h.t, err)
			defer attached.Close()
			s, err := attached.OpenSession("p")
			must(h.t, err)
			for range 3 {
				if err := s.Login(h.t.Context(), object.OperationID{}, object.RoleCryptoOfficer, []byte("wrong")); err == nil {
					h.t.Fatal("a wrong password was right")
				}
			}
		})
	}
}
