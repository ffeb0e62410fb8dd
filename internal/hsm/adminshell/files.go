package adminshell

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// WithFiles is a terminal of this machine, with the files of this process's
// user: what a command that opens a stopped HSM itself runs over.
func WithFiles(term Terminal) Terminal { return withFiles{term} }

type withFiles struct{ Terminal }

func (withFiles) Create(path string) (Output, error)      { return createFile(path) }
func (withFiles) Open(path string) (io.ReadCloser, error) { return openFile(path) }

// newFile is a file being made, under another name until it is whole.
type newFile struct {
	*os.File
	path string
}

var errFileExists = errors.New("the file is there already; choose another name")

// createFile begins a file of mode 0600 where there is none.
func createFile(path string) (*newFile, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, errFileExists
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, cause(err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.part")
	if err != nil {
		return nil, cause(err)
	}
	return &newFile{f, path}, nil
}

// Commit puts the file on disk, then under its name.
func (f *newFile) Commit() error {
	err := errors.Join(f.Sync(), f.Close())
	if err == nil {
		err = renameNew(f.Name(), f.path)
	}
	if err != nil {
		os.Remove(f.Name())
		return cause(err)
	}
	dir, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return cause(err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// renameNew renames where nothing has the new name. A file system that cannot
// promise that is asked first.
func renameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		if _, err := os.Lstat(to); err == nil {
			return errFileExists
		}
		return os.Rename(from, to)
	}
	if errors.Is(err, unix.EEXIST) {
		return errFileExists
	}
	return err
}

// Abort leaves nothing behind.
func (f *newFile) Abort() {
	f.Close()
	os.Remove(f.Name())
}

func openFile(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, cause(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("it is no file but %v", info.Mode().Type())
	}
	if err != nil {
		f.Close()
		return nil, cause(err)
	}
	return f, nil
}

// cause is an error without the path, which the command line has named.
func cause(err error) error {
	if at, is := errors.AsType[*fs.PathError](err); is {
		return at.Err
	}
	return err
}
