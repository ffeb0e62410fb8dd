package adminshell

import (
	"context"
	"fmt"
	"strings"

	"moongate/internal/shell"
)

// Interpreter is the session as a language that a shell runs over a terminal,
// line by line. The logins are the session's, whoever runs the lines.
func (s *Shell) Interpreter() shell.Interpreter { return interpreter{s} }

type interpreter struct{ s *Shell }

// Prompt implements shell.Interpreter: scripts look for the brackets and `:>`.
func (i interpreter) Prompt() string {
	label := "moongate-hsm"
	if info, err := i.s.appliance.HSM.Info(); err == nil && info.Label != "" {
		label = info.Label
	}
	return "[" + label + "] moonsh:> "
}

// Run implements shell.Interpreter. An empty line and one that begins with # do
// nothing.
func (i interpreter) Run(ctx context.Context, line string, term Terminal) (int, error) {
	line = strings.TrimSpace(line)
	if line == "" || strings.HasPrefix(line, "#") {
		return 0, nil
	}
	if isOneOf(line, "exit", "quit") {
		return 0, shell.ErrExit
	}
	defer func(before Terminal) { i.s.term = before }(i.s.term)
	i.s.term = printable{term}
	words, err := Words(line)
	if err != nil {
		fmt.Fprintf(i.s.term, "Error: %v\n\nCommand Result : %d (Syntax error)\n", err, resultFailure)
		return 1, nil
	}
	if i.s.Run(ctx, Request{Words: words}) != resultSuccess {
		return 1, nil
	}
	return 0, nil
}

// Complete implements shell.Interpreter.
func (i interpreter) Complete(line string) []shell.Candidate { return i.s.complete(line) }
