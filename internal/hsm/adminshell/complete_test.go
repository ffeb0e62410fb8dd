package adminshell

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"moongate/internal/hsm/users"
	"moongate/internal/shell"
)

func TestComplete(t *testing.T) {
	t.Parallel()
	a, _ := newServed(t)
	s := as(t, a, users.RoleAdmin)
	s.ok("hsm login", soPassword)
	s.ok("partition create -p p1")
	s.ok("partition create -p p2")
	s.files = map[string][]byte{"certificate": newCertificate(t)}
	s.ok("client register -c gw -ip 192.0.2.7 -certificate c.pem")
	for _, test := range []struct {
		role users.Role
		line string
		want []string
	}{
		{users.RoleAdmin, "cl", []string{"client"}},
		{users.RoleAdmin, "CLIENT sh", []string{"show"}},
		{users.RoleAdmin, "cl r", []string{"register", "revokePartition"}},
		{users.RoleAdmin, "client show ", []string{"-client", "-json"}},
		{users.RoleAdmin, "client show -", []string{"-client", "-json"}},
		{users.RoleAdmin, "client show -c ", []string{"gw"}},
		{users.RoleAdmin, "client show -client G", []string{"gw"}},
		{users.RoleAdmin, "client show -c x", nil},
		{users.RoleAdmin, "client show -c gw ", []string{"-json"}},
		{users.RoleAdmin, "client show -c gw -json ", nil},
		{users.RoleAdmin, "client show x ", nil},
		{users.RoleAdmin, "client register -ip ", []string{"<ADDRESS>"}},
		{users.RoleAdmin, "client assignPartition -p ", []string{"p1", "p2"}},
		{users.RoleAdmin, "role init -p p1 -role ", []string{"co", "cu", "po"}},
		{users.RoleAdmin, "partition changePolicy -policy min", []string{"min-rsa-bits", "min-ec-bits", "min-aes-bits"}},
		{users.RoleAdmin, "partition changePolicy -policy min-rsa-bits -value ", []string{"2048", "3072", "4096"}},
		{users.RoleAdmin, "partition changePolicy -policy activation -value o", []string{"off", "on"}},
		{users.RoleAdmin, "partition changePolicy -policy nonsense -value ", nil},
		{users.RoleAdmin, "user role ", []string{"admin", "audit", "monitor", "operator", "-role"}},
		{users.RoleAdmin, "user role admin -role m", []string{"monitor"}},
		{users.RoleAdmin, "service status s", []string{"ssh", "syslog"}},
		{users.RoleAdmin, "service restart ", []string{"ntls", "-force"}},
		{users.RoleAdmin, "help client l", []string{"list"}},
		{users.RoleAdmin, "e", []string{"exit"}},
		{users.RoleAdmin, `client "`, nil},
		{users.RoleMonitor, "client r", nil},
		{users.RoleMonitor, "au", nil},
		{users.RoleMonitor, "u", nil},
		{users.RoleAudit, "", []string{"version", "my", "audit", "help", "exit"}},
		{users.RoleAudit, "audit config -strict ", []string{"on", "off"}},
	} {
		var got []string
		for _, c := range as(t, a, test.role).shell.Interpreter().Complete(test.line) {
			got = append(got, c.Word)
			if c.Help == "" && !strings.HasPrefix(c.Word, "o") && !slices.Contains(test.want, "2048") && c.Word != "monitor" {
				t.Errorf("%q offers %s without help", test.line, c.Word)
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s, %q (-want +got):\n%s", test.role, test.line, diff)
		}
	}
}

func TestInterpreter(t *testing.T) {
	t.Parallel()
	a, _ := newServed(t)
	s := as(t, a, users.RoleAdmin)
	i := s.shell.Interpreter()
	if got := i.Prompt(); got != "[lab] moonsh:> " {
		t.Errorf("the prompt is %q", got)
	}
	for _, test := range []struct {
		line   string
		status int
		err    error
		want   string
	}{
		{"", 0, nil, ""},
		{"  # partition delete -p p1", 0, nil, ""},
		{"client list", 0, nil, "\nCommand Result : 0 (Success)\n"},
		{"client", 1, nil, "Command Result : 65535 (Syntax error)\n"},
		{`client show -c "gw`, 1, nil, "Command Result : 65535 (Syntax error)\n"},
		{"client ?", 0, nil, "client fingerprint"},
		{"?", 0, nil, "exit"},
		{"client show ?", 0, nil, "Usage: client show -client NAME [-json]"},
		{" EXIT ", 0, shell.ErrExit, ""},
		{"quit", 0, shell.ErrExit, ""},
	} {
		term := &script{}
		status, err := i.Run(t.Context(), test.line, term)
		if status != test.status || !errors.Is(err, test.err) || !strings.Contains(term.out.String(), test.want) || test.want == "" && term.out.Len() > 0 {
			t.Errorf("%q: %d, %v, prints %q", test.line, status, err, &term.out)
		}
	}
	// A login lasts from line to line.
	for _, line := range []string{"hsm login", "partition create -p p1"} {
		term := &script{answers: []string{soPassword}}
		if status, err := i.Run(t.Context(), line, term); status != 0 || err != nil {
			t.Errorf("%s: %d, %v\n%s", line, status, err, &term.out)
		}
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain\ttext\nä €":  "plain\ttext\nä €",
		"\x1b[2J\r\x00\x7f": `\u001b[2J\u000d\u0000\u007f`,
		"\u202eabc\u200b":   `\u202eabc\u200b`,
		"\u009b31m":         `\u009b31m`,
		"a\xffb":            `a\ufffdb`,
		"\ufffd":            "\ufffd",
		"\U000e0001":        `\udb40\udc01`,
	} {
		term := &script{}
		p := printable{term}
		if n, err := p.Write([]byte(text)); n != len(text) || err != nil || term.out.String() != want {
			t.Errorf("%q is shown as %q, want %q (%d, %v)", text, &term.out, want, n, err)
		}
		_, _ = p.Ask(text, false)
		if term.prompts[0] != want {
			t.Errorf("%q is asked as %q", text, term.prompts)
		}
	}
	if got := oneLine("a\nb\tc"); got != `a\u000ab\u0009c` {
		t.Errorf("one line: %q", got)
	}
}

// FuzzLine: whatever is typed, no role finds or is offered what it does not
// see, and what is found is found again by its whole words.
func FuzzLine(f *testing.F) {
	for _, c := range commands() {
		f.Add(c.synopsis())
	}
	f.Add(`cl reg -c "a b" --ip 1.2.3.4 -r`)
	f.Add("hsm backup -file x -p ")
	f.Add("? \xff \"")
	shells := map[users.Role]*Shell{}
	for _, role := range allRoles() {
		// Without the values of an HSM.
		list := commandsOf(role)
		for i := range list {
			list[i].options = slices.Clone(list[i].options)
			for j := range list[i].options {
				list[i].options[j].values = nil
			}
		}
		shells[role] = &Shell{who: Administrator{Role: role}, commands: list}
	}
	f.Fuzz(func(t *testing.T, line string) {
		words, err := Words(line)
		for role, s := range shells {
			for _, c := range s.complete(line) {
				if _, last, _ := unfinished(line); !hasPrefix(c.Word, last) && !strings.HasPrefix(c.Word, "<") {
					t.Errorf("%s, %q: offered %q", role, line, c.Word)
				}
			}
			if err != nil {
				continue
			}
			asksHelp(words)
			cmd, rest, err := find(s.commands, words)
			if err != nil {
				continue
			}
			if !cmd.visible(role) {
				t.Errorf("%s, %q: found %s", role, line, cmd.words)
			}
			again, none, err := find(s.commands, strings.Fields(cmd.words))
			if err != nil || again != cmd && again.words != cmd.words || len(none) > 0 {
				t.Errorf("%q: %s is not found again: %v", line, cmd.words, err)
			}
			a, err := cmd.parse(rest, nil)
			if err != nil {
				continue
			}
			// The same with the names in full.
			var full []string
			for name, value := range a.values {
				full = append(full, "-"+name)
				if o, err := cmd.option("-" + name); err == nil && o.value != "" {
					full = append(full, value)
				}
			}
			b, err := cmd.parse(full, nil)
			if err != nil || cmp.Diff(a.values, b.values) != "" {
				t.Errorf("%q: %q is read as %q, %v", line, full, b.values, err)
			}
		}
		FileOptions(words)
		if path, direction := streamOf(words); direction == noStream && path != "" || direction != noStream && !slices.Contains(words, path) {
			t.Errorf("%q: streams %q", line, path)
		}
		_ = strconv.Quote(string(escape([]byte(line))))
	})
}
