// Package failing makes this process's system calls on files fail, one at a
// time, as a failing or full disk makes them: for tests, on Linux. It works by a
// seccomp filter that asks a goroutine of the same process (seccomp_unotify(2)),
// so that nothing in between needs a seam for it, and cannot be taken back: a
// test runs itself as a child for it.
//
// What it cannot do: lose what was acknowledged, as a power cut with a lying
// disk does, or fail what happens through a mapping of a file.
package failing

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Fault says which call fails, and how.
type Fault struct {
	// Dir: calls on files in or below it count.
	Dir string
	// Nth is the call that fails, from 1, counted over all kinds of calls.
	Nth int
	// Errno is what it fails with. Short has a write do half of its work
	// instead, and the next call fail with Errno.
	Errno syscall.Errno
	Short bool
	// Sticky has all later calls fail, too.
	Sticky bool
}

// Calls is what Install has seen.
type Calls struct {
	failed chan int
}

// Failed returns how many calls failed so far.
func (c *Calls) Failed() int { return <-c.failed }

// intercepted are the calls by which Go's os package and bbolt change files.
// The value is which argument says the file: a descriptor, or a path where it is
// negative (of argument -n).
var intercepted = map[uint32]int{
	unix.SYS_WRITE: 0, unix.SYS_PWRITE64: 0, unix.SYS_FSYNC: 0, unix.SYS_FDATASYNC: 0, unix.SYS_FTRUNCATE: 0,
	unix.SYS_RENAMEAT: -1, unix.SYS_LINKAT: -3, unix.SYS_UNLINKAT: -1, unix.SYS_FCHMOD: 0,
}

const (
	filterTSync, filterNewListener, filterTSyncESRCH = 1, 8, 16

	notifRecv = 0xc0502100 // SECCOMP_IOCTL_NOTIF_RECV
	notifSend = 0xc0182101 // SECCOMP_IOCTL_NOTIF_SEND
	goOn      = 1          // SECCOMP_USER_NOTIF_FLAG_CONTINUE
)

// notification and answer are seccomp_notif and seccomp_notif_resp.
type notification struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type answer struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

// Install begins with the fault, for the rest of the process's life.
func Install(fault Fault) (*Calls, error) {
	dir, err := filepath.EvalSymlinks(fault.Dir)
	if err != nil {
		return nil, err
	}
	fault.Dir = dir
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("failing: %w", err)
	}
	program := filter()
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	listener, _, errno := syscall.Syscall(unix.SYS_SECCOMP, 1 /* SECCOMP_SET_MODE_FILTER */, filterTSync|filterNewListener|filterTSyncESRCH, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return nil, fmt.Errorf("failing: installing the filter: %w", errno)
	}
	calls := &Calls{failed: make(chan int)}
	type event struct {
		n   notification
		err error
	}
	events := make(chan event)
	go func() { // for the rest of the process's life, as the filter
		for {
			var e event
			e.err = ioctl(listener, notifRecv, unsafe.Pointer(&e.n))
			events <- e
		}
	}()
	go func() {
		count, failed, cut := 0, 0, false
		for {
			select {
			case calls.failed <- failed:
			case e := <-events:
				if errors.Is(e.err, syscall.ENOENT) {
					continue // the thread went away
				} else if e.err != nil {
					panic("failing: receiving: " + e.err.Error())
				}
				reply := answer{id: e.n.id, flags: goOn}
				if fault.counts(&e.n) {
					count++
					switch {
					case count == fault.Nth && fault.Short && e.n.nr == unix.SYS_PWRITE64:
						reply.flags, reply.val, cut = 0, writeHalf(&e.n), true
						failed++
					case count == fault.Nth, cut, fault.Sticky && count > fault.Nth:
						reply.flags, reply.err, cut = 0, -int32(fault.Errno), false
						failed++
					}
				}
				if err := ioctl(listener, notifSend, unsafe.Pointer(&reply)); err != nil && !errors.Is(err, syscall.ENOENT) {
					panic("failing: answering: " + err.Error())
				}
			}
		}
	}()
	return calls, nil
}

// filter asks about the intercepted calls and allows the others. A write to
// standard output or error is allowed: a panic of who would be asked is one.
func filter() []unix.SockFilter {
	const notify, allow = 0x7fc00000, 0x7fff0000
	const nr, firstArgument = 0, 16 // in seccomp_data
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: nr},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_WRITE, Jf: 4},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: firstArgument},
		{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, K: 2, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: allow},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: nr},
	}
	for nr := range intercepted {
		program = append(program,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: notify})
	}
	return append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: allow})
}

// counts reports whether a call is on a file below the directory.
func (f *Fault) counts(n *notification) bool {
	var path string
	if at := intercepted[uint32(n.nr)]; at >= 0 {
		// The same process: its descriptors are ours.
		path, _ = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", n.args[at]))
		path = strings.TrimSuffix(path, " (deleted)")
	} else {
		path = textAt(uintptr(n.args[-at]))
	}
	return path == f.Dir || strings.HasPrefix(path, f.Dir+"/")
}

// memory copies memory of the goroutine that waits for us, by the kernel: the
// race detector does not know that it waits.
func memory(at uintptr, size int) []byte {
	b := make([]byte, size)
	n, err := unix.ProcessVMReadv(os.Getpid(), []unix.Iovec{{Base: &b[0], Len: uint64(size)}}, []unix.RemoteIovec{{Base: at, Len: size}}, 0)
	if err != nil {
		panic("failing: reading memory: " + err.Error())
	}
	return b[:n]
}

// textAt reads a text that ends in a zero byte, and nothing of the page behind.
func textAt(at uintptr) string {
	var text []byte
	for page := uintptr(os.Getpagesize()); ; {
		part := memory(at, int(page-at%page))
		if end := bytes.IndexByte(part, 0); end >= 0 {
			return string(append(text, part[:end]...))
		}
		text, at = append(text, part...), at+uintptr(len(part))
	}
}

// writeHalf does the first half of a pwrite64, by a call that is not asked
// about.
func writeHalf(n *notification) int64 {
	half := memory(uintptr(n.args[1]), int(n.args[2]/2))
	done, err := unix.Pwritev(int(n.args[0]), [][]byte{half}, int64(n.args[3]))
	if err != nil {
		panic("failing: writing half: " + err.Error())
	}
	return int64(done)
}

func ioctl(fd, request uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(arg))
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			return errno
		}
		return nil
	}
}
