// Package adminshell is the HSM's command language: what an administrator
// types, as calls of hsm/partition. It decides nothing; it parses, asks, calls
// and prints. The commands are those of a network HSM's appliance shell, so
// that scripts written for one find the words and the closing
// `Command Result : N (...)` line that they look for.
//
// A Shell runs commands over a Terminal. Today's terminal is the local
// machine's (local.go), reached through a socket that only the HSM's own user
// and root may open.
package adminshell

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"moongate/internal/audit"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/partition"
	"moongate/internal/hsm/users"
	"moongate/internal/shell"
)

// Terminal is where a command talks to a person or a script.
type Terminal = shell.Terminal

// Administrator is who a shell serves.
type Administrator struct {
	partition.Operator
	Role users.Role
}

// Request is one command line, split into words. Files holds the contents of
// those options that name a file on the caller's side, by option name.
type Request struct {
	Words []string          `json:"words"`
	Files map[string][]byte `json:"files,omitempty"`
}

// Results of a command, as scripts match them.
const (
	resultSuccess = 0
	resultFailure = 65535
)

// Appliance is what commands see of the HSM besides its partitions.
type Appliance struct {
	HSM *partition.HSM
	// Journal is the audit log, in AuditDir.
	Journal  *audit.Log
	AuditDir string
	// Inbox is the directory that clients' certificates are delivered to.
	Inbox string
	// Version of the program, Listen address of the client protocol,
	// Certificate file and fingerprint of the server.
	Version     string
	Listen      string
	Certificate string
	Fingerprint string
	Logger      *slog.Logger
}

// Shell is one administrator's session: commands run one after the other, and
// `hsm login` lasts until `hsm logout` or the end.
type Shell struct {
	appliance *Appliance
	who       partition.Operator
	term      Terminal
	officer   *partition.Officer
}

// New starts a session.
func New(a *Appliance, who partition.Operator, term Terminal) *Shell {
	return &Shell{appliance: a, who: who, term: term}
}

// command is a row of the command table.
type command struct {
	words   string // "client register"
	options []option
	help    string
	run     func(*Shell, context.Context, args) error
}

type option struct {
	name     string // without the dash
	short    string // an abbreviation that wins over other options' prefixes
	value    string // what the value is called in the help; "" for a switch
	required bool
	file     bool // the value names a file on the caller's side
	help     string
}

// args are the parsed options of one command line.
type args struct {
	values map[string]string
	files  map[string][]byte
}

func (a args) get(name string) string { return a.values[name] }

func (a args) has(name string) bool {
	_, given := a.values[name]
	return given
}

var errUsage = errors.New("syntax")

// Run runs one command and prints what comes of it. It returns the result
// that the closing line shows: 0, or 65535 for every failure.
func (s *Shell) Run(ctx context.Context, req Request) int {
	err := s.run(ctx, req)
	if err != nil {
		var refusal *object.Error
		text := err.Error()
		if errors.As(err, &refusal) && refusal.Detail != "" {
			text = refusal.Detail
		}
		fmt.Fprintf(s.term, "Error: %s\n", text)
		reason := "Command failed"
		switch {
		case errors.Is(err, errUsage):
			reason = "Syntax error"
		case refusal != nil:
			reason = refusal.Code.String()
		}
		fmt.Fprintf(s.term, "\nCommand Result : %d (%s)\n", resultFailure, reason)
		return resultFailure
	}
	fmt.Fprintf(s.term, "\nCommand Result : %d (Success)\n", resultSuccess)
	return resultSuccess
}

func (s *Shell) run(ctx context.Context, req Request) error {
	if len(req.Words) == 0 || slices.Contains([]string{"help", "?"}, strings.ToLower(req.Words[0])) {
		return s.help(req.Words)
	}
	cmd, rest, err := find(req.Words)
	if err != nil {
		return err
	}
	if len(rest) == 1 && slices.Contains([]string{"?", "-help", "--help", "-h"}, strings.ToLower(rest[0])) {
		fmt.Fprint(s.term, cmd.usage())
		return nil
	}
	a, err := cmd.parse(rest, req.Files)
	if err != nil {
		return err
	}
	return cmd.run(s, ctx, a)
}

// find takes the command's words off the front of a line. Words may be
// abbreviated while they are unique; case does not matter.
func find(words []string) (*command, []string, error) {
	candidates := make([]*command, len(commands))
	for i := range commands {
		candidates[i] = &commands[i]
	}
	for depth, word := range words {
		var exact, prefixed []*command
		for _, c := range candidates {
			parts := strings.Fields(c.words)
			if depth >= len(parts) {
				continue
			}
			switch part, typed := strings.ToLower(parts[depth]), strings.ToLower(word); {
			case part == typed:
				exact = append(exact, c)
			case strings.HasPrefix(part, typed):
				prefixed = append(prefixed, c)
			}
		}
		next := exact
		if len(next) == 0 {
			next = prefixed
		}
		if len(next) == 0 {
			return nil, nil, fmt.Errorf("%w: %q is not a command; `help` lists them", errUsage, strings.Join(words[:depth+1], " "))
		}
		if names := wordsAt(next, depth); len(names) > 1 {
			return nil, nil, fmt.Errorf("%w: %q may be %s", errUsage, word, strings.Join(names, " or "))
		}
		candidates = next
		if len(candidates) == 1 && len(strings.Fields(candidates[0].words)) == depth+1 {
			return candidates[0], words[depth+1:], nil
		}
	}
	return nil, nil, fmt.Errorf("%w: %q is not complete; it goes on with %s", errUsage,
		strings.Join(words, " "), strings.Join(wordsAt(candidates, len(words)), ", "))
}

// wordsAt lists the different words that the commands have at a depth.
func wordsAt(list []*command, depth int) []string {
	var names []string
	for _, c := range list {
		if parts := strings.Fields(c.words); depth < len(parts) && !slices.Contains(names, parts[depth]) {
			names = append(names, parts[depth])
		}
	}
	return names
}

func (c *command) parse(words []string, files map[string][]byte) (args, error) {
	a := args{values: map[string]string{}, files: files}
	for len(words) > 0 {
		o, err := c.option(words[0])
		if err != nil {
			return a, err
		}
		words = words[1:]
		if a.has(o.name) {
			return a, fmt.Errorf("%w: -%s is given twice", errUsage, o.name)
		}
		value := ""
		if o.value != "" {
			if len(words) == 0 {
				return a, fmt.Errorf("%w: -%s needs a value, %s", errUsage, o.name, o.value)
			}
			value, words = words[0], words[1:]
		}
		a.values[o.name] = value
	}
	for _, o := range c.options {
		if o.required && !a.has(o.name) {
			return a, fmt.Errorf("%w: -%s %s is missing\n%s", errUsage, o.name, o.value, c.usage())
		}
	}
	return a, nil
}

// option finds an option by its name, its short form, or a unique prefix.
func (c *command) option(word string) (*option, error) {
	typed, dashed := strings.CutPrefix(strings.ToLower(word), "-")
	if !dashed {
		return nil, fmt.Errorf("%w: %q is not expected here; options begin with a dash\n%s", errUsage, word, c.usage())
	}
	typed = strings.TrimPrefix(typed, "-")
	var prefixed []*option
	for i := range c.options {
		o := &c.options[i]
		if name := strings.ToLower(o.name); name == typed || o.short == typed && typed != "" {
			return o, nil
		} else if typed != "" && strings.HasPrefix(name, typed) {
			prefixed = append(prefixed, o)
		}
	}
	switch len(prefixed) {
	case 0:
		return nil, fmt.Errorf("%w: %s is not an option of %s\n%s", errUsage, word, c.words, c.usage())
	case 1:
		return prefixed[0], nil
	}
	names := make([]string, len(prefixed))
	for i, o := range prefixed {
		names[i] = "-" + o.name
	}
	return nil, fmt.Errorf("%w: %s may be %s", errUsage, word, strings.Join(names, " or "))
}

func (c *command) usage() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s", c.words)
	for _, o := range c.options {
		form := "-" + o.name
		if o.value != "" {
			form += " " + o.value
		}
		if !o.required {
			form = "[" + form + "]"
		}
		fmt.Fprintf(&b, " %s", form)
	}
	fmt.Fprintf(&b, "\n\n%s\n", c.help)
	for _, o := range c.options {
		name := "-" + o.name
		if o.short != "" {
			name = "-" + o.short + ", " + name
		}
		fmt.Fprintf(&b, "  %-22s %s\n", name, o.help)
	}
	return b.String()
}

func (s *Shell) help(words []string) error {
	if len(words) < 2 {
		fmt.Fprint(s.term, Help())
		return nil
	}
	cmd, _, err := find(words[1:])
	if err != nil {
		return err
	}
	fmt.Fprint(s.term, cmd.usage())
	return nil
}

// Help lists the commands.
func Help() string {
	var b strings.Builder
	for _, c := range commands {
		first, _, _ := strings.Cut(c.help, "\n")
		fmt.Fprintf(&b, "  %-26s %s\n", c.words, first)
	}
	return b.String()
}

// Words splits a command line at spaces. A word with spaces is written as a
// string literal of Go, which strconv.Quote makes: "a b", with \" and \\ for
// quotation mark and backslash.
func Words(line string) ([]string, error) {
	var words []string
	for {
		line = strings.TrimLeftFunc(line, unicode.IsSpace)
		if line == "" {
			return words, nil
		}
		end := strings.IndexFunc(line, unicode.IsSpace)
		if end < 0 {
			end = len(line)
		}
		word := line[:end]
		if line[0] == '"' {
			quoted, err := strconv.QuotedPrefix(line)
			if err != nil {
				return nil, fmt.Errorf("%w: a quotation mark is not closed, or holds a backslash that is not doubled: %s", errUsage, line)
			}
			if end = len(quoted); end < len(line) && strings.IndexFunc(line[end:], unicode.IsSpace) != 0 {
				return nil, fmt.Errorf("%w: a space is expected after %s", errUsage, quoted)
			}
			if word, err = strconv.Unquote(quoted); err != nil {
				return nil, fmt.Errorf("%w: %s is no quoted word", errUsage, quoted)
			}
		}
		words, line = append(words, word), line[end:]
	}
}

// FileOptions returns which options of the command line name files on the
// caller's side, with the values given.
func FileOptions(words []string) map[string]string {
	cmd, rest, err := find(words)
	if err != nil {
		return nil
	}
	a, err := cmd.parse(rest, nil)
	if err != nil {
		return nil
	}
	files := map[string]string{}
	for _, o := range cmd.options {
		if o.file && a.has(o.name) {
			files[o.name] = a.get(o.name)
		}
	}
	return files
}

// asOfficer returns the session's Security Officer, asking for the password
// where nobody has logged in.
func (s *Shell) asOfficer(ctx context.Context) (*partition.Officer, error) {
	if s.officer != nil {
		return s.officer, nil
	}
	fmt.Fprintln(s.term, "Please enter the HSM Administrators' password:")
	pw, err := s.term.Ask("> ", true)
	if err != nil {
		return nil, err
	}
	return s.appliance.HSM.AuthenticateOfficer(ctx, s.who, []byte(pw))
}

// askNew asks for a new password twice.
func (s *Shell) askNew(whose string) ([]byte, error) {
	first, err := s.term.Ask(fmt.Sprintf("Please enter a new password for %s: ", whose), true)
	if err != nil {
		return nil, err
	}
	second, err := s.term.Ask("Please re-enter the password to confirm: ", true)
	if err != nil {
		return nil, err
	}
	if first != second {
		return nil, errors.New("the two passwords differ; nothing was changed")
	}
	return []byte(first), nil
}

// confirm asks before something that cannot be taken back.
func (s *Shell) confirm(a args, caution, purpose string) error {
	if a.has("force") {
		return nil
	}
	fmt.Fprintf(s.term, "CAUTION: %s\n", caution)
	answer, err := s.term.Ask(fmt.Sprintf("Type 'proceed' to %s, or 'quit' to quit now.\n> ", purpose), false)
	if err != nil {
		return err
	}
	if strings.TrimSpace(answer) != "proceed" {
		return errors.New("not confirmed; nothing was changed")
	}
	return nil
}

func (s *Shell) successful(words string) { fmt.Fprintf(s.term, "'%s' successful.\n", words) }

// printJSON prints what a script reads.
func (s *Shell) printJSON(v any) error {
	enc := json.NewEncoder(s.term)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
