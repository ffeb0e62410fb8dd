package adminshell

import (
	"errors"
	"fmt"
	"io"
	"net"
)

// Caller is the administrator's end of the socket: it sends command lines to a
// running HSM and lets a terminal of its own print and ask. Of files it lets the
// HSM make or read the one alone that the command line names, in the direction
// that the command has: the HSM may have been broken into, and the caller may be
// root.
type Caller struct {
	conn net.Conn
	t    *localTerminal
	term Terminal
}

// DialLocal reaches the HSM that serves the socket.
func DialLocal(path string, term Terminal) (*Caller, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	return &Caller{conn, newLocalTerminal(conn), term}, nil
}

// Run runs one command there and returns its result, 0 or 65535. The error says
// that the HSM could not be talked to; a command that failed has printed why.
func (c *Caller) Run(req Request) (int, error) {
	if err := c.t.enc.Encode(req); err != nil {
		return 0, fmt.Errorf("sending the command: %w", err)
	}
	file := newCallersFile(req.Words)
	defer file.end()
	for {
		var m message
		if err := c.t.read(&m); err != nil {
			return 0, fmt.Errorf("the HSM went away: %w", err)
		}
		switch {
		case m.Result != nil:
			return *m.Result, nil
		case m.File != nil:
			if err := c.t.enc.Encode(file.do(*m.File)); err != nil {
				return 0, fmt.Errorf("sending the file: %w", err)
			}
		case m.Ask != "":
			text, err := c.term.Ask(m.Ask, m.Secret)
			if err := c.t.enc.Encode(answer{Text: []byte(text), Abort: err != nil}); err != nil {
				return 0, fmt.Errorf("sending the answer: %w", err)
			}
		default:
			if _, err := io.WriteString(c.term, m.Out); err != nil {
				return 0, err
			}
		}
	}
}

// Close ends the session.
func (c *Caller) Close() error { return c.conn.Close() }

// callersFile is the one file that a command line names.
type callersFile struct {
	path      string
	direction stream
	out       *newFile
	in        io.ReadCloser
	began     bool
	buffer    []byte
}

func newCallersFile(words []string) *callersFile {
	path, direction := streamOf(words)
	return &callersFile{path: path, direction: direction}
}

var errNotNamed = errors.New("the command line names no such file")

// do does a step that the HSM asks for.
func (f *callersFile) do(step fileStep) fileAnswer {
	a, err := f.try(step)
	if err != nil {
		f.end()
		return fileAnswer{Error: err.Error()}
	}
	return a
}

func (f *callersFile) try(step fileStep) (fileAnswer, error) {
	switch {
	case step.Do == doCreate || step.Do == doOpen:
		return fileAnswer{}, f.begin(step)
	case step.Do == doWrite && f.out != nil && len(step.Data) <= maxPiece:
		_, err := f.out.Write(step.Data)
		return fileAnswer{}, cause(err)
	case step.Do == doCommit && f.out != nil:
		out := f.out
		f.out = nil
		return fileAnswer{}, out.Commit()
	case step.Do == doAbort:
		f.end()
		return fileAnswer{}, nil
	case step.Do == doRead && f.in != nil:
		return f.read()
	case step.Do == doClose && f.in != nil:
		f.end()
		return fileAnswer{}, nil
	}
	return fileAnswer{}, errors.New("the HSM's act on the file is out of order")
}

// begin opens the file, once a command.
func (f *callersFile) begin(step fileStep) error {
	want := fromCaller
	if step.Do == doCreate {
		want = toCaller
	}
	if f.direction != want || step.Path != f.path || f.began {
		return errNotNamed
	}
	f.began = true
	var err error
	if want == toCaller {
		f.out, err = createFile(f.path)
		return err
	}
	in, err := openFile(f.path)
	if err == nil {
		f.in = in
	}
	return err
}

func (f *callersFile) read() (fileAnswer, error) {
	if f.buffer == nil {
		f.buffer = make([]byte, maxPiece)
	}
	n, err := io.ReadFull(f.in, f.buffer)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fileAnswer{Data: f.buffer[:n], End: true}, nil
	}
	return fileAnswer{Data: f.buffer[:n]}, cause(err)
}

// end closes the file; one that was not committed is gone.
func (f *callersFile) end() {
	if f.out != nil {
		f.out.Abort()
		f.out = nil
	}
	if f.in != nil {
		f.in.Close()
		f.in = nil
	}
}
