package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"moongate/internal/durable"
)

// A disk is what the log changes files through, so that a test can make each
// step fail. Reading needs no seam: what is read is judged by its hashes.
type disk interface {
	// openAppend opens path for appending and creates it; its name is
	// permanent afterwards.
	openAppend(path string) (appendFile, error)
	// openInPlace opens a file that exists for writing at offsets.
	openInPlace(path string) (placeFile, error)
	// writeFile replaces a file as durable.WriteFile does.
	writeFile(path string, data []byte, perm fs.FileMode) error
	// rename and remove are permanent when they return nil.
	rename(from, to string) error
	remove(path string) error
	mkdir(path string) error
}

// An appendFile grows at its end. Each Write lands whole there or fails, and
// may leave a part of it behind then. Sync makes permanent what was written
// before; Truncate cuts the file and syncs it.
type appendFile interface {
	io.WriteCloser
	Sync() error
	Truncate(size int64) error
}

// A placeFile is changed where it is, so that it needs no new room.
type placeFile interface {
	io.WriterAt
	io.Closer
	Sync() error
}

// osDisk is the disk of this machine.
type osDisk struct{}

func (osDisk) openAppend(path string) (appendFile, error) {
	f, err := durable.OpenAppend(path, 0o600)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

func (osDisk) openInPlace(path string) (placeFile, error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("opening: %w", err)
	}
	return diskFile{f}, nil
}

func (osDisk) writeFile(path string, data []byte, perm fs.FileMode) error {
	return durable.WriteFile(path, data, perm)
}

func (osDisk) rename(from, to string) error { return durable.Rename(from, to) }

func (osDisk) remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing: %w", err)
	}
	return durable.SyncDir(filepath.Dir(path))
}

func (osDisk) mkdir(path string) error { return durable.Mkdir(path) }

// diskFile syncs an *os.File without waiting for its time stamps.
type diskFile struct{ *os.File }

func (f diskFile) Sync() error { return durable.SyncData(f.File) }

// Truncate never makes a file longer: bytes that were written and are not
// there any more are a loss, and zeros in their place would hide it.
func (f diskFile) Truncate(size int64) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("cutting file: %w", err)
	}
	if info.Size() < size {
		return fmt.Errorf("cutting file: %s has %d bytes, and %d were written", f.Name(), info.Size(), size)
	}
	return durable.Truncate(f.File, size)
}
