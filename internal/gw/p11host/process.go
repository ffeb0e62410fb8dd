package p11host

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"moongate/internal/p11/handover"
)

// stopGrace is how long a stop may take before a kill.
const stopGrace = 3 * time.Second

// drainGrace is how long the pipes of a process that has ended are read.
const drainGrace = 500 * time.Millisecond

// once starts the process and returns when it has ended: for how long it
// served, and why it ended.
func (h *Host) once(ctx context.Context) (served time.Duration, err error) {
	// The kernel sends the death signal (prctl(2), PR_SET_PDEATHSIG) when the
	// thread that made the child ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	cmd := exec.Command(h.config.Program, h.arguments()...)
	cmd.Env = append(append(os.Environ(), h.config.Env...), "GOTRACEBACK=none")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	messages := &forward{log: h.config.Logger}
	cmd.Stderr = messages
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	defer in.Close()
	out, childs, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer out.Close()
	cmd.Stdout, cmd.WaitDelay = childs, drainGrace
	err = cmd.Start()
	childs.Close()
	if err != nil {
		return 0, fmt.Errorf("starting %s: %w", h.config.Program, err)
	}
	h.set(func(s *Status) { s.PID = cmd.Process.Pid })
	p := &process{host: h, cmd: cmd, in: in, events: make(chan handover.Event), gone: make(chan struct{})}
	go p.read(out)
	exited := make(chan error, 1)
	go func() {
		exited <- cmd.Wait()
		// A module may have left children that hold the pipe.
		select {
		case <-p.gone:
		case <-time.After(drainGrace):
			out.Close()
		}
	}()
	handed := make(chan error, 1)
	go func() { handed <- h.handOver(in) }()
	served, err = p.watch(ctx, handed)
	status := <-exited
	if err == nil {
		err = fmt.Errorf("moongate-p11 ended: %v%s", status, messages.last())
	}
	return served, err
}

func (h *Host) arguments() []string {
	args := []string{"serve", "-supervised", "-module", h.config.Module, "-token", h.config.Token, "-socket", h.socket}
	if h.config.UserType != "" {
		args = append(args, "-user-type", h.config.UserType)
	}
	if h.config.Sessions > 0 {
		args = append(args, "-sessions", strconv.Itoa(h.config.Sessions))
	}
	if h.config.Hang > 0 {
		args = append(args, "-hang", h.config.Hang.String())
	}
	return args
}

// handOver gives the process what is secret. Its standard input stays open: its
// end is ours.
func (h *Host) handOver(in io.Writer) error {
	pin, err := h.config.PIN()
	defer clear(pin)
	if err != nil {
		return fmt.Errorf("getting the PIN: %w", err)
	}
	return handover.WriteStart(in, handover.Start{
		PIN: pin, Certificate: h.pins.server, Key: h.pins.serverKey, Client: h.pins.client.Certificate[0],
	})
}

// process is one that runs.
type process struct {
	host   *Host
	cmd    *exec.Cmd
	in     io.Closer
	events chan handover.Event
	gone   chan struct{} // closed when its output has ended

	mu   sync.Mutex
	junk error // why its output was not understood; guarded by mu
}

// read passes on what the process says, until its output ends.
func (p *process) read(out io.Reader) {
	defer close(p.gone)
	lines := bufio.NewReader(out)
	for {
		e, err := handover.ReadEvent(lines)
		if err != nil {
			if err != io.EOF {
				p.mu.Lock()
				p.junk = err
				p.mu.Unlock()
				p.kill()
				_, _ = io.Copy(io.Discard, out)
			}
			return
		}
		p.events <- e
	}
}

func (p *process) kill() { _ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }

// watch follows a process to its end. It ends one that gives no sign of life,
// and at ctx's end or for a Restart. A nil error says that it ended by itself
// and did not say why.
func (p *process) watch(ctx context.Context, handed <-chan error) (served time.Duration, err error) {
	h := p.host
	var began time.Time // of serving
	silence := time.NewTimer(h.config.Start)
	defer silence.Stop()
	done := ctx.Done()
	for {
		select {
		case e := <-p.events:
			limit := h.config.Stall
			switch e.Kind {
			case handover.Ready:
				began = time.Now()
				h.set(func(s *Status) {
					s.State, s.Module, s.Token, s.Serial, s.Cause, s.Fix = Running, e.Module, e.Token, e.Serial, "", ""
				})
				h.config.Logger.Info("moongate-p11 serves", "module", e.Module, "token", e.Token, "serial", e.Serial, "pid", p.cmd.Process.Pid)
			case handover.Beat:
				if began.IsZero() {
					limit = 0 // loading has a limit of its own
				} else {
					h.beat(e)
				}
			case handover.End:
				if err == nil {
					err = &EndError{e.Reason, e.Cause}
				}
			}
			if limit > 0 {
				silence.Reset(limit)
			}
		case handedErr := <-handed:
			handed = nil
			// A process that has ended says itself why.
			if handedErr != nil && !errors.Is(handedErr, syscall.EPIPE) {
				err = handedErr
				p.kill()
			}
		case <-silence.C:
			limit := h.config.Stall
			if began.IsZero() {
				limit = h.config.Start
			}
			if err == nil {
				err = stalled(limit)
			}
			p.kill()
		case <-h.restart:
			err = errRestart
			p.end()
			silence.Reset(stopGrace)
		case <-done:
			done, err = nil, ctx.Err()
			p.end()
			silence.Reset(stopGrace)
		case <-p.gone:
			if !began.IsZero() {
				served = time.Since(began)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if err == nil && p.junk != nil {
				err = p.junk
			}
			return served, err
		}
	}
}

// end asks the process to stop: its input ends, and it has a signal.
func (p *process) end() {
	p.in.Close()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.cmd.Process.Signal(syscall.SIGCONT) // one that was stopped hears it too
}

func (h *Host) beat(e handover.Event) {
	h.set(func(s *Status) {
		switch {
		case e.Away:
			s.State, s.Cause, s.Fix = Away, e.Cause, "the token is opened again by itself; check that the HSM behind the module can be reached"
		case s.State == Away:
			s.State, s.Cause, s.Fix = Running, "", ""
		}
	})
}

// forward passes what the process prints on to the log, a line each, and keeps
// the last one. Of a crash it passes on what it was, and no more: the runtime's
// trace shows registers, which may hold what is secret.
type forward struct {
	log *slog.Logger

	mu      sync.Mutex
	part    []byte // of a line; guarded by mu
	line    string // the last whole one; guarded by mu
	crashed bool   // line is of a crash, and nothing after it is passed on; guarded by mu
}

const maxMessage = 4 << 10 // bytes of a line

func (f *forward) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for rest := b; len(rest) > 0 && !f.crashed; {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		if room := maxMessage - len(f.part); len(line) > room {
			line = line[:room]
		}
		f.part = append(f.part, line...)
		if whole {
			f.say(string(f.part))
			f.part = f.part[:0]
		}
		rest = after
	}
	return len(b), nil
}

// say passes on a line. mu is held.
func (f *forward) say(line string) {
	if line == "" {
		return
	}
	if level, message, rest, is := record(line); is {
		f.line = message
		f.log.Log(context.Background(), level, Program+": "+message, rest...)
		return
	}
	f.line = line
	for _, crash := range []string{"SIG", "fatal error: ", "panic: ", "runtime: "} {
		f.crashed = f.crashed || strings.HasPrefix(line, crash)
	}
	f.log.Info(Program+" says", "line", line)
}

// record reads a line of the helper's own log (log/slog.JSONHandler); what the
// module prints is none.
func record(line string) (level slog.Level, message string, rest []any, is bool) {
	var fields map[string]any
	if line[0] != '{' || json.Unmarshal([]byte(line), &fields) != nil {
		return 0, "", nil, false
	}
	word, _ := fields[slog.LevelKey].(string)
	message, _ = fields[slog.MessageKey].(string)
	if level.UnmarshalText([]byte(word)) != nil || message == "" {
		return 0, "", nil, false
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if key != slog.TimeKey && key != slog.LevelKey && key != slog.MessageKey {
			rest = append(rest, key, fields[key])
		}
	}
	return level, message, rest, true
}

// last is what the process said last, as the end of a sentence.
func (f *forward) last() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.crashed:
		return "; it crashed: " + f.line
	case f.line != "":
		return "; it said last: " + f.line
	}
	return ""
}
