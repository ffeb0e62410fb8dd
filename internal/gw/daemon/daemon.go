// Package daemon makes a gateway of its parts and runs it: the data plane that
// the running configuration asks for, the management that changes it, and the
// ways in to that.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"moongate/internal/durable"
	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/plane"
	"moongate/internal/gw/web"
	"moongate/internal/harden"
)

// Options say how Run runs a gateway.
type Options struct {
	Dir     string // data directory
	Version string
	// Listen replaces the address, not the port, of every listener of the data
	// plane.
	Listen string
	Logger *slog.Logger
	// Ready is called once the gateway takes connections.
	Ready func(Addresses)
	// Say, unless nil, is told what the person at the console should know: a
	// sentence each, without a secret.
	Say func(string)
}

func (o Options) say(format string, args ...any) {
	if o.Say != nil {
		o.Say(fmt.Sprintf(format, args...))
	}
}

// Addresses are where a gateway listens.
type Addresses struct {
	Plane []string // in the configuration's order
	// HTTPS is the XML API's, SSH the command line's; Metrics gives figures.
	HTTPS, SSH, Metrics string
}

// All lists the addresses, those of the data plane first.
func (a Addresses) All() []string {
	return slices.Concat(a.Plane, []string{a.HTTPS, a.SSH, a.Metrics})
}

// Check reads a configuration file and returns its warnings, or what is wrong
// with it: every mistake in the file, or else why no data plane can be made of
// it. It opens no listener and needs no HSM.
func Check(path string) ([]string, error) {
	snapshot, warnings, err := config.Load(path)
	list := make([]string, len(warnings))
	for i, w := range warnings {
		list[i] = w.String()
	}
	if err != nil {
		return list, err
	}
	p, err := plane.New(plane.Options{Sink: discard{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return list, err
	}
	return list, p.Check(snapshot)
}

// discard is the sink of a data plane that takes no connections.
type discard struct{}

func (discard) Write(*flow.Record) {}

// lockDirectory keeps other gateways away from a data directory.
func lockDirectory(files Files) (*durable.Lock, error) {
	lock, err := durable.NewLock(files.Lock())
	switch {
	case errors.Is(err, durable.ErrLocked):
		return nil, fmt.Errorf("another gateway runs on this data directory: %w", err)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no gateway in %s: `moongate up` makes one, or name its directory with -data", files.Dir())
	}
	return lock, err
}

// Run runs a gateway until ctx is done: then it takes no more connections and
// lets those under way end. Where the running configuration cannot be used, or
// its HSM is away, the gateway runs without: the management says why, and can
// mend it.
func Run(ctx context.Context, opts Options) (err error) {
	harden.Memory(opts.Logger)
	files := In(opts.Dir)
	lock, err := lockDirectory(files)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := durable.RemoveTemps(opts.Dir); err != nil {
		return err
	}
	p, err := openParts(opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	return p.run(ctx)
}

// run serves.
func (p *parts) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	identity := &webIdentity{store: p.certificates, logger: p.opts.Logger}
	listeners := newListeners(ctx, p.opts.Logger)
	m, err := p.manager(identity, listeners)
	if err != nil {
		return err
	}
	pages, err := web.New(web.Options{Manager: m, Logger: p.opts.Logger, Version: p.opts.Version})
	if err != nil {
		return err
	}
	if err := p.serveManagement(m, pages, identity, listeners); err != nil {
		return err
	}
	if err := firstAdministrator(ctx, m, p.files, func(text string) { p.opts.say("%s", text) }); err != nil {
		return err
	}
	console, err := listenConsole(p.files.Console())
	if err != nil {
		return err
	}
	if err := m.Start(ctx); err != nil {
		// Nobody can come in by an account; the console can make one.
		p.opts.Logger.Error("starting", "err", err)
	}
	p.waitForHSM(ctx, m.Snapshot())

	group.Go(func() error { return p.plane.Run(ctx) })
	group.Go(func() error { return m.Run(ctx) })
	group.Go(func() error { return pages.Run(ctx) })
	group.Go(func() error {
		return serveConsole(ctx, console, m, &backupSource{p, m}, p.opts.Logger)
	})
	p.tellReady(listeners)
	started := time.Now()
	err = group.Wait()
	listeners.wait()
	p.opts.Logger.Info("gateway stopped", "after", time.Since(started).Round(time.Second))
	return err
}

// serveManagement says what the management's listeners serve.
func (p *parts) serveManagement(m *mgmt.Manager, pages *web.Handler, identity *webIdentity, l *listeners) (err error) {
	device := p.vault.Device()
	if identity.own, err = loadWebCertificate(p.files, device, m.Hostname()); err != nil {
		return err
	}
	hostKeys, err := loadHostKeys(p.files, device)
	if err != nil {
		return err
	}
	shell, err := sshServer(m, hostKeys, p.opts.Version, p.opts.Logger)
	if err != nil {
		return err
	}
	l.services = []service{httpsServer(m, pages, identity, p.opts.Logger), shell, metricsServer(m, p.figures, p.opts.Logger)}
	return nil
}

func (p *parts) tellReady(l *listeners) {
	open := l.addresses()
	addresses := Addresses{Plane: p.plane.Addresses(), HTTPS: open[httpsService], SSH: open[sshService], Metrics: open[metricsService]}
	p.opts.Logger.Info("gateway ready", "version", p.opts.Version, "listen", addresses.Plane,
		"https", addresses.HTTPS, "ssh", addresses.SSH, "metrics", addresses.Metrics)
	if p.opts.Ready != nil {
		p.opts.Ready(addresses)
	}
}
