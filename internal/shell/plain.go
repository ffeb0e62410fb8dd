package shell

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Piped serves a script: each line that r holds is a command, and what commands
// print goes to w. There is no prompt and no echo. A question is printed on a
// line of its own, and the next line answers it.
//
// A command that fails does not end the script, as at an appliance's prompt;
// empty lines are passed over. The status is that of the last command that was
// run, as a shell's is of its script: a script that must know of each looks at
// what each has printed. Whoever calls ends a Read of r that waits, when ctx is
// done.
func Piped(ctx context.Context, r io.Reader, w io.Writer, in Interpreter, opts Options) (int, error) {
	p := newPlain(r, w, opts)
	status := 0
	for {
		if err := ctx.Err(); err != nil {
			return status, err
		}
		line, err := p.line()
		if errors.Is(err, errLine) {
			status = 1
			fmt.Fprintf(p, "Error: %v\n", err)
			continue
		} else if errors.Is(err, io.EOF) {
			return status, nil
		} else if err != nil {
			return status, fmt.Errorf("reading a command: %w", err)
		}
		if strings.TrimSpace(line) == "" {
			continue
		}
		result, err := p.run(ctx, in, line)
		if errors.Is(err, ErrExit) {
			return status, nil
		} else if err != nil {
			return result, err
		}
		status = result
	}
}

// Once runs one command. Its questions are answered by the lines of r, which is
// not read before there is one.
func Once(ctx context.Context, line string, r io.Reader, w io.Writer, in Interpreter, opts Options) (int, error) {
	p := newPlain(r, w, opts)
	if err := checkLine(line, p.max); err != nil {
		fmt.Fprintf(p, "Error: %v\n", err)
		return 1, nil
	}
	status, err := p.run(ctx, in, line)
	if errors.Is(err, ErrExit) {
		return status, nil
	}
	return status, err
}

// errLine is matched by what is wrong with a line that can be passed over.
var errLine = errors.New("the line was not run")

// plain is the Terminal of a script's commands.
type plain struct {
	in  *bufio.Reader
	max int

	mu  sync.Mutex
	out printable // guarded by mu
}

func newPlain(r io.Reader, w io.Writer, opts Options) *plain {
	limit := opts.withDefaults().MaxLine
	return &plain{in: bufio.NewReaderSize(r, limit+2), max: limit, out: printable{w: w, newline: "\n"}}
}

func (p *plain) run(ctx context.Context, in Interpreter, line string) (int, error) {
	status, err := in.Run(ctx, line, p)
	p.mu.Lock()
	defer p.mu.Unlock()
	return status, errors.Join(err, p.out.flush())
}

func (p *plain) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(text)
}

func (p *plain) Ask(prompt string, secret bool) (string, error) {
	if _, err := p.Write([]byte(prompt + "\n")); err != nil {
		return "", err
	}
	answer, err := p.raw()
	if errors.Is(err, io.EOF) {
		return "", ErrNoAnswer
	} else if err != nil {
		return "", fmt.Errorf("reading the answer: %w", err)
	}
	return answer, nil
}

// line reads a command. It matches errLine where the line cannot be one.
func (p *plain) line() (string, error) {
	line, err := p.raw()
	if err != nil {
		return "", err
	}
	return line, checkLine(line, p.max)
}

// raw reads a line, without its end. One that is too long is passed over, and
// matches errLine. The last line needs no newline.
func (p *plain) raw() (string, error) {
	raw, err := p.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = p.in.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		return "", fmt.Errorf("%w: it has more than %d bytes", errLine, p.max)
	}
	if err != nil && (len(raw) == 0 || !errors.Is(err, io.EOF)) {
		return "", err
	}
	line := strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r")
	if len(line) > p.max {
		return "", fmt.Errorf("%w: it has more than %d bytes", errLine, p.max)
	}
	return line, nil
}

// checkLine refuses what nobody types into a command line.
func checkLine(line string, limit int) error {
	switch {
	case len(line) > limit:
		return fmt.Errorf("%w: it has more than %d bytes", errLine, limit)
	case !utf8.ValidString(line):
		return fmt.Errorf("%w: it is no UTF-8", errLine)
	case strings.ContainsFunc(line, func(r rune) bool { return r != '\t' && !unicode.IsPrint(r) }):
		return fmt.Errorf("%w: it holds what is not printable", errLine)
	}
	return nil
}
