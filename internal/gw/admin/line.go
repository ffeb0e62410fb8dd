package admin

import (
	"context"
	"errors"
	"net/netip"
	"sync"

	"moongate/internal/login"
)

// Bounds of what password checks take: each is 64 MiB and a tenth of a second
// of a core.
const (
	checksAtATime  = 2
	maxWaiting     = 64
	maxOfOneSource = 4
)

// ErrBusy: more passwords are being checked than the gateway has time for.
var ErrBusy = errors.New("too many logins at a time; try again in a moment")

// line lets few checks run at a time, others wait, and none of one network take
// all places.
type line struct {
	running chan struct{} // holds one for each check

	mu       sync.Mutex
	waiting  int                  // those that run included; guarded by mu
	bySource map[netip.Prefix]int // guarded by mu
}

func newLine() *line {
	return &line{running: make(chan struct{}, checksAtATime), bySource: map[netip.Prefix]int{}}
}

// enter waits for a turn, and returns what ends it.
func (l *line) enter(ctx context.Context, from netip.Addr) (func(), error) {
	source := networkOf(from)
	l.mu.Lock()
	if l.waiting >= maxWaiting || l.bySource[source] >= maxOfOneSource {
		l.mu.Unlock()
		return nil, ErrBusy
	}
	l.waiting++
	l.bySource[source]++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.waiting--
		if l.bySource[source]--; l.bySource[source] == 0 {
			delete(l.bySource, source)
		}
	}
	select {
	case l.running <- struct{}{}:
		return func() { <-l.running; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

func networkOf(from netip.Addr) netip.Prefix { return login.Network(from) }
