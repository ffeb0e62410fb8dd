package api

import (
	"errors"
	"io"
	"net/netip"
	"sync"
)

// Bounds of the bodies that are being read, in bytes. A body is read before
// anybody knows who sent it, for the credential may be in it; strangers who send
// many large ones, slowly, must not take the gateway's memory.
const (
	freeBody      = 64 << 10  // of each request, counted nowhere
	maxBodies     = 128 << 20 // of all requests, beyond what is free
	maxBodiesFrom = 32 << 20  // of those of one source
)

// errCrowded is the end of a body that there is no room for.
var errCrowded = errors.New("too many large requests at a time")

// bodies counts what is being read.
type bodies struct {
	mu       sync.Mutex
	total    int                // guarded by mu
	bySource map[netip.Addr]int // guarded by mu
}

func newBodies() *bodies { return &bodies{bySource: map[netip.Addr]int{}} }

// share is one request's part of bodies.
type share struct {
	of    *bodies
	from  netip.Addr
	free  int // that is left
	taken int
}

func (b *bodies) share(from netip.Addr) *share {
	return &share{of: b, from: source(from), free: freeBody}
}

// take counts n bytes more, and reports whether there is room for them.
func (s *share) take(n int) bool {
	free := min(n, s.free)
	s.free -= free
	if n -= free; n == 0 {
		return true
	}
	b := s.of
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.total+n > maxBodies || b.bySource[s.from]+n > maxBodiesFrom {
		return false
	}
	b.total += n
	b.bySource[s.from] += n
	s.taken += n
	return true
}

// end gives back what the request took.
func (s *share) end() {
	if s.taken == 0 {
		return
	}
	b := s.of
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total -= s.taken
	if b.bySource[s.from] -= s.taken; b.bySource[s.from] == 0 {
		delete(b.bySource, s.from)
	}
	s.taken = 0
}

// metered is a body that is counted while it is read.
type metered struct {
	io.ReadCloser
	share *share
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	if n > 0 && !m.share.take(n) {
		return 0, errCrowded
	}
	return n, err
}
