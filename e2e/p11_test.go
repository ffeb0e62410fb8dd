package e2e

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"moongate/e2e/peers"
	"moongate/e2e/world"
	"moongate/internal/gw/flow"
	"moongate/internal/p11/p11test"
	"moongate/internal/selfsign"
)

const tokenLabel = "gateway token"

// newToken makes a SoftHSM2 token, behind a module that misbehaves when it is
// told to.
func newToken(t *testing.T) (*p11test.Store, *p11test.Faults, *world.Token) {
	t.Helper()
	store, faults := p11test.NewStore(t, tokenLabel), p11test.NewFaults(t)
	return store, faults, &world.Token{Module: faults.Path, Label: tokenLabel, PIN: p11test.PIN, Env: append(faults.Env(), store.Env())}
}

// TestPKCS11Module: a gateway whose keys are on a token behind another maker's
// module does what it does with a network HSM, and outlives its module.
func TestPKCS11Module(t *testing.T) {
	t.Parallel()
	store, faults, token := newToken(t)
	ca := newCA(t)
	origin := peers.NewOrigin(t, server(t, ca, "ec", []string{"localhost", "app.test", "one.test", "two.test"}))
	rsaOrigin := peers.NewOrigin(t, server(t, ca, "rsa", []string{"localhost"}))
	s := &setting{t: t, w: world.T(t), ca: ca}
	store.Generate(t, tokenLabel, "rsa:2048", "corporate CA", "c0", "--usage-sign")
	s.gateway = s.w.TokenGateway(token, world.GatewaySettings{
		TrustedRoots: []*x509.Certificate{ca.Root},
		Allowed:      []string{origin.Address, local("localhost", origin.Address), local("localhost", rsaOrigin.Address)},
		Inbound:      []world.Site{{Name: "app", Server: origin.Address, ServerName: "app.test", Hosts: []string{"app.test"}}},
		// One CA's key was made by an administrator, with the token's tools.
		ForwardTrust:   corporateCA(t, token),
		InboundProfile: map[string]string{"ssl-protocol-settings/keyxchg-algo-rsa": "yes"},
	})
	api := newXMLAPI(t, s.gateway)

	t.Run("forward proxy", func(t *testing.T) {
		for _, test := range []struct{ target, authority string }{
			{local("localhost", rsaOrigin.Address), "forward-trust"},
			{local("localhost", origin.Address), "forward-trust-ecdsa"},
		} {
			resp, err := s.trusting().Get("https://" + test.target + "/")
			must(t, err)
			resp.Body.Close()
			r := s.record(func(r *flow.Record) bool { return r.Target == test.target && r.ClientLeg != nil })
			if r.Authority != test.authority || r.HSMCalls == 0 || r.Verdict != flow.Trusted {
				t.Errorf("record: %+v", r)
			}
		}
	})
	t.Run("inbound inspection", func(t *testing.T) {
		cas := s.bundle("app-rsa", "app-ecdsa")
		for _, args := range []string{
			"-tls1_3 -sigalgs ECDSA+SHA256", "-tls1_3 -sigalgs RSA-PSS+SHA256",
			"-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256", "-tls1_2 -cipher AES128-GCM-SHA256",
		} {
			out := command(t, "sh", "-c", "printf 'GET / HTTP/1.0\\r\\nHost: app.test\\r\\n\\r\\n' | openssl s_client -quiet -no_ign_eof -ign_eof -connect "+s.gateway.Inbound["app"]+
				" -servername app.test -verify_return_error -verify_hostname app.test -CAfile "+cas+" "+args)
			if !strings.Contains(out, "200 OK") {
				t.Errorf("openssl %s: %s", args, out)
			}
		}
	})
	t.Run("status", func(t *testing.T) {
		out := awaitState(t, api, "<module-state>Authenticated</module-state>")
		for _, want := range []string{tokenLabel, "SoftHSM"} {
			info, err := api.op(t.Context(), "<show><hsm><info/></hsm></show>")
			must(t, err)
			if !strings.Contains(out+info, want) {
				t.Errorf("%q is missing in %s\n%s", want, out, info)
			}
		}
	})
	t.Run("master key", func(t *testing.T) {
		_, err := api.op(t.Context(), "<request><master-key><on-hsm>yes</on-hsm></master-key></request>")
		must(t, err)
		_, err = api.op(t.Context(), "<request><hsm><mkey-wrapping-key-rotation/></hsm></request>")
		must(t, err)
		listed := store.Tool(t, tokenLabel, "--list-objects", "--type", "secrkey")
		if n := strings.Count(listed, "moongate-mkey-"); n != 2 {
			t.Errorf("%d wrapping keys on the token, expected 2:\n%s", n, listed)
		}
		if n := strings.Count(listed, "never extractable"); n != 2 {
			t.Errorf("%d of them can never be taken out, expected 2:\n%s", n, listed)
		}
		must(t, s.gateway.Close())
		must(t, s.gateway.Start(t.Context()))
		awaitState(t, api, "<module-state>Authenticated</module-state>")
		for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
			out, err := api.op(t.Context(), "<show><system><masterkey-properties/></system></show>")
			must(t, err)
			if strings.Contains(out, "<on-hsm>yes</on-hsm>") && !strings.Contains(out, "not unlocked") {
				break
			}
			if time.Since(begin) > recovery {
				t.Fatalf("the master key is not unlocked after a restart: %s", out)
			}
		}
	})
	t.Run("deaths of the helper", func(t *testing.T) {
		s.killHelper(t, faults)
		must(t, s.handshake(origin.Address, "one.test")) // a leaf that is not cached
	})
	t.Run("secrets", func(t *testing.T) { searchSecrets(t, s.gateway, p11test.PIN) })
}

// corporateCA makes a CA of the key "corporate CA", which is on the token.
func corporateCA(t *testing.T, token *world.Token) *x509.Certificate {
	t.Helper()
	dir, err := os.MkdirTemp("", "token-")
	must(t, err)
	defer os.RemoveAll(dir)
	c, end, err := token.Serve(t.Context(), dir)
	must(t, err)
	defer func() { must(t, end()) }()
	key, err := c.FindKeyByLabel(t.Context(), "corporate CA")
	must(t, err)
	der, err := selfsign.Certificate(key, selfsign.Request{
		Subject: pkix.Name{CommonName: "forward-trust"}, CA: true, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
	})
	must(t, err)
	certificate, err := x509.ParseCertificate(der)
	must(t, err)
	return certificate
}

// awaitState waits until the HSM's state shows a text.
func awaitState(t *testing.T, api *xmlAPI, want string) string {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		out, err := api.op(t.Context(), "<show><hsm><state/></hsm></show>")
		must(t, err)
		if strings.Contains(out, want) {
			return out
		}
		if time.Since(begin) > recovery {
			t.Fatalf("the state does not become %q: %s", want, out)
		}
	}
}

// killHelper has the process of the module die and hang in every way under
// load: the gateway goes on, and service resumes by itself.
func (s *setting) killHelper(t *testing.T, faults *p11test.Faults) {
	before := s.gateway.PID()
	var served, failed atomic.Int64
	stop := make(chan struct{})
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := s.tryInbound("app"); err != nil {
					failed.Add(1)
				} else {
					served.Add(1)
				}
			}
		})
	}
	defer func() { close(stop); load.Wait() }()
	for _, fault := range []struct {
		name  string
		begin func(pid int) error
		end   func()
	}{
		{"killed", func(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) }, nil},
		{"stopped", func(pid int) error { return syscall.Kill(pid, syscall.SIGSTOP) }, nil},
		{"crashed in the module", func(int) error { faults.Set(t, "crash"); return nil }, func() { faults.Set(t, "") }},
		{"hung in the module", func(int) error { faults.Set(t, "hang"); return nil }, func() { faults.Set(t, "") }},
	} {
		pid, err := s.gateway.Helper()
		must(t, err)
		if pid == 0 {
			t.Fatalf("before it is %s there is no helper", fault.name)
		}
		lost := failed.Load()
		began := time.Now()
		must(t, fault.begin(pid))
		for now := pid; now == pid; time.Sleep(10 * time.Millisecond) {
			now, err = s.gateway.Helper()
			must(t, err)
			if time.Since(began) > time.Minute {
				t.Fatalf("%s: the helper is not replaced", fault.name)
			}
		}
		gone := time.Since(began)
		if fault.end != nil {
			fault.end()
		}
		n := served.Load()
		for ended := time.Now(); served.Load() < n+20; time.Sleep(10 * time.Millisecond) {
			if time.Since(ended) > 2*recovery {
				t.Fatalf("%s: no service %v after the fault: %v", fault.name, time.Since(ended), s.tryInbound("app"))
			}
		}
		t.Logf("%s: the helper was replaced after %v, handshakes failed meanwhile: %d", fault.name, gone.Round(time.Millisecond), failed.Load()-lost)
		if fault.name == "killed" && failed.Load() != lost {
			t.Errorf("%s: %d handshakes failed, expected none", fault.name, failed.Load()-lost)
		}
	}
	if after := s.gateway.PID(); after != before || !s.gateway.Process().Running() {
		t.Errorf("the gateway was process %d and is %d", before, after)
	}
}

// searchSecrets looks for a secret where it must not be: in the gateway's
// files, in what it prints, in arguments and environments.
func searchSecrets(t *testing.T, g *world.Gateway, secret string) {
	t.Helper()
	files := 0
	must(t, filepath.WalkDir(g.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		content, err := os.ReadFile(path)
		if err == nil && bytes.Contains(content, []byte(secret)) {
			t.Errorf("%s holds the PIN", path)
		}
		return err
	}))
	if files == 0 {
		t.Error("no files were searched")
	}
	if strings.Contains(g.Log(), secret) {
		t.Error("the gateway prints the PIN")
	}
	helper, err := g.Helper()
	must(t, err)
	for _, pid := range []int{g.PID(), helper} {
		for _, name := range []string{"cmdline", "environ"} {
			content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
			must(t, err)
			if len(content) == 0 || bytes.Contains(content, []byte(secret)) {
				t.Errorf("%s of process %d has %d bytes, and should not hold the PIN", name, pid, len(content))
			}
		}
	}
}

// TestPKCS11WrongPIN: a wrong PIN reaches the token once, the status says so,
// and the right one helps.
func TestPKCS11WrongPIN(t *testing.T) {
	t.Parallel()
	_, _, token := newToken(t)
	ca := newCA(t)
	origin := peers.NewOrigin(t, server(t, ca, "ec", []string{"app.test"}))
	s := &setting{t: t, w: world.T(t), ca: ca}
	s.gateway = s.w.TokenGateway(token, world.GatewaySettings{
		TrustedRoots: []*x509.Certificate{ca.Root},
		Inbound:      []world.Site{{Name: "app", Server: origin.Address, Hosts: []string{"app.test"}}},
	})
	must(t, s.tryInbound("app"))
	api := newXMLAPI(t, s.gateway)
	login := func(pin string) error {
		_, err := api.op(t.Context(), "<request><hsm><login><password>"+pin+"</password></login></hsm></request>")
		return err
	}
	_ = login("not the pin") // it may be told at once, or by the status
	awaitState(t, api, "refused")
	time.Sleep(2 * time.Second) // were it tried again, the token would be locked soon
	must(t, login(p11test.PIN))
	awaitState(t, api, "<module-state>Authenticated</module-state>")
	must(t, s.tryInbound("app"))
}
