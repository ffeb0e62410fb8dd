package server

import (
	"runtime"
	"slices"
	"sync"
	"testing"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

type jobFunc func()

func (f jobFunc) run() { f() }

func TestClientsTakeTurns(t *testing.T) {
	t.Parallel()
	p := newPool(1)
	p.start()
	var many, few lane
	var order []string // of the one worker; read after close
	gate := make(chan struct{})
	p.submit(&many, jobFunc(func() { <-gate }))
	for range 100 {
		p.submit(&many, jobFunc(func() { order = append(order, "many") }))
	}
	for range 2 {
		p.submit(&few, jobFunc(func() { order = append(order, "few") }))
	}
	close(gate)
	p.close()
	if len(order) != 102 {
		t.Fatalf("%d jobs ran, want 102", len(order))
	}
	if last := slices.Index(order[2:], "few"); slices.Index(order, "few") > 1 || last > 2 {
		t.Errorf("two requests behind another client's hundred ran at the places of %q", order[:6])
	}
}

func TestNoClientHoldsEveryWorker(t *testing.T) {
	t.Parallel()
	p := newPool(4)
	p.start()
	var greedy, other lane
	release := make(chan struct{})
	var blocked sync.WaitGroup
	blocked.Add(3)
	for range 10 {
		p.submit(&greedy, jobFunc(func() {
			select {
			case <-release:
			default:
				blocked.Done()
				<-release
			}
		}))
	}
	blocked.Wait()
	ran := make(chan struct{})
	p.submit(&other, jobFunc(func() { close(ran) }))
	wait(t, ran, "a request of another client")
	close(release)
	p.close()
}

// TestGenerationHoldsUpNobody: finding primes computes for seconds, and so do
// large clones; both may take half of the processors at most.
func TestGenerationHoldsUpNobody(t *testing.T) {
	t.Parallel()
	for op := range wire.Op(256) {
		if got := paceOf(op, 3<<10) == heavy; got != (op == wire.OpGenerate) {
			t.Errorf("%v is heavy: %v", op, got)
		}
		large := op == wire.OpGenerate || op == wire.OpCloneIn || op == wire.OpCloneOut
		if got := paceOf(op, object.MaxPackage) == heavy; got != large {
			t.Errorf("%v of a large request is heavy: %v", op, got)
		}
	}
	s, err := New(Options{Backend: newDevice(t), Certificate: newCertificate(t, "hsm")})
	if err != nil {
		t.Fatal(err)
	}
	if limit := max(1, runtime.GOMAXPROCS(0)/2); s.options.HeavyWorkers != limit {
		t.Errorf("%d generations at a time, want %d", s.options.HeavyWorkers, limit)
	}
}

func TestFIFOKeepsOrderAndMemory(t *testing.T) {
	t.Parallel()
	var q fifo[int]
	next, want := 0, 0
	for i := range 10000 {
		for range i % 5 {
			q.push(next)
			next++
		}
		for range i % 7 {
			if !q.empty() {
				if got := q.pop(); got != want {
					t.Fatalf("popped %d, want %d", got, want)
				}
				want++
			}
		}
	}
	if cap(q.items) > 64 {
		t.Errorf("a short queue holds room for %d", cap(q.items))
	}
}
