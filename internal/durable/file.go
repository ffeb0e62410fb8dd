// Package durable changes files so that a crash leaves the old state or the
// new one, and keeps a second process away from them.
//
// "Crash" means, in every comment here, a kill -9, a kernel panic or a power
// cut, on a POSIX file system whose fsync reaches stable storage. A disk that
// acknowledges a flush that it did not make can undo anything promised here.
//
// A function that returns nil has made its change permanent. One that returns
// an error says in its comment what may remain.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// tempPrefix and tempSuffix mark the files that [WriteFile] works in.
const (
	tempPrefix = ".durable-"
	tempSuffix = ".tmp"
)

// WriteFile replaces the contents of path with data, and sets its permissions
// to perm exactly (the umask does not apply). Readers see the old file or the
// new one, never a mixture, and so does whoever comes after a crash.
//
// If it fails before the rename, the old file is untouched and the temporary
// file is removed. If the last step fails, the fsync of the directory, then
// the new contents are in place for every reader, but a crash may bring the
// old ones back, whole.
//
// A crash in the middle may leave a temporary file in the directory, with the
// permissions perm and some or all of data; [RemoveTemps] clears it away. Two
// concurrent calls for one path are safe; one of them wins.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	dir, base := filepath.Split(path)
	f, err := os.CreateTemp(filepath.Clean(dir), tempPrefix+base+"-*"+tempSuffix)
	if err != nil {
		return fmt.Errorf("creating temporary file: %w", err)
	}
	if err := fill(f, data, perm); err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", path, err), os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return errors.Join(fmt.Errorf("replacing %s: %w", path, err), os.Remove(f.Name()))
	}
	return SyncDir(filepath.Dir(path))
}

// fill writes f, syncs it and closes it.
func fill(f *os.File, data []byte, perm fs.FileMode) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Chmod(perm)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// RemoveTemps removes from dir what crashed calls of [WriteFile] left there.
// The caller must know, by holding a [Lock], that none is at work now.
func RemoveTemps(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("listing temporary files: %w", err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix) || !strings.HasSuffix(e.Name(), tempSuffix) || !e.Type().IsRegular() {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("removing temporary file: %w", err)
		}
	}
	return nil
}

// Mkdir makes the directory path, mode 0700, in a parent that exists, and
// fsyncs the parent. A directory that is there already is kept as it is, but
// its entry is fsynced all the same: a crash may have come between. Anything
// else at that path is an error that matches [fs.ErrExist].
func Mkdir(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		info, statErr := os.Stat(path)
		if !errors.Is(err, fs.ErrExist) || statErr != nil || !info.IsDir() {
			return fmt.Errorf("making directory: %w", err)
		}
	}
	return SyncDir(filepath.Dir(filepath.Clean(path)))
}

// OpenAppend opens path for reading and for appending, creates it with perm if
// it is missing, and fsyncs its directory, so that what is later written and
// fsynced cannot be lost together with the file's name. The contents of the
// file itself are not fsynced.
func OpenAppend(path string, perm fs.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, perm)
	if err != nil {
		return nil, fmt.Errorf("opening for append: %w", err)
	}
	if err := SyncDir(filepath.Dir(path)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Truncate cuts f to size bytes and fsyncs it: the way to drop the torn tail
// of an append-only file before anything is appended after it. A crash leaves
// the old size or the new one.
func Truncate(f *os.File, size int64) error {
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("cutting file: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("syncing cut file: %w", err)
	}
	return nil
}

// Rename moves oldpath to newpath, replacing a file there, and fsyncs both
// directories. It does not fsync the file itself. A crash leaves it at the old
// name, at the new one, or (when the directories differ, on file systems that
// do not journal a rename as one change) at both.
func Rename(oldpath, newpath string) error {
	if err := os.Rename(oldpath, newpath); err != nil {
		return fmt.Errorf("renaming: %w", err)
	}
	// The new name first: a file may be seen twice, but is never nowhere.
	to, from := filepath.Dir(newpath), filepath.Dir(oldpath)
	if err := SyncDir(to); err != nil {
		return err
	}
	if from == to {
		return nil
	}
	return SyncDir(from)
}

// SyncDir makes the entries of the directory path permanent: names created,
// renamed or removed in it before the call survive a crash after it.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("opening directory to sync: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("syncing directory %s: %w", path, err)
	}
	return nil
}

// SyncData makes the contents of f and its size permanent, as fdatasync(2):
// unlike [os.File.Sync] it does not wait for the time stamps. After an error
// nothing is known of what was written since the last success; the kernel may
// have dropped it, and a second call may report success all the same. Treat
// the file as broken.
func SyncData(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("syncing data: %w", err)
	}
	var syncErr error
	err = raw.Control(func(fd uintptr) {
		for {
			if syncErr = syscall.Fdatasync(int(fd)); syncErr != syscall.EINTR {
				return
			}
		}
	})
	if err := errors.Join(err, syncErr); err != nil {
		return fmt.Errorf("syncing data of %s: %w", f.Name(), err)
	}
	return nil
}
