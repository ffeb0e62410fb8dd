// Package backup writes the files of a gateway into one file that a passphrase
// opens, and makes files of it again. It knows no gateway: what goes in is its
// caller's choice.
package backup

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"moongate/internal/durable"
	"moongate/internal/passphrase"
)

// bounds of what is read back.
const (
	maxFiles = 100_000
	maxTotal = 64 << 30 // bytes
	maxNote  = 1 << 20
)

// Writer writes a backup. Close makes it whole.
type Writer struct {
	sealed *sealer
	zip    *gzip.Writer
	tar    *tar.Writer
}

// NewWriter begins a backup, sealed under a passphrase (CheckPassphrase).
func NewWriter(w io.Writer, pass []byte) (*Writer, error) { return newWriter(w, pass, passphrase.File) }

func newWriter(w io.Writer, pass []byte, cost passphrase.Cost) (*Writer, error) {
	s, err := newSealer(w, pass, cost)
	if err != nil {
		return nil, err
	}
	zip := gzip.NewWriter(s)
	return &Writer{s, zip, tar.NewWriter(zip)}, nil
}

// Add writes one file. Its name is a path below the directory that it will be
// restored to, with slashes; mode has its permissions.
func (w *Writer) Add(name string, mode fs.FileMode, modified time.Time, contents []byte) error {
	return w.add(name, mode, modified, int64(len(contents)), bytes.NewReader(contents))
}

func (w *Writer) add(name string, mode fs.FileMode, modified time.Time, size int64, r io.Reader) error {
	if !fs.ValidPath(name) || name == "." {
		return fmt.Errorf("backup: %q is no name of a file", name)
	}
	err := w.tar.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Mode: int64(mode.Perm()), Size: size, ModTime: modified, Format: tar.FormatPAX,
	})
	if err != nil {
		return err
	}
	n, err := io.Copy(w.tar, io.LimitReader(r, size))
	if err == nil && n < size {
		err = fmt.Errorf("%s became shorter while it was read", name)
	}
	return err
}

// AddFile writes a file that lies on the disk. One that grows meanwhile is
// taken as long as it was.
func (w *Writer) AddFile(name, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("backup: %s is no regular file", from)
	}
	return w.add(name, info.Mode(), info.ModTime(), info.Size(), f)
}

// AddTree writes the regular files below a directory; skip says which ones are
// left out. A directory that is not there has no files.
func (w *Writer) AddTree(name, from string, skip func(path string) bool) error {
	return filepath.WalkDir(from, func(p string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		if !e.Type().IsRegular() || skip(p) {
			return nil
		}
		below, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		return w.AddFile(path.Join(name, filepath.ToSlash(below)), p)
	})
}

// Close writes the end. The writer below stays open.
func (w *Writer) Close() error {
	return errors.Join(w.tar.Close(), w.zip.Close(), w.sealed.Close())
}

// Reader reads a backup, file by file.
type Reader struct {
	opened *opener
	tar    *tar.Reader
	total  int64
	files  int
}

// NewReader opens a backup. ErrPassphrase comes from here or from Next.
func NewReader(r io.Reader, pass []byte) (*Reader, error) {
	o, err := newOpener(r, pass)
	if err != nil {
		return nil, err
	}
	zip, err := gzip.NewReader(o)
	if err != nil {
		return nil, readError(err)
	}
	return &Reader{opened: o, tar: tar.NewReader(zip)}, nil
}

// File is one of a backup's; its contents are read before the next one.
type File struct {
	Name     string
	Mode     fs.FileMode
	Size     int64
	Modified time.Time
	io.Reader
}

// Next returns the next file; io.EOF after the last, when the backup is known
// to be whole.
func (r *Reader) Next() (*File, error) {
	h, err := r.tar.Next()
	if errors.Is(err, io.EOF) {
		// What follows the archive's end is of the sealed stream: its end.
		if _, err := io.Copy(io.Discard, r.opened); err != nil {
			return nil, readError(err)
		}
		return nil, io.EOF
	} else if err != nil {
		return nil, readError(err)
	}
	r.files++
	r.total += h.Size
	if h.Typeflag != tar.TypeReg || !fs.ValidPath(h.Name) || h.Name == "." || strings.Contains(h.Name, "\\") {
		return nil, fmt.Errorf("the backup holds %q, which is no file of a gateway", h.Name)
	}
	if r.files > maxFiles || r.total > maxTotal {
		return nil, fmt.Errorf("the backup holds more than %d files or %d bytes", maxFiles, int64(maxTotal))
	}
	return &File{Name: h.Name, Mode: h.FileInfo().Mode().Perm(), Size: h.Size, Modified: h.ModTime, Reader: r.tar}, nil
}

func readError(err error) error {
	if errors.Is(err, ErrPassphrase) {
		return ErrPassphrase
	}
	return fmt.Errorf("the backup is damaged: %w", err)
}

// Verify reads a backup to its end and returns how many files it has.
func Verify(r io.Reader, pass []byte) (int, error) {
	b, err := NewReader(r, pass)
	if err != nil {
		return 0, err
	}
	for n := 0; ; n++ {
		f, err := b.Next()
		if errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return 0, err
		}
		if _, err := io.Copy(io.Discard, f); err != nil {
			return 0, readError(err)
		}
	}
}

// Extract writes the files of a backup below a directory, which is there and
// empty, and hands those that held names to take instead. Nothing is written
// outside of it.
func Extract(r io.Reader, pass []byte, dir string, take map[string]func([]byte) error) error {
	b, err := NewReader(r, pass)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for {
		f, err := b.Next()
		if errors.Is(err, io.EOF) {
			return syncTree(dir)
		} else if err != nil {
			return err
		}
		if own := take[f.Name]; own != nil {
			contents, err := io.ReadAll(io.LimitReader(f, maxNote))
			if err != nil {
				return readError(err)
			}
			err = own(contents)
			clear(contents)
			if err != nil {
				return err
			}
			continue
		}
		if err := write(root, f); err != nil {
			return fmt.Errorf("writing %s: %w", f.Name, err)
		}
	}
}

func write(root *os.Root, f *File) (err error) {
	if dir := path.Dir(f.Name); dir != "." {
		if err := root.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	w, err := root.OpenFile(f.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, f.Mode.Perm())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if _, err := io.Copy(w, f); err != nil {
		return readError(err)
	}
	if err := w.Chmod(f.Mode.Perm()); err != nil {
		return err
	}
	return w.Sync()
}

// syncTree makes the names below a directory permanent.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		return durable.SyncDir(p)
	})
}
