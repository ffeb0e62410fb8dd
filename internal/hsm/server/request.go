package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// request is one request from its reading to its answer: a job of a pool.
type request struct {
	conn    *conn
	head    wire.Request
	body    []byte
	cost    int       // of the connection's budget, given back when the answer is written
	pace    pace      // the pool that it runs in
	arrived time.Time // when it was read
	end     time.Time // when the client stops waiting; zero for never
	// mechanism is what the request names, once it is decoded.
	mechanism object.MechanismType
	// receipt is what the answer waits for; nil is nothing.
	receipt object.Receipt
	began   time.Time // when it was its turn
}

func (r *request) run() {
	c := r.conn
	defer c.requests.Done()
	if c.ctx.Err() != nil {
		return // nobody waits for it
	}
	r.began = time.Now()
	c.server.metrics.began(r, r.began)
	a, err := r.perform(r.began)
	if c.log.Enabled(c.ctx, slog.LevelDebug) {
		c.log.Debug("request", "op", r.head.Op.String(), "operation", fmt.Sprintf("%x", r.head.Operation),
			"took", time.Since(r.began), "error", err)
	}
	c.reply(r, a, err)
	if _, bad := errors.AsType[malformed](err); bad {
		c.drain()
	}
}

func (r *request) perform(now time.Time) (answer, error) {
	c := r.conn
	if r.head.Op == wire.OpPing {
		if err := decode(done, r.body); err != nil {
			return nil, err
		}
		return done, nil
	}
	if r.end.IsZero() {
		return c.perform(c.ctx, r)
	}
	if !now.Before(r.end) {
		return nil, context.DeadlineExceeded
	}
	ctx, cancel := context.WithDeadline(c.ctx, r.end)
	defer cancel()
	return c.perform(ctx, r)
}

// outcome is what the client is told of an error. What is no refusal stays in
// our log, where the operation's id finds it.
func (c *conn) outcome(err error, head wire.Request) (object.Code, string) {
	if refusal, is := errors.AsType[*object.Error](err); is && refusal.Code != object.OK {
		return refusal.Code, refusal.Detail
	}
	if bad, is := errors.AsType[malformed](err); is {
		return object.ErrProtocol, bad.Error()
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return object.ErrDeadline, fmt.Sprintf("%v was not done in time", head.Op)
	case errors.Is(err, context.Canceled):
		return object.ErrFunctionCanceled, ""
	}
	c.log.Error("request failed", "op", head.Op.String(), "operation", fmt.Sprintf("%x", head.Operation), "error", err)
	return object.ErrGeneral, fmt.Sprintf("see operation %x in the HSM's log", head.Operation)
}
