package p11

import (
	"sync"
	"time"
)

// watch knows every call that the module has not answered yet.
type watch struct {
	mu    sync.Mutex
	calls map[*outstanding]struct{} // guarded by mu
}

// outstanding is one of them.
type outstanding struct {
	name  string
	began time.Time
	limit time.Duration
}

func newWatch() *watch { return &watch{calls: map[*outstanding]struct{}{}} }

// begin enters a call; the function that it returns takes it out.
func (w *watch) begin(name string, limit time.Duration) (end func()) {
	c := &outstanding{name, time.Now(), limit}
	w.mu.Lock()
	w.calls[c] = struct{}{}
	w.mu.Unlock()
	return func() {
		w.mu.Lock()
		delete(w.calls, c)
		w.mu.Unlock()
	}
}

// hung returns the call that is over its limit for longest, nil for none.
func (w *watch) hung(now time.Time) *HungError {
	w.mu.Lock()
	defer w.mu.Unlock()
	var worst *HungError
	for c := range w.calls {
		if after := now.Sub(c.began); after > c.limit && (worst == nil || after > worst.After) {
			worst = &HungError{Call: c.name, After: after}
		}
	}
	return worst
}

// run looks for a call that hangs until done is closed, and tells of the first.
func (w *watch) run(done <-chan struct{}, fatal func(error)) {
	tick := time.NewTicker(watchTick)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case now := <-tick.C:
			if hung := w.hung(now); hung != nil {
				fatal(hung)
				return
			}
		}
	}
}

const watchTick = 100 * time.Millisecond

// oldest is for how long the oldest call has not been answered; 0 for none.
func (w *watch) oldest(now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	var age time.Duration
	for c := range w.calls {
		age = max(age, now.Sub(c.began))
	}
	return age
}
