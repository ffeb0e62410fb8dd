package sshd

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// writeStall is how long a peer may not take what is sent to it.
const writeStall = 30 * time.Second

// serve serves a connection to its end.
func (s *Server) serve(ctx context.Context, v *visitor, from netip.AddrPort) {
	log := s.opts.Logger.With("from", from)
	tcp := &stallConn{Conn: v.conn}
	if err := v.conn.SetDeadline(time.Now().Add(s.opts.Limits.LoginGrace)); err != nil {
		s.door.leave(v)
		return
	}
	sc, channels, requests, account := s.handshake(ctx, tcp, from)
	s.door.leave(v)
	if sc == nil {
		return
	}
	defer sc.Close()
	defer s.door.exit(userOf(sc))
	if err := v.conn.SetDeadline(time.Time{}); err != nil {
		return
	}
	tcp.established.Store(true)
	log.Info("SSH login", "user", sc.User())
	c := &connection{server: s, ssh: sc, account: account, from: from, tcp: v.conn}
	c.serve(ctx, channels, requests)
	log.Info("SSH connection ended", "user", sc.User())
}

// handshake returns nils for whoever does not get in.
func (s *Server) handshake(ctx context.Context, conn net.Conn, from netip.AddrPort) (*ssh.ServerConn, <-chan ssh.NewChannel, <-chan *ssh.Request, Account) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Limits.LoginGrace)
	defer cancel()
	// The library looks at no context.
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	l := &login{server: s, ctx: ctx, attempt: Attempt{From: from}}
	sc, channels, requests, err := ssh.NewServerConn(conn, l.config())
	if err != nil {
		s.opts.Logger.Debug("SSH login failed", "from", from, "err", err)
		l.failed()
		return nil, nil, nil, nil
	}
	// An account comes with every success (login.result).
	return sc, channels, requests, sc.Permissions.ExtraData[accountKey{}].(Account)
}

// stallConn gives up on a peer that does not take what is sent to it, once the
// deadline of the login is lifted.
type stallConn struct {
	net.Conn
	established atomic.Bool
}

func (c *stallConn) Write(b []byte) (int, error) {
	if c.established.Load() {
		if err := c.Conn.SetWriteDeadline(time.Now().Add(writeStall)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(b)
}

// connection is one that has logged in.
type connection struct {
	server  *Server
	ssh     *ssh.ServerConn
	account Account
	from    netip.AddrPort
	tcp     net.Conn
	idle    *time.Timer // closes the connection
}

// touch says that the connection is in use.
func (c *connection) touch() { c.idle.Reset(c.server.opts.Idle()) }

// serve serves the connection's channels to its end, and waits for them.
func (c *connection) serve(ctx context.Context, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	limits := c.server.opts.Limits
	c.idle = time.AfterFunc(c.server.opts.Idle(), func() {
		c.server.opts.Logger.Info("SSH connection idle, closed", "user", c.ssh.User(), "from", c.from)
		c.tcp.Close()
	})
	defer c.idle.Stop()

	var rest sync.WaitGroup // what ends when the connection is closed
	defer rest.Wait()
	defer c.tcp.Close()
	// Requests of the connection itself: forwarding, which there is none of,
	// and keepalives, to which a no is an answer.
	rest.Go(func() { ssh.DiscardRequests(requests) })

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var sessions sync.WaitGroup
	c.channels(ctx, channels, &sessions, &rest)
	// The peer is gone, or the server stops: sessions have a while to say so.
	cancel()
	rest.Go(func() {
		for nc := range channels {
			reject(nc, ssh.ResourceShortage, "the server is stopping")
		}
	})
	timer := time.AfterFunc(limits.Stop, func() { c.tcp.Close() })
	defer timer.Stop()
	sessions.Wait()
}

// channels starts a session for each channel, until ctx is done or there are no
// more.
func (c *connection) channels(ctx context.Context, channels <-chan ssh.NewChannel, sessions, rest *sync.WaitGroup) {
	open := make(chan struct{}, c.server.opts.Limits.Channels)
	for {
		var nc ssh.NewChannel
		select {
		case <-ctx.Done():
			return
		case nc = <-channels:
		}
		if nc == nil {
			return
		}
		c.touch()
		if nc.ChannelType() != "session" {
			reject(nc, ssh.Prohibited, "there is no forwarding on this server")
			continue
		}
		select {
		case open <- struct{}{}:
		default:
			reject(nc, ssh.ResourceShortage, "too many channels on this connection")
			continue
		}
		ch, requests, err := nc.Accept()
		if err != nil {
			return
		}
		sessions.Go(func() {
			defer func() { <-open }()
			c.session(ctx, ch, requests, rest)
		})
	}
}

func reject(nc ssh.NewChannel, reason ssh.RejectionReason, text string) {
	_ = nc.Reject(reason, text) // its error is the connection's, which the loop sees
}
