// Package peer installs and runs the programs that the benchmark compares
// with: Debian packages, each started in the foreground as a child on free
// loopback ports, with a private directory, and stopped at the end.
package peer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

const (
	readyWithin = 20 * time.Second
	stopWithin  = 5 * time.Second
)

// Process is a running peer with its leash and descendants, which share a
// process group.
type Process struct {
	PID int // of the leash; the peer descends from it

	hold   io.Closer // the leash's standard input
	output *tail
	exited chan struct{} // closed by the goroutine that waits for the leash
	err    error         // how it ended; read after exited is closed
}

// Start runs a program that stays in the foreground and waits until it accepts
// connections at all the addresses. The caller must Stop it. The running
// program must call Leash when LeashCommand is its first argument.
func Start(ctx context.Context, name string, addrs []string, program string, args ...string) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	p := &Process{output: &tail{}, exited: make(chan struct{})}
	cmd := exec.Command(self, append([]string{LeashCommand, program}, args...)...)
	cmd.Stdout, cmd.Stderr = p.output, p.output
	cmd.WaitDelay = stopWithin
	// A group of its own, so that Ctrl-C on the terminal reaches the benchmark
	// alone, which then stops its peers in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.hold, err = cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("making the leash of %s: %w", name, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p.PID = cmd.Process.Pid
	go func() {
		defer close(p.exited)
		p.err = cmd.Wait()
	}()
	for _, addr := range addrs {
		if err := p.waitReady(ctx, addr); err != nil {
			p.Stop()
			return nil, fmt.Errorf("starting %s: %w\n%s", name, err, p.output)
		}
	}
	return p, nil
}

// waitReady connects until it succeeds.
func (p *Process) waitReady(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.exited:
			return fmt.Errorf("it ended before it listened on %s: %v", addr, p.err)
		case <-ctx.Done():
			return fmt.Errorf("connecting to %s: %w", addr, err)
		case <-ticker.C:
		}
	}
}

// Stop ends the process and its descendants, by force after a while, and waits.
func (p *Process) Stop() {
	p.hold.Close()
	select {
	case <-p.exited:
		return
	case <-time.After(2 * stopWithin):
	}
	syscall.Kill(-p.PID, syscall.SIGKILL)
	<-p.exited
}

// tail keeps the end of what a process prints, for the report of its failure.
type tail struct {
	mu   sync.Mutex
	data []byte // guarded by mu
}

const tailSize = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p...)
	if extra := len(t.data) - tailSize; extra > 0 {
		t.data = append(t.data[:0], t.data[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.data))
}

// FreeAddrs returns n loopback addresses that were free a moment ago: these
// programs cannot be handed a listener.
func FreeAddrs(n int) ([]string, error) {
	addrs := make([]string, n)
	for i := range addrs {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("finding a free port: %w", err)
		}
		defer listener.Close() // held until all are found, so that they differ
		addrs[i] = listener.Addr().String()
	}
	return addrs, nil
}

// WriteFiles writes each file, by path, readable by its owner alone.
func WriteFiles(files map[string][]byte) error {
	for path, data := range files {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return fmt.Errorf("writing a peer's file: %w", err)
		}
	}
	return nil
}
