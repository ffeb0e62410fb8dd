package sshd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// The older SCP protocol has no specification but OpenSSH's scp.c. The peer
// runs "scp -t target" here to send files, or "scp -f file" to fetch one, and
// then each side waits for the other's zero byte after each step:
//
//	C0644 size name\n  a file; its bytes and a zero byte follow
//	T mtime 0 atime 0\n  its times, with -p; passed over here
//	D..., E\n          directories, with -r; refused
//	\1text\n, \2text\n a warning, the end
const (
	maxSCPLine  = 1024
	maxSCPFiles = 1024 // of one transfer
)

// scpCommand is what the peer's scp asks for.
type scpCommand struct {
	sink  bool // -t: files come in
	times bool // -p
	path  string
}

var errSCPUsage = errors.New("expected scp -t [-d] [-p] [-v] TARGET or scp -f [-p] [-v] FILE")

// parseSCP reads the command line that scp runs on its other side. A path may
// be in single quotation marks, as scripts send it.
func parseSCP(command string) (scpCommand, error) {
	var c scpCommand
	rest, ok := strings.CutPrefix(command, "scp ")
	if !ok {
		return c, errSCPUsage
	}
	source := false
	for rest = strings.TrimLeft(rest, " "); strings.HasPrefix(rest, "-"); rest = strings.TrimLeft(rest, " ") {
		var word string
		word, rest, _ = strings.Cut(rest, " ")
		if word == "--" {
			rest = strings.TrimLeft(rest, " ")
			break
		}
		for _, flag := range word[1:] {
			switch flag {
			case 't':
				c.sink = true
			case 'f':
				source = true
			case 'p':
				c.times = true
			case 'd', 'v', 'q':
			case 'r':
				return c, errors.New("-r: there are no directories here")
			default:
				return c, errSCPUsage
			}
		}
		if word == "-" {
			return c, errSCPUsage
		}
	}
	c.path = strings.TrimRight(rest, " ")
	if n := len(c.path); n >= 2 && c.path[0] == '\'' && c.path[n-1] == '\'' && !strings.Contains(c.path[1:n-1], "'") {
		c.path = c.path[1 : n-1]
	}
	if c.sink == source || c.path == "" {
		return c, errSCPUsage
	}
	return c, nil
}

func (c *connection) scp(ctx context.Context, s *Session, command string, files Files) int {
	return serveSCP(ctx, command, s, s, files, c.server.opts.Limits.FileSize)
}

// serveSCP serves one transfer and returns the exit status that scp has: 1
// where anything failed.
func serveSCP(ctx context.Context, command string, r io.Reader, w io.Writer, files Files, limit int64) int {
	t := &transfer{in: bufio.NewReaderSize(r, maxSCPLine), out: w, files: files, limit: limit}
	asked, err := parseSCP(command)
	if err == nil && asked.sink {
		err = t.sink(ctx, asked.path)
	} else if err == nil {
		err = t.source(ctx, asked)
	}
	if err != nil {
		t.warn(err)
	}
	if t.failed {
		return 1
	}
	return 0
}

// transfer is one run of the protocol.
type transfer struct {
	in     *bufio.Reader
	out    io.Writer
	files  Files
	limit  int64
	failed bool
}

// errBroken is an end of the protocol that the peer need not be told of.
var errBroken = errors.New("the peer broke the protocol off")

// warn tells the peer that something failed.
func (t *transfer) warn(err error) {
	t.failed = true
	if !errors.Is(err, errBroken) {
		_, _ = fmt.Fprintf(t.out, "\x01scp: %s\n", tell(err)) // its error ends the next read
	}
}

func (t *transfer) ok() error {
	_, err := t.out.Write([]byte{0})
	return err
}

// reply reads the peer's answer to a step: zero, or a warning.
func (t *transfer) reply() error {
	b, err := t.in.ReadByte()
	if err != nil {
		return errBroken
	}
	switch b {
	case 0:
		return nil
	case 1, 2:
		if _, err := t.line(); err != nil {
			return err
		}
		return errBroken
	}
	return fmt.Errorf("protocol error: expected an answer, got byte %d", b)
}

// line reads up to a newline, which it leaves out.
func (t *transfer) line() (string, error) {
	line, err := t.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", fmt.Errorf("protocol error: a line of more than %d bytes", maxSCPLine)
	} else if err != nil {
		return "", errBroken
	}
	return string(line[:len(line)-1]), nil
}

// source sends one file.
func (t *transfer) source(ctx context.Context, asked scpCommand) error {
	if err := t.reply(); err != nil {
		return err
	}
	name, err := fileName(asked.path)
	if err != nil {
		return err
	}
	info, err := stat(ctx, t.files, name)
	if err != nil {
		return err
	}
	content, err := t.files.Read(ctx, name)
	if err != nil {
		return err
	}
	if asked.times {
		at := info.Modified.Unix()
		if err := t.send(fmt.Sprintf("T%d 0 %d 0\n", at, at)); err != nil {
			return err
		}
	}
	if err := t.send(fmt.Sprintf("C%04o %d %s\n", info.mode()&0o777, len(content), name)); err != nil {
		return err
	}
	return t.send(string(content) + "\x00")
}

// send sends a step and waits for its answer.
func (t *transfer) send(step string) error {
	if _, err := io.WriteString(t.out, step); err != nil {
		return errBroken
	}
	return t.reply()
}

// sink takes files. One that is refused does not end the transfer.
func (t *transfer) sink(ctx context.Context, target string) error {
	if err := t.ok(); err != nil {
		return errBroken
	}
	for range 2 * maxSCPFiles {
		if _, err := t.in.Peek(1); err != nil {
			return nil // the peer has nothing more
		}
		line, err := t.line()
		if err != nil {
			return err
		}
		switch {
		case strings.HasPrefix(line, "C"):
			err = t.file(ctx, line[1:], target)
		case strings.HasPrefix(line, "T"):
			if err = checkTimes(line[1:]); err == nil {
				err = t.ok()
			}
		case strings.HasPrefix(line, "\x01"), strings.HasPrefix(line, "\x02"):
			t.failed = true // the peer's own trouble; it goes on, or ends
		case strings.HasPrefix(line, "D"), line == "E":
			return errors.New("there are no directories here")
		default:
			return errors.New("protocol error: unknown step")
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("more than %d files in one transfer", maxSCPFiles)
}

// file takes one file. The error ends the transfer.
func (t *transfer) file(ctx context.Context, line, target string) error {
	size, name, err := parseFileLine(line)
	if err != nil {
		return err
	}
	if !isTop(target) {
		name = target
	}
	name, err = fileName(name)
	if err == nil {
		err = t.files.Accepts(ctx, name)
	}
	if err == nil && size > t.limit {
		err = fmt.Errorf("%s has %d bytes, at most %d are taken", name, size, t.limit)
	}
	if err != nil { // the peer skips the file
		t.warn(err)
		return nil
	}
	if err := t.ok(); err != nil {
		return errBroken
	}
	content := make([]byte, size)
	if _, err := io.ReadFull(t.in, content); err != nil {
		return errBroken
	}
	if err := t.reply(); err != nil {
		return err // the peer could not read it whole
	}
	if err := t.files.Write(ctx, name, content); err != nil {
		t.warn(err)
		return nil
	}
	return t.ok()
}

// parseFileLine reads "0644 size name": four octal digits, a size as it is
// written without more, a name without a slash.
func parseFileLine(line string) (int64, string, error) {
	bad := errors.New("protocol error: expected C, a mode, a size and a name")
	mode, rest, ok := strings.Cut(line, " ")
	number, name, more := strings.Cut(rest, " ")
	if !ok || !more || len(mode) != 4 || strings.Trim(mode, "01234567") != "" {
		return 0, "", bad
	}
	size, err := strconv.ParseInt(number, 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != number {
		return 0, "", bad
	}
	if strings.Contains(name, "/") || name == "" || name == "." || name == ".." {
		return 0, "", fmt.Errorf("protocol error: %.40q is no name of a file", name)
	}
	return size, name, nil
}

// checkTimes reads "mtime 0 atime 0", four numbers.
func checkTimes(line string) error {
	fields := strings.Split(line, " ")
	if len(fields) != 4 {
		return errors.New("protocol error: expected four numbers after T")
	}
	for _, f := range fields {
		if _, err := strconv.ParseInt(f, 10, 64); err != nil {
			return errors.New("protocol error: expected four numbers after T")
		}
	}
	return nil
}
