package intercept

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"moongate/internal/gw/flow"
	"moongate/internal/gw/policy"
)

// dialer connects to servers.
type dialer struct {
	resolver *net.Resolver // nil for the system's
	timeout  time.Duration // for the name and all its addresses
	// destinations are checked for each address at the moment of its connect,
	// so that there is no second resolution to cheat with; nil allows all.
	destinations *policy.Destinations
}

// dial connects to a target. Addresses race as in RFC 8305; those that are
// refused are left out, and the target is refused when no other answers.
//
// The error is a *flow.Failure: StageDestination, StageResolve or StageConnect.
func (d *dialer) dial(ctx context.Context, target Target) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	var guard guard
	inner := net.Dialer{Resolver: d.resolver}
	if d.destinations != nil {
		inner.ControlContext = guard.control(target.Host, d.destinations)
	}
	conn, err := inner.DialContext(ctx, "tcp", target.String())
	if err != nil {
		return nil, guard.failure(ctx, err)
	}
	return conn.(*net.TCPConn), nil // which is what a Dialer makes for "tcp"
}

// guard remembers why addresses were refused: of several errors, a Dialer
// returns the first, which need not be the refusal.
type guard struct {
	mu      sync.Mutex
	refused *policy.Refused // guarded by mu; the first
}

func (g *guard) control(host string, d *policy.Destinations) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, _, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("reading the address to dial: %w", err)
		}
		err = d.Check(host, ap)
		if refused, ok := errors.AsType[*policy.Refused](err); ok {
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.refused == nil {
				g.refused = refused
			}
		}
		return err
	}
}

func (g *guard) failure(ctx context.Context, err error) *flow.Failure {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refused != nil {
		return &flow.Failure{Stage: flow.StageDestination, Alert: flow.AlertAccessDenied, Err: g.refused}
	}
	stage := flow.StageConnect
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		stage = flow.StageResolve
		told := *dns
		told.Server = "" // is no business of the client's
		err = &told
	}
	// A Dialer has an error of its own for context.Canceled.
	if ctx.Err() == context.Canceled {
		err = errors.New("the client closed the connection, or the gateway shut down, before the server answered")
	}
	return &flow.Failure{Stage: stage, Alert: flow.AlertInternalError, Err: err}
}
