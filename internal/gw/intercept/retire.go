package intercept

import (
	"context"
	"sync"
	"time"
)

// retirement is the end of a listener whose flows go on.
type retirement struct {
	done chan struct{}
	once *sync.Once
}

func newRetirement() retirement { return retirement{make(chan struct{}), new(sync.Once)} }

func (r retirement) retire() { r.once.Do(func() { close(r.done) }) }

// over reports whether the listener was retired.
func (r retirement) over() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// context returns one that is done when ctx is, or at the retirement.
func (r retirement) context(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-r.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(); <-ended }
}

// drainAfter returns the context in which flows may end after their listener
// has: it is done the time of drain after ctx is, or after now where the
// listener failed.
func drainAfter(ctx context.Context, drain time.Duration, failure error) (context.Context, context.CancelFunc) {
	drained, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var mu sync.Mutex
	var timer *time.Timer // guarded by mu
	start := func() {
		mu.Lock()
		defer mu.Unlock()
		if timer == nil {
			timer = time.AfterFunc(drain, cancel)
		}
	}
	if failure != nil {
		start()
	}
	stop := context.AfterFunc(ctx, start)
	return drained, func() {
		stop()
		cancel()
		mu.Lock()
		defer mu.Unlock()
		if timer != nil {
			timer.Stop()
		}
	}
}
