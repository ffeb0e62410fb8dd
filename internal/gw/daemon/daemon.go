// Package daemon makes a gateway of its parts and runs it: configuration to
// snapshot, snapshot to data plane, listeners to flows, flows to records.
package daemon

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"moongate/internal/durable"
	"moongate/internal/gw/config"
	"moongate/internal/gw/flowlog"
	"moongate/internal/gw/intercept"
	"moongate/internal/gw/keys"
	"moongate/internal/harden"
)

// Options say how Run runs a gateway.
type Options struct {
	Dir     string // data directory
	Version string
	// Listen replaces the address, not the port, of every listener.
	Listen string
	Logger *slog.Logger
	// Ready is called once the gateway takes connections, with the addresses
	// that it listens on.
	Ready func(addresses []string)
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
	plane, err := compile(snapshot, noHSM{})
	if err != nil {
		return list, err
	}
	plane.close()
	return list, nil
}

// Run runs a gateway until ctx is done: then it takes no more connections and
// lets those under way end.
func Run(ctx context.Context, opts Options) error {
	harden.Memory(opts.Logger)
	files := In(opts.Dir)
	lock, err := durable.NewLock(filepath.Join(opts.Dir, "lock"))
	if errors.Is(err, durable.ErrLocked) {
		return fmt.Errorf("another gateway runs on this data directory: %w", err)
	} else if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no gateway in %s: `moongate up` makes one, or name its directory with -data", opts.Dir)
	} else if err != nil {
		return err
	}
	defer lock.Unlock()

	snapshot, warnings, err := config.Load(files.Config())
	for _, w := range warnings {
		opts.Logger.Warn("configuration", "warning", w.String())
	}
	if err != nil {
		return err
	}
	provider, closeLink, err := openProvider(ctx, snapshot, files, opts)
	if err != nil {
		return err
	}
	defer closeLink()
	plane, err := compile(snapshot, provider)
	if err != nil {
		return err
	}
	defer plane.close()
	if err := durable.Mkdir(files.Log()); err != nil {
		return err
	}
	log, err := flowlog.Open(flowlog.Options{Dir: files.Log(), Logger: opts.Logger})
	if err != nil {
		return err
	}
	err = serve(ctx, snapshot, plane, log, opts)
	return errors.Join(err, log.Close())
}

// firstLogin is how long a start waits for the HSM, so that the first clients
// find it there. A gateway whose HSM is away starts all the same.
const firstLogin = 3 * time.Second

// openProvider returns where private keys are, and what ends that.
func openProvider(ctx context.Context, s *config.Snapshot, files Files, opts Options) (keys.Provider, func(), error) {
	if s.HSM == nil {
		return noHSM{}, func() {}, nil
	}
	c, err := link(s.HSM, files, opts.Version, opts.Logger)
	if err != nil {
		return nil, nil, err
	}
	first, cancel := context.WithTimeout(ctx, firstLogin)
	defer cancel()
	if err := c.Ready(first); err != nil && ctx.Err() == nil {
		opts.Logger.Warn("starting without the HSM: what needs a key fails until it is there", "cause", err)
	}
	return keys.Network(c), func() {
		if err := c.Close(); err != nil {
			opts.Logger.Warn("closing the link to the HSM", "err", err)
		}
	}, nil
}

// noHSM is the provider of a configuration without an HSM.
type noHSM struct{}

func (noHSM) Key(context.Context, crypto.PublicKey) (keys.Key, error) {
	return nil, fmt.Errorf("%w: %s", keys.ErrUnavailable, noHSM{}.Status().Cause)
}

func (noHSM) Status() keys.Status {
	return keys.Status{Stage: "name", Cause: "no HSM is configured: deviceconfig/system/hsm-settings/provider names none"}
}

// serve opens every listener, then serves them all until ctx is done.
func serve(ctx context.Context, s *config.Snapshot, p *plane, log *flowlog.Log, opts Options) error {
	var all services
	defer all.close()
	for _, l := range s.Forward {
		proxy, err := intercept.NewProxy(dataPlane(p.forward, log, opts))
		if err == nil {
			err = all.open(listenAddress(l.Listen, opts.Listen), proxy.Serve)
		}
		if err != nil {
			return fmt.Errorf("forward listener %s: %w", l.Name, err)
		}
	}
	for _, l := range s.Inbound {
		gate, err := intercept.NewGate(dataPlane(p.inbound[l.Name], log, opts))
		if err == nil {
			err = all.open(listenAddress(l.Listen, opts.Listen), gate.Serve)
		}
		if err != nil {
			return fmt.Errorf("inbound listener %s: %w", l.Name, err)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	var addresses []string
	for _, sv := range all {
		addresses = append(addresses, sv.listener.Addr().String())
		group.Go(func() error { return sv.serve(ctx, sv.listener) })
	}
	opts.Logger.Info("gateway ready", "version", opts.Version, "listen", addresses)
	if opts.Ready != nil {
		opts.Ready(addresses)
	}
	started := time.Now()
	err := group.Wait()
	opts.Logger.Info("gateway stopped", "after", time.Since(started).Round(time.Second))
	return err
}

// services are listeners with what serves them.
type services []service

type service struct {
	listener net.Listener
	serve    func(context.Context, net.Listener) error
}

func (all *services) open(address string, serve func(context.Context, net.Listener) error) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	*all = append(*all, service{listener, serve})
	return nil
}

func (all services) close() {
	for _, sv := range all {
		sv.listener.Close()
	}
}

func dataPlane(rt *intercept.Runtime, log *flowlog.Log, opts Options) intercept.Options {
	runtime := new(atomic.Pointer[intercept.Runtime])
	runtime.Store(rt)
	return intercept.Options{Runtime: runtime, Sink: log, Log: opts.Logger}
}

// listenAddress is where a listener is opened.
func listenAddress(configured netip.AddrPort, instead string) string {
	if instead == "" {
		return configured.String()
	}
	return net.JoinHostPort(instead, fmt.Sprint(configured.Port()))
}
