package sshd

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pkg/sftp"
)

// newSFTP logs a client of another make in.
func newSFTP(t *testing.T, w *world) *sftp.Client {
	t.Helper()
	c, err := sftp.NewClient(w.dial())
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestSFTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Limits{}, nil)
	c := newSFTP(t, w)

	// Nothing is seen before the file is closed.
	f, err := c.OpenFile("a.pem", os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	must(t, err)
	content := bytes.Repeat([]byte("0123456789abcdef"), 4096) // as long as a file may be
	_, err = f.Write(content)
	must(t, err)
	if names := w.files.names(); !slices.Equal(names, []string{"server.pem"}) {
		t.Errorf("before it is closed there are %q", names)
	}
	info, err := f.Stat()
	must(t, err)
	if info.Size() != int64(len(content)) {
		t.Errorf("an open file has %d bytes", info.Size())
	}
	must(t, f.Chmod(0o777)) // of no effect, and no failure
	must(t, f.Close())
	must(t, c.Chtimes("a.pem", info.ModTime(), info.ModTime()))
	if w.files.get("a.pem") != string(content) {
		t.Error("what was written is another")
	}

	for _, path := range []string{"a.pem", "./a.pem", "/a.pem"} {
		f, err := c.Open(path)
		must(t, err)
		got, err := io.ReadAll(f)
		must(t, err)
		must(t, f.Close())
		if !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes were read", path, len(got))
		}
	}
	list, err := c.ReadDir(".")
	must(t, err)
	var names []string
	for _, i := range list {
		names = append(names, i.Name()+" "+i.Mode().String())
	}
	if want := []string{"a.pem -rw-------", "server.pem -r--------"}; !slices.Equal(names, want) {
		t.Errorf("listed %q, want %q", names, want)
	}
	if wd, err := c.Getwd(); wd != "/" || err != nil {
		t.Errorf("the directory is %q, %v", wd, err)
	}
	if path, err := c.RealPath("a.pem"); path != "/a.pem" || err != nil {
		t.Errorf("a.pem is at %q, %v", path, err)
	}
	if top, err := c.Stat("/"); err != nil || !top.IsDir() {
		t.Errorf("the top: %v, %v", top, err)
	}
}

func TestSFTPRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Limits{}, nil)
	c := newSFTP(t, w)
	write := func(path, content string) error {
		f, err := c.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
		if err != nil {
			return err
		}
		_, err = io.WriteString(f, content)
		return errors.Join(err, f.Close())
	}
	_, readLink := c.ReadLink("server.pem")
	_, realPath := c.RealPath("../etc")
	_, readDir := c.ReadDir("/etc")
	_, stat := c.Stat("/etc/passwd")
	_, open := c.Open("../server.pem")
	_, both := c.OpenFile("server.pem", os.O_RDWR)
	_, appending := c.OpenFile("a", os.O_WRONLY|os.O_APPEND)
	_, exclusive := c.OpenFile("server.pem2", os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	for what, test := range map[string]struct{ err, want error }{
		"remove":             {c.Remove("server.pem"), fs.ErrPermission},
		"make a directory":   {c.Mkdir("d"), fs.ErrPermission},
		"remove a directory": {c.RemoveDirectory("."), fs.ErrPermission},
		"rename":             {c.Rename("server.pem", "x"), fs.ErrPermission},
		"link":               {c.Symlink("/etc/passwd", "x"), fs.ErrPermission},
		"read a link":        {readLink, fs.ErrPermission},
		"write server.pem":   {write("server.pem", "x"), fs.ErrPermission},
		"write elsewhere":    {write("/etc/passwd", "x"), fs.ErrNotExist},
		"write a path":       {write("../x", "x"), fs.ErrNotExist},
		"write a hidden one": {write(".x", "x"), fs.ErrNotExist},
		"find elsewhere":     {realPath, fs.ErrNotExist},
		"list elsewhere":     {readDir, fs.ErrNotExist},
		"stat elsewhere":     {stat, fs.ErrNotExist},
		"read elsewhere":     {open, fs.ErrNotExist},
		"set what is not":    {c.Chmod("x", 0), fs.ErrNotExist},
		"read and write":     {both, nil},
		"append":             {appending, nil},
		"write a bad one":    {write("a", "bad"), nil},
		"write too much":     {write("a", strings.Repeat("x", 64<<10+1)), nil},
	} {
		if test.err == nil || test.want != nil && !errors.Is(test.err, test.want) {
			t.Errorf("%s: %v, want %v", what, test.err, test.want)
		}
	}
	if exclusive != nil {
		t.Errorf("an exclusive new file: %v", exclusive)
	}
	// A client that is cut off leaves nothing behind.
	f, err := c.OpenFile("half", os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	must(t, err)
	_, err = f.Write([]byte("half"))
	must(t, err)
	c.Close()
	must(t, w.stop())
	if names := w.files.names(); !slices.Equal(names, []string{"server.pem"}) {
		t.Errorf("in the end there are %q", names)
	}
}

// script is an SFTP session's input.
type script struct{ bytes.Buffer }

func (s *script) packet(p packet) *script { s.Write(p.bytes()); return s }

func newScript() *script {
	s := &script{}
	return s.packet(newPacket(fxpInit, 3))
}

func openForWriting(name string) packet {
	return newPacket(fxpOpen, 1).string(name).uint32(fxfWrite | 0x18).uint32(0)
}

func TestSFTPIsStrict(t *testing.T) {
	t.Parallel()
	for what, input := range map[string]string{
		"no init":            string(newPacket(fxpStat, 1).string(".").bytes()),
		"an empty packet":    newScript().String() + "\x00\x00\x00\x00",
		"a huge packet":      newScript().String() + "\xff\xff\xff\xff",
		"a short id":         newScript().String() + "\x00\x00\x00\x02\x11\x00",
		"bytes after it":     newScript().packet(newPacket(fxpStat, 1).string(".").string("x")).String(),
		"a short string":     newScript().packet(newPacket(fxpStat, 1).uint32(100)).String(),
		"unknown attributes": newScript().packet(newPacket(fxpSetstat, 1).string(".").uint32(0x40)).String(),
		"short attributes":   newScript().packet(newPacket(fxpSetstat, 1).string(".").uint32(attrSize)).String(),
		"half a packet":      newScript().String() + "\x00\x00\x00\x09\x11",
	} {
		if err := serveSFTP(t.Context(), strings.NewReader(input), io.Discard, newMemory(), testLimit, func(string) {}); err == nil {
			t.Errorf("%s was obeyed", what)
		}
	}
}

func TestSFTPHandles(t *testing.T) {
	t.Parallel()
	s := newScript()
	for range maxHandles + 1 {
		s.packet(openForWriting("a"))
	}
	s.packet(newPacket(fxpWrite, 2).string("3").uint64(5).string("x"))      // a hole
	s.packet(newPacket(fxpWrite, 3).string("1").uint64(0).string("hello!")) //
	s.packet(newPacket(fxpWrite, 4).string("1").uint64(1).string("E"))      // within
	s.packet(newPacket(fxpWrite, 5).string("4").uint64(1 << 63).string("x"))
	s.packet(newPacket(fxpRead, 6).string("1").uint64(0).uint32(5)) // not for reading
	s.packet(newPacket(fxpClose, 7).string("1"))
	s.packet(newPacket(fxpClose, 8).string("1")) // is closed
	s.packet(newPacket(fxpReaddir, 9).string("2"))
	s.packet(newPacket(fxpClose, 3).string("3")) // with a hole
	s.packet(newPacket(fxpExtended, 10).string("posix-rename@openssh.com"))
	s.packet(newPacket(99, 11))
	var out bytes.Buffer
	files := newMemory()
	must(t, serveSFTP(t.Context(), s, &out, files, testLimit, func(string) {}))
	var got []uint32
	for {
		kind, body, err := readPacket(&out)
		if err != nil {
			break
		}
		f := &fields{rest: body}
		if id := f.uint32(); kind == fxpStatus && id > 1 {
			got = append(got, f.uint32())
		} else if kind == fxpStatus {
			t.Log("the handle too much:", f.uint32())
		}
	}
	if want := []uint32{fxFailure, fxOK, fxOK, fxFailure, fxFailure, fxOK, fxFailure, fxFailure, fxFailure, fxUnsupported, fxUnsupported}; !slices.Equal(got, want) {
		t.Errorf("answered %v, want %v", got, want)
	}
	if files.get("a") != "hEllo!" {
		t.Errorf("a holds %q", files.get("a"))
	}
}

func FuzzSFTP(f *testing.F) {
	s := newScript().packet(openForWriting("a")).packet(newPacket(fxpWrite, 2).string("1").uint64(0).string("x")).packet(newPacket(fxpClose, 3).string("1"))
	f.Add(s.Bytes()[9:])
	f.Add(newPacket(fxpOpendir, 1).string("/").bytes())
	f.Add(newPacket(fxpReaddir, 1).string("1").bytes())
	f.Add(newPacket(fxpRealpath, 1).string("./x").bytes())
	f.Add(newPacket(fxpSetstat, 1).string("x").uint32(0x8000000f).uint64(1).uint64(1).uint32(1).uint64(1).uint32(1).string("a").string("b").bytes())
	f.Fuzz(func(t *testing.T, input []byte) {
		in := newScript()
		in.Write(input)
		files := newMemory()
		_ = serveSFTP(t.Context(), in, io.Discard, files, testLimit, func(string) {})
		checkFiles(t, files)
	})
}

func FuzzFileName(f *testing.F) {
	for _, path := range []string{"a", "./a", "/a", "..", "../a", "/./a", "a/b", "\x1b", "a\u202e", "//a", "./../a", "fe80::1.pem"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		name, err := fileName(path)
		if err != nil {
			return
		}
		if strings.ContainsAny(name, "/\\\x00\x1b\n") || strings.HasPrefix(name, ".") || name == "" {
			t.Errorf("%q means %q", path, name)
		}
		if again, err := fileName(name); err != nil || again != name {
			t.Errorf("%q means %q means %q, %v", path, name, again, err)
		}
	})
}
