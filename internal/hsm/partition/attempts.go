package partition

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"moongate/internal/hsm/object"
)

// Bounds of guessing passwords, besides the counts that roles.go keeps on disk.
const (
	// freeFailures wrong passwords of one caller for one role cost it nothing;
	// after that each further one has it wait, twice as long as the one before,
	// up to maxDelay.
	freeFailures = 3
	maxDelay     = 5 * time.Minute
	// parallelDerivations is how many passwords are derived at a time: each
	// takes 64 MiB and a core.
	parallelDerivations = 2
	// keptAttempts is the number of callers' entries above which old ones are
	// looked for.
	keptAttempts = 1024
)

// attempts are the password checks of callers, each for one role. A caller has
// one check of a role waiting or running at a time, a role one check at a time
// (its gate), and the HSM parallelDerivations. Each of the three serves in the
// order of arrival, so a flood of one caller puts one check into the role's
// queue, and a flood on one role one into the HSM's: others wait for that one
// and not for the flood.
//
// What is remembered is in memory alone: it slows guessing down, and the counts
// on disk end it.
type attempts struct {
	mu sync.Mutex
	by map[attemptKey]*attempt // guarded by mu
}

// attemptKey is who tries (a client's name, or an operator's with
// operatorPrefix) which role. partition is zero for the HSM's own roles.
type attemptKey struct {
	who       string
	partition object.ID
	role      object.Role
}

// operatorPrefix keeps operators apart from clients of the same name: no
// client's name holds a blank.
const operatorPrefix = "operator "

// attempt is one caller's checks of one role. attempts.mu guards all but turn.
type attempt struct {
	turn     *semaphore.Weighted // one
	users    int                 // of this entry
	failures int                 // in a row
	last     time.Time           // of them
	until    time.Time           // no check before
	refused  int                 // checks refused since, and not recorded
}

func newGate() *semaphore.Weighted { return semaphore.NewWeighted(1) }

// enter returns the caller's entry, which leave gives back.
func (a *attempts) enter(key attemptKey, now time.Time) *attempt {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.by == nil {
		a.by = map[attemptKey]*attempt{}
	}
	if len(a.by) > keptAttempts {
		for other, e := range a.by {
			if e.users == 0 && now.Sub(e.last) > maxDelay {
				delete(a.by, other)
			}
		}
	}
	e := a.by[key]
	if e == nil {
		e = &attempt{turn: newGate()}
		a.by[key] = e
	}
	e.users++
	return e
}

func (a *attempts) leave(key attemptKey, e *attempt) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e.users--
	if e.users == 0 && e.failures == 0 && a.by[key] == e {
		delete(a.by, key)
	}
}

// delayed is the refusal of a caller that has to wait; nil where it has not.
func (a *attempts) delayed(e *attempt, role object.Role, now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	wait := e.until.Sub(now)
	if wait <= 0 {
		return nil
	}
	e.refused++
	return &delayedError{refused: e.refused, err: object.Errorf(object.ErrDelayed,
		"%d wrong passwords for the %s in a row; try again in %v, this attempt was not counted", e.failures, role.Title(), max(wait.Round(time.Second), time.Second))}
}

// settle remembers what became of a check.
func (a *attempts) settle(e *attempt, now time.Time, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch object.CodeOf(err) {
	case object.OK:
		e.failures, e.until, e.refused = 0, time.Time{}, 0
	case object.ErrPINIncorrect, object.ErrPINLocked:
		e.failures++
		e.last, e.refused = now, 0
		if over := e.failures - freeFailures; over >= 0 {
			e.until = now.Add(min(time.Second<<min(over, 20), maxDelay))
		}
	}
}

// forget lets everybody try a role again at once; the zero ID and RoleNone are
// every partition and role.
func (a *attempts) forget(partition object.ID, role object.Role) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for key, e := range a.by {
		if role == object.RoleNone || key.partition == partition && key.role == role {
			e.failures, e.until, e.refused = 0, time.Time{}, 0
		}
	}
}

// A delayedError is a refusal without a look at the password. Only the first
// after each wrong password is recorded: a delayed caller could else fill the
// audit log, which is never cut, at no cost.
type delayedError struct {
	refused int
	err     *object.Error
}

func (d *delayedError) Error() string { return d.err.Error() }
func (d *delayedError) Unwrap() error { return d.err }

// attempt runs a password check when it is key's and the gate's turn. check is
// not interrupted: ctx ends the waiting alone, before anything is counted.
func (h *HSM) attempt(ctx context.Context, key attemptKey, gate *semaphore.Weighted, check func() error) error {
	e := h.attempts.enter(key, h.now())
	defer h.attempts.leave(key, e)
	if err := h.attempts.delayed(e, key.role, h.now()); err != nil {
		return err
	}
	for _, s := range []*semaphore.Weighted{e.turn, gate, h.derivations} {
		if err := s.Acquire(ctx, 1); err != nil {
			return err
		}
		defer s.Release(1)
		// Another of the caller's may have failed meanwhile.
		if err := h.attempts.delayed(e, key.role, h.now()); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	err := check()
	h.attempts.settle(e, h.now(), err)
	return err
}

// waiting is the refusal of a caller that has to wait; nil where it has not.
func (h *HSM) waiting(key attemptKey) error {
	e := h.attempts.enter(key, h.now())
	defer h.attempts.leave(key, e)
	return h.attempts.delayed(e, key.role, h.now())
}

// derive runs what derives from a password and checks none.
func (h *HSM) derive(ctx context.Context, do func() error) error {
	if err := h.derivations.Acquire(ctx, 1); err != nil {
		return err
	}
	defer h.derivations.Release(1)
	return do()
}
