package world

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace (network_namespaces(7)) without a name: it
// is gone when its file is closed and no process or socket is left in it, also
// when this process is killed. A nil namespace is this process's own.
type namespace struct{ file *os.File }

// newNamespace makes a namespace with nothing but a loopback interface in it.
func newNamespace() (*namespace, error) {
	type made struct {
		file *os.File
		err  error
	}
	result := make(chan made)
	go func() {
		// The thread is in the new namespace, and ends with this goroutine.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- made{err: fmt.Errorf("making a network namespace: %w", err)}
			return
		}
		file, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		result <- made{file, err}
	}()
	m := <-result
	if m.err != nil {
		return nil, m.err
	}
	return &namespace{m.file}, nil
}

// enter moves the calling goroutine's thread into the namespace for good. The
// goroutine must be locked to it and stay so to its end.
func (n *namespace) enter() error {
	if n == nil {
		return nil
	}
	if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("entering a network namespace: %w", err)
	}
	return nil
}

// do runs f on a thread that is in the namespace: sockets that f makes, and
// processes that it starts, are there.
func (n *namespace) do(f func() error) error {
	if n == nil {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := n.enter(); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// path names the namespace to the ip program.
func (n *namespace) path() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd())
}

// ip runs lines of the ip program (iproute2) in the namespace, and of tc where
// a line begins so.
func (n *namespace) ip(ctx context.Context, lines ...string) error {
	for _, line := range lines {
		words := strings.Fields(line)
		program := "ip"
		if words[0] == "tc" {
			program, words = "tc", words[1:]
		}
		err := n.do(func() error {
			cmd := exec.CommandContext(ctx, systemProgram(program), words...)
			var said bytes.Buffer
			cmd.Stdout, cmd.Stderr = &said, &said
			if err := cmd.Run(); err != nil {
				return fmt.Errorf("%s %s: %w: %s", program, strings.Join(words, " "), err, bytes.TrimSpace(said.Bytes()))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// systemProgram finds a program of the system's administration also where the
// path has no sbin.
func systemProgram(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path := filepath.Join(dir, name); isExecutable(path) {
			return path
		}
	}
	return name
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

func (n *namespace) close() error {
	if n == nil {
		return nil
	}
	return n.file.Close()
}
