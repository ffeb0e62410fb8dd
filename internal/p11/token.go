package p11

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"moongate/internal/hsm/object"
)

// Token is an open token. It is safe for concurrent use.
type Token struct {
	options Options
	module  Module
	log     *slog.Logger
	pin     []byte
	watch   *watch
	objects *catalogue
	// rejectKey makes what decryptions return that cannot return a plaintext; a
	// fresh one for each process.
	rejectKey []byte

	cancel context.CancelFunc
	done   <-chan struct{} // closed by Close
	wg     sync.WaitGroup
	fatal  sync.Once

	mechanisms atomic.Pointer[[]uint]

	mu      sync.Mutex
	era     *era          // nil while the token is away; guarded by mu
	cause   error         // why it is away; guarded by mu
	since   time.Time     // when era came or went; guarded by mu
	changed chan struct{} // closed and replaced when era changes; guarded by mu
	slot    Slot          // of the last era; guarded by mu
}

var (
	// errEraOver: the session that was waited for is of the past.
	errEraOver = errors.New("the token was opened anew")
	errClosed  = object.Errorf(object.ErrBusy, "the token is being closed")
)

// Open opens the token and logs in. The error is a *TokenError or a *PINError,
// or says what else is wrong; none of them gets better by itself.
func Open(o Options) (*Token, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &Token{
		options: o, module: o.Module, log: o.Logger, pin: bytes.Clone(o.PIN), watch: newWatch(),
		rejectKey: make([]byte, 32), cancel: cancel, done: ctx.Done(),
		changed: make(chan struct{}), since: time.Now(),
	}
	rand.Read(t.rejectKey) // never fails (crypto/rand)
	t.objects = newCatalogue(t)
	t.wg.Go(func() { t.watch.run(t.done, t.die) })
	e, err := t.open()
	if err != nil {
		cancel()
		t.wg.Wait()
		return nil, err
	}
	t.enter(e, nil)
	t.wg.Go(func() { t.run(ctx, e) })
	return t, nil
}

// Close closes the sessions and ends the module. Calls that are in flight are
// waited for; who does not want that ends the process.
func (t *Token) Close() error {
	t.cancel()
	t.wg.Wait()
	clear(t.pin)
	return t.module.Finalize()
}

// die tells that only the end of the process helps.
func (t *Token) die(err error) {
	t.fatal.Do(func() {
		t.log.Error("the module is given up", "error", err)
		t.options.Fatal(err)
	})
}

// open finds the token, opens its first session and logs in.
func (t *Token) open() (*era, error) {
	end := t.watch.begin("opening the token", t.options.HangLimit)
	defer end()
	slot, err := t.find()
	if err != nil {
		return nil, err
	}
	mechanisms, err := t.module.Mechanisms(slot.ID)
	if err != nil {
		return nil, fmt.Errorf("asking token %q for its mechanisms: %w", slot.Label, err)
	}
	t.mechanisms.Store(&mechanisms)
	keeper, err := t.module.OpenSession(slot.ID, false)
	if err != nil {
		return nil, fmt.Errorf("opening a session on token %q: %w", slot.Label, err)
	}
	if err := t.login(slot, keeper); err != nil {
		_ = t.module.CloseSession(keeper)
		return nil, err
	}
	return newEra(t, slot, keeper), nil
}

// find looks for the slot of the token: by label, then by serial number.
func (t *Token) find() (Slot, error) {
	slots, err := t.module.Slots()
	if err != nil {
		return Slot{}, fmt.Errorf("asking the module for its slots: %w", err)
	}
	slots = slices.DeleteFunc(slots, func(s Slot) bool { return s.Flags&flagTokenInitialized == 0 })
	match := slots
	if want := t.options.Token; want != "" {
		match = nil
		for _, of := range []func(Slot) string{func(s Slot) string { return s.Label }, func(s Slot) string { return s.Serial }} {
			if len(match) == 0 {
				match = slices.DeleteFunc(slices.Clone(slots), func(s Slot) bool { return of(s) != want })
			}
		}
	}
	if len(match) != 1 {
		return Slot{}, &TokenError{t.options.Token, slots}
	}
	return match[0], nil
}

func (t *Token) login(slot Slot, session uint) error {
	if slot.Flags&flagUserPINLocked != 0 {
		return &PINError{ckrPINLocked}
	}
	if slot.Flags&flagProtectedPath != 0 {
		return fmt.Errorf("token %q takes its PIN from a reader of its own (CKF_PROTECTED_AUTHENTICATION_PATH), which no service can use", slot.Label)
	}
	err := t.module.Login(session, t.options.User, t.pin)
	code, _ := errors.AsType[CKR](err)
	switch {
	case err == nil, code == ckrUserAlreadyLoggedIn:
		return nil
	case isPIN(code):
		return &PINError{code}
	}
	return fmt.Errorf("logging in to token %q: %w", slot.Label, err)
}

func isPIN(code CKR) bool {
	switch code {
	case ckrPINIncorrect, ckrPINInvalid, ckrPINLenRange, ckrPINExpired, ckrPINLocked, ckrUserPINNotInitialized:
		return true
	}
	return false
}

// run watches over eras until Close.
func (t *Token) run(ctx context.Context, e *era) {
	var losses []time.Time
	for {
		t.keep(ctx, e)
		if ctx.Err() != nil {
			e.lose(errClosed)
			<-e.vacant
			t.enter(nil, errClosed)
			_ = t.module.CloseAllSessions(e.slot.ID)
			return
		}
		t.log.Warn("the token is lost; it is opened anew", "token", e.slot.Label, "error", e.cause)
		t.enter(nil, e.cause)
		<-e.vacant // a call that hangs is the watch's
		end := t.watch.begin("C_CloseAllSessions", t.options.HangLimit)
		_ = t.module.CloseAllSessions(e.slot.ID)
		end()
		if losses = append(losses, time.Now()); len(losses) > manyLosses {
			if time.Since(losses[0]) < manyLossesIn {
				select {
				case <-time.After(lossPause):
				case <-ctx.Done():
				}
			}
			losses = losses[1:]
		}
		if e = t.reopen(ctx); e == nil {
			return
		}
		t.log.Info("the token is there again", "token", e.slot.Label)
		t.enter(e, nil)
	}
}

// A token that is lost more than manyLosses times in manyLossesIn rests for
// lossPause each time: something that is asked of it makes it so, and must not
// keep it from all else.
const (
	manyLosses   = 10
	manyLossesIn = 10 * time.Second
	lossPause    = time.Second
)

// keep returns when the era is over.
func (t *Token) keep(ctx context.Context, e *era) {
	probe := time.NewTicker(t.options.Probe)
	defer probe.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.lost:
			return
		case <-probe.C:
			end := t.watch.begin("C_GetSessionInfo", t.options.HangLimit)
			in, err := t.module.LoggedIn(e.keeper)
			end()
			if err == nil && !in {
				err = ckrUserNotLoggedIn
			}
			if err != nil {
				e.lose(fmt.Errorf("asking whether the token is there: %w", err))
			}
		}
	}
}

// reopen opens the token, and tries again until LossLimit. It returns nil when
// the Token is closed or given up.
func (t *Token) reopen(ctx context.Context) *era {
	began, pause := time.Now(), reopenPause
	for {
		e, err := t.open()
		if err == nil {
			return e
		}
		t.enter(nil, err)
		if _, refused := errors.AsType[*PINError](err); refused {
			t.die(err)
			return nil
		}
		if away := time.Since(began); away > t.options.LossLimit {
			t.die(&LostError{away, err})
			return nil
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, reopenMax)
		case <-ctx.Done():
			return nil
		}
	}
}

const (
	reopenPause = 100 * time.Millisecond
	reopenMax   = 2 * time.Second
)

// enter makes an era the one of now; nil is none, because of cause.
func (t *Token) enter(e *era, cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e != nil {
		t.slot = e.slot
	}
	if (e == nil) != (t.era == nil) || e != nil {
		t.since = time.Now()
	}
	t.era, t.cause = e, cause
	close(t.changed)
	t.changed = make(chan struct{})
}

// current returns the era of now; while there is none it waits, for patience at
// most: then the answer is ErrBusy with the reason.
func (t *Token) current(ctx context.Context) (*era, error) {
	for {
		t.mu.Lock()
		e, cause, since, changed := t.era, t.cause, t.since, t.changed
		t.mu.Unlock()
		if e != nil && !e.isLost() {
			return e, nil
		}
		left := time.Until(since.Add(patience))
		if e != nil { // its end is not known to run yet
			left = patience
		}
		if left <= 0 {
			return nil, object.Errorf(object.ErrBusy, "the token is away: %v", cause)
		}
		timer := time.NewTimer(left)
		select {
		case <-changed:
		case <-timer.C:
		case <-t.done:
			timer.Stop()
			return nil, errClosed
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
		timer.Stop()
	}
}

// patience is how long a request waits for a token that went away.
const patience = 3 * time.Second

// Slot describes the token, as it was when it was opened last.
func (t *Token) Slot() Slot {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.slot
}

// Health is how the token stands.
type Health struct {
	Ready bool
	Cause string // why not
	// Oldest is for how long the module has owed an answer; 0 for none.
	Oldest time.Duration
}

// Health returns it without asking the module.
func (t *Token) Health() Health {
	t.mu.Lock()
	e, cause := t.era, t.cause
	t.mu.Unlock()
	h := Health{Ready: e != nil && !e.isLost(), Oldest: t.watch.oldest(time.Now())}
	if !h.Ready && cause != nil {
		h.Cause = cause.Error()
	}
	return h
}

// can reports whether the token has a mechanism.
func (t *Token) can(mechanism uint) bool {
	return slices.Contains(*t.mechanisms.Load(), mechanism)
}
