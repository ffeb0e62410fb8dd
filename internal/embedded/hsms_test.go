package embedded

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSeveralHSMs: two HSMs are one group that outlives either of them, a later
// start finds them again, and a third one is taken in.
func TestSeveralHSMs(t *testing.T) {
	t.Parallel()
	opts := newPlace(t)
	l := layout{opts.Dir}
	opts.HSMs = 2
	first := startUp(t, opts)
	ports := []int{l.portOf(t, 2).Client, l.portOf(t, 2).Shell}
	checkGroup(t, opts, 2)
	for number, line := range first.lines(t, "HSM ", 2) {
		_, rest, _ := strings.Cut(line, "process ")
		pid, _, _ := strings.Cut(rest, ",")
		// Stopped it answers nothing, and looks alive. It is let go on in the end,
		// since a process that is stopped does not end in order.
		sh(t, "kill -STOP "+pid)
		for range 3 {
			first.works(t)
		}
		sh(t, "kill -CONT "+pid)
		sh(t, "kill -KILL "+pid)
		first.works(t)
		t.Logf("HSM %d was stopped and killed", number+1)
	}
	must(t, first.stop())

	// The same again without being asked for; not fewer.
	opts.HSMs = 1
	if err := Up(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "leave -hsms out") {
		t.Errorf("one HSM of two: %v", err)
	}
	opts.HSMs = 0
	second := startUp(t, opts)
	if got := l.portOf(t, 2); got.Client != ports[0] || got.Shell != ports[1] {
		t.Errorf("the second HSM has other ports now: %+v", got)
	}
	second.works(t)
	must(t, second.stop())
	if text := second.out.String(); strings.Contains(text, "NOTE") || strings.Contains(text, "making") || strings.Contains(text, "WARNING") {
		t.Errorf("the second start printed\n%s", text)
	}

	// One more, which the gateway's administrator is told of.
	opts.HSMs = 3
	third := startUp(t, opts)
	checkGroup(t, opts, 3)
	third.works(t)
	if lines := third.lines(t, "         set deviceconfig system hsm-settings provider safenet-network ", 1); !strings.Contains(lines[0], "hsm-server hsm3 server-address 127.0.0.1 port ") {
		t.Errorf("the gateway's administrator is told %q", lines)
	}
	must(t, third.stop())
}

// TestOneHSMBecomesTwo: the first HSM keeps its domain, its keys and its gateway.
func TestOneHSMBecomesTwo(t *testing.T) {
	t.Parallel()
	opts := newPlace(t)
	one := startUp(t, opts)
	if text := one.out.String(); strings.Contains(text, "kill -") || strings.Contains(text, "HSM 1") {
		t.Errorf("one HSM is announced as several:\n%s", text)
	}
	domain := domainOf(t, opts, 1)
	must(t, one.stop())
	opts.HSMs = 2
	two := startUp(t, opts)
	two.works(t)
	checkGroup(t, opts, 2)
	if domainOf(t, opts, 1) != domain || domainOf(t, opts, 2) != domain {
		t.Error("the HSMs are not of the domain that the first one had")
	}
	if lines := two.lines(t, "         set ", 2); !strings.HasSuffix(lines[1], "ha ha-group-name "+groupName) {
		t.Errorf("the gateway's administrator is told %q", lines)
	}
	two.administer(t, opts)
	two.figure(t, `moongate_hsm_member_state{server="hsm2",state="live"} 1`)
	must(t, two.stop())
	opts.HSMs = 0
	again := startUp(t, opts)
	if strings.Contains(again.out.String(), "NOTE") {
		t.Errorf("the gateway's administrator is told again:\n%s", again.out.String())
	}
	again.works(t)
	must(t, again.stop())

	// A group that cannot be made, since the partition's password is another one
	// now, keeps nothing from starting that started before.
	tool := hsmTool{filepath.Join(opts.Programs, "moongate-hsm"), layout{opts.Dir}.hsmDir(1)}
	cred, err := ReadCredentials(CredentialsFile(opts.Dir))
	must(t, err)
	_, err = tool.run(t.Context(), answers(cred["partition-co"], "another-password", "another-password"), "role", "changePw", "-partition", partitionName, "-role", "co")
	must(t, err)
	opts.HSMs = 3
	three := startUp(t, opts)
	three.lines(t, "WARNING: the HSMs are not one group: ", 1)
	must(t, three.stop())
}

// TestHowMany: what may be asked for, and what is there.
func TestHowMany(t *testing.T) {
	t.Parallel()
	l := layout{t.TempDir()}
	for asked, want := range map[int]int{0: 1, 1: 1, 16: 16, 17: 0, -1: 0} {
		if got, err := l.howMany(asked); got != want || (err == nil) != (want > 0) {
			t.Errorf("-hsms=%d: %d, %v", asked, got, err)
		}
	}
	// A directory without a configuration is no HSM of ours.
	must(t, os.MkdirAll(l.hsmDir(2), 0o700))
	if got, err := l.howMany(0); got != 1 || err != nil {
		t.Errorf("%d HSMs, %v", got, err)
	}
	must(t, writeFurtherSettings(filepath.Join(l.hsmDir(2), hsmSettingsFile), HSMPorts{1, 2, 3}))
	if got, err := l.howMany(0); got != 2 || err != nil {
		t.Errorf("%d HSMs, %v", got, err)
	}
}

// TestFurtherPorts: they are beside the first one's, no two are the same, and
// what was chosen is kept.
func TestFurtherPorts(t *testing.T) {
	t.Parallel()
	l := layout{t.TempDir()}
	var first Ports
	must(t, first.choose(""))
	list, err := furtherPorts(l, first, maxHSMs)
	must(t, err)
	seen := map[int]bool{first.HSM: true, first.HSMShell: true, first.HSMFigures: true, first.Web: true}
	for _, p := range list {
		for _, port := range []int{p.Client, p.Shell, p.Figures} {
			if port == 0 || seen[port] {
				t.Errorf("port %d of %+v is another's", port, p)
			}
			seen[port] = true
		}
	}
	must(t, os.MkdirAll(l.hsmDir(2), 0o700))
	must(t, writeFurtherSettings(filepath.Join(l.hsmDir(2), hsmSettingsFile), list[0]))
	again, err := furtherPorts(l, first, 2)
	must(t, err)
	if again[0] != list[0] {
		t.Errorf("%+v are %+v now", list[0], again[0])
	}
	must(t, os.WriteFile(filepath.Join(l.hsmDir(2), hsmSettingsFile), []byte("[ssh]\nlisten = \"off\"\n"), 0o600))
	if _, err := furtherPorts(l, first, 2); err == nil || !strings.Contains(err.Error(), "ntls.listen") {
		t.Errorf("an HSM without a client port: %v", err)
	}
}

func (l layout) portOf(t *testing.T, number int) HSMPorts {
	t.Helper()
	p, err := readFurtherPorts(filepath.Join(l.hsmDir(number), hsmSettingsFile))
	must(t, err)
	return p
}

// lines returns those that begin with a prefix; there must be n of them.
func (r *running) lines(t *testing.T, prefix string, n int) []string {
	t.Helper()
	var list []string
	for line := range strings.Lines(r.out.String()) {
		if strings.HasPrefix(line, prefix) {
			list = append(list, strings.TrimSpace(line))
		}
	}
	if len(list) != n {
		t.Fatalf("Up printed %d lines %q, want %d:\n%s", len(list), prefix, n, r.out.String())
	}
	return list
}

// works wants both ways through the gateway open.
func (r *running) works(t *testing.T) {
	t.Helper()
	for _, line := range r.curls(t) {
		sh(t, line+" -sS --max-time 20 | grep -q 'It works'")
	}
}

// administer types the lines that Up printed for it into the gateway's shell.
func (r *running) administer(t *testing.T, opts Options) {
	t.Helper()
	var script, port string
	for line := range strings.Lines(r.out.String()) {
		line = strings.TrimSpace(line)
		switch _, after, is := strings.Cut(line, "its shell: ssh -p "); {
		case is:
			port, _, _ = strings.Cut(after, " ") // the gateway's is the last one
		case line == "configure" || line == "commit" || strings.HasPrefix(line, "set "):
			script += line + "\n"
		}
	}
	cred, err := ReadCredentials(CredentialsFile(opts.Dir))
	must(t, err)
	dir := t.TempDir()
	askpass := filepath.Join(dir, "askpass")
	must(t, os.WriteFile(askpass, []byte("#!/bin/sh\necho \"$GATEWAY_PASSWORD\"\n"), 0o700))
	cmd := exec.CommandContext(t.Context(), "ssh", "-F", "none", "-p", port, "-o", "UserKnownHostsFile="+filepath.Join(dir, "known_hosts"),
		"-o", "StrictHostKeyChecking=accept-new", "-o", "PreferredAuthentications=password", "admin@127.0.0.1")
	cmd.Env = append(os.Environ(), "SSH_ASKPASS="+askpass, "SSH_ASKPASS_REQUIRE=force", "GATEWAY_PASSWORD="+cred["gateway-admin"])
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "committed successfully") {
		t.Fatalf("%s%v\n%s", script, err, out)
	}
}

// figure waits for a line of the gateway's figures.
func (r *running) figure(t *testing.T, want string) {
	t.Helper()
	_, rest, _ := strings.Cut(r.out.String(), "figures on ")
	address, _, _ := strings.Cut(rest, "\n")
	var last string
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		out, err := exec.CommandContext(t.Context(), "curl", "-sS", "--noproxy", "*", address).CombinedOutput()
		if last = string(out); err == nil && strings.Contains(last, want) {
			return
		}
	}
	t.Errorf("%s is not among the figures:\n%s", want, last)
}

func sh(t *testing.T, line string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", line).CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", line, err, out)
	}
}

func testHSMs(opts Options, n int) *up {
	u := &up{opts: opts, l: layout{opts.Dir}, further: make([]HSMPorts, n-1)}
	u.hsms = u.hsmsOf()
	return u
}

func domainOf(t *testing.T, opts Options, number int) string {
	t.Helper()
	var shown identityShown
	must(t, testHSMs(opts, number).hsms[number-1].tool.readJSON(t.Context(), &shown, "hsm", "identity", "show"))
	return shown.Domain
}

// checkGroup wants one record of n members on all of them, no registration left
// behind, and the same objects on each.
func checkGroup(t *testing.T, opts Options, n int) {
	t.Helper()
	cred, err := ReadCredentials(CredentialsFile(opts.Dir))
	must(t, err)
	u := testHSMs(opts, n)
	groups, err := u.groups(t.Context())
	must(t, err)
	contents := map[string]bool{}
	for i, g := range groups {
		if g == nil || g.Label != groupName || g.Serial != groups[0].Serial || g.Epoch != groups[0].Epoch || len(g.Members) != n {
			t.Errorf("the group of HSM %d is %+v", i+1, g)
		}
		out, err := u.hsms[i].tool.run(context.Background(), answers(cred["partition-co"]), "partition", "showContents", "-partition", partitionName)
		must(t, err)
		contents[out] = true
		if out, err = u.hsms[i].tool.run(context.Background(), "", "client", "list"); err != nil || strings.Contains(out, visitorName) {
			t.Errorf("HSM %d has the clients %s, %v", i+1, out, err)
		}
	}
	if len(contents) != 1 {
		t.Errorf("the HSMs hold %d different sets of objects", len(contents))
	}
	if exists(filepath.Join(opts.Dir, visitorName+".pem")) {
		t.Error("a certificate was left behind")
	}
}
