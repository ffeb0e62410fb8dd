package audit

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"testing"
)

// A faultDisk is a disk whose steps fail as a test wants. It fsyncs nothing.
type faultDisk struct {
	mu     sync.Mutex
	steps  int            // taken so far
	fail   func(int) bool // whether the step of that number fails
	errno  error          // with what
	free   int64          // bytes left; -1 for no end
	forget bool           // an fsync that fails has lost what it should have synced
	files  map[string]*faultState
}

// A faultState is what the disk, other than the page cache, has of a file.
type faultState struct {
	synced int64 // bytes that a good fsync covered
	// Bytes that an fsync failed for and that were not written since: they can
	// be read, and are not on the disk.
	poisonFrom, poisonTo int64
}

func newFaultDisk() *faultDisk {
	return &faultDisk{fail: func(int) bool { return false }, free: -1, files: map[string]*faultState{}}
}

// failAt makes the steps from number n to n+length-1 fail.
func (d *faultDisk) failAt(n, length int, errno error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.errno = errno
	d.fail = func(step int) bool { return step >= n && step < n+length }
}

func (d *faultDisk) heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = func(int) bool { return false }
	d.free = -1
}

// step is the error of the next step. The caller holds mu.
func (d *faultDisk) step() error {
	d.steps++
	if d.fail(d.steps - 1) {
		return d.errno
	}
	return nil
}

// use takes n bytes of the room; it says how many there are. The caller holds mu.
func (d *faultDisk) use(n int64) int64 {
	if d.free < 0 {
		return n
	}
	n = min(n, d.free)
	d.free -= n
	return n
}

func (d *faultDisk) state(path string) *faultState {
	if d.files[path] == nil {
		d.files[path] = &faultState{}
		if info, err := os.Stat(path); err == nil {
			d.files[path].synced = info.Size()
		}
	}
	return d.files[path]
}

// powerCut makes the files what the disk has of them.
func (d *faultDisk) powerCut(t *testing.T) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for path, s := range d.files {
		if s.poisonFrom < s.poisonTo {
			zero(path, s.poisonFrom, s.poisonTo)
		}
	}
}

func zero(path string, from, to int64) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return // removed since
	}
	defer f.Close()
	f.WriteAt(make([]byte, to-from), from)
}

type faultFile struct {
	*os.File
	d    *faultDisk
	path string
}

func (d *faultDisk) openAppend(path string) (appendFile, error) {
	return d.open(path, os.O_APPEND|os.O_CREATE)
}
func (d *faultDisk) openInPlace(path string) (placeFile, error) { return d.open(path, 0) }

func (d *faultDisk) open(path string, flags int) (*faultFile, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return nil, err
	}
	d.state(path)
	f, err := os.OpenFile(path, os.O_RDWR|flags, 0o600)
	if err != nil {
		return nil, err
	}
	return &faultFile{f, d, path}, nil
}

func (f *faultFile) Write(b []byte) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.step(); err != nil {
		n, _ := f.File.Write(b[:len(b)/2]) // a short write
		return n, err
	}
	if n := f.d.use(int64(len(b))); n < int64(len(b)) {
		f.File.Write(b[:n])
		return int(n), syscall.ENOSPC
	}
	return f.File.Write(b)
}

func (f *faultFile) WriteAt(b []byte, at int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.step(); err != nil {
		n, _ := f.File.WriteAt(b[:len(b)/2], at)
		return n, err
	}
	if s := f.d.state(f.path); at <= s.poisonFrom {
		s.poisonFrom = max(s.poisonFrom, at+int64(len(b)))
	}
	return f.File.WriteAt(b, at)
}

func (f *faultFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return f.sync()
}

func (f *faultFile) sync() error {
	err := f.d.step()
	info, statErr := f.Stat()
	if statErr != nil {
		return statErr
	}
	s := f.d.state(f.path)
	if err == nil {
		s.synced = info.Size()
		return nil
	}
	if s.synced < info.Size() {
		if s.poisonFrom >= s.poisonTo {
			s.poisonFrom = s.synced
		}
		s.poisonTo = info.Size()
		if f.d.forget {
			zero(f.path, s.poisonFrom, s.poisonTo)
		}
	}
	return err
}

func (f *faultFile) Truncate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.step(); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() < size {
		return errors.New("cutting would make the file longer")
	}
	if err := f.File.Truncate(size); err != nil {
		return err
	}
	s := f.d.state(f.path)
	s.poisonTo, s.synced = min(s.poisonTo, size), min(s.synced, size)
	return f.sync()
}

func (d *faultDisk) writeFile(path string, data []byte, perm fs.FileMode) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	need := int64(len(data)) // the new one is written before the old one goes
	if d.use(need) < need {
		return syscall.ENOSPC
	}
	if old, err := os.Stat(path); err == nil && d.free >= 0 {
		d.free += old.Size()
	}
	delete(d.files, path)
	return errors.Join(os.WriteFile(path, data, perm))
}

func (d *faultDisk) rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	if d.files[from] != nil {
		d.files[to] = d.files[from]
		delete(d.files, from)
	}
	return os.Rename(from, to)
}

func (d *faultDisk) remove(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	if info, err := os.Stat(path); err == nil && d.free >= 0 {
		d.free += info.Size()
	}
	delete(d.files, path)
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (d *faultDisk) mkdir(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// memoryDir is a directory on a file system in memory where there is one: the
// tests that take thousands of steps fsync nothing anyway.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "audit-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
