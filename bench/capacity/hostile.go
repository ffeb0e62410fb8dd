package main

import (
	"context"
	"crypto/rand"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// hostile is something that a client, or a stranger, does to harm the others.
type hostile struct {
	name string
	run  func(ctx context.Context, w *target)
}

// target is what hostiles aim at.
type target struct {
	address string
	dial    func(context.Context) (*connection, error) // as a registered client
	role    object.Role
	pass    string
	key     object.ID
}

var hostiles = []hostile{
	{"a client signs as fast as it can over 32 connections, 64 requests in flight on each", flood},
	{"a client asks for 64 KiB of random bytes over 32 connections and never reads", stall},
	{"a client sends frames of random bytes after Hello, over and over", garbage},
	{"strangers open 256 TCP connections and say nothing, over and over", silence},
	{"a client tries wrong passwords as fast as it can", guess},
}

// each runs f on n connections until ctx is done; one that ends begins anew.
func (t *target) each(ctx context.Context, n int, f func(c *connection)) {
	var g errgroup.Group
	for range n {
		g.Go(func() error {
			for ctx.Err() == nil {
				c, err := t.dial(ctx)
				if err != nil {
					pause(ctx)
					continue
				}
				stop := context.AfterFunc(ctx, func() { c.raw.Close() })
				f(c)
				stop()
				c.raw.Close()
			}
			return nil
		})
	}
	_ = g.Wait()
}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(20 * time.Millisecond):
	}
}

func flood(ctx context.Context, t *target) {
	t.each(ctx, 32, func(c *connection) {
		session, err := c.session(t.role, t.pass)
		if err != nil {
			return
		}
		request := (&wire.UseRequest{Session: session, ID: t.key, Mechanism: object.Mechanism{Type: object.MechECDSA, Hash: object.HashSHA256}, Data: make([]byte, 32)}).Append(nil)
		go func() {
			for {
				if _, err := c.frames.Next(); err != nil {
					return
				}
			}
		}()
		batch := frames(wire.OpSign, request, 64)
		for {
			if _, err := c.raw.Write(batch); err != nil {
				return
			}
		}
	})
}

// frames are n requests in a row.
func frames(op wire.Op, body []byte, n int) []byte {
	var out []byte
	for i := range n {
		start := len(out)
		out = append(wire.BeginRequest(out, wire.Request{ID: uint64(1000 + i), Op: op}), body...)
		wire.End(out, start)
	}
	return out
}

func stall(ctx context.Context, t *target) {
	t.each(ctx, 32, func(c *connection) {
		session, err := c.session(t.role, t.pass)
		if err != nil {
			return
		}
		batch := frames(wire.OpRandom, (&wire.RandomRequest{Session: session, N: wire.MaxRandom}).Append(nil), 64)
		for {
			if _, err := c.raw.Write(batch); err != nil {
				return
			}
		}
	})
}

func garbage(ctx context.Context, t *target) {
	t.each(ctx, 16, func(c *connection) {
		b := make([]byte, 4096)
		for {
			rand.Read(b)
			b[0], b[1], b[2] = 0, 0, 0 // a short frame
			if _, err := c.raw.Write(b); err != nil {
				return
			}
		}
	})
}

func silence(ctx context.Context, t *target) {
	for ctx.Err() == nil {
		var open []net.Conn
		for range 256 {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", t.address)
			if err != nil {
				break
			}
			open = append(open, c)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
		for _, c := range open {
			c.Close()
		}
	}
}

func guess(ctx context.Context, t *target) {
	t.each(ctx, 16, func(c *connection) {
		for {
			// The Crypto User's: locking the probe's own role proves nothing.
			if _, err := c.session(object.RoleCryptoUser, "not the password"); err != nil {
				return
			}
		}
	})
}
