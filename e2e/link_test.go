package e2e

import (
	"context"
	"crypto/tls"
	"encoding/xml"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"moongate/client"
	"moongate/e2e/world"
	"moongate/internal/gw/hsmlink"
	hsm "moongate/internal/hsm/daemon"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// linkWorld is a gateway that knows no HSM yet, and an HSM that knows no
// gateway, each on its host.
type linkWorld struct {
	t         *testing.T
	w         world.Test
	net       world.TestNetwork
	hsmHost   *world.Host
	gwHost    *world.Host
	hsm       *world.HSM
	gateway   *world.Gateway
	partition *world.Partition
	cli       *cli
	api       *xmlAPI
	admin     *world.OpenSSH // to the HSM
	dir       string         // of files between the two
	guesser   client.Config
}

func startLink(t *testing.T) *linkWorld {
	t.Helper()
	l := &linkWorld{t: t, w: world.T(t), dir: t.TempDir()}
	l.net = l.w.Network()
	l.hsmHost, l.gwHost = l.net.Host("hsm", "10.164.75.32"), l.net.Host("gateway", "10.164.76.45", "10.164.77.45")
	l.hsm = l.w.HSMOn(l.hsmHost)
	l.partition = l.w.Partition(l.hsm, "p1")
	l.gateway = l.w.ManagedOn(l.gwHost)
	ssh, err := l.gateway.OpenSSH(l.dir, "admin", l.gateway.Admin)
	must(t, err)
	l.cli, l.api = &cli{t, ssh}, newXMLAPI(t, l.gateway)
	l.admin, err = l.hsm.OpenSSH(t.TempDir(), "admin", l.hsm.Admin)
	must(t, err)
	l.cli.commit(l.serverLine("hsm1", l.hsmHost))
	return l
}

// serverLine sets an HSM server.
func (l *linkWorld) serverLine(name string, host *world.Host) string {
	return fmt.Sprintf("set deviceconfig system hsm-settings provider safenet-network hsm-server %s server-address %s port %d ssh-port %d",
		name, host.IP(), host.ClientPort, host.SSHPort)
}

// onHSM runs a command in the HSM's shell over SSH.
func (l *linkWorld) onHSM(command string) {
	l.t.Helper()
	if r, err := l.admin.SSH(l.t.Context(), "", command); err != nil || r.Status != 0 {
		l.t.Fatalf("hsm:> %s: status %d, %v\n%s%s", command, r.Status, err, r.Stdout, r.Stderr)
	}
}

// link is what `show hsm state` says of one server, in XML.
type linkState struct {
	Name      string      `xml:"name,attr"`
	Status    string      `xml:"status"`
	Serial    string      `xml:"serial-number"`
	Partition string      `xml:"partition"`
	State     string      `xml:"module-state"`
	Code      string      `xml:"code"`
	Reason    string      `xml:"reason"`
	Fix       string      `xml:"fix"`
	Stages    []linkStage `xml:"stages>entry"`
}

type linkStage struct {
	Name   string `xml:"name,attr"`
	Status string `xml:"status"`
}

// linkStates is what a gateway says of its HSM servers.
func linkStates(t *testing.T, api *xmlAPI) []linkState {
	t.Helper()
	answer, err := api.op(t.Context(), "<show><hsm><state></state></hsm></show>")
	must(t, err)
	var parsed struct {
		Servers []linkState `xml:"result>hsm>servers>entry"`
	}
	if err := xml.Unmarshal([]byte(answer), &parsed); err != nil {
		t.Fatalf("show hsm state: %v\n%s", err, answer)
	}
	return parsed.Servers
}

// seenWithin is how soon a change must be seen in the status.
const seenWithin = 2 * time.Second

// shows waits until the status says where hsm1 fails: a stage, a code and
// words of the reason; no code is authenticated. since is when it became so: it
// must be seen within seenWithin of then.
func (l *linkWorld) shows(since time.Time, state string, code hsmlink.Code, words ...string) {
	l.t.Helper()
	var last linkState
	eventually(l.t, 30*time.Second, func() error {
		last = linkStates(l.t, l.api)[0]
		if last.State != state || last.Code != string(code) {
			return fmt.Errorf("hsm1 is at %s, %q (%s), expected %s, %q", last.State, last.Code, last.Reason, state, code)
		}
		return nil
	})
	took := time.Since(since)
	l.t.Logf("%-14s %-22s after %4d ms: %s", state, code, took.Milliseconds(), last.Reason)
	if took > seenWithin {
		l.t.Errorf("%s, %s was seen after %v, expected %v at most", state, code, took, seenWithin)
	}
	for _, word := range words {
		if !strings.Contains(last.Reason+last.Fix, word) {
			l.t.Errorf("at %s it says %q, %q; expected %q in it", state, last.Reason, last.Fix, word)
		}
	}
	green := code == ""
	if (last.Status == "green") != green || green != (last.Serial != "") && state != "login" {
		l.t.Errorf("at %s the light is %s, the serial number %q", state, last.Status, last.Serial)
	}
	if !green && last.Fix == "" {
		l.t.Errorf("at %s it does not say what to do", state)
	}
	l.stages(last)
}

// stages checks that those before the one that fails are green, and those
// behind it are not known.
func (l *linkWorld) stages(s linkState) {
	l.t.Helper()
	want := "green"
	for _, stage := range s.Stages {
		if stage.Name == s.State && s.Code != "" {
			if stage.Status != "red" {
				l.t.Errorf("%s fails, and the stage is %s", stage.Name, stage.Status)
			}
			want = "waiting"
		} else if stage.Status != want && stage.Name != string(hsmlink.StageKeys) { // no certificate needs one here
			l.t.Errorf("at %s the stage %s is %s, expected %s", s.State, stage.Name, stage.Status, want)
		}
	}
}

// manual is the guide's manual authentication, as far as the certificates.
func (l *linkWorld) importServer(file string) string {
	l.t.Helper()
	if r, err := l.cli.ssh.SCP(l.t.Context(), file, "HSM:server.pem"); err != nil || r.Status != 0 {
		l.t.Fatalf("scp %s to the gateway: %d, %v\n%s", file, r.Status, err, r.Stderr)
	}
	return l.cli.run(0, "", "request hsm server-certificate import server hsm1 file server.pem")
}

// TestHSMLinkStages goes the way from an HSM that is not there to keys in use,
// and back at each step: every failure has a message and a stage of its own,
// which the status shows within two seconds.
func TestHSMLinkStages(t *testing.T) {
	t.Parallel()
	l := startLink(t)
	ctx := t.Context()
	l.shows(time.Now(), "tls", hsmlink.CodeNotPinned, "request hsm server-certificate import")

	// Another HSM's certificate is pinned.
	stranger, _, err := client.NewCertificate("stranger", "10.164.75.32")
	must(t, err)
	wrong := filepath.Join(l.dir, "wrong.pem")
	must(t, os.WriteFile(wrong, stranger, 0o600))
	l.importServer(wrong)
	l.shows(time.Now(), "tls", hsmlink.CodeWrongServer, "SHA-256")

	// The right one, fetched as the guide says.
	if r, err := l.admin.SCP(ctx, "HSM:server.pem", filepath.Join(l.dir, "server.pem")); err != nil || r.Status != 0 {
		t.Fatalf("scp server.pem: %+v, %v", r, err)
	}
	if out := l.importServer(filepath.Join(l.dir, "server.pem")); !strings.Contains(out, "Successfully imported") {
		t.Errorf("importing printed %q", out)
	}
	l.shows(time.Now(), "registered", hsmlink.CodeNotRegistered, "client register")

	// Registered for another address, then for the right one.
	own := l.gwHost.From() + ".pem"
	if r, err := l.cli.ssh.SCP(ctx, "HSM:"+own, filepath.Join(l.dir, own)); err != nil || r.Status != 0 {
		t.Fatalf("scp %s: %+v, %v", own, r, err)
	}
	if r, err := l.admin.SCP(ctx, filepath.Join(l.dir, own), "HSM:"); err != nil || r.Status != 0 {
		t.Fatalf("scp %s to the HSM: %+v, %v", own, r, err)
	}
	text, err := os.ReadFile(filepath.Join(l.dir, own))
	must(t, err)
	other := filepath.Join(l.dir, "10.164.79.1.pem")
	must(t, os.WriteFile(other, text, 0o600))
	if r, err := l.admin.SCP(ctx, other, "HSM:"); err != nil || r.Status != 0 {
		t.Fatalf("scp %s to the HSM: %+v, %v", other, r, err)
	}
	l.onHSM("client register -c firewall -ip 10.164.79.1")
	l.shows(time.Now(), "registered", hsmlink.CodeAddress, "10.164.79.1", l.gwHost.From())
	l.onHSM("client register -c firewall -ip " + l.gwHost.From() + " --replace")
	l.shows(time.Now(), "assigned", hsmlink.CodeNotAssigned, "client assignPartition")
	l.onHSM("client assignPartition -c firewall -p p1")
	l.shows(time.Now(), "login", hsmlink.CodeNoPassword, "request hsm login")

	// A wrong password is told, and not kept; the right one is.
	if out := l.cli.run(1, "not the password\n", "request hsm login server hsm1 password"); !strings.Contains(out, "refused the password") {
		t.Errorf("a wrong password: %q", out)
	}
	l.shows(time.Now(), "login", hsmlink.CodeNoPassword)
	out := l.cli.run(0, l.partition.CryptoUser+"\n", "request hsm login server hsm1 role crypto-user password")
	if !strings.Contains(out, "hsm1: authenticated to partition p1, serial number ") {
		t.Errorf("the right password: %q", out)
	}
	l.shows(time.Now(), "Authenticated", "")
	shown := linkStates(t, l.api)[0].Serial
	if printed, err := l.hsm.Shell(ctx, "partition show -partition p1"); err != nil || !strings.Contains(printed, shown) {
		t.Errorf("the serial number %q is not what the HSM prints: %v\n%s", shown, err, printed)
	}

	// The network and the machine, one after the other.
	l.faults()

	// What the HSM's administrators take away.
	l.onHSM("client revokePartition -c firewall -p p1")
	l.shows(time.Now(), "assigned", hsmlink.CodeNotAssigned)
	l.onHSM("client assignPartition -c firewall -p p1")
	l.shows(time.Now(), "Authenticated", "")
	fresh := l.partition.CryptoUser + "-fresh"
	_, err = l.hsm.Shell(ctx, "role init -partition p1 -role cu", l.partition.CryptoOfficer, fresh, fresh)
	must(t, err)
	l.reset() // a session that stands goes on
	l.shows(time.Now(), "login", hsmlink.CodeWrongPassword, "request hsm login")
	l.cli.run(0, fresh+"\n", "request hsm login server hsm1 role crypto-user password")
	l.shows(time.Now(), "Authenticated", "")
	l.locked(fresh)
	if r, err := l.admin.SSH(ctx, "proceed\n", "client delete -client firewall"); err != nil || r.Status != 0 {
		t.Fatalf("client delete: %+v, %v", r, err)
	}
	l.shows(time.Now(), "registered", hsmlink.CodeNotRegistered)
	l.version()
	l.events()
}

// faults are those of the network and of the HSM's machine.
func (l *linkWorld) faults() {
	t, ctx := l.t, l.t.Context()
	l.hsm.Kill9()
	l.shows(time.Now(), "tcp", hsmlink.CodePortRefused, "refused")
	must(t, l.hsm.Restart(ctx))
	l.shows(time.Now(), "Authenticated", "")
	if !l.net.Namespaces {
		t.Log("without namespaces a port cannot be blocked, nor a host cut off")
		return
	}
	// A firewall that drops: connections that stand are silent, new ones too.
	must(t, l.hsmHost.Block(ctx, l.hsmHost.ClientPort))
	l.shows(time.Now(), "tcp", hsmlink.CodeSilent, "stopped answering")
	l.reset()
	l.shows(time.Now(), "tcp", hsmlink.CodePortBlocked, "does not answer", "firewall")
	must(t, l.hsmHost.Mend(ctx))
	l.shows(time.Now(), "Authenticated", "")
	must(t, l.hsmHost.Cut(ctx))
	l.shows(time.Now(), "tcp", hsmlink.CodeSilent, "stopped answering")
	must(t, l.hsmHost.Mend(ctx))
	l.shows(time.Now(), "Authenticated", "")
}

// reset ends the gateway's connections to the HSM. The command waits for new
// ones, and this does not.
func (l *linkWorld) reset() {
	ended := make(chan struct{})
	l.t.Cleanup(func() { <-ended })
	go func() {
		defer close(ended)
		_, err := l.api.op(context.WithoutCancel(l.t.Context()), "<request><hsm><reset></reset></hsm></request>")
		if err != nil && !errors.Is(err, errRefused) {
			l.t.Errorf("request hsm reset: %v", err)
		}
	}()
}

// locked has others try passwords until the role is locked: ten wrong ones do
// it, and each client has to wait after its third.
func (l *linkWorld) locked(password string) {
	l.t.Helper()
	ctx := l.t.Context()
	for i := range 10 {
		guesser := l.guessers(i)
		c, err := client.Dial(ctx, guesser)
		if err == nil {
			c.Close()
			l.t.Fatal("a wrong password was taken")
		}
		if code := client.CodeOf(err); code != client.ErrPINIncorrect && code != client.ErrPINLocked {
			l.t.Fatalf("a wrong password: %v", err)
		}
	}
	l.reset()
	l.shows(time.Now(), "login", hsmlink.CodeLocked, "unlocked")
	if out := l.cli.run(1, password+"\n", "request hsm login server hsm1 role crypto-user password"); !strings.Contains(out, "locked") {
		l.t.Errorf("a login to a locked role: %q", out)
	}
	_, err := l.hsm.Shell(ctx, "role init -partition p1 -role cu", l.partition.CryptoOfficer, password, password)
	must(l.t, err)
	l.cli.run(0, password+"\n", "request hsm login server hsm1 role crypto-user password")
	l.shows(time.Now(), "Authenticated", "")
}

// guessers are clients that know no password, a new one for every third guess.
func (l *linkWorld) guessers(guess int) client.Config {
	l.t.Helper()
	if guess%3 == 0 {
		registered := l.w.RegisterFrom(l.hsmHost, l.hsm, fmt.Sprintf("guesser%d", guess), &world.Partition{Label: "p1", CryptoUser: "a wrong password"})
		var err error
		l.guesser, err = registered.Config(client.RoleCryptoUser)
		must(l.t, err)
		l.guesser.Address = l.w.Forward(l.hsmHost, l.hsm.Addr)
	}
	return l.guesser
}

// version puts an HSM of a later version in the HSM's place: it has the
// certificate, and speaks another protocol.
func (l *linkWorld) version() {
	l.t.Helper()
	must(l.t, l.hsm.Stop())
	files := hsm.In(l.hsm.Dir)
	certificate, err := tls.LoadX509KeyPair(l.hsm.ServerCertificate(), files.CertificateKey())
	must(l.t, err)
	inner, err := l.hsmHost.Listen(l.hsmHost.ClientPort)
	must(l.t, err)
	later := tls.NewListener(inner, &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{wire.ALPN}, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := later.Accept()
			if err != nil {
				return
			}
			refuseVersion(conn)
		}
	}()
	l.shows(time.Now(), "registered", hsmlink.CodeVersion, "speaks", "7")
	later.Close()
	<-done
	must(l.t, l.hsm.Restart(l.t.Context()))
	l.shows(time.Now(), "registered", hsmlink.CodeNotRegistered)
}

// refuseVersion answers a Hello as an HSM does that speaks version 7 alone.
func refuseVersion(conn net.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	frame, err := wire.NewReader(conn, wire.MaxFrame).Next()
	if err != nil {
		return
	}
	if head, _, err := wire.ParseRequest(frame); err == nil {
		conn.Write(wire.AppendRefusal(nil, head.ID, object.ErrVersion, "the client speaks 1 to 1, the HSM 7"))
	}
}

// events checks that what happened is in the system log.
func (l *linkWorld) events() {
	l.t.Helper()
	out := l.cli.run(0, "", "show log system | match hsm")
	for _, want := range []string{"hsm-server-down", "hsm-server-up"} {
		if !strings.Contains(out, want) {
			l.t.Errorf("the system log has no %s:\n%s", want, out)
		}
	}
	if regexp.MustCompile(regexp.QuoteMeta(l.partition.CryptoOfficer) + "|" + regexp.QuoteMeta(l.partition.CryptoUser)).MatchString(out + l.gateway.Log()) {
		l.t.Error("a password is in a log")
	}
}
