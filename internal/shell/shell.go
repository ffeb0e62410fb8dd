// Package shell runs a command language over any terminal: with line editing,
// history, completion by Tab and help by ? where a person types, and plain
// where a script does. It knows no command; an [Interpreter] does.
//
// [Interactive] serves a person at a terminal, [Piped] a script's lines, and
// [Once] one command that came with the connection. Whatever is printed is made
// printable first, so that no name can steer the terminal of who lists it.
//
// The line editor is our own. That of golang.org/x/term ends the session at
// Ctrl-C as at Ctrl-D, with the key still in its buffer; spins on an escape
// sequence longer than 256 bytes; offers earlier lines where a password is
// asked for; and takes every letter for one column wide.
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
	// Word is the whole word, not its rest. One in angle brackets, <NAME>,
	// stands for what the user chooses: it is listed and never filled in. One
	// that holds a space or a quotation mark is filled in as a string literal
	// of Go.
	Word string
	Help string // one line; may be empty
}

// Interpreter is a command language. Its methods are called one at a time.
type Interpreter interface {
	// Prompt is what stands before the next line.
	Prompt() string
	// Run runs one line, with its output to term, and returns the exit status
	// that a program of this effect would have: 0 is success. The error is
	// ErrExit at the end of the session, or says that it cannot go on. ctx ends
	// when the user types Ctrl-C, or is gone.
	Run(ctx context.Context, line string, term Terminal) (int, error)
	// Complete returns what the last word of the line may be, or the next one
	// where the line ends in a space or is empty, in the order to show.
	Complete(line string) []Candidate
}

// Bannered is an Interpreter that says more than fits into a prompt.
type Bannered interface {
	// Banner is printed before each prompt of a person's terminal, as it is:
	// its lines end in \r\n. It may be empty.
	Banner() string
}

// ErrExit ends a session: the user said so.
var ErrExit = errors.New("exit")

// ErrInterrupted is what a question gets whose answer the user abandoned by
// Ctrl-C.
var ErrInterrupted = errors.New("interrupted; nothing more was done")

// ErrNoAnswer is what a question gets when the input ends before its answer.
var ErrNoAnswer = errors.New("the input ended where an answer was expected")

// Options of a session; the zero value is good.
type Options struct {
	// MaxLine bounds a line and an answer in bytes; 4096 by default. In plain
	// input a longer line fails as a command and is passed over.
	MaxLine int
	// History is how many lines are kept; 200 by default.
	History int
	// Remember says whether a line may be kept in the history; every line may
	// where it is nil. Answers to questions are never kept.
	Remember func(line string) bool
}

const (
	defaultMaxLine = 4096
	defaultHistory = 200
)

func (o Options) withDefaults() Options {
	if o.MaxLine <= 0 {
		o.MaxLine = defaultMaxLine
	}
	if o.History <= 0 {
		o.History = defaultHistory
	}
	if o.Remember == nil {
		o.Remember = func(string) bool { return true }
	}
	return o
}
