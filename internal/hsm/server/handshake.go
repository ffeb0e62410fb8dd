package server

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// handshakes are the connections that are not admitted yet. They are bounded,
// together and for each address, and a newcomer without room takes the place
// of the oldest that keeps silent: who only opens connections keeps nobody out.
type handshakes struct {
	limit, perAddress int
	// turns holds a token for each handshake that computes. Half of the
	// processors are left to clients, however many strangers say hello.
	turns chan struct{}

	mu   sync.Mutex
	list []*pending         // oldest first; guarded by mu
	from map[netip.Addr]int // how many of each address; guarded by mu
}

// pending is one of them, and its connection too, so that what passes is seen.
type pending struct {
	net.Conn
	of       *handshakes
	address  netip.Addr
	began    time.Time
	spoke    atomic.Bool // the peer has sent something
	evicted  atomic.Bool // another has its place
	computes bool        // has a turn; of the handshake's goroutine
}

// honest is how long a peer that has said something keeps its place: several
// round trips around the world.
const honest = 2 * time.Second

func newHandshakes(limit, perAddress, turns int) *handshakes {
	return &handshakes{limit: limit, perAddress: perAddress, turns: make(chan struct{}, turns), from: map[netip.Addr]int{}}
}

// begin enters a connection, in the place of another where there is no room;
// that one's connection is closed. It returns nil where all that it could
// displace are at work.
func (h *handshakes) begin(raw net.Conn, address netip.Addr, now time.Time) *pending {
	h.mu.Lock()
	defer h.mu.Unlock()
	var displace func(*pending) bool
	switch {
	case h.from[address] >= h.perAddress:
		displace = func(p *pending) bool { return p.address == address }
	case len(h.list) >= h.limit:
		displace = func(*pending) bool { return true }
	}
	if displace != nil {
		at := slices.IndexFunc(h.list, func(p *pending) bool { return displace(p) && !p.spoke.Load() })
		if at < 0 {
			at = slices.IndexFunc(h.list, func(p *pending) bool { return displace(p) && now.Sub(p.began) > honest })
		}
		if at < 0 {
			return nil
		}
		victim := h.list[at]
		h.remove(at)
		victim.evicted.Store(true)
		victim.Conn.Close()
	}
	p := &pending{Conn: raw, of: h, address: address, began: now}
	h.list = append(h.list, p)
	h.from[address]++
	return p
}

// end takes a connection out, if it is still in.
func (h *handshakes) end(p *pending) {
	p.rest()
	h.mu.Lock()
	defer h.mu.Unlock()
	if at := slices.Index(h.list, p); at >= 0 {
		h.remove(at)
	}
}

// remove takes one out. mu is held.
func (h *handshakes) remove(at int) {
	p := h.list[at]
	h.list = slices.Delete(h.list, at, at+1)
	if h.from[p.address]--; h.from[p.address] == 0 {
		delete(h.from, p.address)
	}
}

func (h *handshakes) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.list)
}

func (p *pending) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	if n > 0 && !p.spoke.Load() {
		p.spoke.Store(true)
	}
	return n, err
}

// Write ends the turn: what the hello cost is computed by then, and the rest
// waits for the peer.
func (p *pending) Write(b []byte) (int, error) {
	p.rest()
	return p.Conn.Write(b)
}

// compute waits for a turn. Nobody holds one while it waits for its peer.
func (p *pending) compute(ctx context.Context) error {
	if p.computes {
		return nil
	}
	select {
	case p.of.turns <- struct{}{}:
		p.computes = true
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pending) rest() {
	if p.computes {
		p.computes = false
		<-p.of.turns
	}
}

// onHello has the handshake wait for its turn once the peer's hello is there.
func onHello(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	return nil, hello.Conn.(*pending).compute(hello.Context())
}
