package intercept

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// spare is how many clients beyond the limit are told so at a time; those
// beyond it too are only closed.
const spare = 64

// counter bounds the clients of a listener, from accept to close.
type counter struct {
	active  atomic.Int64
	refused atomic.Uint64
}

// clientConn is an accepted connection. It counts until it is closed.
type clientConn struct {
	*net.TCPConn
	// over tells that the connection is beyond the limit, and is to be
	// answered with no more than that.
	over    bool
	release func()
}

func (c *clientConn) Close() error {
	c.release()
	return c.TCPConn.Close()
}

// admit counts a connection in. It returns nil, having closed the connection,
// when there are too many even to be told.
func (n *counter) admit(conn *net.TCPConn, limit int) *clientConn {
	active := n.active.Add(1)
	release := sync.OnceFunc(func() { n.active.Add(-1) })
	over := active > int64(limit)
	if over {
		n.refused.Add(1)
	}
	if active > int64(limit)+spare {
		release()
		conn.Close()
		return nil
	}
	return &clientConn{TCPConn: conn, over: over, release: release}
}

// countingListener admits what it accepts.
type countingListener struct {
	net.Listener
	counter *counter
	limit   func() int
}

func (l *countingListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tcp, ok := conn.(*net.TCPConn)
		if !ok {
			conn.Close()
			return nil, fmt.Errorf("accepting: %T is no TCP connection", conn)
		}
		if c := l.counter.admit(tcp, l.limit()); c != nil {
			return c, nil
		}
	}
}

// Stats are counts of a listener's clients.
type Stats struct {
	Active  int64  // now
	Refused uint64 // for being too many, since the start
}

func (n *counter) stats() Stats {
	return Stats{Active: n.active.Load(), Refused: n.refused.Load()}
}

// passes reports errors of accept that end by themselves: a client that was
// gone before it was accepted, and a system short of descriptors or memory.
func passes(err error) bool {
	for _, passing := range []error{syscall.ECONNABORTED, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// isClosed reports that a listener ended because it was closed.
func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }
