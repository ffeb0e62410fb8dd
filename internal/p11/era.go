package p11

import (
	"context"
	"errors"
	"sync"

	"moongate/internal/hsm/object"
)

// era is the time from an opening of the token to its loss: sessions and
// handles are good for one era alone.
type era struct {
	token  *Token
	slot   Slot
	keeper uint // stays open: the login ends with the last session

	idle    chan uint     // sessions that nobody uses
	permits chan struct{} // one for each session that may be opened yet

	lost chan struct{} // closed by lose

	mu     sync.Mutex
	cause  error         // why it is lost; guarded by mu
	inUse  int           // calls that are under way; guarded by mu
	opened int           // sessions of the pool; guarded by mu
	vacant chan struct{} // closed when it is lost and none is in use; guarded by mu
}

func newEra(t *Token, slot Slot, keeper uint) *era {
	limit := t.options.Sessions
	// 0 and 2^n-1 are "not told" and "no limit" (PKCS#11 v3.1, section 3.2).
	if most := slot.MaxSessions; most > 1 && most < uint(limit)+1 {
		limit = int(most) - 1 // the keeper has one
	}
	e := &era{
		token: t, slot: slot, keeper: keeper,
		idle: make(chan uint, limit), permits: make(chan struct{}, limit),
		lost: make(chan struct{}), vacant: make(chan struct{}),
	}
	for range limit {
		e.permits <- struct{}{}
	}
	return e
}

// lose ends the era; the first cause stays.
func (e *era) lose(cause error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cause != nil {
		return
	}
	e.cause = cause
	close(e.lost)
	if e.inUse == 0 {
		close(e.vacant)
	}
}

func (e *era) isLost() bool {
	select {
	case <-e.lost:
		return true
	default:
		return false
	}
}

// enter takes note that a session is in use. It reports false when the era has
// ended.
func (e *era) enter() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cause != nil {
		return false
	}
	e.inUse++
	return true
}

func (e *era) leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.inUse--; e.inUse == 0 && e.cause != nil {
		close(e.vacant)
	}
}

// take waits for a session of the pool. 0 with a permit taken means: open one.
func (e *era) take(ctx context.Context) (session uint, open bool, err error) {
	select {
	case session = <-e.idle:
		return session, false, nil
	default:
	}
	select {
	case session = <-e.idle:
		return session, false, nil
	case <-e.permits:
		return 0, true, nil
	case <-e.lost:
		return 0, false, errEraOver
	case <-ctx.Done():
		return 0, false, errCrowded
	}
}

// open opens a session, for which a permit was taken. Where the token has no
// more of them, the pool stays as large as it is, and one of its sessions is
// waited for.
func (e *era) open(ctx context.Context) (uint, error) {
	end := e.token.watch.begin("C_OpenSession", e.token.options.HangLimit)
	session, err := e.token.module.OpenSession(e.slot.ID, false)
	end()
	if err == nil {
		e.mu.Lock()
		e.opened++
		e.mu.Unlock()
		return session, nil
	}
	e.mu.Lock()
	others := e.opened > 0
	e.mu.Unlock()
	if code, _ := errors.AsType[CKR](err); code != ckrSessionCount || !others {
		e.permits <- struct{}{}
		return 0, err
	}
	select {
	case session = <-e.idle:
		return session, nil
	case <-e.lost:
		return 0, errEraOver
	case <-ctx.Done():
		return 0, errCrowded
	}
}

var errCrowded = object.Errorf(object.ErrBusy, "every session of the token is in use: the module is slow, or has too few of them")

// give puts a session back, or closes it where it may not be sound: after an
// error an operation may be half done in it.
func (e *era) give(session uint, sound bool) {
	if sound && !e.isLost() {
		e.idle <- session
		return
	}
	e.close(session)
	e.permits <- struct{}{}
}

func (e *era) close(session uint) {
	e.mu.Lock()
	e.opened--
	e.mu.Unlock()
	end := e.token.watch.begin("C_CloseSession", e.token.options.HangLimit)
	_ = e.token.module.CloseSession(session)
	end()
}
