package mint

import (
	"context"
	"fmt"
	"time"
)

// flight is a leaf in the making.
type flight struct {
	done chan struct{}
	leaf *leaf // set before done is closed, as err is
	err  error
}

// join returns the leaf of the key that is being made, or has create make it,
// and reports whether it was this call that led. The making goes on under
// the timeout alone when the caller that led gives up: others wait for it, and
// the signature is paid for.
func (m *Mint) join(ctx context.Context, key cacheKey, timeout time.Duration, create func(context.Context) (*leaf, error)) (*leaf, bool, error) {
	m.mu.Lock()
	if held := m.leaves.get(key); held != nil && held.fresh(m.clock()) {
		m.mu.Unlock()
		return held, false, nil
	}
	f, under := m.flights[key]
	if !under {
		f = &flight{done: make(chan struct{})}
		m.flights[key] = f
		m.running.Go(func() {
			// The context's values stay: the time on the HSM and the
			// operation id are those of the flow that led.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
			defer cancel()
			f.leaf, f.err = create(ctx)
			m.land(key, f)
		})
	}
	m.mu.Unlock()

	select {
	case <-f.done:
		return f.leaf, !under, f.err
	case <-ctx.Done():
		return nil, !under, hsmFailure(fmt.Errorf("waiting for the leaf's signature: %w", ctx.Err()))
	}
}

// land keeps what a flight brought, if anything, and lets go those who wait.
func (m *Mint) land(key cacheKey, f *flight) {
	m.mu.Lock()
	delete(m.flights, key)
	if f.err == nil {
		m.leaves.add(key, f.leaf)
	}
	m.mu.Unlock()
	close(f.done)
}
