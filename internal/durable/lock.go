package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// ErrLocked is matched by the error of [NewLock] when another process, or this
// one, holds the lock.
var ErrLocked = errors.New("locked")

// A LockedError says who holds a lock. It matches [ErrLocked].
type LockedError struct {
	Path string
	PID  int // the holder's process id in its own PID namespace; 0 if it is not known
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%s is locked by another process", e.Path)
	}
	return fmt.Sprintf("%s is locked by process %d", e.Path, e.PID)
}

func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// A Lock is an exclusive lock between processes: flock(2) on a file that holds
// the owner's PID as a line, for people to read. The kernel drops the lock
// when its owner dies, so a file that remains says nothing: only flock does.
type Lock struct {
	f *os.File
}

// NewLock takes the lock at path and creates the file, mode 0600, if need be.
// It does not wait: when the lock is held, the error is a [*LockedError].
func NewLock(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening lock: %w", err)
	}
	if err := flock(f); errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, errors.Join(&LockedError{Path: path, PID: readPID(f)}, f.Close())
	} else if err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", path, err), f.Close())
	}
	if err := writePID(f); err != nil {
		return nil, errors.Join(fmt.Errorf("writing lock: %w", err), f.Close())
	}
	return &Lock{f: f}, nil
}

// Unlock gives the lock back. The file stays: removing it would let two
// processes hold locks on two files of one name. The lock is released by name,
// not by closing alone: a child that is being started holds the file too,
// between its fork and its exec.
func (l *Lock) Unlock() error {
	if err := errors.Join(l.f.Truncate(0), syscall.Flock(int(l.f.Fd()), syscall.LOCK_UN), l.f.Close()); err != nil {
		return fmt.Errorf("unlocking: %w", err)
	}
	return nil
}

func flock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err != syscall.EINTR {
			return err
		}
	}
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// readPID is 0 while the holder has not written its line yet.
func readPID(f *os.File) int {
	line, err := io.ReadAll(io.NewSectionReader(f, 0, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSuffix(string(line), "\n"))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}
