package intercept

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"moongate/internal/gw/flow"
)

// Gate is an inbound listener: it stands before one protected server and takes
// TLS connections in its stead. Clients see the server's own certificate,
// whose key is on the HSM.
type Gate struct {
	*core
	counter counter
	flows   sync.WaitGroup
	retired retirement
}

// NewGate checks the wiring. The Gate does nothing until Serve.
func NewGate(o Options) (*Gate, error) {
	c, err := newCore(o)
	if err != nil {
		return nil, err
	}
	if _, err := ParseTarget(o.Runtime.Load().Server); err != nil {
		return nil, fmt.Errorf("intercept: protected server %q: %w", o.Runtime.Load().Server, err)
	}
	return &Gate{core: c, retired: newRetirement()}, nil
}

// Retire ends Serve early: the listener is closed, and the flows under way end
// in their own time, until Serve's context is done.
func (g *Gate) Retire() { g.retired.retire() }

// Serve takes connections until ctx is done; then it closes the listener, lets
// the flows under way end in the time of Limits.Drain, and ends the others. It
// returns nil then, with every goroutine and connection gone; an error if it
// ends for another reason. It is called once.
func (g *Gate) Serve(ctx context.Context, listener net.Listener) error {
	flows, endFlows := context.WithCancel(context.WithoutCancel(ctx))
	defer endFlows()
	accept, endAccept := g.retired.context(ctx)
	defer endAccept()
	stopClosing := context.AfterFunc(accept, func() { listener.Close() })
	defer stopClosing()
	accepting := &countingListener{
		Listener: listener,
		counter:  &g.counter,
		limit:    func() int { return g.options.Runtime.Load().Limits.withDefaults().Connections },
	}
	err := g.accept(flows, accepting)
	listener.Close()
	over := ctx.Err() != nil || g.retired.over()
	failure := err
	if over && isClosed(err) {
		failure = nil
	}
	drain, cancel := drainAfter(ctx, g.options.Runtime.Load().Limits.withDefaults().Drain, failure)
	defer cancel()
	stopDrain := context.AfterFunc(drain, endFlows)
	defer stopDrain()
	g.flows.Wait()
	if failure == nil {
		return nil
	}
	return fmt.Errorf("accepting inbound clients: %w", err)
}

func (g *Gate) accept(ctx context.Context, listener net.Listener) error {
	var pause time.Duration
	for {
		conn, err := listener.Accept()
		if err != nil {
			if !passes(err) {
				return err
			}
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			g.options.Log.Warn("accepting an inbound client", slog.Any("cause", err), slog.Duration("pause", pause))
			select {
			case <-time.After(pause):
				continue
			case <-ctx.Done():
				return err
			}
		}
		pause = 0
		client := conn.(*clientConn) // of a countingListener
		g.flows.Go(func() { g.serve(ctx, client) })
	}
}

// serve takes one connection from its first byte to its record.
func (g *Gate) serve(ctx context.Context, client *clientConn) {
	rt := g.options.Runtime.Load()
	s := g.newSession(rt, flow.Inbound, client.RemoteAddr(), rt.Server)
	s.client = client.TCPConn
	s.life.add(client)
	f := broken() // until there is another end
	defer func() { s.finish(f) }()
	// One client's hello must not end the others' flows, whatever it finds in
	// a parser; net/http does as much for the Proxy.
	defer func() {
		if reason := recover(); reason != nil {
			s.life.end(nil)
			g.options.Log.Error("handling an inbound client", slog.Any("panic", reason), slog.String("stack", string(debug.Stack())))
		}
	}()
	target, err := ParseTarget(rt.Server)
	switch {
	case client.over:
		f = requestFailure(errTooMany)
	case err != nil:
		f = requestFailure(fmt.Errorf("protected server %q: %w", rt.Server, err))
	default:
		s.target = target
		f = s.run(ctx)
	}
	s.life.end(nil)
}
