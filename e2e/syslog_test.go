package e2e

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"moongate/e2e/pki"
	"moongate/internal/audit"
	"moongate/internal/syslog"
)

// rsyslogd is a real collector: Debian's rsyslog, run by nobody on a port of
// its own.
type rsyslogd struct {
	t        *testing.T
	dir, out string
	addr     string
	process  *exec.Cmd
}

// start runs the collector; stop kills it at once, so that what it has not
// written is lost.
func (r *rsyslogd) start() {
	r.t.Helper()
	r.process = exec.Command("rsyslogd", "-n", "-f", filepath.Join(r.dir, "rsyslog.conf"), "-i", filepath.Join(r.dir, "pid"))
	r.process.Stdout, r.process.Stderr = os.Stderr, os.Stderr
	if os.Getuid() == 0 {
		r.process.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	must(r.t, r.process.Start())
	for limit := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", r.addr)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(limit) {
			r.t.Fatalf("rsyslogd does not listen on %s: %v", r.addr, err)
		}
	}
}

func (r *rsyslogd) stop() {
	r.process.Process.Kill()
	r.process.Wait() // reports the kill
}

// lines are those that the collector wrote; what a kill cut off is none.
func (r *rsyslogd) lines() []string {
	r.t.Helper()
	data, err := os.ReadFile(r.out)
	if os.IsNotExist(err) {
		return nil
	}
	must(r.t, err)
	lines := strings.Split(string(data), "\n")
	return lines[:len(lines)-1]
}

// until waits for the collector to have records 0 to n-1, and returns what it
// wrote of each.
func (r *rsyslogd) until(n int) map[int64]string {
	r.t.Helper()
	for limit := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		got := map[int64]string{}
		for _, line := range r.lines() {
			_, text, _ := strings.Cut(line, "|MSG|")
			record, err := audit.ParseRecord([]byte(strings.TrimSpace(text)))
			if err == nil {
				got[record.Seq] = line
			}
		}
		if len(got) >= n {
			return got
		}
		if time.Now().After(limit) {
			r.t.Fatalf("the collector has %d records, want %d; the last line: %q", len(got), n, append([]string{""}, r.lines()...)[len(r.lines())])
		}
	}
}

// collectorSink is what joins an audit log to a collector.
type collectorSink struct{ *syslog.Sender }

func (s collectorSink) Send(ctx context.Context, n audit.Notice) error {
	params := make([]syslog.Param, len(n.Fields))
	for i, f := range n.Fields {
		params[i] = syslog.Param(f)
	}
	return s.Sender.Send(ctx, syslog.Message{
		Mark: n.Seq, Severity: n.Severity, Time: n.Time, ID: n.Action, Text: n.Text,
		Data: []syslog.Element{{ID: "audit@32473", Params: params}},
	})
}

// TestAuditToRsyslog forwards an audit log over TLS, with certificates both
// ways, to a real collector that is killed meanwhile: it has every record, and
// the members of each, in the end.
func TestAuditToRsyslog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	collector := startRsyslog(t, dir)
	log, err := audit.Open(filepath.Join(dir, "audit"), audit.Options{Origin: "moongate-hsm/syslog", Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	sender, err := syslog.New(syslog.Options{
		Address: collector.addr, ServerName: "localhost", CAFile: filepath.Join(dir, "ca.pem"),
		Certificate: filepath.Join(dir, "client.pem"), Key: filepath.Join(dir, "client.key"),
		Hostname: "hsm.example", App: "moongate-hsm", Logger: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	forwarder := &audit.Forwarder{
		Log: log, Sink: collectorSink{sender}, State: filepath.Join(dir, "forwarded"), Logger: slog.New(slog.DiscardHandler),
		Poll: 10 * time.Millisecond,
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- forwarder.Run(ctx) }()

	record := func(n int) {
		t.Helper()
		for range n {
			must(t, log.Append(audit.Event{
				Kind: audit.Use, Action: "key.sign", Client: `gate"way]\`, Partition: "p1", Object: [16]byte{1, 15: 2}, Mechanism: "ECDSA_SHA256", Outcome: audit.OK,
			}))
		}
		must(t, log.AppendDurable(t.Context(), audit.Event{Kind: audit.Denied, Action: "login", Outcome: "PIN_INCORRECT"}))
	}
	record(199)
	collector.until(200)
	collector.stop()
	record(99) // while there is nobody
	collector.start()
	record(99)
	got := collector.until(400)
	cancel()
	must(t, <-done)
	sender.Close()

	for seq, line := range got {
		want := fmt.Sprintf(`110 hsm.example moongate-hsm key.sign [audit@32473 seq="%d" kind="use" action="key.sign" outcome="ok" client="gate\"way\]\\" partition="p1" object="01000000-0000-0000-0000-000000000002" mechanism="ECDSA_SHA256"]`, seq)
		if strings.Contains(line, `"kind":"denied"`) {
			want = fmt.Sprintf(`108 hsm.example moongate-hsm login [audit@32473 seq="%d" kind="denied" action="login" outcome="PIN_INCORRECT"]`, seq)
		}
		head, text, _ := strings.Cut(line, "|MSG|")
		if head != want {
			t.Errorf("record %d arrived as\n%s\nwant\n%s", seq, head, want)
		}
		if !json.Valid([]byte(text)) {
			t.Errorf("record %d arrived as %q", seq, text)
		}
	}
	must(t, log.Close())

	// A collector whose certificate leads elsewhere is sent nothing.
	stranger, err := pki.New("another authority")
	must(t, err)
	other := filepath.Join(dir, "other.pem")
	must(t, os.WriteFile(other, pki.PEM(stranger.Root), 0o600))
	wary, err := syslog.New(syslog.Options{Address: collector.addr, ServerName: "localhost", CAFile: other, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	defer wary.Close()
	short, end := context.WithTimeout(t.Context(), time.Second)
	defer end()
	if err := wary.Send(short, syslog.Message{Text: "to nobody"}); err == nil || !regexp.MustCompile("certificate").MatchString(fmt.Sprint(wary.Status().Err)) {
		t.Errorf("%v; the sender says %v", err, wary.Status().Err)
	}
}

// startRsyslog makes an authority with certificates for both sides, and starts
// a collector that wants one of them from its clients.
func startRsyslog(t *testing.T, dir string) *rsyslogd {
	t.Helper()
	ca, err := pki.New("collectors")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "ca.pem"), pki.PEM(ca.Root), 0o644))
	home := filepath.Join(dir, "rsyslog")
	must(t, os.Mkdir(home, 0o755))
	for name, where := range map[string]string{"server": home, "client": dir} {
		pair, err := ca.Server("rsa", []string{"localhost"}, func(c *x509.Certificate) {
			c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
		})
		must(t, err)
		_, _, err = pki.WriteFiles(where, name, pair)
		must(t, err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r := &rsyslogd{t: t, dir: home, out: filepath.Join(home, "messages"), addr: listener.Addr().String()}
	must(t, listener.Close())
	_, port, err := net.SplitHostPort(r.addr)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(home, "rsyslog.conf"), fmt.Appendf(nil, `
global(workDirectory="%[1]s" maxMessageSize="64k"
  defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="%[2]s/ca.pem"
  defaultNetstreamDriverCertFile="%[1]s/server.pem" defaultNetstreamDriverKeyFile="%[1]s/server.key")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="x509/certvalid")
input(type="imtcp" address="127.0.0.1" port="%[3]s")
template(name="all" type="string" string="%%pri%% %%hostname%% %%app-name%% %%msgid%% %%structured-data%%|MSG|%%msg%%\n")
action(type="omfile" file="%[4]s" template="all")
`, home, dir, port, r.out), 0o644))
	if os.Getuid() == 0 {
		must(t, exec.Command("chown", "-R", "65534:65534", home).Run())
		for _, way := range []string{dir, filepath.Dir(dir)} { // which are the test's own otherwise
			must(t, os.Chmod(way, 0o755))
		}
	}
	r.start()
	t.Cleanup(r.stop)
	return r
}
