package world

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	readyWithin = 20 * time.Second
	stopWithin  = 10 * time.Second
	// maxLog is how much of what a process prints is kept, the newest.
	maxLog = 1 << 20
)

// Process is one of the product's programs, running as a child. It is killed
// when this process dies.
type Process struct {
	PID int

	cmd    *exec.Cmd
	log    *processLog
	exited chan struct{} // closed when it has ended
	err    error         // how; to be read after exited
}

// startProcess starts a program on a host and waits until ready recognises a
// line of its output, of either stream. env is added to this process's
// environment.
func startProcess(ctx context.Context, on *Host, env []string, ready func(line string) bool, program string, args ...string) (*Process, error) {
	p := &Process{cmd: exec.Command(program, args...), log: newProcessLog(ready), exited: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// Descendants that keep the output open do not keep Wait.
	p.cmd.WaitDelay = stopWithin
	started := make(chan error, 1)
	go p.live(on, started)
	err := <-started
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	timeout := time.NewTimer(readyWithin)
	defer timeout.Stop()
	select {
	case <-p.log.seen:
		return p, nil
	case <-p.exited:
		err = fmt.Errorf("it ended by itself: %v", p.err)
	case <-ctx.Done():
		err = ctx.Err()
	case <-timeout.C:
		err = fmt.Errorf("it was not ready within %v", readyWithin)
	}
	p.Kill9()
	return nil, fmt.Errorf("starting %s: %w\n%s", program, err, p.Log())
}

// live starts the process and waits for its end, on one thread: the kernel
// sends the death signal (prctl(2), PR_SET_PDEATHSIG) when the thread that made
// the child ends, and so that thread has to last. It is not unlocked: a thread
// in a host's namespace is of no further use.
func (p *Process) live(on *Host, started chan<- error) {
	runtime.LockOSThread()
	if err := on.namespace().enter(); err != nil {
		started <- err
		return
	}
	if err := p.cmd.Start(); err != nil {
		started <- err
		return
	}
	p.PID = p.cmd.Process.Pid
	started <- nil
	p.err = p.cmd.Wait()
	close(p.exited)
}

// Kill9 ends the process at once, as a crash would, and waits for its end.
func (p *Process) Kill9() {
	p.cmd.Process.Kill() // fails only where it has ended
	<-p.exited
}

// Freeze stops the process where it is (SIGSTOP): its sockets stay open and
// nobody answers. Thaw ends that.
func (p *Process) Freeze() error { return p.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw lets a frozen process go on.
func (p *Process) Thaw() error { return p.cmd.Process.Signal(syscall.SIGCONT) }

// Stop ends the process in order and waits for its end. The error says that it
// ended with a failure, or had to be killed.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); errors.Is(err, os.ErrProcessDone) {
		<-p.exited
		return p.ended()
	} else if err != nil {
		return fmt.Errorf("stopping process %d: %w", p.PID, err)
	}
	select {
	case <-p.exited:
		return p.ended()
	case <-time.After(stopWithin):
		p.Kill9()
		return fmt.Errorf("process %d did not stop within %v and was killed\n%s", p.PID, stopWithin, p.Log())
	}
}

func (p *Process) ended() error {
	if p.err == nil {
		return nil
	}
	return fmt.Errorf("process %d ended: %w\n%s", p.PID, p.err, p.Log())
}

// Running reports whether it has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Log returns what the process has printed, its last part where that is long.
func (p *Process) Log() string { return p.log.text() }

// processLog keeps what a process prints and looks for the line that says that
// it is ready.
type processLog struct {
	ready func(line string) bool
	seen  chan struct{} // closed when ready was true

	mu     sync.Mutex
	kept   []byte // guarded by mu
	rest   []byte // of the line that is not complete; guarded by mu
	isSeen bool   // guarded by mu
}

func newProcessLog(ready func(string) bool) *processLog {
	return &processLog{ready: ready, seen: make(chan struct{})}
}

func (l *processLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, b...)
	if len(l.kept) > 2*maxLog {
		l.kept = append([]byte("...\n"), l.kept[len(l.kept)-maxLog:]...)
	}
	if l.isSeen {
		return len(b), nil
	}
	l.rest = append(l.rest, b...)
	for {
		line, rest, whole := bytes.Cut(l.rest, []byte("\n"))
		if !whole {
			return len(b), nil
		}
		l.rest = rest
		if l.ready(strings.TrimRight(string(line), "\r")) {
			l.isSeen, l.rest = true, nil
			close(l.seen)
			return len(b), nil
		}
	}
}

func (l *processLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.kept)
}

// runIn runs a program to its end in a directory. It returns what the program
// printed on both streams.
func runIn(ctx context.Context, dir string, env []string, input, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env, cmd.Stdin = dir, append(os.Environ(), env...), strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// run runs a program to its end with the given standard input. It returns
// standard output; the error has both streams.
func run(ctx context.Context, input, program string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s%s", program, strings.Join(args, " "), err, &stdout, &stderr)
	}
	return stdout.String(), nil
}
