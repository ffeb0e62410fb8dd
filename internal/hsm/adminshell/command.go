// Package adminshell is the HSM's command language: what an administrator
// types, as calls of hsm/partition, hsm/users and of the process that serves
// the HSM. It decides nothing about keys; it parses, asks, calls and prints.
// The commands are those of a network HSM's appliance shell, so that scripts
// written for one find the words and the closing `Command Result : N (...)`
// line that they look for. Every command is a row of a table (table.go), which
// help, completion, docs/appliance.md and the tests read as well.
//
// A Shell runs commands over a Terminal: that of an SSH session, or of the HSM's
// own machine, reached through a socket that only the HSM's own user and root
// may open (local.go).
package adminshell

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"text/tabwriter"

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
// those options that name a small file on the caller's side, by option name
// (FileOptions).
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
	// Users are the accounts of the appliance; nil where there is no file of
	// accounts.
	Users *users.Users
	// Control is the process that serves; nil where none does, and the files
	// were opened by the command itself.
	Control Control
	// Inbox is the directory that clients' certificates are delivered to.
	Inbox string
	// Version of the program, Listen address of the client protocol,
	// Certificate file and fingerprint of the server.
	Version     string
	Listen      string
	Certificate string
	Fingerprint string
	// HostKeys are the SSH server's keys: type and fingerprint, as in
	// "ssh-ed25519 SHA256:..."; none where SSH is not served.
	HostKeys []string
	Logger   *slog.Logger
}

// Shell is one administrator's session: commands run one after the other, and
// a login lasts until its logout or the end. It is not safe for concurrent use.
type Shell struct {
	appliance *Appliance
	who       Administrator
	term      Terminal
	commands  []command // those that the role sees
	logins    logins
}

// New starts a session.
func New(a *Appliance, who Administrator, term Terminal) *Shell {
	return &Shell{appliance: a, who: who, term: printable{term}, commands: commandsOf(who.Role)}
}

// Close ends the session: everybody is logged out, and what their passwords
// opened is wiped.
func (s *Shell) Close() { s.logins.forget() }

// Run runs one command and prints what comes of it. It returns the result
// that the closing line shows: 0, or 65535 for every failure.
func (s *Shell) Run(ctx context.Context, req Request) int {
	err := s.run(ctx, req)
	if err == nil {
		fmt.Fprintf(s.term, "\nCommand Result : %d (Success)\n", resultSuccess)
		return resultSuccess
	}
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

func (s *Shell) run(ctx context.Context, req Request) error {
	if err := s.still(); err != nil {
		return err
	}
	words, helps := asksHelp(req.Words)
	if helps {
		return s.help(words)
	}
	cmd, rest, err := find(s.commands, words)
	if err != nil {
		return s.unknown(ctx, words, err)
	}
	if len(rest) == 1 && isOneOf(rest[0], "-h") {
		return s.help(words)
	}
	a, err := cmd.parse(rest, req.Files)
	if err != nil {
		return err
	}
	if err := s.ready(cmd, a); err != nil {
		return err
	}
	return cmd.run(s, ctx, a)
}

// still refuses a session whose account was deleted, disabled or given another
// role since it began.
func (s *Shell) still() error {
	if s.who.Role == users.RoleConsole || s.appliance.Users == nil {
		return nil
	}
	account, err := s.appliance.Users.Get(s.who.Name)
	if err != nil || !account.Enabled || account.Role != s.who.Role {
		s.logins.forget()
		return object.Errorf(object.ErrNotLoggedIn, "your account was changed by an administrator; log in again")
	}
	return nil
}

// unknown is the answer to a line that names no command of the role's. Where
// other roles have the command, the attempt is recorded; the answer is the same.
func (s *Shell) unknown(ctx context.Context, words []string, usage error) error {
	hidden, _, err := find(commands(), words)
	if err != nil || hidden.visible(s.who.Role) {
		return usage
	}
	refusal := object.Errorf(object.ErrUserType, "role %s has no such command", s.who.Role)
	err = s.appliance.HSM.Act(ctx, s.who.Operator, "shell.command", hidden.words, func() error { return refusal })
	if !errors.Is(err, refusal) || object.CodeOf(err) == object.ErrAuditFailed {
		return err
	}
	return usage
}

// ready refuses a command that needs what is not there.
func (s *Shell) ready(cmd *command, a args) error {
	switch {
	case cmd.needs == needHSM && !s.appliance.HSM.Initialized():
		return object.Errorf(object.ErrNotInitialized, "the HSM is not initialised; run `hsm init -label LABEL`")
	case cmd.control && s.appliance.Control == nil:
		return fmt.Errorf("`%s` asks the process that serves the HSM, and it is not running; start it with `moongate-hsm serve`", cmd.words)
	case cmd.accounts && s.appliance.Users == nil:
		return errors.New("this appliance has no file of accounts")
	}
	for _, o := range cmd.options {
		if _, sent := a.files[o.name]; o.file && !o.inbox && a.has(o.name) && !sent {
			return fmt.Errorf("-%s names a file of the HSM's own console; over SSH, copy the file to the HSM with scp and leave -%s out", o.name, o.name)
		}
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

// table aligns what is printed to it in columns; Flush shows it.
func (s *Shell) table() *tabwriter.Writer { return tabwriter.NewWriter(s.term, 0, 0, 2, ' ', 0) }

func enabled(on bool) string {
	if on {
		return "enabled"
	}
	return "disabled"
}

// isOneOf compares as words of a command line are compared.
func isOneOf(word string, of ...string) bool {
	return slices.ContainsFunc(of, func(other string) bool { return strings.EqualFold(word, other) })
}
