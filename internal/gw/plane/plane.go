// Package plane is the data plane of a gateway as it runs: it makes listeners,
// certifiers and a policy of a configuration, and changes from one to the next
// without a connection noticing.
//
// A change is prepared, then applied or discarded:
//
//	next, err := p.Prepare(snapshot) // everything that can fail; what runs is untouched
//	next.Apply()                     // cannot fail; the next connection is handled by it
//
// Connections under way keep the configuration that they began with, also when
// their listener is gone from the new one. Sockets whose address stays are
// kept, so that no client meets a closed port; leaves, sessions and verdicts are
// kept where what they depend on stays.
//
// Everything that the data plane has of the configuration is made here and
// handed on by one atomic pointer for each listener; nothing below reads a
// configuration.
package plane

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
	"moongate/internal/gw/intercept"
	"moongate/internal/gw/keys"
)

// Options wire a Plane. Sink and Logger are required.
type Options struct {
	// HSM is the way to the HSM; a change of what is configured has OpenHSM
	// make another link, and the Switch lead to it. nil is a Switch of the
	// Plane's own.
	HSM *keys.Switch
	// OpenHSM opens the link to a configured HSM, without waiting for it.
	// nil leaves the Switch as it is, whatever is configured.
	OpenHSM func(*config.HSM) (keys.Link, error)
	// Provider finds the private keys of certificates; nil is HSM.
	Provider keys.Provider

	Sink       flow.Sink
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: figures are not given
	// Listen replaces the address, not the port, of every listener.
	Listen string
	// OwnPorts are ports of this program, beside those of the listeners and of
	// the HSM, that the proxy does not go to on this host.
	OwnPorts []uint16
	// Roots are trusted in servers' chains beside those of the configuration;
	// nil is the system's.
	Roots *x509.CertPool
	// Resolver finds servers' addresses; nil is the system's.
	Resolver *net.Resolver
	// HoldBound is how long a new handshake waits while sessions are cleared;
	// 0 is 5 s.
	HoldBound time.Duration
}

// defaultHoldBound is Options.HoldBound where that is 0.
const defaultHoldBound = 5 * time.Second

// Plane is the data plane. Its methods may be called from many goroutines.
type Plane struct {
	options Options
	table   *intercept.Table
	hits    *hits
	figures *figures
	minting sync.WaitGroup // signatures under way of every mint there was

	mu        sync.Mutex
	preparing bool            // a Prepared is neither applied nor discarded; guarded by mu
	current   *generation     // nil before the first Apply; guarded by mu
	services  []*service      // of the listeners that take connections; guarded by mu
	stage     stage           // guarded by mu
	ctx       context.Context // of Run; guarded by mu
	group     *errgroup.Group // of Run; guarded by mu
}

// stage is how far a Plane's life is.
type stage int

const (
	created stage = iota
	running
	stopped
)

// New makes a Plane without a configuration: it does nothing until one is
// applied and Run is called, in whichever order.
func New(o Options) (*Plane, error) {
	switch {
	case o.Sink == nil:
		return nil, errors.New("plane: no sink for records")
	case o.Logger == nil:
		return nil, errors.New("plane: no logger")
	}
	if o.HSM == nil {
		o.HSM = keys.NewSwitch()
	}
	if o.Provider == nil {
		o.Provider = o.HSM
	}
	if o.HoldBound <= 0 {
		o.HoldBound = defaultHoldBound
	}
	p := &Plane{options: o, table: intercept.NewTable(), hits: newHits()}
	p.figures = newFigures(p)
	if o.Registerer != nil {
		if err := o.Registerer.Register(p.figures); err != nil {
			return nil, fmt.Errorf("registering the data plane's figures: %w", err)
		}
	}
	return p, nil
}

// HSM is the way to the HSM, whichever the configuration names.
func (p *Plane) HSM() *keys.Switch { return p.options.HSM }

// Addresses returns where connections are taken now, in the configuration's
// order.
func (p *Plane) Addresses() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]string, len(p.services))
	for i, s := range p.services {
		list[i] = s.listener.Addr().String()
	}
	return list
}

// Run takes connections until ctx is done: then it takes no more, lets those
// under way end, and returns nil when all that the Plane started is gone and
// the link to the HSM is closed. It returns earlier, in the same way, with the
// error of a listener that broke. It is called once.
func (p *Plane) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	p.mu.Lock()
	if p.stage != created {
		p.mu.Unlock()
		return errors.New("plane: Run is called once")
	}
	p.stage, p.ctx, p.group = running, ctx, group
	for _, s := range p.services {
		p.start(s)
	}
	// Holds the group until nothing more is started in it.
	group.Go(func() error {
		<-ctx.Done()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.stage = stopped
		return nil
	})
	p.mu.Unlock()
	err := group.Wait()
	p.minting.Wait()
	return errors.Join(err, p.Close())
}

// Close ends a Plane that was not run, or has: its listeners and its link to
// the HSM are closed.
func (p *Plane) Close() error {
	p.mu.Lock()
	p.stage = stopped
	for _, s := range p.services {
		s.listener.Close()
	}
	p.services = nil
	p.mu.Unlock()
	if p.options.Registerer != nil {
		p.options.Registerer.Unregister(p.figures)
	}
	if p.options.OpenHSM == nil {
		return nil
	}
	if err := p.options.HSM.Set(nil).Close(); err != nil {
		return fmt.Errorf("closing the link to the HSM: %w", err)
	}
	return nil
}

// start serves a listener in Run's group; mu is held by the caller.
func (p *Plane) start(s *service) {
	ctx, name := p.ctx, s.name
	p.group.Go(func() error {
		if err := s.serve(ctx, s.listener); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}
