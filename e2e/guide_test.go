package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"moongate/client"
	"moongate/e2e/browser"
	"moongate/e2e/world"
)

// TestGuide performs the administrator's guide: each row of docs/guide.md that
// says performed, in the rows' order, against real processes. `make guide` runs
// it and shows what is typed and what comes of it.
//
// The HSM is made in hsmSteps, configured in the gateway in providerSteps, and
// both are made known to each other in authenticationSteps; the group and the
// master key are in haSteps and masterKeySteps, traffic in gatewaySteps, the rest of the gateway's
// administration in managementSteps; benefitSteps come last, since they look back
// at the whole.
func TestGuide(t *testing.T) {
	t.Parallel()
	rows := guideRows(t)
	lists := [][]guideStep{hsmSteps, providerSteps[:1], consoleSteps, providerSteps[1:], authenticationSteps, haSteps, masterKeySteps, keySteps, gatewaySteps, managementSteps, iconSteps, benefitSteps}
	if err := disagreement(rows, slices.Concat(lists...)); err != nil {
		t.Fatal(err)
	}
	g := &guide{whole: t, w: world.T(t)}
	net := g.w.Network()
	g.hosts.hsm, g.hosts.second = net.Host("hsm1", "10.164.75.32"), net.Host("hsm2", "10.164.75.33")
	g.hosts.third = net.Host("hsm3", "10.164.75.34")
	g.hosts.gateway = net.Host("gateway", "10.164.76.45", "10.164.77.45")
	g.hosts.workstation, g.hosts.other = net.Host("workstation", "10.164.78.10"), net.Host("server", "10.164.78.20")
	g.net = net
	g.hsm = g.w.HSMOn(g.hosts.hsm)
	for _, list := range lists {
		for _, s := range list {
			if !t.Run(s.id, func(t *testing.T) {
				g.t, g.row = t, rows[s.id]
				fmt.Fprintf(t.Output(), "%s  %s\n", s.id, g.row.says)
				s.do(g)
			}) {
				t.Fatalf("%s failed; the steps after it need it", s.id)
			}
		}
	}
	g.t = t
	g.nothingInTheClear()
}

// guideStep is a row of the guide, performed.
type guideStep struct {
	id string
	do func(*guide)
}

// guideRow is one of docs/guide.md.
type guideRow struct {
	id, says, state, how string
}

const (
	statePerformed = "performed"
	stateNotYet    = "not yet"
	stateOther     = "other"
)

var (
	rowForm     = regexp.MustCompile(`^\| (G\d+\.\d+) \| (.+) \| ([a-z ]+) \| (.+) \|$`)
	sectionForm = regexp.MustCompile(`^## G(\d+)\. `)
)

// guideRows reads docs/guide.md and checks that its numbers are in order.
func guideRows(t *testing.T) map[string]guideRow {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "docs", "guide.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]guideRow{}
	section, number := 0, 0
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		if m := sectionForm.FindStringSubmatch(line); m != nil {
			section, number = section+1, 0
			if m[1] != strconv.Itoa(section) {
				t.Errorf("docs/guide.md: section G%s, expected G%d", m[1], section)
			}
			continue
		}
		if !strings.HasPrefix(line, "| G") {
			continue
		}
		m := rowForm.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("docs/guide.md: not of the form `| number | says | state | how |`: %s", line)
			continue
		}
		number++
		r := guideRow{id: m[1], says: m[2], state: m[3], how: m[4]}
		if want := fmt.Sprintf("G%d.%d", section, number); r.id != want {
			t.Errorf("docs/guide.md: row %s, expected %s", r.id, want)
		}
		if !slices.Contains([]string{statePerformed, stateNotYet, stateOther}, r.state) {
			t.Errorf("docs/guide.md: %s: state %q, expected %s, %s or %s", r.id, r.state, statePerformed, stateNotYet, stateOther)
		}
		rows[r.id] = r
	}
	// The guide has no fewer behaviours than this; rows do not get lost.
	if section != 15 || len(rows) < 65 {
		t.Errorf("docs/guide.md: %d rows in %d sections", len(rows), section)
	}
	if t.Failed() {
		t.FailNow()
	}
	return rows
}

// disagreement says where a row that says performed has no step, or a step no
// such row.
func disagreement(rows map[string]guideRow, steps []guideStep) error {
	var found []error
	does := map[string]bool{}
	for _, s := range steps {
		switch r, there := rows[s.id]; {
		case does[s.id]:
			found = append(found, fmt.Errorf("%s is performed twice", s.id))
		case !there:
			found = append(found, fmt.Errorf("%s is performed, and docs/guide.md has no such row", s.id))
		case r.state != statePerformed:
			found = append(found, fmt.Errorf("%s is performed, and docs/guide.md says: %s", s.id, r.state))
		}
		does[s.id] = true
	}
	for id, r := range rows {
		if r.state == statePerformed && !does[id] {
			found = append(found, fmt.Errorf("docs/guide.md says that %s is performed, and it is not", id))
		}
	}
	return errors.Join(found...)
}

// guide is what the steps leave to those after them. They run one after the
// other.
type guide struct {
	t   *testing.T // of the present step
	row guideRow   // of the present step

	whole *testing.T // of all steps

	w     world.Test
	hosts guideHosts
	hsm   *world.HSM

	net       world.TestNetwork
	partition *world.Partition
	others    []*world.HSM // hsm2 and hsm3
	firewall  *firewall
	masters   []string // master keys that there were
	master    string   // the present one
	wrapping  []string // keys of the HSM that wrapped it before
	software  any      // the private key of a certificate in the configuration

	server       *guideHost // a host that uses keys by cmu's way, without a gateway
	workstation  *guideHost // the separate host of the guide, which has cmu
	listedBefore int        // objects before that
	key          listed
	certificate  listed
	exported     string // file with the certificate
	inspection   *inspection
	browser      *browser.Browser
}

// guideHosts are the machines of the guide, by the addresses that it has.
type guideHosts struct{ hsm, second, third, gateway, workstation, other *world.Host }

// command is the command line that the present row quotes.
func (g *guide) command() string {
	g.t.Helper()
	_, rest, found := strings.Cut(g.row.says, "`")
	command, _, closed := strings.Cut(rest, "`")
	if !found || !closed {
		g.t.Fatalf("%s quotes no command", g.row.id)
	}
	return command
}

// admin runs a command of the HSM's administration as its Security Officer;
// the answers, to what it asks, are not shown.
func (g *guide) admin(command string, answers ...string) string {
	g.t.Helper()
	out, err := g.tryAdmin(command, answers...)
	if err != nil {
		g.t.Fatal(err)
	}
	return out
}

func (g *guide) tryAdmin(command string, answers ...string) (string, error) {
	fmt.Fprintf(g.t.Output(), "  hsm:> %s\n", command)
	out, err := g.hsm.Shell(g.t.Context(), append([]string{command}, answers...)...)
	// The login that Shell begins with is G5.1's.
	_, shown, found := strings.Cut(out, "Command Result : 0 (Success)\n")
	if !found {
		shown = out
	}
	g.show(shown)
	return shown, err
}

func (g *guide) show(text string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			fmt.Fprintf(g.t.Output(), "    %s\n", line)
		}
	}
}

// guideHost is a machine with cmu in its directory and a client configuration.
type guideHost struct {
	g    *guide
	host *world.Host
	name string
	dir  string
	ssh  *world.OpenSSH // to the HSM, as admin
}

func (g *guide) newHost(name string, on *world.Host) *guideHost {
	g.t.Helper()
	h := &guideHost{g: g, host: on, name: name, dir: filepath.Join(g.w.Dir(), name)}
	program, err := world.Program(g.t.Context(), "cmu")
	if err != nil {
		g.t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(h.dir, 0o700), os.Symlink(program, filepath.Join(h.dir, "cmu"))); err != nil {
		g.t.Fatal(err)
	}
	if h.ssh, err = g.hsm.OpenSSH(g.w.Dir(), "admin", g.hsm.Admin); err != nil {
		g.t.Fatal(err)
	}
	for _, hsm := range g.others {
		must(g.t, h.ssh.Knows(hsm.Host, hsm.Admin))
	}
	if g.firewall != nil {
		must(g.t, h.ssh.Knows(g.hosts.gateway, g.firewall.Admin))
	}
	return h
}

// words puts addresses into a line: {hsm}, {hsm2}, {hsm3}, {gateway}; {firewall}
// for what the gateway calls from, and {me} for what this host does.
func (h *guideHost) words(line string) string {
	return strings.ReplaceAll(h.g.words(line), "{me}", h.host.From())
}

func (g *guide) words(line string) string {
	hosts := g.hosts
	return strings.NewReplacer("{hsm}", hosts.hsm.IP(), "{hsm2}", hosts.second.IP(), "{hsm3}", hosts.third.IP(),
		"{gateway}", hosts.gateway.IP(), "{firewall}", hosts.gateway.From()).Replace(line)
}

func (h *guideHost) path(name string) string { return filepath.Join(h.dir, name) }

// output is what a command printed.
type output struct{ stdout, stderr string }

// try types a command line into a shell in the host's directory, and input to
// what it asks, which is not shown.
func (h *guideHost) try(line, input string) (output, int) {
	h.g.t.Helper()
	fmt.Fprintf(h.g.t.Output(), "  %s$ %s\n", h.name, h.words(line))
	out, code := h.quiet(line, input)
	h.g.show(out.stderr + out.stdout)
	return out, code
}

// quiet is try, not shown.
func (h *guideHost) quiet(line, input string) (output, int) {
	h.g.t.Helper()
	var stdout, stderr bytes.Buffer
	// ssh and scp are typed as they are; who we are there, and on which port,
	// is what a person's own configuration says.
	own := fmt.Sprintf(`ssh() { command ssh -F '%[1]s' "$@"; }; scp() { command scp -F '%[1]s' "$@"; }; `, h.ssh.Config())
	cmd := exec.CommandContext(h.g.t.Context(), "sh", "-c", own+h.words(line))
	cmd.Dir = h.dir
	cmd.Env = append(append(os.Environ(), "HOME="+h.dir, "MOONGATE_CLIENT_CONF="+h.path("client.toml")), h.ssh.Env()...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	err := h.host.Do(cmd.Run)
	if exit, is := errors.AsType[*exec.ExitError](err); is {
		return output{stdout.String(), stderr.String()}, exit.ExitCode()
	} else if err != nil {
		h.g.t.Fatalf("%s: %v", line, err)
	}
	return output{stdout.String(), stderr.String()}, 0
}

// run is try of a command that must succeed.
func (h *guideHost) run(line, input string) output {
	h.g.t.Helper()
	out, code := h.try(line, input)
	if code != 0 {
		h.g.t.Fatalf("%s: exit code %d", line, code)
	}
	return out
}

// fails is try of a command that must end with the code and say the words.
func (h *guideHost) fails(code int, words, line, input string) {
	h.g.t.Helper()
	out, got := h.try(line, input)
	if got != code || !strings.Contains(out.stdout+out.stderr, words) {
		h.g.t.Fatalf("%s: exit code %d, expected %d and the words %q", line, got, code, words)
	}
}

// verify is a `cmu verify` that must find these states, in any order.
func (h *guideHost) verify(code int, line, input string, states ...string) output {
	h.g.t.Helper()
	out, got := h.try(line, input)
	if got != code {
		h.g.t.Errorf("%s: exit code %d, expected %d", line, got, code)
	}
	for _, state := range states {
		stage, want, _ := strings.Cut(state, " ")
		if !regexp.MustCompile(`(?m)^` + stage + ` +` + regexp.QuoteMeta(want) + ` `).MatchString(out.stdout) {
			h.g.t.Errorf("%s: step %s is not %s", line, stage, want)
		}
	}
	return out
}

// equal fails the step where a text is not what it should be.
func (g *guide) equal(what, got, want string) {
	g.t.Helper()
	if got != want {
		g.t.Errorf("%s is %q, expected %q", what, got, want)
	}
}

// dial connects as the host's client, from the host but in this process.
func (h *guideHost) dial(role client.Role, password string) *client.Client {
	h.g.t.Helper()
	config, err := client.LoadConfig(h.path("client.toml"))
	if err != nil {
		h.g.t.Fatal(err)
	}
	config.Address = world.T(h.g.t).Forward(h.host, h.g.hsm.Addr)
	config.Role = role
	config.Password = func() ([]byte, error) { return []byte(password), nil }
	c, err := client.Dial(h.g.t.Context(), config)
	if err != nil {
		h.g.t.Fatal(err)
	}
	h.g.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			h.g.t.Error(err)
		}
	})
	return c
}

// TestRowsAndStepsAgree proves that disagreement is found.
func TestRowsAndStepsAgree(t *testing.T) {
	t.Parallel()
	rows := map[string]guideRow{
		"G1.1": {id: "G1.1", state: statePerformed},
		"G1.2": {id: "G1.2", state: stateNotYet},
	}
	for name, test := range map[string]struct {
		steps []guideStep
		fails bool
	}{
		"agree":         {[]guideStep{{id: "G1.1"}}, false},
		"missing":       {nil, true},
		"claims not":    {[]guideStep{{id: "G1.1"}, {id: "G1.2"}}, true},
		"twice":         {[]guideStep{{id: "G1.1"}, {id: "G1.1"}}, true},
		"no such row":   {[]guideStep{{id: "G1.1"}, {id: "G1.3"}}, true},
		"not performed": {[]guideStep{{id: "G1.2"}}, true},
	} {
		if err := disagreement(rows, test.steps); (err != nil) != test.fails {
			t.Errorf("%s: %v", name, err)
		}
	}
}
