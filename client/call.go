package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// maxLost is how often a call is repeated after its connection broke: a
// request that breaks connections should not break them for ever.
const maxLost = 5

type operationKey struct{}

// WithOperation returns a context whose calls carry the given id to the HSM's
// log, so that a flow of the caller's and the HSM's records can be joined.
// Without it each call has a random one.
func WithOperation(ctx context.Context, id OperationID) context.Context {
	return context.WithValue(ctx, operationKey{}, id)
}

func operationOf(ctx context.Context) OperationID {
	if id, given := ctx.Value(operationKey{}).(OperationID); given {
		return id
	}
	return newOperation()
}

type withoutWaitingKey struct{}

// WithoutWaiting returns a context whose calls do not wait for a connection:
// where there is none they fail at once, and where theirs breaks they are not
// repeated on the next one. For both Unavailable is true, and NotSent for what
// never went out. It is for callers who have another HSM to ask.
func WithoutWaiting(ctx context.Context) context.Context {
	return context.WithValue(ctx, withoutWaitingKey{}, true)
}

// patience is how long a call waits.
func (c *Client) patience(ctx context.Context, limit time.Duration) patience {
	p := newPatience(ctx, limit)
	p.atOnce = c.config.NoWait || ctx.Value(withoutWaitingKey{}) != nil
	return p
}

func newOperation() OperationID {
	var id OperationID
	rand.Read(id[:]) // never fails (crypto/rand)
	return id
}

// call sends a request and returns its answer's body. It waits for a
// connection, and repeats the request where that is safe.
func (c *Client) call(ctx context.Context, op wire.Op, fill body) ([]byte, error) {
	return c.callWithin(ctx, c.config.CallTimeout, op, fill)
}

func (c *Client) callWithin(ctx context.Context, limit time.Duration, op wire.Op, fill body) ([]byte, error) {
	p := c.patience(ctx, limit)
	defer p.release()
	operation := operationOf(ctx)
	answer, err := c.try(p, op, operation, fill)
	if c.config.Logger.Enabled(ctx, slog.LevelDebug) {
		c.config.Logger.DebugContext(ctx, "hsm call", "op", op.String(), "operation", fmt.Sprintf("%x", operation), "error", err)
	}
	return answer, err
}

func (c *Client) try(p patience, op wire.Op, operation OperationID, fill body) ([]byte, error) {
	renewed := false
	for lost := 0; ; {
		l, err := c.wait(p)
		if err != nil {
			return nil, err
		}
		s := l.session.Load()
		answer, err := l.roundTrip(p, op, operation, fill)
		switch {
		case err == nil:
			return answer, nil
		case errors.Is(err, errNotSent):
			if !l.broken() {
				return nil, stageError(StageRequest, err)
			}
		case errors.Is(err, errLost) && op.Repeatable():
			if lost++; lost == maxLost || p.atOnce {
				return nil, stageError(StageRequest, err)
			}
		case isSessionGone(err) && c.config.Role != RoleNone && !renewed:
			// The HSM refused, so nothing was done, whatever the op.
			renewed = true
			if err := c.requestLogin(loginRequest{ctx: p.ctx, stale: s}); err != nil {
				return nil, waitError{err}
			}
		case isRefusal(err) || op.Repeatable():
			return nil, stageError(stageOf(err), err)
		default:
			return nil, stageError(StageRequest, &OutcomeUnknownError{Call: op.String(), Operation: operation, Err: err})
		}
	}
}

// isRefusal reports whether err is the HSM's word, or ours before sending,
// that nothing was done.
func isRefusal(err error) bool {
	_, is := errors.AsType[*object.Error](err)
	return is
}

// isSessionGone reports whether a login would help: the partition was
// deactivated, the role reset, the session dropped.
func isSessionGone(err error) bool {
	code := object.CodeOf(err)
	return code == ErrSessionHandle || code == ErrNotLoggedIn
}
