package ha

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"moongate/client"
)

// flight is one call that is safe to repeat, on its way to an answer: at one
// member, and when that one is slow or fails at others too, never twice at the
// same one unless that came back meanwhile. The first good answer ends it.
type flight[T any] struct {
	g       *Group
	ctx     context.Context
	cancel  context.CancelFunc
	need    need
	call    func(context.Context, *client.Client) (T, error)
	members []*member

	mu       sync.Mutex
	tried    [maxRouted]uint32 // generation of the attempt, plus one; guarded by mu
	failed   []MemberError     // guarded by mu
	answered bool              // a member that is there has refused; guarded by mu
	doubtful error             // the last answer that there is no such object; guarded by mu
	until    time.Time         // when to stop asking those who refused; guarded by mu
	searches int               // loops that look for an answer; guarded by mu
	others   chan struct{}     // closed when the last of several searches has ended; guarded by mu
	decided  bool              // guarded by mu
	value    T                 // guarded by mu
	err      error             // guarded by mu
}

// repeatable makes a call that changes nothing.
func repeatable[T any](ctx context.Context, g *Group, n need, call func(context.Context, *client.Client) (T, error)) (T, error) {
	f := &flight[T]{g: g, need: n, call: call, members: *g.routing.Load(), searches: 1}
	if _, has := ctx.Deadline(); has {
		f.ctx, f.cancel = context.WithCancel(ctx)
	} else {
		f.ctx, f.cancel = context.WithTimeout(ctx, g.limit)
	}
	defer f.cancel()
	f.search()

	// Other searches end soon after the call is decided. They are waited for,
	// since what the caller gave us is the caller's again when we return.
	f.mu.Lock()
	others := f.others
	f.mu.Unlock()
	if others != nil {
		<-others
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.value, f.err
}

// search asks members in turn until the call is decided, or nobody is left to
// ask.
func (f *flight[T]) search() {
	for {
		m, generation := f.choose()
		if m == nil {
			return
		}
		if f.attempt(m, generation) {
			return
		}
	}
}

// attempt makes the call at one member, and there again where its connection
// broke and Config.Retry has it wait for the next. It reports true where the
// search is over.
func (f *flight[T]) attempt(m *member, generation uint32) bool {
	for {
		value, err := f.at(m)
		if err == nil {
			m.answers.Add(1)
			return f.settle(m, nil, &value)
		}
		if f.ctx.Err() == nil {
			if _, answered := errors.AsType[*client.HSMError](err); answered {
				m.answers.Add(1)
			} else if f.g.config.Retry > 0 && client.Unavailable(err) && f.await(m, generation) {
				generation = f.mark(m)
				continue
			}
		}
		return f.settle(m, err, nil)
	}
}

// at makes the call at one member once.
func (f *flight[T]) at(m *member) (T, error) {
	c := m.client.Load()
	if c == nil {
		var none T
		return none, m.away()
	}
	m.outstanding.Add(1)
	timer := time.AfterFunc(f.g.config.Hedge, func() { f.hedge(m, c) })
	value, err := f.call(f.ctx, c)
	timer.Stop()
	m.outstanding.Add(-1)
	return value, err
}

// mark notes that a member that came back is being asked again.
func (f *flight[T]) mark(m *member) uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	generation := m.view.Load().generation
	if i := slices.Index(f.members, m); i >= 0 {
		f.tried[i] = generation + 1
	}
	return generation
}

// hedge runs when a member has been slow: another one is asked as well. A
// member that has answered nobody meanwhile is suspect from then on; one that
// answers others gets company only from a member with less to do.
func (f *flight[T]) hedge(m *member, c *client.Client) {
	since := c.Status().Silent
	silent := !since.IsZero() && time.Since(since) >= f.g.config.Hedge*3/4
	if silent {
		m.suspectNow(fmt.Sprintf("it answered nothing within %v", f.g.config.Hedge))
	}
	f.mu.Lock()
	if f.decided || !silent && !f.idler(m) {
		f.mu.Unlock()
		return
	}
	f.searches++
	if f.others == nil {
		f.others = make(chan struct{})
	}
	f.mu.Unlock()
	m.hedges.Add(1)
	f.search()
}

// idler reports whether a member that was not asked has less to do than m.
// Called with mu held.
func (f *flight[T]) idler(m *member) bool {
	for i, other := range f.members {
		v := other.view.Load()
		if v.usable && v.serves(f.need) && f.tried[i] != v.generation+1 && other.outstanding.Load() < m.outstanding.Load() {
			return true
		}
	}
	return false
}

// forbearance is how long a call goes on when members are there and answer that
// they cannot do it just now: others may come back, or they may get well.
const forbearance = 2 * time.Second

// choose finds the next member to ask and marks it as asked. It waits for one
// while there may be one later; nil ends the search.
func (f *flight[T]) choose() (*member, uint32) {
	for {
		var changed <-chan struct{}
		var again <-chan time.Time
		f.mu.Lock()
		if f.decided || f.ctx.Err() != nil {
			f.leave()
			f.mu.Unlock()
			return nil, 0
		}
		i, generation := f.best()
		if i < 0 {
			// Take the channel first, then look again: no change is missed.
			changed = f.g.change()
			i, generation = f.best()
		}
		if i >= 0 {
			f.tried[i] = generation + 1
			m := f.members[i]
			f.mu.Unlock()
			return m, generation
		}
		if f.answered && f.until.IsZero() {
			f.until = time.Now().Add(forbearance)
		}
		if f.hopeless() || f.answered && time.Now().After(f.until) {
			f.leave()
			f.mu.Unlock()
			return nil, 0
		}
		if f.answered {
			again = time.After(f.g.settle())
		}
		f.mu.Unlock()
		select {
		case <-changed:
			f.mu.Lock()
			f.members = f.refresh()
			f.mu.Unlock()
		case <-f.ctx.Done():
		case <-f.g.ctx.Done():
			f.mu.Lock()
			f.decide(ErrClosed)
			f.mu.Unlock()
		case <-again:
			f.mu.Lock()
			clear(f.tried[:])
			f.mu.Unlock()
		}
	}
}

// leave ends one search; the last one decides what nobody else did. Called
// with mu held.
func (f *flight[T]) leave() {
	f.searches--
	if f.searches > 0 {
		return
	}
	if !f.decided {
		f.decide(f.failure(f.ctx.Err()))
	}
	if f.others != nil {
		close(f.others)
	}
}

// hopeless reports whether waiting is of no use: who could be asked has refused
// for a reason that time does not mend, or every member needs an administrator. Called with
// mu held.
func (f *flight[T]) hopeless() bool {
	if f.doubtful != nil {
		return true
	}
	return f.g.allRefused()
}

// settle takes the outcome of one attempt. It reports true where the search is
// over.
func (f *flight[T]) settle(m *member, err error, value *T) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	refusal, answered := errors.AsType[*client.HSMError](err)
	switch {
	case f.decided:
	case value != nil:
		f.value = *value
		f.decide(nil)
	case f.ctx.Err() != nil:
		f.failed = append(f.failed, MemberError{m.name, err})
	case answered && isDoubtful(refusal.Code):
		f.doubtful, f.answered = err, true
		return false
	case answered && ofMember(refusal.Code):
		f.answered = true
		m.complain(refusal)
		fallthrough
	case !answered && (client.Unavailable(err) || errors.Is(err, context.DeadlineExceeded)):
		f.failed = append(f.failed, MemberError{m.name, err})
		m.failovers.Add(1)
		return false
	default:
		f.decide(err)
	}
	f.leave()
	return true
}

// decide ends the flight. Called with mu held.
func (f *flight[T]) decide(err error) {
	if f.decided {
		return
	}
	f.decided, f.err = true, err
	f.cancel()
}

// failure is the error of a call that nobody could do. Called with mu held.
func (f *flight[T]) failure(waiting error) error {
	if f.doubtful != nil && waiting == nil {
		if isAbsent(client.CodeOf(f.doubtful)) {
			return f.g.notFound(f.doubtful)
		}
		return f.doubtful
	}
	e := &CallError{Waiting: waiting}
	seen := map[string]bool{}
	for _, m := range slices.Backward(f.failed) { // of each what it said last
		if !seen[m.Member] {
			e.Members = append(e.Members, m)
		}
		seen[m.Member] = true
	}
	for _, m := range f.g.all() {
		if !seen[m.name] {
			if why := m.why(); why != nil {
				e.Members = append(e.Members, MemberError{m.name, why})
			}
		}
	}
	return e
}

// await waits for a member whose connection was lost to be connected again:
// until Config.Retry attempts have failed, or half of the time is over. It
// reports whether the member can be asked once more.
func (f *flight[T]) await(m *member, generation uint32) bool {
	ctx := f.ctx
	if end, has := ctx.Deadline(); has {
		half, cancel := context.WithTimeout(ctx, time.Until(end)/2)
		defer cancel()
		ctx = half
	}
	for {
		changed := f.g.change()
		if v := m.view.Load(); v.generation != generation && v.usable && v.serves(f.need) {
			return true
		}
		s := m.snapshot()
		if s.Retries >= f.g.config.Retry || s.State == Refused || s.State == Removed {
			return false
		}
		f.mu.Lock()
		decided := f.decided
		f.mu.Unlock()
		if decided {
			return false
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}
