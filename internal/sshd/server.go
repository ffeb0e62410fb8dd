package sshd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// acceptAgain is the pause after the kernel had no file descriptor to spare.
const acceptAgain = 100 * time.Millisecond

// Serve serves connections until ctx is done, and returns when every one has
// ended: sessions have Limits.Stop to do so by themselves. It closes the
// listener. The error is the listener's, nil after ctx.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	var connections sync.WaitGroup
	defer connections.Wait()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		var temporary interface{ Temporary() bool }
		if errors.As(err, &temporary) && temporary.Temporary() {
			s.opts.Logger.Error("accepting SSH connections", "err", err)
			select {
			case <-time.After(acceptAgain):
			case <-ctx.Done():
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("accepting SSH connections: %w", err)
		}
		from := remote(conn)
		v := s.door.knock(conn, from.Addr())
		if v == nil {
			s.opts.Logger.Debug("SSH connection refused: too many of its address have not logged in", "from", from)
			conn.Close()
			continue
		}
		connections.Go(func() {
			defer conn.Close()
			s.serve(ctx, v, from)
		})
	}
}

// remote is a peer's address; zero where the listener is none of TCP.
func remote(conn net.Conn) netip.AddrPort {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		a := tcp.AddrPort()
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	return netip.AddrPort{}
}
