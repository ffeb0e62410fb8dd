package sshd

import (
	"context"
	"io"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// Bounds of what a session's requests may ask for.
const (
	maxCommand = 8 << 10
	maxSide    = 10_000 // columns or rows of a window
)

// Session is what an account asked for: a shell, or one command. Reading,
// writing and Size may be done at the same time.
type Session struct {
	User string
	From netip.AddrPort
	// Command is what is to be run; HasCommand tells an empty one from a shell.
	Command    string
	HasCommand bool
	// PTY says that a person's raw terminal is at the other end.
	PTY bool

	ch      ssh.Channel
	conn    *connection
	in      *io.PipeReader
	resized chan struct{}

	mu            sync.Mutex
	columns, rows int // guarded by mu
}

// Read reads what is typed. It returns io.EOF when the peer will send nothing
// more, or is gone.
func (s *Session) Read(b []byte) (int, error) { return s.in.Read(b) }

// Write prints.
func (s *Session) Write(b []byte) (int, error) {
	s.conn.touch()
	return s.ch.Write(b)
}

// Stderr is where errors are printed for a peer without a terminal.
func (s *Session) Stderr() io.Writer { return s.ch.Stderr() }

// CloseRead makes a Read that waits, and every later one, return.
func (s *Session) CloseRead() error { return s.in.Close() }

// Size is the window's; zeros where there is none.
func (s *Session) Size() (columns, rows int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.columns, s.rows
}

// Resized receives after the window's size has changed.
func (s *Session) Resized() <-chan struct{} { return s.resized }

func (s *Session) resize(columns, rows uint32) {
	s.mu.Lock()
	s.columns, s.rows = int(min(columns, maxSide)), int(min(rows, maxSide))
	s.mu.Unlock()
	select {
	case s.resized <- struct{}{}:
	default:
	}
}

// session serves one channel: requests until one starts a program, then the
// program, with the requests that come meanwhile.
func (c *connection) session(ctx context.Context, ch ssh.Channel, requests <-chan *ssh.Request, rest *sync.WaitGroup) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer ch.Close()
	s := &Session{User: c.ssh.User(), From: c.from, ch: ch, conn: c, resized: make(chan struct{}, 1)}
	run := c.start(ctx, s, requests)
	// The channel's requests are served until the peer closes it: that is how
	// its end is seen.
	rest.Go(func() {
		for req := range requests {
			s.meanwhile(req)
		}
		cancel()
	})
	if run == nil {
		return
	}
	// The library's Read waits for the peer; this one's ends with the session.
	in, typed := io.Pipe()
	s.in = in
	defer in.Close()
	rest.Go(func() { typed.CloseWithError(c.copyIn(typed, ch)) })
	defer context.AfterFunc(ctx, func() { in.Close() })()

	status := run(ctx)
	// RFC 4254, 6.10. Errors are the connection's.
	_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(status)}))
	_ = ch.CloseWrite()
}

// copyIn is how a session's input arrives; each bit of it keeps the connection
// from being idle.
func (c *connection) copyIn(to io.Writer, from io.Reader) error {
	buf := make([]byte, 4<<10)
	for {
		n, err := from.Read(buf)
		c.touch()
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				return werr // nobody reads any more
			}
		}
		if err != nil {
			return err
		}
	}
}

// start serves requests until one says what to run, and returns that; nil where
// the peer or ctx ended first.
func (c *connection) start(ctx context.Context, s *Session, requests <-chan *ssh.Request) func(context.Context) int {
	for {
		var req *ssh.Request
		select {
		case <-ctx.Done():
			return nil
		case req = <-requests:
		}
		if req == nil {
			return nil
		}
		run, ok := c.request(s, req)
		answer(req, ok)
		if run != nil {
			return run
		}
	}
}

// request obeys a request before the start (RFC 4254, 6.2 to 6.5).
func (c *connection) request(s *Session, req *ssh.Request) (run func(context.Context) int, ok bool) {
	serve := func(ctx context.Context) int { return c.account.Serve(ctx, s) }
	switch req.Type {
	case "pty-req":
		var p struct {
			Term                         string
			Columns, Rows, Width, Height uint32
			Modes                        string
		}
		if s.PTY || ssh.Unmarshal(req.Payload, &p) != nil {
			return nil, false
		}
		s.PTY = true
		s.resize(p.Columns, p.Rows)
		return nil, true
	case "window-change":
		return nil, s.windowChange(req)
	case "shell":
		if len(req.Payload) > 0 {
			return nil, false
		}
		return serve, true
	case "exec":
		var p struct{ Command string }
		if ssh.Unmarshal(req.Payload, &p) != nil || len(p.Command) > maxCommand {
			return nil, false
		}
		if files := c.account.Files(); files != nil && (p.Command == "scp" || strings.HasPrefix(p.Command, "scp ")) {
			return func(ctx context.Context) int { return c.scp(ctx, s, p.Command, files) }, true
		}
		s.Command, s.HasCommand = p.Command, true
		return serve, true
	case "subsystem":
		var p struct{ Name string }
		files := c.account.Files()
		if ssh.Unmarshal(req.Payload, &p) != nil || p.Name != "sftp" || files == nil {
			return nil, false
		}
		return func(ctx context.Context) int { return c.sftp(ctx, s, files) }, true
	}
	return nil, false // env, agent and X11 forwarding, and what else there is
}

func (s *Session) windowChange(req *ssh.Request) bool {
	var p struct{ Columns, Rows, Width, Height uint32 }
	if !s.PTY || ssh.Unmarshal(req.Payload, &p) != nil {
		return false
	}
	s.resize(p.Columns, p.Rows)
	return true
}

// meanwhile obeys a request after the start.
func (s *Session) meanwhile(req *ssh.Request) {
	answer(req, req.Type == "window-change" && s.windowChange(req))
}

func answer(req *ssh.Request, ok bool) {
	if req.WantReply {
		_ = req.Reply(ok, nil) // its error is the connection's
	}
}
