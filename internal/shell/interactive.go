package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

// Stream is a person's terminal: raw, so that each key arrives as it is typed
// and nothing is echoed.
type Stream interface {
	io.ReadWriter
	// CloseRead makes a Read that waits, and every later one, return.
	CloseRead() error
	// Size is the window's; zeros where it is not known.
	Size() (columns, rows int)
	// Resized receives after the window's size has changed.
	Resized() <-chan struct{}
}

// Interactive serves a person at a terminal until ErrExit, Ctrl-D on an empty
// line, the end of the stream or that of ctx. Keys:
//
//	Enter               run the line
//	Tab                 complete the word; the second Tab lists what it may be
//	?                   list it with help (within quotation marks, a letter)
//	Up, Down, Ctrl-P, N earlier and later lines
//	Ctrl-R              search the earlier lines
//	Ctrl-C              abandon the line, the answer or the running command
//	Ctrl-D              on an empty line: the end
//	Ctrl-A, E, B, F, arrows, Home, End, Ctrl- or Alt-arrows, Alt-B, F
//	                    move
//	Ctrl-H, D, W, U, K  delete
//	Ctrl-L              clear the screen
//
// It returns the last command's status. It reads the stream all the time, and
// has closed its reading side and waited for its own goroutine when it returns.
func Interactive(ctx context.Context, stream Stream, in Interpreter, opts Options) (int, error) {
	s, end := newSession(stream, in, opts)
	defer end()
	status := 0
	for {
		if b, ok := in.(Bannered); ok {
			s.ed.write(b.Banner())
		}
		line, err := s.ed.read(ctx, clean(in.Prompt()), aCommand)
		switch {
		case errors.Is(err, ErrInterrupted):
			continue
		case errors.Is(err, errEnd), errors.Is(err, io.EOF):
			return status, nil
		case err != nil:
			return status, err
		}
		if strings.TrimSpace(line) == "" {
			continue
		}
		if s.ed.opts.Remember(line) {
			s.ed.history.add(line)
		}
		result, err := s.run(ctx, line)
		if errors.Is(err, ErrExit) {
			return status, nil
		} else if err != nil {
			return result, err
		}
		status = result
	}
}

// InteractiveOnce runs one command at a person's terminal, which can answer its
// questions and end it by Ctrl-C.
func InteractiveOnce(ctx context.Context, stream Stream, in Interpreter, line string, opts Options) (int, error) {
	s, end := newSession(stream, in, opts)
	defer end()
	status, err := s.run(ctx, line)
	if errors.Is(err, ErrExit) {
		return status, nil
	}
	return status, err
}

// session is the Terminal of Interactive's commands. It is used by one
// goroutine, but for Write.
type session struct {
	ed  *editor
	in  Interpreter
	ctx context.Context // of the command that runs
	// cancel ends that command.
	cancel context.CancelFunc

	mu  sync.Mutex
	out printable // guarded by mu
}

func newSession(stream Stream, in Interpreter, opts Options) (*session, func()) {
	opts = opts.withDefaults()
	keys, done := newInput(), make(chan struct{})
	s := &session{in: in, out: printable{w: stream, newline: "\r\n"}, ed: &editor{
		in: keys, out: stream, resized: stream.Resized(), size: stream.Size, complete: in.Complete, opts: opts,
		history: history{max: opts.History},
	}}
	var pump sync.WaitGroup
	pump.Go(func() { keys.pump(stream, done) })
	return s, func() {
		close(done)
		stream.CloseRead() // its error would be that it is closed
		pump.Wait()
	}
}

func (s *session) run(ctx context.Context, line string) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.ctx, s.cancel = ctx, cancel
	s.ed.in.onInterrupt(cancel)
	defer s.ed.in.onInterrupt(nil)
	status, err := s.in.Run(ctx, line, s)
	return status, errors.Join(err, s.freshLine())
}

// freshLine gives the editor a line of its own.
func (s *session) freshLine() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.freshLine()
}

func (s *session) Write(text []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(text)
}

func (s *session) Ask(prompt string, secret bool) (string, error) {
	// All but the prompt's last line is output.
	if i := strings.LastIndexByte(prompt, '\n'); i >= 0 {
		if _, err := s.Write([]byte(prompt[:i+1])); err != nil {
			return "", err
		}
		prompt = prompt[i+1:]
	}
	if err := s.freshLine(); err != nil {
		return "", err
	}
	purpose := anAnswer
	if secret {
		purpose = aSecret
	}
	s.ed.in.onInterrupt(nil)
	defer s.ed.in.onInterrupt(s.cancel)
	answer, err := s.ed.read(s.ctx, clean(prompt), purpose)
	switch {
	case errors.Is(err, ErrInterrupted):
		s.cancel()
		return "", ErrInterrupted
	case errors.Is(err, errEnd), errors.Is(err, io.EOF):
		return "", ErrNoAnswer
	case err != nil:
		return "", fmt.Errorf("reading the answer: %w", err)
	}
	return answer, nil
}

// Key shows a prompt, waits for one key, a letter or '\r' for Enter, and takes
// the prompt away: it is how a pager asks. Ctrl-C is ErrInterrupted. Only a
// person's terminal has it.
func (s *session) Key(prompt string) (rune, error) {
	if err := s.freshLine(); err != nil {
		return 0, err
	}
	s.ed.in.onInterrupt(nil)
	defer s.ed.in.onInterrupt(s.cancel)
	key, err := s.ed.one(s.ctx, clean(prompt))
	if errors.Is(err, errEnd) || errors.Is(err, io.EOF) {
		return 0, ErrNoAnswer
	}
	return key, err
}

// Rows is the height of the terminal, 0 where it is not known.
func (s *session) Rows() int {
	_, rows := s.ed.size()
	return rows
}
