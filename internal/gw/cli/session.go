package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"moongate/internal/gw/mgmt"
	"moongate/internal/shell"
)

// session is one administrator's: where they are, and how output is shown. It
// is used by one goroutine.
type session struct {
	opts   Options
	caller mgmt.Caller
	person bool // at a terminal, with a prompt

	configuring bool
	at          place  // of the edit command; the top where its words are none
	out         format // of show in the configuration mode
	paging      bool
}

func newSession(opts Options, caller mgmt.Caller, person bool) *session {
	return &session{opts: opts, caller: caller, person: person, out: braces, paging: person}
}

// Prompt implements shell.Interpreter. Scripts look for its last letter.
func (s *session) Prompt() string {
	sign := ">"
	if s.configuring {
		sign = "#"
	}
	return s.caller.Name + "@" + s.opts.Hostname() + sign + " "
}

// Banner implements shell.Bannered: where in the configuration one is.
func (s *session) Banner() string {
	if !s.configuring {
		return ""
	}
	return "[" + strings.Join(append([]string{"edit"}, quoteAll(s.at.words)...), " ") + "]\r\n"
}

// Run implements shell.Interpreter. An empty line and one that begins with #
// do nothing.
func (s *session) Run(ctx context.Context, text string, term shell.Terminal) (int, error) {
	if text = strings.TrimSpace(text); text == "" || strings.HasPrefix(text, "#") {
		return 0, nil
	}
	err := s.run(ctx, text, term)
	if errors.Is(err, shell.ErrExit) {
		return 0, err
	}
	status := 0
	if err != nil {
		status = 1
		if writeErr := writeError(term, err); writeErr != nil {
			return status, writeErr
		}
	}
	if mgmt.CodeOf(err) == mgmt.CodeUnauthorized {
		return status, shell.ErrExit // the account is not what it was
	}
	return status, nil
}

// run runs one line in the mode that the session is in.
func (s *session) run(ctx context.Context, text string, term shell.Terminal) error {
	l, err := parseLine(text)
	if err != nil {
		return err
	}
	if len(l.words) == 0 {
		return errors.New("no command before |")
	}
	if isSetting(l.words) {
		return s.setting(texts(l.words))
	}
	if is(l.words[0], "help") {
		return s.print(term, l, s.help())
	}
	if !s.configuring {
		if name := l.words[0].Text; len(l.words) == 1 && slices.Contains([]string{"exit", "quit"}, name) {
			return shell.ErrExit
		} else if name == "configure" && len(l.words) == 1 {
			s.configuring, s.at = true, place{}
			fmt.Fprintln(term, "Entering configuration mode")
			return nil
		}
		return s.operate(ctx, l, term)
	}
	return s.configure(ctx, l, term)
}

// print writes a command's output, through the line's filters and a pager.
func (s *session) print(term shell.Terminal, l line, text string) error {
	text = apply(l.pipes, text)
	if s.paging {
		return page(term, text)
	}
	_, err := fmt.Fprint(term, text)
	return err
}

// writeError says what was wrong, a line for each thing.
func writeError(term shell.Terminal, err error) error {
	var refused *mgmt.Error
	lines := []string{err.Error()}
	if errors.As(err, &refused) && len(refused.Lines) > 0 {
		lines = refused.Lines
	}
	for _, l := range lines {
		if _, err := fmt.Fprintln(term, "Error: "+strings.ReplaceAll(l, "\n", "\n  ")); err != nil {
			return err
		}
	}
	return nil
}

// isSetting reports a command that changes the session alone: set cli …
func isSetting(words []word) bool {
	return len(words) >= 2 && is(words[0], "set") && is(words[1], "cli")
}

// settings are those of `set cli`.
var settings = []struct {
	name, help string
	words      []string // nil for a number
}{
	{"pager", "show long output a screen at a time", []string{"on", "off"}},
	{"scripting-mode", "on: no pager", []string{"on", "off"}},
	{"config-output-format", "how show writes the configuration", []string{"default", "set", "xml", "json"}},
	{"confirmation-prompt", "whether commands that end connections ask first; they always do", []string{"on"}},
	{"terminal", "width N or height N; the terminal says its own, so it changes nothing", nil},
}

func (s *session) setting(words []string) error {
	names := make([]string, len(settings))
	for i, known := range settings {
		names[i] = known.name
		if len(words) < 4 || words[2] != known.name {
			continue
		}
		value := words[3]
		if known.words == nil {
			if len(words) != 5 || value != "width" && value != "height" {
				return errors.New("set cli terminal takes width N or height N")
			}
			return nil
		}
		if len(words) != 4 || !slices.Contains(known.words, value) {
			return fmt.Errorf("set cli %s: got %q, expected %s", known.name, strings.Join(words[3:], " "), strings.Join(known.words, " or "))
		}
		switch known.name {
		case "pager":
			s.paging = value == "on" && s.person
		case "scripting-mode":
			s.paging = value == "off" && s.person
		case "config-output-format":
			s.out = format(value)
		}
		return nil
	}
	return fmt.Errorf("set cli takes a setting and its value, expected %s", strings.Join(names, ", "))
}

// remember keeps lines that hold a secret out of the history.
func remember(text string) bool {
	lower := strings.ToLower(text)
	for _, secret := range []string{"password", "passphrase", "master-key", "private-key", "phash"} {
		if strings.Contains(lower, secret) {
			return false
		}
	}
	return true
}
