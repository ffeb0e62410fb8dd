package intercept

import (
	"net"
	"net/netip"
	"sync"
)

// lifeline holds a flow's connections, so that the flow can be ended from
// outside of the goroutines that are blocked on them.
type lifeline struct {
	mu    sync.Mutex
	conns []net.Conn // guarded by mu
	cut   bool       // guarded by mu
	cause error      // guarded by mu; of the cut
}

// add puts a connection under the lifeline. It is closed at once if the line
// was cut before.
func (l *lifeline) add(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		c.Close()
		return
	}
	l.conns = append(l.conns, c)
}

// end closes the connections. The first cause stays; nil is the regular end.
func (l *lifeline) end(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return
	}
	l.cut, l.cause = true, cause
	for _, c := range l.conns {
		c.Close()
	}
}

// why returns the cause of the cut; nil if there was none.
func (l *lifeline) why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cause
}

// group counts flows under way, until somebody waits for their end: then no
// more begin.
type group struct {
	mu     sync.Mutex
	closed bool // guarded by mu
	active sync.WaitGroup
}

func (g *group) begin() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.active.Add(1)
	return true
}

func (g *group) end() { g.active.Done() }

func (g *group) wait() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.active.Wait()
}

// addrPort returns a TCP address; IPv4 as IPv4, also on a socket of IPv6.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
