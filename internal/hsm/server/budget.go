package server

import "sync"

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

// reserve waits until there is room for one more request, or until ended says
// that nobody waits for it any more. A client that uses nothing may have a
// request of any size.
func (b *budget) reserve(cost int, ended func() bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.used > 0 && b.used+cost > b.limit {
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
