// Package shell runs a command language over any terminal: with line editing,
// history, completion by Tab and help by ? where a person types, and plain
// where a script does. It knows no command; an Interpreter does.
package shell

import (
	"context"
	"errors"
	"io"
)

// Terminal is where a command talks to a person or a script.
type Terminal interface {
	io.Writer
	// Ask prints the prompt and returns one line. A secret's letters are not
	// shown.
	Ask(prompt string, secret bool) (string, error)
}

// Candidate is one way in which a line may go on.
type Candidate struct {
	Word string // the whole word, not its rest
	Help string // one line; may be empty
}

// Interpreter is a command language. Its methods are called one at a time.
type Interpreter interface {
	// Prompt is what stands before the next line.
	Prompt() string
	// Run runs one line, with its output to term, and returns the exit status
	// that a program of this effect would have: 0 is success. The error is
	// ErrExit at the end of the session, or says that it cannot go on.
	Run(ctx context.Context, line string, term Terminal) (int, error)
	// Complete returns what the last word of the line may be, or the next one
	// where the line ends in a space or is empty, in the order to show.
	Complete(line string) []Candidate
}

// ErrExit ends a session: the user said so.
var ErrExit = errors.New("exit")
