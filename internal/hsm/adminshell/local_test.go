package adminshell

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"moongate/internal/ownsocket"
)

// serveLocalHere serves an appliance on a socket until the test's end.
func serveLocalHere(t *testing.T, a *Appliance) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "shell-") // a socket's path is short
	must(t, err)
	path := filepath.Join(dir, "admin.sock")
	l, err := ownsocket.Listen(path, "administration")
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- ServeLocal(ctx, l, a) }()
	t.Cleanup(func() {
		stop()
		must(t, <-ended)
		must(t, os.RemoveAll(dir))
	})
	return path
}

func dial(t *testing.T, path string, term Terminal) *Caller {
	t.Helper()
	c, err := DialLocal(path, term)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestLocalSession(t *testing.T) {
	t.Parallel()
	term := &script{answers: []string{soPassword}}
	c := dial(t, serveLocalHere(t, newAppliance(t)), term)
	for _, test := range []struct {
		line string
		want int
	}{
		{"hsm login", 0},
		{"partition create -p p1", 0}, // the login lasts
		{"partition create -p p1", 65535},
		{"role init -p p1 -role co", 65535}, // nobody answers
		{"partition list", 0},
	} {
		got, err := c.Run(Request{Words: strings.Fields(test.line)})
		if err != nil || got != test.want {
			t.Errorf("%s: %d, %v; want %d\n%s", test.line, got, err, test.want, &term.out)
		}
	}
	for _, words := range []string{"'hsm login' successful.", "there was no answer; nothing was changed", "Command Result : 0 (Success)"} {
		if !strings.Contains(term.out.String(), words) {
			t.Errorf("nothing says %q:\n%s", words, &term.out)
		}
	}
}

// TestPasswordsAreBytes: what is no UTF-8 arrives as it was typed.
func TestPasswordsAreBytes(t *testing.T) {
	t.Parallel()
	appliance := newAppliance(t)
	path := serveLocalHere(t, appliance)
	latin1, other := "p\xe4ssw\xf6rd", "p\xe5ssw\xf5rd"
	run := func(want int, line string, answers ...string) {
		t.Helper()
		term := &script{answers: answers}
		got, err := dial(t, path, term).Run(Request{Words: strings.Fields(line)})
		if err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d\n%s", line, got, err, want, &term.out)
		}
	}
	run(0, "partition create -p p1", soPassword)
	run(0, "role init -p p1 -role co", soPassword, latin1, latin1)
	run(65535, "role changePw -p p1 -role co", other, "new-password", "new-password")
	// The same password on the machine's own terminal.
	s := newAdmin(t, appliance)
	s.ok("role changePw -p p1 -role co", latin1, "new-password", "new-password")
}

// TestLongListing: a listing that is longer than a line may be arrives whole.
func TestLongListing(t *testing.T) {
	t.Parallel()
	server, caller := net.Pipe()
	defer server.Close()
	defer caller.Close()
	text := strings.Repeat("ä\x00€𝄞<&>\"", 3*maxLine/10)
	sent := make(chan error, 1)
	go func() {
		term := newLocalTerminal(server)
		n, err := term.Write([]byte(text))
		if err == nil && n != len(text) {
			err = io.ErrShortWrite
		}
		zero := 0
		sent <- errors.Join(err, term.send(message{Result: &zero}))
	}()
	term := &script{}
	c := &Caller{caller, newLocalTerminal(readOnly{caller}), term}
	if _, err := c.Run(Request{}); err != nil {
		t.Fatal(err)
	}
	must(t, <-sent)
	if term.out.String() != text {
		t.Errorf("%d bytes arrived of %d, or others; UTF-8: %v", term.out.Len(), len(text), utf8.ValidString(term.out.String()))
	}
}

// readOnly drops what is written, since nobody reads the command.
type readOnly struct{ io.Reader }

func (readOnly) Write(p []byte) (int, error) { return len(p), nil }

var badLines = map[string]string{
	"no JSON":          `client list`,
	"empty":            ``,
	"null":             `null`,
	"a list":           `["client","list"]`,
	"a space in front": ` {"words":["client","list"]}`,
	"two objects":      `{"words":["client","list"]}{"words":["hsm","logout"]}`,
	"something after":  `{"words":["client","list"]} x`,
	"unknown field":    `{"words":["client","list"],"user":"root"}`,
	"words no list":    `{"words":"client list"}`,
	"words no strings": `{"words":[1]}`,
	"file no base64":   `{"words":["client"],"files":{"certificate":"%"}}`,
	"no UTF-8":         "{\"words\":[\"\xff\"]}",
	"cut":              `{"words":["client","list"`,
}

func TestRequestsAreReadStrictly(t *testing.T) {
	t.Parallel()
	for name, line := range badLines {
		var req Request
		if err := decode([]byte(line), &req); err == nil {
			t.Errorf("%s: %s is read as %q", name, line, req.Words)
		}
	}
	var req Request
	must(t, decode([]byte(`{"words":["client","list"],"files":{"certificate":"AA=="}}`), &req))
}

// TestHostileCaller: what is no request ends the session, without an answer and
// without harm to others.
func TestHostileCaller(t *testing.T) {
	t.Parallel()
	path := serveLocalHere(t, newAppliance(t))
	lines := map[string]string{"oversized": `{"words":["` + strings.Repeat("x", maxLine) + `"]}`}
	for name, line := range badLines {
		if name != "empty" {
			lines[name] = line
		}
	}
	for name, line := range lines {
		conn, err := net.Dial("unix", path)
		must(t, err)
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(conn, line+"\n"); err != nil && !errors.Is(err, syscall.EPIPE) {
			t.Errorf("%s: %v", name, err)
		}
		out, err := io.ReadAll(conn)
		if len(out) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s is answered %q, %v", name, out, err)
		}
		conn.Close()
	}
	if got, err := dial(t, path, &script{}).Run(Request{Words: []string{"client", "list"}}); got != 0 || err != nil {
		t.Errorf("another session: %d, %v", got, err)
	}
}

// TestCallerLeavesInTheMiddle: a question that nobody answers changes nothing.
func TestCallerLeavesInTheMiddle(t *testing.T) {
	t.Parallel()
	appliance := newAppliance(t)
	conn, err := net.Dial("unix", serveLocalHere(t, appliance))
	must(t, err)
	must(t, json.NewEncoder(conn).Encode(Request{Words: []string{"partition", "create", "-p", "p1"}}))
	lines := bufio.NewScanner(conn)
	for lines.Scan() && !strings.Contains(lines.Text(), `"ask"`) {
	}
	must(t, lines.Err())
	conn.Close()
	if list, err := appliance.HSM.Partitions(); err != nil || len(list) > 0 {
		t.Errorf("partitions: %v, %v", list, err)
	}
}

func TestSocketIsTheOwnersAlone(t *testing.T) {
	t.Parallel()
	path := serveLocalHere(t, newAppliance(t))
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v", info.Mode())
	}
	// The kernel says who calls.
	l, err := net.Listen("unix", filepath.Join(filepath.Dir(path), "peer"))
	must(t, err)
	defer l.Close()
	caller, err := net.Dial("unix", l.Addr().String())
	must(t, err)
	defer caller.Close()
	conn, err := l.Accept()
	must(t, err)
	defer conn.Close()
	who, err := peer(conn.(*net.UnixConn))
	must(t, err)
	if who != LocalAdministrator() || who.From != "local" || who.Name == "" {
		t.Errorf("the caller is %+v, this process %+v", who, LocalAdministrator())
	}
}

// faulty is a listener with no file descriptor to spare at first.
type faulty struct {
	net.Listener
	failures int
}

func (f *faulty) Accept() (net.Conn, error) {
	if f.failures > 0 {
		f.failures--
		return nil, &net.OpError{Op: "accept", Net: "unix", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return f.Listener.Accept()
}

// TestAcceptsAgain: a moment without file descriptors does not end the HSM.
func TestAcceptsAgain(t *testing.T) {
	t.Parallel()
	appliance := newAppliance(t)
	dir, err := os.MkdirTemp("", "shell-")
	must(t, err)
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "admin.sock")
	l, err := ownsocket.Listen(path, "administration")
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- ServeLocal(ctx, &faulty{l, 2}, appliance) }()
	if got, err := dial(t, path, &script{}).Run(Request{Words: []string{"client", "list"}}); got != 0 || err != nil {
		t.Errorf("after a failed accept: %d, %v", got, err)
	}
	stop()
	must(t, <-ended)
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket is there after the end")
	}
}

// FuzzDecode: what is read as a request is a request that is read again.
func FuzzDecode(f *testing.F) {
	for _, line := range badLines {
		f.Add([]byte(line))
	}
	f.Add([]byte(`{"words":["client","list"],"files":{"certificate":"AA=="}}`))
	f.Add([]byte(`{"text":"AA==","abort":true}`))
	f.Add([]byte(`{"file":{"do":"write","data":"AA=="}}`))
	f.Add([]byte(`{"data":"AA==","end":true}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var a answer
		_ = decode(line, &a) // must not panic
		_ = decode(line, new(message))
		_ = decode(line, new(fileAnswer))
		var req Request
		if decode(line, &req) != nil {
			return
		}
		text, err := json.Marshal(req)
		must(t, err)
		var again Request
		if err := decode(text, &again); err != nil || fmt.Sprint(again) != fmt.Sprint(req) {
			t.Errorf("%s is read as %v, and that as %v, %v", line, req, again, err)
		}
	})
}
