package main

import (
	"bufio"
	"errors"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// console is a person's terminal, or a script's pipes. Answers come from
// standard input, a line each; prompts go to standard error, so that standard
// output holds results only.
type console struct {
	in       *bufio.Reader
	fd       int
	terminal bool // somebody types
	out, err io.Writer
}

func newConsole() *console {
	fd := int(os.Stdin.Fd())
	return &console{in: bufio.NewReader(os.Stdin), fd: fd, terminal: term.IsTerminal(fd), out: os.Stdout, err: os.Stderr}
}

// maxSecret bounds a password in bytes; the protocol's limit is lower.
const maxSecret = 1024

var (
	errNoAnswer    = errors.New("standard input ended where an answer was expected")
	errInterrupted = errors.New("interrupted")
)

// ask prints the prompt and returns one line, without spaces around it.
func (c *console) ask(prompt string) (string, error) {
	c.errorf("%s", prompt)
	line, err := c.line()
	if !c.terminal {
		c.errorf("\n")
	}
	return strings.TrimSpace(string(line)), err
}

// askOr is ask with a default: without a terminal it takes that, and says so.
func (c *console) askOr(what, fallback string) (string, error) {
	if !c.terminal {
		c.note("%s: taking %s", what, fallback)
		return fallback, nil
	}
	answer, err := c.ask(what + " [" + fallback + "]: ")
	if err == nil && answer == "" {
		answer = fallback
	}
	return answer, err
}

// secret prints the prompt and returns one line; on a terminal a star stands
// for each letter.
func (c *console) secret(prompt string) ([]byte, error) {
	c.errorf("%s", prompt)
	defer c.errorf("\n")
	if !c.terminal {
		return c.line()
	}
	state, err := term.MakeRaw(c.fd)
	if err != nil {
		return nil, err
	}
	defer term.Restore(c.fd, state)
	return c.typedSecret()
}

// line reads to the end of a line. A line feed ends it; on a terminal a
// carriage return does too, since what was typed ahead of a password's end
// has not passed the terminal's own translation.
func (c *console) line() ([]byte, error) {
	var line []byte
	for {
		b, err := c.in.ReadByte()
		switch {
		case errors.Is(err, io.EOF) && len(line) > 0:
			return line, nil
		case errors.Is(err, io.EOF):
			return nil, errNoAnswer
		case err != nil:
			return nil, err
		case b == '\n', b == '\r' && c.terminal:
			if n := len(line); n > 0 && line[n-1] == '\r' {
				line = line[:n-1]
			}
			return line, nil
		case len(line) == 64<<10:
			return nil, errors.New("the line is too long")
		}
		line = append(line, b)
	}
}

// typedSecret reads keys of a terminal in raw mode.
func (c *console) typedSecret() ([]byte, error) {
	const (
		ctrlC, ctrlD, ctrlU  = 3, 4, 21
		backspace, deleteKey = 8, 127
	)
	secret := make([]byte, 0, maxSecret)
	rub := func() {
		_, size := utf8.DecodeLastRune(secret)
		secret = secret[:len(secret)-size]
		c.errorf("\b \b")
	}
	for {
		b, err := c.in.ReadByte()
		switch {
		case errors.Is(err, io.EOF), err == nil && b == ctrlD && len(secret) == 0:
			return nil, errNoAnswer
		case err != nil:
			return nil, err
		case b == ctrlC:
			clear(secret)
			return nil, errInterrupted
		case b == '\r' || b == '\n':
			return secret, nil
		case b == backspace || b == deleteKey:
			if len(secret) > 0 {
				rub()
			}
		case b == ctrlU:
			for len(secret) > 0 {
				rub()
			}
		case b < ' ':
			// Other control keys are no letters.
		case len(secret) == cap(secret):
			return nil, errors.New("the password is too long")
		default:
			secret = append(secret, b)
			if utf8.RuneStart(b) {
				c.errorf("*")
			}
		}
	}
}
