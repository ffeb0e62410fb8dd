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

// dial connects to a target. With destinations, each address is checked at
// the moment of its connect, so that there is no second resolution to cheat
// with; addresses that are refused are left out, and the target is refused
// when no other answers. Addresses race as in RFC 8305.
//
// The error is a *flow.Failure: StageDestination, StageResolve or StageConnect.
func dial(ctx context.Context, target Target, destinations *policy.Destinations, timeout time.Duration) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var guard guard
	var d net.Dialer
	if destinations != nil {
		d.ControlContext = guard.control(target.Host, destinations)
	}
	conn, err := d.DialContext(ctx, "tcp", target.String())
	if err != nil {
		return nil, guard.failure(err)
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

func (g *guard) failure(err error) *flow.Failure {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refused != nil {
		return &flow.Failure{Stage: flow.StageDestination, Alert: flow.AlertAccessDenied, Err: g.refused}
	}
	if errors.Is(err, context.Canceled) {
		err = errors.New("the client closed the connection, or the gateway shut down, before the server answered")
	}
	stage := flow.StageConnect
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		stage = flow.StageResolve
	}
	return &flow.Failure{Stage: stage, Alert: flow.AlertInternalError, Err: err}
}
