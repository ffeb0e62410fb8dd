package server

import "sync"

// pool runs requests on a fixed number of goroutines. Clients take turns: each
// has a lane, and a worker that is free takes the next request of the next
// lane, so that a client with many requests waits behind itself alone. No
// client holds every worker.
type pool struct {
	workers int
	perLane int // requests of one lane that run at once
	wg      sync.WaitGroup

	mu     sync.Mutex
	work   sync.Cond   // signalled when turns grows, and at the end; uses mu
	turns  fifo[*lane] // lanes that have a request and may run it; guarded by mu
	queued int         // requests of all lanes that wait; guarded by mu
	closed bool        // guarded by mu
}

// lane is one client's queue in one pool.
type lane struct {
	queue   fifo[job] // guarded by the pool's mu
	running int       // guarded by the pool's mu
	listed  bool      // in turns; guarded by the pool's mu
}

// job is one request.
type job interface{ run() }

func newPool(workers int) *pool {
	p := &pool{workers: workers, perLane: max(1, workers*3/4)}
	p.work.L = &p.mu
	return p
}

// start begins to run what is submitted; close waits for its goroutines.
func (p *pool) start() {
	for range p.workers {
		p.wg.Go(p.worker)
	}
}

// length is how many requests wait.
func (p *pool) length() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.queued
}

// submit queues a job; how many there may be is the connection's budget.
func (p *pool) submit(l *lane, j job) {
	p.mu.Lock()
	l.queue.push(j)
	p.queued++
	p.list(l)
	p.mu.Unlock()
}

// list gives the lane a turn if it has work and may run it. mu is held.
func (p *pool) list(l *lane) {
	if l.listed || l.queue.empty() || l.running >= p.perLane {
		return
	}
	l.listed = true
	p.turns.push(l)
	p.work.Signal()
}

func (p *pool) worker() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for p.turns.empty() {
			if p.closed {
				return
			}
			p.work.Wait()
		}
		l := p.turns.pop()
		l.listed = false
		j := l.queue.pop()
		p.queued--
		l.running++
		p.list(l)
		p.mu.Unlock()
		j.run()
		p.mu.Lock()
		l.running--
		p.list(l)
	}
}

// close ends the workers once the queues are empty, and waits for them.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.work.Broadcast()
	p.mu.Unlock()
	p.wg.Wait()
}

// fifo is a queue that keeps its memory.
type fifo[T any] struct {
	items []T
	first int
}

func (q *fifo[T]) empty() bool { return q.first == len(q.items) }

func (q *fifo[T]) push(v T) {
	// Move what is left to the front before memory would grow for nothing.
	if q.first > 0 && len(q.items) == cap(q.items) {
		n := copy(q.items, q.items[q.first:])
		clear(q.items[n:])
		q.items, q.first = q.items[:n], 0
	}
	q.items = append(q.items, v)
}

// pop takes the oldest of a queue that is not empty.
func (q *fifo[T]) pop() T {
	var zero T
	v := q.items[q.first]
	q.items[q.first] = zero
	q.first++
	if q.empty() {
		q.items, q.first = q.items[:0], 0
	}
	return v
}
