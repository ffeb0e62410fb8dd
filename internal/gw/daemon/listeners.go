package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/gw/mgmt"
)

// service is what the management serves on one port.
type service struct {
	name string
	// address is where a snapshot wants it.
	address func(*config.Snapshot) string
	serve   func(context.Context, net.Listener) error
}

// listeners are the management's own. They follow the running configuration: a
// new address is opened before an old one is closed. What is in use stays: a
// connection is not ended by the commit that came over it. It is a
// mgmt.Follower.
type listeners struct {
	services []service
	logger   *slog.Logger

	ctx     context.Context // of what serves
	running sync.WaitGroup

	mu   sync.Mutex
	open map[string]*opened // by the service's name
}

// opened is a service at an address.
type opened struct {
	listener net.Listener
	address  string // as configured
	stop     context.CancelFunc
}

// newListeners makes listeners of nothing yet. They end with ctx.
func newListeners(ctx context.Context, logger *slog.Logger, services ...service) *listeners {
	return &listeners{services: services, logger: logger, ctx: ctx, open: map[string]*opened{}}
}

// wait returns when everything has ended, after ctx.
func (l *listeners) wait() { l.running.Wait() }

// addresses are those that are open, by service.
func (l *listeners) addresses() map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := map[string]string{}
	for name, o := range l.open {
		list[name] = o.listener.Addr().String()
	}
	return list
}

// move is a service that goes to another address.
type move struct {
	service
	address  string
	listener net.Listener // nil where the old listener must be closed first
}

// moves is what Prepare made.
type moves struct {
	all  *listeners
	list []move
}

// Prepare opens the addresses of a snapshot that are not open yet.
func (l *listeners) Prepare(s *config.Snapshot) (mgmt.Prepared, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := &moves{all: l}
	for _, sv := range l.services {
		address := sv.address(s)
		if o := l.open[sv.name]; o != nil && o.address == address {
			continue
		}
		var at net.Listener // nil, where one of our own is in the way, and goes
		listener, err := net.Listen("tcp", address)
		switch {
		case err == nil:
			at = listener
		case errors.Is(err, syscall.EADDRINUSE) && l.blocks(address):
		default:
			m.Discard()
			return nil, l.cannot(sv, err)
		}
		m.list = append(m.list, move{sv, address, at})
	}
	return m, nil
}

// Begin opens what can be opened of a snapshot's addresses.
func (l *listeners) Begin(s *config.Snapshot) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, sv := range l.services {
		address := sv.address(s)
		listener, err := net.Listen("tcp", address)
		if err != nil {
			errs = append(errs, l.cannot(sv, err))
			continue
		}
		l.begin(move{sv, address, listener})
	}
	return errors.Join(errs...)
}

func (l *listeners) cannot(sv service, err error) error {
	return fmt.Errorf("the management's %s listener: %w; name another address or port in deviceconfig/setting/management", sv.name, err)
}

// blocks reports whether the port is one of the management's own listeners,
// perhaps at an address that covers the new one, or is covered by it.
func (l *listeners) blocks(address string) bool {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	for _, o := range l.open {
		if _, taken, err := net.SplitHostPort(o.listener.Addr().String()); err == nil && taken == port {
			return true
		}
	}
	return false
}

// Discard closes what was opened for nothing.
func (m *moves) Discard() {
	for _, mv := range m.list {
		if mv.listener != nil {
			mv.listener.Close()
		}
	}
}

// Apply serves the new addresses and closes the old ones. It runs after a
// commit that cannot be taken back: an address that cannot be had after all is
// told in the gateway's messages, and the old one is opened again.
func (m *moves) Apply() {
	l := m.all
	l.mu.Lock()
	defer l.mu.Unlock()
	old := map[string]*opened{}
	for _, mv := range m.list {
		old[mv.name] = l.open[mv.name]
		if o := old[mv.name]; o != nil {
			o.listener.Close()
			delete(l.open, mv.name)
		}
	}
	for _, mv := range m.list {
		if mv.listener == nil {
			mv.listener, mv.address = l.again(mv, old[mv.name])
		}
		if mv.listener != nil {
			l.begin(mv)
		}
		if o := old[mv.name]; o != nil {
			time.AfterFunc(lingerTime, o.stop)
		}
	}
}

// again opens an address whose port was in use by the management itself.
func (l *listeners) again(mv move, old *opened) (net.Listener, string) {
	listener, err := net.Listen("tcp", mv.address)
	if err == nil {
		return listener, mv.address
	}
	l.logger.Error("a management listener cannot be opened", "service", mv.name, "address", mv.address, "err", err)
	if old == nil {
		return nil, ""
	}
	if listener, err = net.Listen("tcp", old.address); err != nil {
		l.logger.Error("the management listener of before cannot be opened again", "service", mv.name, "address", old.address, "err", err)
		return nil, ""
	}
	return listener, old.address
}

// begin serves. l.mu is held.
func (l *listeners) begin(mv move) {
	ctx, stop := context.WithCancel(l.ctx)
	l.open[mv.name] = &opened{listener: mv.listener, address: mv.address, stop: stop}
	l.running.Go(func() {
		defer stop()
		if err := mv.serve(ctx, lingering{mv.listener, ctx}); err != nil && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
			l.logger.Error("a management listener ended", "service", mv.name, "err", err)
		}
	})
}

// lingering is a listener that, once closed, keeps who accepts from it waiting
// until the service is stopped: connections outlive their listener for
// lingerTime.
type lingering struct {
	net.Listener
	ctx context.Context
}

const lingerTime = 24 * time.Hour

func (l lingering) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if errors.Is(err, net.ErrClosed) {
		<-l.ctx.Done()
	}
	return conn, err
}
