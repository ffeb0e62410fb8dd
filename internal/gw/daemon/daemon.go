// Package daemon makes a gateway of its parts and runs it: configuration to
// snapshot, snapshot to data plane, listeners to flows, flows to records.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"moongate/internal/durable"
	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
	"moongate/internal/gw/keys"
	"moongate/internal/gw/logstore"
	"moongate/internal/gw/plane"
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
	if len(snapshot.Forward)+len(snapshot.Inbound) == 0 {
		return list, errNoListener
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
	if len(snapshot.Forward)+len(snapshot.Inbound) == 0 {
		return errNoListener
	}
	if err := durable.Mkdir(files.Log()); err != nil {
		return err
	}
	log, err := logstore.Open(logstore.Options{Dir: files.Log(), Logger: opts.Logger})
	if err != nil {
		return err
	}
	err = serve(ctx, snapshot, files, log, opts)
	return errors.Join(err, log.Close())
}

var errNoListener = errors.New("the configuration has no listener: set deviceconfig/setting/proxy/forward or inbound")

// firstLogin is how long a start waits for the HSM, so that the first clients
// find it there. A gateway whose HSM is away starts all the same.
const firstLogin = 3 * time.Second

// serve makes the data plane of a snapshot and runs it until ctx is done.
func serve(ctx context.Context, s *config.Snapshot, files Files, log *logstore.Store, opts Options) error {
	p, err := plane.New(plane.Options{
		OpenHSM: func(server *config.HSMServer) (keys.Link, error) {
			c, err := link(server, files, opts.Version, opts.Logger)
			if err != nil {
				return nil, err
			}
			return keys.Network(c), nil
		},
		Sink: log, Logger: opts.Logger, Listen: opts.Listen,
	})
	if err != nil {
		return err
	}
	next, err := p.Prepare(s)
	if err != nil {
		return errors.Join(err, p.Close())
	}
	next.Apply()
	if s.HSM != nil {
		first, cancel := context.WithTimeout(ctx, firstLogin)
		defer cancel()
		if err := p.HSM().Ready(first); err != nil && ctx.Err() == nil {
			opts.Logger.Warn("starting without the HSM: what needs a key fails until it is there", "cause", err)
		}
	}
	addresses := p.Addresses()
	opts.Logger.Info("gateway ready", "version", opts.Version, "listen", addresses)
	if opts.Ready != nil {
		opts.Ready(addresses)
	}
	started := time.Now()
	err = p.Run(ctx)
	opts.Logger.Info("gateway stopped", "after", time.Since(started).Round(time.Second))
	return err
}
