package hsmlink

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"moongate/client"
	"moongate/internal/gw/config"
	"moongate/internal/hsm/daemon"
)

// TestAutomatic is the guide's automatic procedure, on a real HSM's SSH service.
func TestAutomatic(t *testing.T) {
	t.Parallel()
	h, g := newHSM(t, "luna-1"), newGateway(t, nil)
	g.use(network(h))
	run := func(r AuthenticateRequest) ([]string, error) {
		t.Helper()
		var steps []string
		err := g.m.Authenticate(t.Context(), "luna-1", r, func(s Step) {
			name := s.Name
			if s.Err != nil {
				name += " failed"
			}
			steps = append(steps, name)
		})
		return steps, err
	}
	refused := func(name string, r AuthenticateRequest, want []string, text string) {
		t.Helper()
		steps, err := run(r)
		if diff := cmp.Diff(want, steps); diff != "" || err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, steps (-want +got):\n%s", name, err, diff)
		}
	}
	password := []byte(adminPassword)
	refused("no host key", AuthenticateRequest{Password: password}, nil, "is not confirmed")

	key, err := g.m.HostKey(t.Context(), "luna-1")
	if err != nil || key.Known || key.Changed || !strings.Contains(h.shell("sysconf fingerprint ssh"), key.Fingerprint) {
		t.Fatalf("host key: %+v, %v", key, err)
	}
	refused("another host key", AuthenticateRequest{Fingerprint: "SHA256:" + strings.Repeat("A", 43), Password: password},
		[]string{"connect", "host-key failed"}, "no password was sent")
	for _, r := range []AuthenticateRequest{
		{Fingerprint: key.Fingerprint}, {Fingerprint: "md5", Password: password}, {Fingerprint: key.Fingerprint, Password: password, User: "a b"},
		{Fingerprint: key.Fingerprint, Password: password, Register: true, ClientName: "a; hsm zeroize"},
		{Fingerprint: key.Fingerprint, Password: password, Register: true, Partition: `p" -force`},
		{Fingerprint: key.Fingerprint, Password: password, Partition: "p"},
	} {
		refused("a request that cannot work", r, nil, "")
	}
	refused("a wrong password", AuthenticateRequest{Fingerprint: key.Fingerprint, Password: []byte("wrong-password")},
		[]string{"connect", "host-key", "login failed"}, "refused the password of user admin, which was sent once")
	g.shows("luna-1", "tls", CodeNotPinned, prompt)

	// Certificates alone: registering is left to the HSM's administrator.
	r := AuthenticateRequest{Fingerprint: key.Fingerprint, Password: password}
	steps, err := run(r)
	if diff := cmp.Diff([]string{"connect", "host-key", "login", "fetch", "deliver", "verify"}, steps); diff != "" || err != nil {
		t.Fatalf("certificates: %v, steps (-want +got):\n%s", err, diff)
	}
	g.shows("luna-1", "registered", CodeNotRegistered, prompt)
	h.shell("client register -client gw -ip 127.0.0.1")
	g.shows("luna-1", "assigned", CodeNotAssigned, prompt)

	// Everything in one step; the name is taken, and the host key is known.
	r = AuthenticateRequest{Password: password, Register: true, Partition: "p"}
	whole := []string{"connect", "host-key", "login", "fetch", "deliver", "register", "assign", "verify"}
	refused("a name that is taken", r, []string{"connect", "host-key", "login", "fetch", "deliver", "register failed"}, "registered already")
	r.Replace = true
	if steps, err = run(r); err != nil || cmp.Diff(whole, steps) != "" {
		t.Fatalf("everything: %v, %v", steps, err)
	}
	g.shows("luna-1", "login", CodeNoPassword, prompt)
	if key, err := g.m.HostKey(t.Context(), "luna-1"); err != nil || !key.Known {
		t.Errorf("the host key again: %+v, %v", key, err)
	}
	r.Partition = "q"
	refused("a partition that is not there", r, []string{"connect", "host-key", "login", "fetch", "deliver", "register", "assign failed"}, "q")

	// With the Security Officer's word needed.
	h.kill()
	h.offline(func(a *daemon.Appliance) { must(t, h.officer(a).SetForceLogin(t.Context(), true)) })
	h.start()
	r.Partition = "p"
	refused("without the Security Officer", r, []string{"connect", "host-key", "login", "fetch", "deliver", "register failed"}, "give it, too")
	r.Officer = []byte(soPassword)
	if steps, err = run(r); err != nil || cmp.Diff(whole, steps) != "" {
		t.Fatalf("with the Security Officer: %v, %v", steps, err)
	}
	g.login(client.RoleCryptoOfficer, coPassword, true)
	g.shows("luna-1", StateAuthenticated, "", prompt)
	g.sign()
	g.hidden()
}

// TestAutomaticAway: a port that is closed, and one that is no SSH server.
func TestAutomaticAway(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	port := portOf(t, closed.Addr().String())
	must(t, closed.Close())
	other, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { other.Close() })
	go func() {
		for {
			c, err := other.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			c.Close()
		}
	}()
	g.use(&config.HSM{Provider: config.NetworkHSM, Servers: []config.HSMServer{
		{Name: "closed", Address: "127.0.0.1", Port: port, SSHPort: port},
		{Name: "other", Address: "127.0.0.1", Port: port, SSHPort: portOf(t, other.Addr().String())},
	}})
	var e *Error
	if _, err := g.m.HostKey(t.Context(), "closed"); !errors.As(err, &e) || e.Code != CodePortRefused || !strings.Contains(e.Fix, "ssh-port") {
		t.Errorf("a closed port: %v", err)
	}
	if _, err := g.m.HostKey(t.Context(), "other"); err == nil || !strings.Contains(err.Error(), "asking HSM server other") {
		t.Errorf("no SSH server: %v", err)
	}
	if _, err := g.m.HostKey(t.Context(), "nobody"); err == nil {
		t.Error("a host key of nobody")
	}
}

func TestOutcome(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"'client register' successful.\n\nCommand Result : 0 (Success)\n":                 "",
		"Error: client \"gw\" is there.\n\nCommand Result : 65535 (Luna Shell execution)": `Error: client "gw" is there.`,
		"":                        "the HSM's shell said no result: ",
		"Command Result : 0 (":    "the HSM's shell said no result: Command Result : 0 (",
		"\x1b[2J\a no\x00 result": "the HSM's shell said no result: [2J no result",
		"x\nCommand Result : 1 (one)\nCommand Result : 0 (Success)": "x",
	} {
		got := ""
		if err := outcome([]byte(text)); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// FuzzOutcome: whatever a shell says, it is one printable line, and only a
// result of zero is a success.
func FuzzOutcome(f *testing.F) {
	f.Add([]byte("ok\nCommand Result : 0 (Success)\n"))
	f.Add([]byte("no\nCommand Result : 65535 (x)\n"))
	f.Fuzz(func(t *testing.T, output []byte) {
		err := outcome(output)
		if err == nil {
			if !strings.Contains(string(output), "Command Result : 0 (") {
				t.Errorf("%q is a success", output)
			}
			return
		}
		if text := err.Error(); strings.ContainsAny(text, "\n\r\x1b\x7f") || len(text) > 1000 {
			t.Errorf("%q says %q", output, text)
		}
	})
}
