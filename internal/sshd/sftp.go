package sshd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"time"
)

// The SFTP server is our own, though there is a good library: what is served is
// a short list of small files, so that requests can be answered one after the
// other, from memory, with each "no" in one place.

// Bounds of one SFTP session.
const (
	maxHandles  = 16
	namesAtOnce = 100 // of a directory, in one answer
)

func (c *connection) sftp(ctx context.Context, s *Session, files Files) int {
	// The peer's client shows few of the protocol's texts, and all of this.
	say := func(text string) { fmt.Fprintln(s.Stderr(), text) }
	err := serveSFTP(ctx, s, s, files, c.server.opts.Limits.FileSize, say)
	if err != nil && ctx.Err() == nil {
		c.server.opts.Logger.Warn("SFTP ended", "user", s.User, "from", s.From, "err", err)
		return 1
	}
	return 0
}

// serveSFTP serves a session until r ends. What was not closed by then was not
// written. The error says what the peer did that the protocol does not have.
func serveSFTP(ctx context.Context, r io.Reader, w io.Writer, files Files, limit int64, say func(string)) error {
	s := &sftpSession{files: files, limit: limit, say: say, handles: map[string]*handle{}}
	in := bufio.NewReader(r)
	kind, body, err := readPacket(in)
	if err == nil && (kind != fxpInit || len(body) < 4) {
		err = fmt.Errorf("%w: expected init", errPacket)
	}
	if err == nil {
		// The version is answered where the others have their id.
		_, err = w.Write(newPacket(fxpVersion, 3).bytes())
	}
	for err == nil {
		if kind, body, err = readPacket(in); err != nil {
			break
		}
		f := &fields{rest: body}
		id := f.uint32()
		answer := s.answer(ctx, kind, id, f)
		if f.bad {
			return fmt.Errorf("%w of type %d", errPacket, kind)
		}
		_, err = w.Write(answer.bytes())
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}

// handle is an open file or directory.
type handle struct {
	name    string // "" for the directory
	content []byte // to be read, or written so far
	write   bool
	failed  error  // of a write; the file is not whole
	list    []Info // of the directory, not yet sent
}

type sftpSession struct {
	files   Files
	limit   int64
	say     func(string)
	handles map[string]*handle
	opened  uint64 // handles so far: each has a new name
	said    string // the last of say
}

// answer answers a request. Where the packet is malformed, f says so and the
// answer is not sent.
func (s *sftpSession) answer(ctx context.Context, kind byte, id uint32, f *fields) packet {
	switch kind {
	case fxpOpen:
		path, flags := f.string(), f.uint32()
		f.attributes()
		return s.checked(f, id, func() (packet, error) { return s.open(ctx, id, path, flags) })
	case fxpOpendir:
		path := f.string()
		return s.checked(f, id, func() (packet, error) { return s.openDirectory(ctx, id, path) })
	case fxpClose:
		name := f.string()
		return s.checked(f, id, func() (packet, error) { return status(id, fxOK, ""), s.close(ctx, name) })
	case fxpRead:
		name, offset, n := f.string(), f.uint64(), f.uint32()
		return s.checked(f, id, func() (packet, error) { return s.read(id, name, offset, n) })
	case fxpWrite:
		name, offset, data := f.string(), f.uint64(), f.bytes()
		return s.checked(f, id, func() (packet, error) { return status(id, fxOK, ""), s.write(name, offset, data) })
	case fxpReaddir:
		name := f.string()
		return s.checked(f, id, func() (packet, error) { return s.readDirectory(id, name) })
	case fxpStat, fxpLstat:
		path := f.string()
		return s.checked(f, id, func() (packet, error) {
			info, err := s.stat(ctx, path)
			return newPacket(fxpAttrs, id).attributes(info), err
		})
	case fxpFstat:
		name := f.string()
		return s.checked(f, id, func() (packet, error) { return s.handleStat(ctx, id, name) })
	case fxpSetstat:
		path := f.string()
		f.attributes()
		return s.checked(f, id, func() (packet, error) {
			_, err := s.stat(ctx, path) // nothing is set: scp -p and put -p must not fail
			return status(id, fxOK, ""), err
		})
	case fxpFsetstat:
		name := f.string()
		f.attributes()
		return s.checked(f, id, func() (packet, error) {
			_, err := s.find(name)
			return status(id, fxOK, ""), err
		})
	case fxpRealpath:
		path := f.string()
		return s.checked(f, id, func() (packet, error) { return realpath(id, path) })
	case fxpRemove, fxpMkdir, fxpRmdir, fxpRename, fxpReadlink, fxpSymlink:
		return status(id, fxDenied, "Permission denied")
	}
	return status(id, fxUnsupported, "Operation unsupported")
}

// checked does what a well-formed request asks for.
func (s *sftpSession) checked(f *fields, id uint32, do func() (packet, error)) packet {
	if !f.done() {
		f.bad = true
		return nil
	}
	answer, err := do()
	switch {
	case err == nil:
		return answer
	case errors.Is(err, io.EOF):
		return status(id, fxEOF, "End of file")
	case errors.Is(err, fs.ErrNotExist):
		return status(id, fxNoSuchFile, tell(err))
	}
	// A client that writes ahead fails many times for one reason.
	if text := tell(err); text != s.said {
		s.said = text
		s.say(text)
	}
	if errors.Is(err, fs.ErrPermission) {
		return status(id, fxDenied, tell(err))
	}
	return status(id, fxFailure, tell(err))
}

func status(id, code uint32, text string) packet {
	return newPacket(fxpStatus, id).uint32(code).string(text).string("")
}

// add gives an open file a handle.
func (s *sftpSession) add(id uint32, h *handle) (packet, error) {
	if len(s.handles) >= maxHandles {
		return nil, fmt.Errorf("more than %d files are open at a time", maxHandles)
	}
	s.opened++
	name := strconv.FormatUint(s.opened, 10)
	s.handles[name] = h
	return newPacket(fxpHandle, id).string(name), nil
}

func (s *sftpSession) find(name string) (*handle, error) {
	if h := s.handles[name]; h != nil {
		return h, nil
	}
	return nil, errors.New("no such handle")
}

func (s *sftpSession) open(ctx context.Context, id uint32, path string, flags uint32) (packet, error) {
	name, err := fileName(path)
	if err != nil {
		return nil, err
	}
	how := flags & (fxfRead | fxfWrite | fxfAppend)
	if how == fxfRead|fxfWrite && flags&fxfTruncate != 0 {
		how = fxfWrite // there will be nothing to read but what is written
	}
	switch how {
	case fxfRead:
		if _, err := stat(ctx, s.files, name); err != nil {
			return nil, err
		}
		content, err := s.files.Read(ctx, name)
		if err != nil {
			return nil, err
		}
		return s.add(id, &handle{name: name, content: content})
	case fxfWrite:
		if err := s.files.Accepts(ctx, name); err != nil {
			return nil, err
		}
		if _, err := stat(ctx, s.files, name); flags&fxfExcl != 0 && err == nil {
			return nil, fmt.Errorf("%s is there already", name)
		}
		return s.add(id, &handle{name: name, write: true})
	}
	return nil, errors.New("a file is read or written as a whole here")
}

func (s *sftpSession) openDirectory(ctx context.Context, id uint32, path string) (packet, error) {
	if !isTop(path) {
		return nil, fs.ErrNotExist
	}
	list, err := s.files.List(ctx)
	if err != nil {
		return nil, err
	}
	return s.add(id, &handle{list: list})
}

// close writes a file that was written: it appears now, or not at all.
func (s *sftpSession) close(ctx context.Context, name string) error {
	h, err := s.find(name)
	if err != nil {
		return err
	}
	delete(s.handles, name)
	if !h.write || h.failed != nil {
		return h.failed
	}
	return s.files.Write(ctx, h.name, h.content)
}

func (s *sftpSession) read(id uint32, name string, offset uint64, n uint32) (packet, error) {
	h, err := s.find(name)
	if err != nil {
		return nil, err
	}
	if h.write || h.name == "" {
		return nil, errors.New("the handle is not open for reading")
	}
	if offset >= uint64(len(h.content)) {
		return nil, io.EOF
	}
	part := h.content[offset:]
	part = part[:min(len(part), int(min(n, maxSFTPRead)))]
	return newPacket(fxpData, id).string(string(part)), nil
}

// write takes a file in its order: what has a hole was never whole.
func (s *sftpSession) write(name string, offset uint64, data []byte) error {
	h, err := s.find(name)
	if err != nil {
		return err
	}
	switch {
	case !h.write:
		return errors.New("the handle is not open for writing")
	case h.failed != nil:
	case offset > uint64(s.limit) || offset+uint64(len(data)) > uint64(s.limit):
		h.failed = fmt.Errorf("%s has more than %d bytes; it was not taken", h.name, s.limit)
	case offset > uint64(len(h.content)):
		h.failed = fmt.Errorf("%s is written with a hole; send it as a whole", h.name)
	}
	if h.failed != nil {
		return h.failed
	}
	kept := copy(h.content[offset:], data)
	h.content = append(h.content, data[kept:]...)
	return nil
}

func (s *sftpSession) readDirectory(id uint32, name string) (packet, error) {
	h, err := s.find(name)
	if err != nil {
		return nil, err
	}
	if h.name != "" {
		return nil, errors.New("the handle is no directory's")
	}
	if len(h.list) == 0 {
		return nil, io.EOF
	}
	part := h.list[:min(len(h.list), namesAtOnce)]
	h.list = h.list[len(part):]
	p := newPacket(fxpName, id).uint32(uint32(len(part)))
	for _, info := range part {
		p = p.string(info.Name).string(longName(info)).attributes(info)
	}
	return p, nil
}

// longName is a line of ls -l.
func longName(i Info) string {
	mode := "-r--------"
	if i.Writable {
		mode = "-rw-------"
	}
	return fmt.Sprintf("%s    1 -        -        %8d %s %s", mode, i.Size, i.Modified.UTC().Format("Jan _2 15:04"), i.Name)
}

func (s *sftpSession) stat(ctx context.Context, path string) (Info, error) {
	if isTop(path) {
		return Info{Modified: time.Unix(0, 0)}, nil
	}
	name, err := fileName(path)
	if err != nil {
		return Info{}, err
	}
	return stat(ctx, s.files, name)
}

func (s *sftpSession) handleStat(ctx context.Context, id uint32, name string) (packet, error) {
	h, err := s.find(name)
	if err != nil {
		return nil, err
	}
	info := Info{Name: h.name, Size: int64(len(h.content)), Modified: time.Unix(0, 0), Writable: h.write}
	if h.name != "" && !h.write {
		if was, err := s.stat(ctx, h.name); err == nil {
			info.Modified = was.Modified
		}
	}
	return newPacket(fxpAttrs, id).attributes(info), nil
}

func realpath(id uint32, path string) (packet, error) {
	full := "/"
	if !isTop(path) {
		name, err := fileName(path)
		if err != nil {
			return nil, err
		}
		full += name
	}
	return newPacket(fxpName, id).uint32(1).string(full).string(full).attributes(Info{Modified: time.Unix(0, 0)}), nil
}
