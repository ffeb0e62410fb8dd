package adminshell

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"moongate/internal/hsm/partition"
	"moongate/internal/hsm/users"
	"moongate/internal/ownsocket"
)

// The local terminal is a unix socket that carries one JSON object a line.
// The caller sends a Request, then an answer for each question, then the next
// Request; the shell sends messages until one holds a result.
type message struct {
	Out    string    `json:"out,omitempty"`    // to be printed
	Ask    string    `json:"ask,omitempty"`    // a question; an answer must follow
	Secret bool      `json:"secret,omitempty"` // the answer's letters are not shown
	File   *fileStep `json:"file,omitempty"`   // an act on a file; a fileAnswer must follow
	Result *int      `json:"result,omitempty"` // the command's end
}

// An answer's text is bytes: JSON strings would change what is not UTF-8, and a
// password is what was typed.
type answer struct {
	Text  []byte `json:"text,omitempty"`
	Abort bool   `json:"abort,omitempty"` // there is no answer
}

// maxLine bounds a line in bytes, from either side: a certificate file and some
// words. maxOut bounds what one message prints; escaped, it is six times as
// long at most.
const (
	maxLine = 256 << 10
	maxOut  = 32 << 10
)

// acceptAgain is the pause after the kernel had no file descriptor to spare.
const acceptAgain = 100 * time.Millisecond

// ServeLocal serves administrators of this machine until ctx is done, and
// waits for their sessions to end. It closes the listener. The error is the
// listener's, nil after ctx.
func ServeLocal(ctx context.Context, l net.Listener, a *Appliance) error {
	var sessions sync.WaitGroup
	defer sessions.Wait()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		var temporary interface{ Temporary() bool }
		if errors.As(err, &temporary) && temporary.Temporary() {
			a.Logger.Error("accepting on the administration socket", "err", err)
			select {
			case <-time.After(acceptAgain):
			case <-ctx.Done():
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("accepting on the administration socket: %w", err)
		}
		sessions.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			if err := serveLocal(ctx, conn.(*net.UnixConn), a); err != nil && ctx.Err() == nil {
				a.Logger.Warn("local administration ended", "err", err)
			}
		})
	}
}

func serveLocal(ctx context.Context, conn *net.UnixConn, a *Appliance) error {
	who, err := peer(conn)
	if err != nil {
		return err
	}
	term := newLocalTerminal(conn)
	shell := New(a, who, term)
	defer shell.Close()
	for {
		var req Request
		if err := term.read(&req); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading a command: %w", err)
		}
		result := shell.Run(ctx, req)
		if err := term.send(message{Result: &result}); err != nil {
			return fmt.Errorf("answering: %w", err)
		}
	}
}

// peer names the user on the other side, and refuses all but root and the
// HSM's own user.
func peer(conn *net.UnixConn) (Administrator, error) {
	uid, err := ownsocket.Peer(conn)
	if err != nil {
		return Administrator{}, fmt.Errorf("local administration: %w", err)
	}
	return localAdministrator(uid), nil
}

// LocalAdministrator is the user that this process runs as, at the console.
func LocalAdministrator() Administrator { return localAdministrator(os.Getuid()) }

func localAdministrator(uid int) Administrator {
	name := "uid " + strconv.Itoa(uid)
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		name = u.Username
	}
	return Administrator{partition.Operator{Name: name, From: "local"}, users.RoleConsole}
}

// localTerminal is the shell's end of the socket.
type localTerminal struct {
	lines *bufio.Scanner
	enc   *json.Encoder
	// limit bounds how long one step with a file may take, where the
	// connection can be bounded.
	limit func(time.Duration) error
}

func newLocalTerminal(conn io.ReadWriter) *localTerminal {
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, maxLine)
	t := &localTerminal{lines: lines, enc: json.NewEncoder(conn), limit: func(time.Duration) error { return nil }}
	if c, is := conn.(net.Conn); is {
		t.limit = func(d time.Duration) error {
			if d == 0 {
				return c.SetDeadline(time.Time{})
			}
			return c.SetDeadline(time.Now().Add(d))
		}
	}
	return t
}

// read decodes the next line; io.EOF after the last.
func (t *localTerminal) read(v any) error {
	if !t.lines.Scan() {
		if err := t.lines.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	return decode(t.lines.Bytes(), v)
}

// decode reads a line of the socket: one JSON object, no field that is not
// known, nothing after it.
func decode(line []byte, v any) error {
	if !bytes.HasPrefix(line, []byte("{")) || !utf8.Valid(line) {
		return errors.New("the line is no JSON object")
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if rest := line[dec.InputOffset():]; len(rest) > 0 {
		return fmt.Errorf("%d bytes follow the line's object", len(rest))
	}
	return nil
}

func (t *localTerminal) send(m message) error { return t.enc.Encode(m) }

func (t *localTerminal) Write(p []byte) (int, error) {
	for written := 0; written < len(p); {
		part := p[written:]
		if len(part) > maxOut {
			part = part[:maxOut]
			for !utf8.RuneStart(p[written+len(part)]) && len(part) > maxOut-utf8.UTFMax {
				part = part[:len(part)-1] // a letter is not cut
			}
		}
		if err := t.send(message{Out: string(part)}); err != nil {
			return written, err
		}
		written += len(part)
	}
	return len(p), nil
}

func (t *localTerminal) Ask(prompt string, secret bool) (string, error) {
	if err := t.send(message{Ask: prompt, Secret: secret}); err != nil {
		return "", err
	}
	var a answer
	if err := t.read(&a); err != nil {
		return "", fmt.Errorf("reading the answer: %w", err)
	}
	if a.Abort {
		return "", errNoAnswer
	}
	return string(a.Text), nil
}

var errNoAnswer = errors.New("there was no answer; nothing was changed")
