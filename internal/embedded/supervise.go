package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// A process that dies is started again after restartMin, twice as long after
// each further death, restartMax at most; one that lived for a while begins at
// restartMin again. stopGrace is how long a stop may take before a kill.
const (
	restartMin = 100 * time.Millisecond
	restartMax = 5 * time.Second
	settled    = 30 * time.Second
	stopGrace  = 8 * time.Second
)

// program is one supervised process.
type program struct {
	name string
	path string
	args []string
	// user is who it runs as; nil for the supervisor's own user.
	user *user
	// log gets what it prints on standard error, and is closed when run
	// returns.
	log    *messages
	logger *slog.Logger

	pid atomic.Int64 // of the newest process
}

// run keeps the program running until ctx is done, then stops it and waits.
// ready gets the first "listening" line of each start; the first start that
// fails before it ends run, since nothing would be different the next time.
func (p *program) run(ctx context.Context, ready func(line string)) error {
	defer p.log.Close()
	delay, once := restartMin, false
	for {
		began := time.Now()
		err := p.start(ctx, func(line string) {
			once = true
			ready(line)
		})
		if ctx.Err() != nil {
			return nil
		}
		if !once {
			return fmt.Errorf("%s did not start: %w\n%s", p.name, err, p.log.said())
		}
		if time.Since(began) > settled {
			delay = restartMin
		}
		p.logger.Warn("process ended; it is started again", "process", p.name, "err", err, "in", delay)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay):
		}
		delay = min(2*delay, restartMax)
	}
}

// start runs the program once, until it ends, on one thread: the kernel sends
// the death signal (prctl(2), PR_SET_PDEATHSIG) when the thread that made the
// child ends.
func (p *program) start(ctx context.Context, ready func(string)) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, p.path, p.args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopGrace
	cmd.Env = append(os.Environ(), "GOTRACEBACK=none")
	cmd.Stderr = p.log
	// It dies with its supervisor, even when that one is killed. A terminal's
	// Ctrl-C reaches the supervisor alone, which stops things in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	if p.user != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: p.user.uid, Gid: p.user.gid}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if before := p.pid.Swap(int64(cmd.Process.Pid)); before != 0 {
		p.logger.Info("process started again", "process", p.name, "pid", cmd.Process.Pid)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if line := lines.Text(); strings.HasPrefix(line, "listening ") {
			ready(line)
		}
	}
	_, _ = io.Copy(io.Discard, out) // after a line that was too long; it must not block
	if err := cmd.Wait(); err != nil {
		return err
	}
	return errors.New("it ended")
}
