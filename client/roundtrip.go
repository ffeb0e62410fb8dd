package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// pingID is the id of keep-alives, which need no slot.
const pingID = 0

var errNotSent = errors.New("not sent")

// patience is how long a call waits.
type patience struct {
	ctx     context.Context
	end     time.Time // zero: as long as ctx
	timeout <-chan time.Time
	timer   *time.Timer
	atOnce  bool // does not wait for a connection
}

var timers = sync.Pool{New: func() any {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}}

// newPatience bounds ctx by limit where it has no deadline of its own. A timer
// costs a fraction of what a context with one does.
func newPatience(ctx context.Context, limit time.Duration) patience {
	if end, bounded := ctx.Deadline(); bounded {
		return patience{ctx: ctx, end: end}
	}
	timer := timers.Get().(*time.Timer)
	timer.Reset(limit)
	return patience{ctx: ctx, end: time.Now().Add(limit), timeout: timer.C, timer: timer}
}

func (p patience) release() {
	if p.timer != nil {
		p.timer.Stop()
		timers.Put(p.timer)
	}
}

// left is the time that is left in milliseconds, as a request's header has it:
// rounded up, so that the HSM does not give up first.
func (p patience) left() uint32 {
	ms := time.Until(p.end).Milliseconds() + 1
	return uint32(max(1, min(ms, 1<<31)))
}

// err is why the patience has ended.
func (p patience) err() error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	return context.DeadlineExceeded
}

var answers = sync.Pool{New: func() any { return make(chan answer, 1) }}

// roundTrip sends a request and waits for its answer. An error that is
// errNotSent left nothing to the HSM; one that is errLost, or the patience's,
// leaves open whether the request was carried out. A refusal is an
// *object.Error.
func (l *link) roundTrip(p patience, op wire.Op, operation object.OperationID, fill body) ([]byte, error) {
	var its *turn // once a large request has had to wait
	for {
		if err := l.takeSlot(p); err != nil {
			l.withdraw(its)
			return nil, err
		}
		to := answers.Get().(chan answer)
		id, next, err := l.sendLarge(wire.Request{Op: op, Deadline: p.left(), Operation: operation}, fill, to, its)
		if err == nil && next == nil {
			return l.receive(p, id, to)
		}
		answers.Put(to)
		<-l.slots
		if err != nil {
			l.withdraw(its)
			return nil, err
		}
		// What is large waits among its like, and leaves its slot to others.
		if err := l.await(p, next.ready); err != nil {
			l.withdraw(next)
			return nil, err
		}
		its = next
	}
}

func (l *link) takeSlot(p patience) error {
	select {
	case l.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-l.done:
		return errNotSent
	case <-p.ctx.Done():
	case <-p.timeout:
	}
	return fmt.Errorf("%w: %w", errNotSent, p.err())
}

// await waits until ready is closed.
func (l *link) await(p patience, ready <-chan struct{}) error {
	select {
	case <-ready:
		return nil
	case <-l.done:
		return errNotSent
	case <-p.ctx.Done():
	case <-p.timeout:
	}
	return fmt.Errorf("%w: %w", errNotSent, p.err())
}

// receive waits for the answer to a request that was sent, which comes by to.
func (l *link) receive(p patience, id uint64, to chan answer) ([]byte, error) {
	var a answer
	select {
	case a = <-to:
	case <-p.ctx.Done():
		if l.leave(id) {
			answers.Put(to)
			return nil, p.err()
		}
		a = <-to
	case <-p.timeout:
		if l.leave(id) {
			answers.Put(to)
			return nil, p.err()
		}
		a = <-to
	}
	answers.Put(to)
	switch {
	case a.err != nil:
		return nil, a.err
	case a.code != object.OK:
		return nil, refusal(a.code, a.body)
	}
	return a.body, nil
}

// sendLarge queues a request for the writer and returns its id; or, for a large
// one that there is no room for, its turn. its is the turn that it has waited
// for.
func (l *link) sendLarge(r wire.Request, fill body, to chan<- answer, its *turn) (uint64, *turn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	start := len(l.out)
	r.ID = l.lastID + 1
	size, err := l.encode(r, fill)
	if err != nil {
		return 0, nil, err
	}
	if its == nil {
		if charge := wire.Charge(r.Op, size); charge > wire.SmallCharge {
			var had bool
			if its, had = l.room.take(charge); !had {
				clear(l.out[start:])
				l.out = l.out[:start]
				return 0, its, nil
			}
		}
	}
	l.lastID++
	c := call{to: to}
	if its != nil {
		c.large = its.size
	}
	l.queue(r.ID, c)
	return r.ID, nil, nil
}

// send is sendLarge for a Ping.
func (l *link) send(r wire.Request, fill body, to chan<- answer) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.encode(r, fill); err != nil {
		return 0, err
	}
	l.queue(r.ID, call{to: to})
	return r.ID, nil
}

// encode appends a request to what the writer takes next, and returns its size
// without the length in front. mu is held.
func (l *link) encode(r wire.Request, fill body) (int, error) {
	if l.err != nil {
		return 0, errNotSent
	}
	var in uint32
	if s := l.session.Load(); s != nil {
		in = s.id
	}
	start := len(l.out)
	out := fill(wire.BeginRequest(l.out, r), in)
	if !wire.End(out, start) || len(out)-start > int(l.hello.MaxFrame) {
		l.out = out[:start]
		return 0, object.Errorf(ErrDataLength, "the request has %d bytes, the HSM takes %d", len(out)-start, l.hello.MaxFrame)
	}
	l.out = out
	return len(out) - start - 4, nil
}

// queue has the writer send what was encoded. mu is held.
func (l *link) queue(id uint64, c call) {
	if len(l.waiting) == 0 {
		l.quiet = time.Now()
	}
	l.waiting[id] = c
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// withdraw gives a turn back, whether it has come or not.
func (l *link) withdraw(t *turn) {
	if t == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.room.withdraw(t)
}

// leave gives up waiting for an answer. It reports false when the answer, or
// the link's end, is already on its way to the caller. The request keeps its
// slot until the HSM answers it.
func (l *link) leave(id uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, there := l.waiting[id]
	if !there {
		return false
	}
	c.to = nil
	l.waiting[id] = c
	return true
}

// owed is how many requests have no answer, and since when the HSM has given
// none; zero where it owes none.
func (l *link) owed() (int, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		return 0, time.Time{}
	}
	return len(l.waiting), l.quiet
}

// ping asks whether the HSM is there, or waits with whoever is asking: the one
// that is on its way tells as much.
func (l *link) ping(p patience) error {
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return errNotSent
	}
	asked := l.asked
	if asked == nil {
		asked = &question{done: make(chan struct{})}
		l.asked = asked
		l.wg.Go(func() { l.ask(asked) })
	}
	l.mu.Unlock()
	select {
	case <-asked.done:
		return asked.err
	case <-p.ctx.Done():
	case <-p.timeout:
	}
	return p.err()
}

// question is a Ping on its way.
type question struct {
	done chan struct{} // closed when err is the outcome
	err  error
}

// ask sends a Ping and waits for its answer, or the link's end.
func (l *link) ask(q *question) {
	p := newPatience(context.Background(), 24*time.Hour)
	defer p.release()
	to := answers.Get().(chan answer)
	if _, q.err = l.send(wire.Request{ID: pingID, Op: wire.OpPing, Deadline: p.left()}, empty, to); q.err == nil {
		_, q.err = l.receive(p, pingID, to)
	} else {
		answers.Put(to)
	}
	l.mu.Lock()
	l.asked = nil
	l.mu.Unlock()
	close(q.done)
}
