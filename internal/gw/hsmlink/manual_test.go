package hsmlink

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"moongate/client"
	"moongate/internal/gw/config"
	"moongate/internal/gw/keys"
	"moongate/internal/hsm/daemon"
)

// TestManual is the guide's manual procedure: each step shows, and each that is
// missing is named.
func TestManual(t *testing.T) {
	t.Parallel()
	h, g := newHSM(t, "luna-1"), newGateway(t, nil)
	if s := g.m.Status(); s.Provider != "" || len(s.Servers) != 0 || s.Ready() {
		t.Errorf("without an HSM: %+v", s)
	}
	if _, err := g.m.ImportServerCertificate("luna-1", h.certificate()); err == nil || !strings.Contains(err.Error(), "no network HSM is configured") {
		t.Errorf("a certificate of an HSM that is not configured: %v", err)
	}
	g.use(network(h))
	s := g.shows("luna-1", "tls", CodeNotPinned, prompt)
	if s.Serial != "" || s.Stages[at(StageTCP)].Level != Green || s.Stages[at(StageRegistered)].Level != Waiting {
		t.Errorf("before anything was done: %+v", s)
	}
	if cause := g.sw.Status().Cause; !strings.Contains(cause, "luna-1: tls: the HSM's certificate is not known; give it: `request hsm authenticate`") {
		t.Errorf("the Switch says %q", cause)
	}

	for name, text := range map[string][]byte{"nothing": nil, "a key": []byte("-----BEGIN PRIVATE KEY-----"), "noise": []byte("server.pem"), "two": append(h.certificate(), h.certificate()...)} {
		if _, err := g.m.ImportServerCertificate("luna-1", text); err == nil {
			t.Errorf("%s was imported as a certificate", name)
		}
	}
	if _, err := g.m.ImportServerCertificate("luna-9", h.certificate()); err == nil || !strings.Contains(err.Error(), `no HSM server "luna-9" in the running configuration, which has luna-1`) {
		t.Errorf("a certificate of nobody: %v", err)
	}
	done, err := g.m.ImportServerCertificate("luna-1", h.certificate())
	if err != nil || len(done.Pin.Fingerprint) != 64 || done.Unchanged || len(done.Old) != 0 || !strings.Contains(h.shell("sysconf fingerprint ntls"), done.Pin.Fingerprint) {
		t.Fatalf("importing: %+v, %v", done, err)
	}
	if again, err := g.m.ImportServerCertificate("luna-1", h.certificate()); err != nil || !again.Unchanged {
		t.Errorf("importing again: %+v, %v", again, err)
	}
	g.shows("luna-1", "registered", CodeNotRegistered, prompt)

	own, err := g.m.ExportClientCertificate(t.Context(), "luna-1")
	if err != nil || own.Name != "127.0.0.1.pem" || own.Next || strings.Contains(string(own.PEM), "PRIVATE") {
		t.Fatalf("exporting: %+v, %v", own, err)
	}
	h.register("gw", "127.0.0.9", own.PEM, false)
	g.shows("luna-1", "registered", CodeAddress, prompt)
	h.register("gw", own.Address, own.PEM, false)
	g.shows("luna-1", "assigned", CodeNotAssigned, prompt)
	h.shell("client assignPartition -client gw -partition p")
	g.shows("luna-1", "login", CodeNoPassword, prompt)

	list, err := g.m.Login(t.Context(), LoginRequest{Role: client.RoleCryptoOfficer, Password: []byte("wrong-password")})
	var refused *Error
	if err != nil || len(list) != 1 || !errors.As(list[0].Err, &refused) || refused.Code != CodeWrongPassword || refused.Stage != StageLogin {
		t.Fatalf("a wrong password: %+v, %v", list, err)
	}
	g.shows("luna-1", "login", CodeNoPassword, prompt) // it is not taken
	g.login(client.RoleCryptoOfficer, coPassword, true)
	s = g.shows("luna-1", StateAuthenticated, "", prompt)
	if s.Partition != "p" || len(s.Serial) < 8 || s.Role != "crypto-officer" || !s.Serving || s.Protocol != 1 || s.Software != "moongate-hsm test" {
		t.Errorf("authenticated: %+v", s)
	}
	if status := g.m.Status(); !status.Ready() || len(status.Client) != 1 || len(status.Client[0].AcceptedBy) != 1 || status.Client[0].Fingerprint != own.Fingerprint {
		t.Errorf("status: %+v", status)
	}
	g.keysAre("luna-1", "no certificate needs one")
	g.sign()
	g.told("hsm-server-up", "HSM server luna-1 is authenticated: partition p")
	for _, text := range []string{"does not know the gateway's certificate", "refuses the address", "no partition is assigned", "has no password"} {
		g.told("hsm-server-down", text)
	}

	// Another life of the gateway: it comes up by itself.
	must(t, g.m.Close())
	g.start()
	g.use(network(h))
	g.shows("luna-1", StateAuthenticated, "", prompt)
	must(t, g.m.Logout(""))
	g.shows("luna-1", "login", CodeNoPassword, prompt)
	if g.m.Status().Ready() || g.sw.Status().Ready {
		t.Error("keys are used after a logout")
	}
	g.login(client.RoleCryptoUser, cuPassword, false)
	if s := g.shows("luna-1", StateAuthenticated, "", prompt); s.Role != "crypto-user" {
		t.Errorf("as %s", s.Role)
	}
	if _, err := g.sw.NewKey(t.Context()); !errors.Is(err, ErrOfficerNeeded) {
		t.Errorf("a wrapping key by a Crypto User: %v", err)
	}
	ref, err := g.sw.NewKey(WithOfficer(t.Context(), []byte(coPassword)))
	must(t, err)
	wrapped, err := g.sw.Wrap(t.Context(), ref, []byte("secret"))
	must(t, err)
	if plain, err := g.sw.Unwrap(t.Context(), ref, wrapped); err != nil || string(plain) != "secret" {
		t.Errorf("unwrapping: %v", err)
	}

	// What is not kept is gone with the process.
	must(t, g.m.Close())
	g.start()
	g.use(network(h))
	g.shows("luna-1", "login", CodeNoPassword, prompt)
	g.hidden()
}

// keysAre waits until the stage keys is green, with a detail.
func (g *gateway) keysAre(server, detail string) {
	g.t.Helper()
	for end := time.Now().Add(prompt); ; time.Sleep(10 * time.Millisecond) {
		stage := g.status(server).Stages[at(StageKeys)]
		if stage.Level == Green && stage.Detail == detail {
			return
		}
		if time.Now().After(end) {
			g.t.Errorf("the stage keys is %+v", stage)
			return
		}
	}
}

// sign makes a key on the HSM and signs with it.
func (g *gateway) sign() {
	g.t.Helper()
	key, err := g.sw.Make(g.t.Context(), keys.Spec{Curve: elliptic.P256(), Label: "test"})
	must(g.t, err)
	g.signWith(key.Public())
}

func (g *gateway) signWith(public crypto.PublicKey) {
	g.t.Helper()
	must(g.t, g.trySign(public))
}

func (g *gateway) trySign(public crypto.PublicKey) error {
	key, err := g.sw.Key(g.t.Context(), public)
	if err != nil {
		return err
	}
	digest := sha256.Sum256([]byte("message"))
	signature, err := key.Bind(g.t.Context()).Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return err
	}
	if !ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), digest[:], signature) {
		return errors.New("a signature that does not verify")
	}
	return nil
}

// TestKeys: the stage keys names the certificates whose keys are missing, and
// follows what happens on the HSM.
func TestKeys(t *testing.T) {
	t.Parallel()
	h, g := newHSM(t, "luna-1"), newGateway(t, nil)
	g.use(network(h))
	g.introduce(h)
	g.login(client.RoleCryptoUser, cuPassword, true)
	g.shows("luna-1", StateAuthenticated, "", prompt)
	other := h.client()
	template := client.NewTemplate(client.TextAttr(client.AttrLabel, "ca"))
	pair, err := other.GenerateEC(t.Context(), elliptic.P256(), template, template.With(client.BoolAttr(client.AttrSign, true)))
	must(t, err)
	here, err := other.PublicKey(t.Context(), pair.Public)
	must(t, err)
	away, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	g.m.Expect([]Expected{{"ca", here}, {"lost", &away.PublicKey}})
	s := g.shows("luna-1", StateAuthenticated, CodeKeyMissing, prompt)
	if len(s.MissingKeys) != 1 || s.MissingKeys[0] != "lost" || s.Stages[at(StageKeys)].Level != Red || s.Stages[at(StageLogin)].Level != Green {
		t.Errorf("a key that is missing: %+v", s)
	}
	g.told("hsm-server-keys", "lacks the private keys of certificates: lost")
	g.m.Expect([]Expected{{"ca", here}})
	s = g.shows("luna-1", StateAuthenticated, "", prompt)
	g.keysAre("luna-1", "1 key")
	g.signWith(here)
	must(t, other.Destroy(t.Context(), pair.Private))
	if s = g.shows("luna-1", StateAuthenticated, CodeKeyMissing, prompt); len(s.MissingKeys) != 1 || s.MissingKeys[0] != "ca" {
		t.Errorf("a key that was destroyed: %+v", s)
	}
}

// TestVersion: a version that this program does not speak is a problem of its
// own, with both named.
func TestVersion(t *testing.T) {
	t.Parallel()
	h, g := newHSM(t, "luna-1"), newGateway(t, nil)
	g.use(network(h))
	g.introduce(h)
	g.login(client.RoleCryptoOfficer, coPassword, true)
	g.shows("luna-1", StateAuthenticated, "", prompt)
	next := network(h)
	next.Version = 1
	g.use(next)
	g.shows("luna-1", StateAuthenticated, "", prompt)
	next = network(h)
	next.Version = 7
	g.use(next)
	s := g.shows("luna-1", "registered", CodeVersion, prompt)
	if !strings.Contains(s.Problem.Reason, "7") || !strings.Contains(s.Problem.Reason, "1") {
		t.Errorf("a version that nobody speaks: %v", s.Problem)
	}
}

// TestTwoServers: without a group the first one is used, and the others are
// watched.
func TestTwoServers(t *testing.T) {
	t.Parallel()
	a, b, g := newHSM(t, "a"), newHSM(t, "b"), newGateway(t, nil)
	g.use(network(a, b))
	g.introduce(a)
	g.introduce(b)
	g.login(client.RoleCryptoOfficer, coPassword, true)
	if s := g.shows("a", StateAuthenticated, "", prompt); !s.Serving {
		t.Error("the first server is not used")
	}
	if s := g.shows("b", StateAuthenticated, "", prompt); s.Serving {
		t.Error("the second server is used")
	}
	g.sign()
	b.kill()
	g.shows("b", "tcp", CodePortRefused, prompt)
	if !g.sw.Status().Ready {
		t.Error("the second server's end is everybody's")
	}
	if g.figure("moongate_hsm_server_stage", "b", "name") != 1 || g.figure("moongate_hsm_server_stage", "b", "tcp") != 0 || g.figure("moongate_hsm_server_stage", "b", "tls") != -1 ||
		g.figure("moongate_hsm_server_authenticated", "a") != 1 || g.figure("moongate_hsm_server_authenticated", "b") != 0 ||
		g.figure("moongate_hsm_server_state_changes_total", "b") < 2 || g.figure("moongate_hsm_status_age_seconds") > prompt.Seconds() {
		t.Error("the figures say something else")
	}
	// The next configuration has the other one alone.
	b.start()
	c := network(b)
	g.use(c)
	g.shows("b", StateAuthenticated, "", prompt)
	g.sign()
	if got := g.m.Status(); len(got.Servers) != 1 || got.Provider != config.NetworkHSM {
		t.Errorf("status: %+v", got)
	}
}

// TestQuiet: watching an HSM leaves nothing in its audit log, whether the
// gateway is logged in or not.
func TestQuiet(t *testing.T) {
	t.Parallel()
	h, g := newHSM(t, "luna-1"), newGateway(t, nil)
	c := network(h)
	c.HA = &config.HSMGroup{Name: "pki"}
	c.Servers = append(c.Servers, config.HSMServer{Name: "away", Address: "127.0.0.1", Port: 1, SSHPort: 1})
	g.use(c)
	g.introduce(h)
	g.shows("luna-1", "login", CodeNoPassword, prompt)
	quietFor := func() {
		t.Helper()
		var more int
		for range 4 { // what was done before may be recorded a moment later
			before := h.records()
			time.Sleep(4 * lookEach)
			if more = h.records() - before; more == 0 {
				return
			}
		}
		t.Errorf("%d records while nothing was done", more)
	}
	quietFor()
	before := h.records()
	list, err := g.m.Login(t.Context(), LoginRequest{Server: "luna-1", Role: client.RoleCryptoUser, Password: []byte(cuPassword)})
	if err != nil || list[0].Err != nil {
		t.Fatalf("logging in: %+v, %v", list, err)
	}
	g.shows("luna-1", StateAuthenticated, "", prompt)
	g.keysAre("luna-1", "no certificate needs one")
	if h.records() == before {
		t.Error("the logins left no record: this counts nothing")
	}
	quietFor()
}

// records is how many records the HSM's audit log has.
func (h *hsm) records() int {
	h.t.Helper()
	var size int
	must(h.t, filepath.WalkDir(daemon.In(h.dir).Audit(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		size += bytes.Count(text, []byte("\n"))
		return err
	}))
	return size
}
