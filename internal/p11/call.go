package p11

import (
	"context"
	"errors"
	"time"

	"moongate/internal/hsm/object"
)

// call is one call of the module's in a session.
type call[T any] struct {
	name  string
	limit time.Duration
	// write asks for a session that may change the token. Then the call is not
	// repeated, and is waited for whatever the context says: its answer is the
	// only word on whether something was made.
	write bool
	do    func(e *era, session uint) (T, error)
}

// run makes the call in a session of the pool. When the session turns out to be
// dead the token is opened anew and the call repeated, once. An error of the
// module's is a CKR still.
func run[T any](ctx context.Context, t *Token, c call[T]) (T, error) {
	var zero T
	for again := false; ; again = true {
		e, err := t.current(ctx)
		if err != nil {
			return zero, err
		}
		out, err := once(ctx, e, c)
		switch {
		case err == nil:
			return out, nil
		case errors.Is(err, errEraOver) && !again:
			continue
		case !isLoss(err):
			return zero, err
		}
		e.lose(err)
		if again || c.write {
			return zero, err
		}
	}
}

func once[T any](ctx context.Context, e *era, c call[T]) (T, error) {
	var zero T
	if !e.enter() {
		return zero, errEraOver
	}
	session, open, err := e.take(ctx)
	if err != nil {
		e.leave()
		return zero, err
	}
	type result struct {
		out T
		err error
	}
	answered := make(chan result, 1)
	// A goroutine of its own: the module may never come back. The watch sees to
	// that, and the token's Close waits for it by the era.
	go func() {
		defer e.leave()
		out, err := perform(ctx, e, session, open, c)
		answered <- result{out, err}
	}()
	if c.write {
		r := <-answered
		return r.out, r.err
	}
	select {
	case r := <-answered:
		return r.out, r.err
	case <-ctx.Done():
		return zero, ctx.Err()
	}
}

// perform is what runs in the call's goroutine: the session's opening where it
// has none, the call, and the session's way back.
func perform[T any](ctx context.Context, e *era, session uint, open bool, c call[T]) (out T, err error) {
	t := e.token
	if c.write {
		end := t.watch.begin(c.name, c.limit)
		defer end()
		return alone(e, session, open, c)
	}
	if open {
		if session, err = e.open(ctx); err != nil {
			return out, err
		}
	}
	end := t.watch.begin(c.name, c.limit)
	out, err = c.do(e, session)
	end()
	e.give(session, err == nil)
	return out, err
}

// alone makes a call that writes in a session of its own, which takes the place
// of one of the pool.
func alone[T any](e *era, session uint, open bool, c call[T]) (out T, err error) {
	t := e.token
	if !open {
		e.close(session)
	}
	defer func() { e.permits <- struct{}{} }()
	own, err := t.module.OpenSession(e.slot.ID, true)
	if err != nil {
		return out, err
	}
	defer func() { _ = t.module.CloseSession(own) }()
	return c.do(e, own)
}

// isLoss reports whether the module says that sessions, the login or the token
// are gone.
func isLoss(err error) bool {
	code, _ := errors.AsType[CKR](err)
	switch code {
	case ckrSessionHandleInvalid, ckrSessionClosed, ckrUserNotLoggedIn, ckrDeviceError, ckrDeviceRemoved,
		ckrTokenNotPresent, ckrTokenNotRecognized, ckrSlotIDInvalid, ckrNotInitialized:
		return true
	}
	return false
}

// refusal turns the module's answer into one of ours.
func refusal(doing string, err error) error {
	code, is := errors.AsType[CKR](err)
	if !is {
		if errors.Is(err, errEraOver) {
			return object.Errorf(object.ErrBusy, "%s: the token was opened anew twice meanwhile", doing)
		}
		return err
	}
	switch {
	case isLoss(err):
		return object.Errorf(object.ErrBusy, "%s: the token was lost: %v", doing, code)
	case code == ckrSessionCount:
		return object.Errorf(object.ErrBusy, "%s: the token has no session left", doing)
	case code == ckrObjectHandleInvalid, code == ckrKeyHandleInvalid:
		return object.Errorf(object.ErrKeyHandle, "%s: the object is gone", doing)
	}
	if known, same := answers[code]; same {
		return object.Errorf(known, "%s: the module answered %v", doing, code)
	}
	return object.Errorf(object.ErrDeviceError, "%s: the module answered %v", doing, code)
}

// answers are the module's that mean the same to a client; all others are a
// device error to it.
var answers = map[CKR]object.Code{
	0x007: object.ErrArgumentsBad, 0x010: object.ErrAttributeReadOnly, 0x011: object.ErrAttributeSensitive,
	0x012: object.ErrAttributeType, 0x013: object.ErrAttributeValue, 0x01b: object.ErrActionProhibited,
	0x020: object.ErrDataInvalid, 0x021: object.ErrDataLength, 0x040: object.ErrEncryptedData, 0x041: object.ErrEncryptedData,
	0x054: object.ErrNotSupported, 0x062: object.ErrKeySize, 0x063: object.ErrKeyType, 0x068: object.ErrKeyNotPermitted,
	0x06a: object.ErrKeyUnextractable, 0x070: object.ErrMechanism, 0x071: object.ErrMechanismParam, 0x0d0: object.ErrTemplateIncomplete,
	0x0d1: object.ErrTemplateInconsist,
}
