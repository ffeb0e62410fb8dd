package p11host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"moongate/internal/p11/handover"
)

// A process that dies is started again after restartMin, twice as long after
// each further death, restartMax at most; one that served for settled begins at
// restartMin again.
const (
	restartMin = 100 * time.Millisecond
	restartMax = 15 * time.Second
	settled    = 30 * time.Second
)

// run keeps the process running until Close.
func (h *Host) run() {
	defer h.set(func(s *Status) { *s = Status{State: Stopped, Restarts: s.Restarts, Since: s.Since} })
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-h.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	pause := restartMin
	for first := true; ; first = false {
		h.set(func(s *Status) {
			s.State = Starting
			if !first {
				s.Restarts++
			}
		})
		served, err := h.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if served >= settled || errors.Is(err, errRestart) {
			pause = restartMin
		}
		if errors.Is(err, errRestart) {
			continue
		}
		if !h.rest(ctx, err, pause) {
			pause = min(2*pause, restartMax)
		} else {
			pause = restartMin
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// rest waits until the next start is due: for the pause, or after a refused PIN
// for a Restart alone. It reports whether there was one.
func (h *Host) rest(ctx context.Context, err error, pause time.Duration) bool {
	e := &EndError{Reason: handover.Failed, Cause: err.Error()}
	errors.As(err, &e)
	state, due := Waiting, time.After(pause)
	if e.Reason == handover.PINWrong {
		state, due = Refused, nil
	}
	h.set(func(s *Status) { s.State, s.PID, s.Cause, s.Fix, s.Ended = state, 0, e.Cause, e.fix(), e.Cause })
	if due != nil {
		h.config.Logger.Warn("moongate-p11 ended; it is started again", "cause", e.Cause, "in", pause)
	} else {
		h.config.Logger.Error("moongate-p11 ended, and is not started again before the PIN is given anew", "cause", e.Cause)
	}
	select {
	case <-due:
		return false
	case <-h.restart:
		return true
	case <-ctx.Done():
		return false
	}
}

// EndError is why a process ended.
type EndError struct {
	Reason handover.Reason
	Cause  string
}

func (e *EndError) Error() string { return e.Cause }

// fix holds the words that tell people what to do.
func (e *EndError) fix() string {
	switch e.Reason {
	case handover.PINWrong:
		return "give the right PIN; it is not tried again by itself, since wrong ones lock tokens"
	case handover.NoModule:
		return "check the module's path, and that the gateway's user may read it and what it needs"
	case handover.NoToken:
		return "`moongate-p11 tokens -module PATH` shows what the module sees; check the token's label and the module's own configuration"
	case handover.ModuleHung, handover.TokenLost:
		return "check that the HSM behind the module can be reached; the module is loaded anew by itself"
	}
	return ""
}

var (
	errRestart = errors.New("it was told to start anew")
	errStalled = errors.New("moongate-p11 gave no sign of life and was killed")
)

func stalled(after time.Duration) error {
	return &EndError{handover.ModuleHung, fmt.Sprintf("%v, after %v", errStalled, after)}
}
