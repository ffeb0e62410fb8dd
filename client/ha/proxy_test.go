package ha

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"
)

// proxy stands between a Group and an HSM, and does to their connections what
// networks and stopped processes do.
type proxy struct {
	address string

	mu      sync.Mutex
	target  string                 // guarded by mu
	mode    mode                   // guarded by mu
	delay   time.Duration          // of each chunk; guarded by mu
	changed chan struct{}          // closed and replaced when the mode changes; guarded by mu
	listen  net.Listener           // nil while refusing; guarded by mu
	conns   map[*crossing]struct{} // guarded by mu
	closed  bool                   // guarded by mu
	work    sync.WaitGroup
}

type mode int

const (
	passing mode = iota
	frozen       // nothing moves, nothing is lost: a stopped process
	cut          // bytes vanish both ways; connections break when it ends
)

// crossing is one connection through the proxy.
type crossing struct {
	near, far net.Conn // far is nil until it is made
	lossy     bool     // bytes were lost; guarded by proxy.mu
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	p := &proxy{address: "127.0.0.1:0", target: target, changed: make(chan struct{}), conns: map[*crossing]struct{}{}}
	if err := p.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

// open begins to take connections, at the same address each time.
func (p *proxy) open() error {
	listener, err := net.Listen("tcp", p.address)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.address, p.listen = listener.Addr().String(), listener
	p.mu.Unlock()
	p.work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.work.Go(func() { p.carry(conn) })
		}
	})
	return nil
}

func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.refuse()
	p.set(passing, 0)
	p.work.Wait()
}

// refuse ends all connections and takes no new ones, until open.
func (p *proxy) refuse() {
	p.mu.Lock()
	listener := p.listen
	p.listen = nil
	p.mu.Unlock()
	if listener != nil {
		listener.Close()
	}
	p.reset()
}

// reset ends all connections at once.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.end()
	}
}

// end resets both sides (RST).
func (c *crossing) end() {
	for _, conn := range []net.Conn{c.near, c.far} {
		if tcp, is := conn.(*net.TCPConn); is && tcp != nil {
			tcp.SetLinger(0)
			tcp.Close()
		}
	}
}

// set changes what happens to bytes from now on.
func (p *proxy) set(m mode, delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mode == cut && m != cut {
		for c := range p.conns {
			if c.lossy {
				c.end()
			}
		}
	}
	p.mode, p.delay = m, delay
	close(p.changed)
	p.changed = make(chan struct{})
}

// wait returns when the mode is not frozen, with the delay, and whether bytes
// of the connection are lost now.
func (p *proxy) wait(c *crossing) (bool, time.Duration) {
	for {
		p.mu.Lock()
		m, delay, changed, closed := p.mode, p.delay, p.changed, p.closed
		c.lossy = c.lossy || m == cut
		p.mu.Unlock()
		if m != frozen || closed {
			return m == cut, delay
		}
		<-changed
	}
}

func (p *proxy) carry(near net.Conn) {
	c := &crossing{near: near}
	p.mu.Lock()
	if p.closed || p.listen == nil {
		p.mu.Unlock()
		near.Close()
		return
	}
	p.conns[c] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.conns, c)
		p.mu.Unlock()
		c.end()
	}()
	if lost, _ := p.wait(c); lost {
		p.swallow(c)
		return
	}
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	far, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	p.mu.Lock()
	c.far = far
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.pump(c, far, near) })
	both.Go(func() { p.pump(c, near, far) })
	both.Wait()
}

// swallow reads a connection that leads nowhere, until it ends.
func (p *proxy) swallow(c *crossing) {
	b := make([]byte, 4096)
	for {
		if _, err := c.near.Read(b); err != nil {
			return
		}
	}
}

// pump carries bytes one way.
func (p *proxy) pump(c *crossing, to, from net.Conn) {
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			if lost, delay := p.wait(c); !lost {
				if delay > 0 {
					time.Sleep(delay)
				}
				if _, err := to.Write(b[:n]); err != nil {
					c.end()
					return
				}
			}
		}
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				p.wait(c)
			}
			c.end()
			return
		}
	}
}
