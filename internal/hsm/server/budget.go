package server

import (
	"sync"

	"moongate/internal/hsm/wire"
)

// budget is what a client's connections may keep in the HSM's memory together:
// requests that are read, and the answers that they may get.
type budget struct {
	limit int

	mu   sync.Mutex
	room sync.Cond // signalled when used falls, and when a connection is cut; uses mu
	used int       // bytes; guarded by mu
}

func newBudget(limit int) *budget {
	b := &budget{limit: limit}
	b.room.L = &b.mu
	return b
}

// reserve waits until there is room for one more request, or until exempt says
// that it needs none, or ended that nobody waits for it any more. A client that
// uses nothing may have a request of any size.
func (b *budget) reserve(cost int, exempt, ended func() bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.used > 0 && b.used+cost > b.limit && !exempt() {
		if ended() {
			return false
		}
		b.room.Wait()
	}
	b.used += cost
	return true
}

// take reserves without waiting.
func (b *budget) take(cost int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used += cost
}

func (b *budget) release(cost int) {
	if cost == 0 {
		return
	}
	b.mu.Lock()
	b.used -= cost
	b.mu.Unlock()
	b.room.Broadcast()
}

// wake has those that wait look again whether they should.
func (b *budget) wake() {
	b.mu.Lock() // so that nobody is between looking and waiting
	defer b.mu.Unlock()
	b.room.Broadcast()
}

// admitFrame waits until there is room for the frame that comes next and for
// its answer. It is what stops reading, and by that the client.
func (c *conn) admitFrame(header []byte, size int) error {
	head, _, err := wire.ParseRequest(header)
	if err != nil {
		return err
	}
	c.cost = wire.Charge(head.Op, size)
	if !c.reserve(head.Op, c.cost) {
		return errDrained
	}
	return nil
}

// reserve waits for room, first the connection's and then the client's, and
// reports whether the connection goes on.
func (c *conn) reserve(op wire.Op, cost int) bool {
	c.mu.Lock()
	for c.inFlight.Load() > 0 && !c.ended &&
		(int(c.inFlight.Load()) >= c.server.options.MaxInFlight || c.buffered+cost > c.server.options.MaxBuffered) {
		c.room.Wait()
	}
	ended := c.ended
	c.mu.Unlock()
	if ended {
		return false
	}
	// A Ping has an answer however much the client's other connections hold. The
	// last answer may be with the client before the writer has counted it: who
	// waits looks again then.
	small := func() bool { return cost <= wire.SmallCharge && (op == wire.OpPing || c.inFlight.Load() == 0) }
	if !c.tenant.budget.reserve(cost, small, func() bool { return c.ctx.Err() != nil }) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inFlight.Add(1)
	c.buffered += cost
	return true
}
