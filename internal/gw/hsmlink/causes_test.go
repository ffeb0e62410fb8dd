package hsmlink

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"moongate/client"
	"moongate/internal/gw/config"
	"moongate/internal/hsm/daemon"
)

// TestCauses walks through what can be wrong with an HSM that worked, one after
// the other: each shows within two seconds by its own stage and code, and the
// gateway becomes whole by itself.
func TestCauses(t *testing.T) {
	t.Parallel()
	h, g := newHSM(t, "luna-1"), newGateway(t, nil)
	between := newProxy(t, h.address)
	c := network(h)
	c.Servers[0].Port = portOf(t, between.address())
	g.use(c)
	g.introduce(h)
	g.login(client.RoleCryptoOfficer, coPassword, true)
	whole := func() {
		t.Helper()
		g.shows("luna-1", StateAuthenticated, "", prompt)
		for end := time.Now().Add(patience); !g.sw.Status().Ready; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("not ready: %+v", g.sw.Status())
			}
		}
	}
	whole()

	h.kill()
	between.close()
	s := g.shows("luna-1", "tcp", CodePortRefused, prompt)
	if !strings.Contains(s.Problem.Reason, between.target.Load().(string)) && !strings.Contains(s.Problem.Reason, "127.0.0.1:") {
		t.Errorf("a closed port: %v", s.Problem)
	}
	h.start()
	between.target.Store(h.address)
	between.open()
	whole()

	between.frozen.Store(true) // the HSM's machine hangs, or packets are dropped
	g.shows("luna-1", "tcp", CodeSilent, prompt)
	if g.m.Status().Ready() {
		t.Error("an HSM that does not answer is ready")
	}
	between.frozen.Store(false)
	whole()

	h.shell("client revokePartition -client gw -partition p")
	g.shows("luna-1", "assigned", CodeNotAssigned, prompt)
	h.shell("client assignPartition -client gw -partition p")
	whole()

	own, err := g.m.ExportClientCertificate(t.Context(), "luna-1")
	must(t, err)
	h.shell("client delete -client gw -force")
	g.shows("luna-1", "registered", CodeNotRegistered, prompt)
	h.register("gw", "127.0.0.7", own.PEM, true)
	g.shows("luna-1", "registered", CodeAddress, prompt)
	h.register("gw", "127.0.0.1", own.PEM, true)
	whole()

	// Another HSM at the same address.
	impostor := newHSM(t, "impostor")
	between.target.Store(impostor.address)
	between.cut()
	s = g.shows("luna-1", "tls", CodeWrongServer, prompt)
	if s.HSMSerial != "" || !strings.Contains(s.Problem.Reason, g.status("luna-1").Pins[0].Fingerprint) {
		t.Errorf("an impostor: %+v", s)
	}
	between.target.Store(h.address)
	whole()

	// The password is changed on the HSM: it is tried once, and never again.
	o := h.client()
	must(t, o.ChangePassword(t.Context(), client.RoleCryptoOfficer, []byte(coPassword), []byte("another-password")))
	between.cut()
	g.shows("luna-1", "login", CodeWrongPassword, prompt)
	time.Sleep(2 * time.Second)
	if status, err := o.PartitionStatus(t.Context()); err != nil || failuresOf(status) != 1 {
		t.Errorf("wrong passwords: %+v, %v", status, err)
	}
	must(t, g.m.Close())
	g.start()
	g.use(c)
	g.shows("luna-1", "login", CodeWrongPassword, prompt)
	if status, err := o.PartitionStatus(t.Context()); err != nil || failuresOf(status) != 1 {
		t.Errorf("wrong passwords after a restart: %+v, %v", status, err)
	}
	list, err := g.m.Login(t.Context(), LoginRequest{Role: client.RoleCryptoOfficer, Password: []byte("another-password"), Keep: true})
	if err != nil || list[0].Err != nil {
		t.Fatalf("the new password: %v, %v", list, err)
	}
	whole()
	o.Close()

	// The role is locked, and unlocked again.
	h.kill()
	h.lock(own.Fingerprint)
	h.start()
	between.target.Store(h.address)
	between.cut()
	g.shows("luna-1", "login", CodeLocked, prompt)
	h.kill()
	h.offline(func(a *daemon.Appliance) {
		must(t, h.officer(a).UnlockRole(t.Context(), "p", client.RoleCryptoOfficer))
	})
	h.start()
	between.target.Store(h.address)
	whole()

	g.told("hsm-server-down", "has stopped answering")
	g.told("hsm-server-down", "is locked")
	g.hidden()
}

func failuresOf(s client.PartitionStatus) int {
	for _, r := range s.Roles {
		if r.Role == client.RoleCryptoOfficer {
			return r.Failures
		}
	}
	return -1
}

// proxy stands between the gateway and an HSM, and does what networks do.
type proxy struct {
	t      testing.TB
	at     string
	target atomic.Value // string
	frozen atomic.Bool  // nothing passes; nothing is lost

	mu       sync.Mutex
	listener net.Listener      // guarded by mu
	conns    map[net.Conn]bool // guarded by mu
	work     sync.WaitGroup
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	p := &proxy{t: t, at: "127.0.0.1:0", conns: map[net.Conn]bool{}}
	p.target.Store(target)
	p.open()
	t.Cleanup(func() {
		p.frozen.Store(false)
		p.close()
		p.work.Wait()
	})
	return p
}

func (p *proxy) address() string { return p.at }

func (p *proxy) open() {
	p.t.Helper()
	l, err := net.Listen("tcp", p.at)
	must(p.t, err)
	p.at = l.Addr().String()
	p.mu.Lock()
	p.listener = l
	p.mu.Unlock()
	p.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.work.Go(func() { p.serve(c) })
		}
	})
}

func (p *proxy) serve(c net.Conn) {
	defer c.Close()
	up, err := net.Dial("tcp", p.target.Load().(string))
	if err != nil {
		return
	}
	defer up.Close()
	p.mu.Lock()
	p.conns[c], p.conns[up] = true, true
	p.mu.Unlock()
	var both sync.WaitGroup
	pipe := func(to, from net.Conn) {
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			for p.frozen.Load() {
				time.Sleep(5 * time.Millisecond)
			}
			if n > 0 {
				if _, err := to.Write(buf[:n]); err != nil {
					break
				}
			}
			if err != nil {
				break
			}
		}
		to.Close()
		from.Close()
	}
	both.Go(func() { pipe(up, c) })
	both.Go(func() { pipe(c, up) })
	both.Wait()
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
}

func (p *proxy) close() {
	p.mu.Lock()
	p.listener.Close()
	p.mu.Unlock()
	p.cut()
}

// TestBlocked: a port whose packets are dropped is told from one that is
// closed, and a name that does not resolve from both.
func TestBlocked(t *testing.T) {
	t.Parallel()
	address := fullPort(t)
	g := newGateway(t, nil)
	g.use(&config.HSM{Provider: config.NetworkHSM, Servers: []config.HSMServer{
		{Name: "blocked", Address: "127.0.0.1", Port: portOf(t, address), SSHPort: 22},
		{Name: "nowhere", Address: "hsm.invalid", Port: 1792, SSHPort: 22},
	}})
	g.shows("blocked", "tcp", CodePortBlocked, prompt)
	g.shows("nowhere", "name", CodeNameUnknown, patience) // as fast as the machine's resolver
	if w := g.m.Warnings(nil, &config.HSM{Provider: config.NetworkHSM, Servers: []config.HSMServer{{Name: "a", Address: "127.0.0.1"}}}); len(w) != 0 {
		t.Errorf("warnings: %v", w)
	}
}

// fullPort is a port that answers no more connections: its backlog is full, and
// Linux drops what comes.
func fullPort(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	must(t, err)
	t.Cleanup(func() { syscall.Close(fd) })
	must(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(t, syscall.Listen(fd, 0))
	name, err := syscall.Getsockname(fd)
	must(t, err)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*syscall.SockaddrInet4).Port))
	for range 8 {
		if c, err := net.DialTimeout("tcp", address, 200*time.Millisecond); err == nil {
			t.Cleanup(func() { c.Close() })
		}
	}
	if c, err := net.DialTimeout("tcp", address, 200*time.Millisecond); err == nil {
		c.Close()
		t.Fatal("a full backlog took another connection")
	}
	return address
}

// TestEarlierFiles: what earlier versions kept, and an administrator may have
// written in the clear, goes on to work, and is sealed.
func TestEarlierFiles(t *testing.T) {
	t.Parallel()
	h := newHSM(t, "luna-1")
	cert, key, err := client.NewCertificate("gateway")
	must(t, err)
	h.register("gw", "127.0.0.1", cert, true)
	g := newGateway(t, func(dir string) {
		for name, text := range map[string]string{
			"client.pem": string(cert), "client.key": string(key), "server-luna-1.pem": string(h.certificate()),
			"partition": "p\n", "password": coPassword + "\r\nleftover\n",
		} {
			must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		}
	})
	g.use(network(h))
	s := g.shows("luna-1", StateAuthenticated, "", prompt)
	if len(s.Pins) != 1 || !s.Pins[0].Until.IsZero() || s.Role != "crypto-officer" {
		t.Errorf("status: %+v", s)
	}
	g.sign()
	g.hidden()
	must(t, g.m.Logout("luna-1"))
	g.shows("luna-1", "login", CodeNoPassword, prompt)

	// A fresh password that is written there is used at the next start.
	must(t, g.m.store.refused(passwordOf{"luna-1", client.RoleCryptoOfficer}, g.m.store.generation(passwordOf{"luna-1", client.RoleCryptoOfficer})))
	must(t, g.m.Close())
	must(t, os.WriteFile(filepath.Join(g.hsmDir(), "password"), []byte(coPassword), 0o600))
	g.start()
	g.use(network(h))
	g.shows("luna-1", StateAuthenticated, "", prompt)
	g.hidden()
}
