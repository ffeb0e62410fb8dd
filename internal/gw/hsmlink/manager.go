package hsmlink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"moongate/internal/gw/config"
	"moongate/internal/gw/keys"
	"moongate/internal/gw/vault"
)

// Options make a Manager. Dir, Device and Logger are needed.
type Options struct {
	Dir      string        // of the files; made where it is missing
	Device   *vault.Device // seals what is secret in them
	Version  string        // of this program
	Hostname string        // see SetHostname; "" is moongate
	Logger   *slog.Logger
	// Registerer receives the figures, all of them moongate_hsm_...; nil is
	// none.
	Registerer prometheus.Registerer
	// Events is told what belongs into the system log, in order, and must not
	// call the Manager. nil is nobody.
	Events func(Event)
	// Module is the program that serves PKCS#11 modules; "" is moongate-p11
	// beside this one.
	Module string
	// ModuleEnvironment is added to that program's, NAME=value.
	ModuleEnvironment []string
	Now               func() time.Time // nil is time.Now
}

// Manager owns what the gateway knows of its HSMs. It is safe for concurrent
// use.
type Manager struct {
	o     Options
	store *store

	events sync.Mutex // keeps events in order

	// acting is held by who changes what is known, so that two administrators
	// do not cross.
	acting sync.Mutex
	// grouping is held by who changes a group, or copies keys in it, which takes
	// its time. It is taken after acting, where both are.
	grouping sync.Mutex

	mu       sync.Mutex
	active   *Link      // what the gateway uses; guarded by mu
	links    []*Link    // those that are open; guarded by mu
	expected []Expected // guarded by mu
	hostname string     // guarded by mu
	closed   bool       // guarded by mu
	figures  *figures
}

// New opens the files. It connects to nothing: Open does.
func New(o Options) (*Manager, error) {
	if o.Dir == "" || o.Device == nil || o.Logger == nil {
		return nil, errors.New("hsmlink: no directory, device key or logger")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Hostname == "" {
		o.Hostname = "moongate"
	}
	s, err := openStore(o.Dir, o.Device, o.Logger, o.Now)
	if err != nil {
		return nil, err
	}
	m := &Manager{o: o, store: s, hostname: o.Hostname}
	m.figures = &figures{manager: m}
	if o.Registerer != nil {
		if err := o.Registerer.Register(m.figures); err != nil {
			return nil, fmt.Errorf("registering the HSM link's figures: %w", err)
		}
	}
	return m, nil
}

// Open makes the link of a configuration, and returns at once: whatever is
// missing or away is a state of the link, never an error. The Switch that it is
// given to activates it; until then and after, it is a connection like others.
func (m *Manager) Open(h *config.HSM) (keys.Link, error) {
	if h == nil {
		return keys.None{}, nil
	}
	if h.Provider == config.NetworkHSM {
		if err := m.store.makeIdentity(m.name()); err != nil {
			m.o.Logger.Error("the gateway's certificate for HSMs", "err", err)
		}
	}
	l := newLink(m, h)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		l.cancel()
		return nil, errors.New("opening the link to the HSM: the gateway is ending")
	}
	m.links = append(m.links, l)
	l.start()
	return l, nil
}

// Close ends every link and wipes what is in memory.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.closed = true
	links := slices.Clone(m.links)
	m.mu.Unlock()
	var errs []error
	for _, l := range links {
		errs = append(errs, l.Close())
	}
	if m.o.Registerer != nil {
		m.o.Registerer.Unregister(m.figures)
	}
	m.store.wipe()
	return errors.Join(errs...)
}

// SetHostname says what the gateway is called: the common name of certificates
// that are made from then on, and the name by which HSMs register it unless
// another is given. Both have at most 64 bytes: of a longer name, the first part.
func (m *Manager) SetHostname(name string) {
	if first, _, _ := strings.Cut(name, "."); len(name) > maxCommonName {
		name = first // of 63 at most
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hostname = name
}

// maxCommonName bounds a certificate's common name (RFC 5280, appendix A) and a
// client's name on an HSM, in bytes.
const maxCommonName = 64

func (m *Manager) name() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hostname
}

// Expect says which private keys certificates need, for the stage keys of each
// server. It returns at once.
func (m *Manager) Expect(list []Expected) {
	m.mu.Lock()
	m.expected = list
	active := m.active
	m.mu.Unlock()
	if active != nil {
		active.lookForKeys()
	}
}

func (m *Manager) expectations() []Expected {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.expected
}

// current is the link that the gateway uses; nil without one.
func (m *Manager) current() *Link {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.active
}

func (m *Manager) isActive(l *Link) bool { return m.current() == l }

// Status is how everything stands, from memory.
func (m *Manager) Status() Status {
	l := m.current()
	if l == nil {
		return Status{At: m.o.Now()}
	}
	return l.overview()
}

// Warnings is what an administrator should know before a configuration is
// committed. running is the one before; nil is none.
func (m *Manager) Warnings(running, next *config.HSM) []string {
	var list []string
	if next == nil || next.Provider != config.NetworkHSM {
		return nil
	}
	for _, server := range next.Servers {
		from, err := source(next.Source, server.Address)
		switch {
		case err != nil:
			list = append(list, fmt.Sprintf("route/service/entry[@name='hsm']: %v: HSM server %s cannot be reached until it has", err, server.Name))
		case !from.IsValid():
			if _, isAddress := parseAddr(server.Address); isAddress {
				from, _ = seenFrom(context.Background(), next.Source, server.Address, server.Port) // no way there: it is away
			}
		}
		if isDynamic(from) {
			list = append(list, fmt.Sprintf("connections to HSM server %s leave from %v, which was leased and may change: HSMs refuse clients that come from another address than they are registered for; give the machine a fixed one, or set route/service/entry[@name='hsm']", server.Name, from))
		}
	}
	if running != nil && running.Provider == config.NetworkHSM && running.Source != next.Source {
		list = append(list, "route/service/entry[@name='hsm']: the connections to the HSMs are made anew, from another address: handshakes wait for some seconds, and an HSM on which the gateway is registered for the old address refuses it")
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// server finds a server of the running configuration.
func (m *Manager) server(name string) (*Link, *module, error) {
	l := m.current()
	if l == nil || l.hsm.Provider != config.NetworkHSM {
		return nil, nil, errors.New("no network HSM is configured: set hsm-settings/provider/safenet-network and commit")
	}
	var names []string
	for _, mod := range l.modules {
		if mod.name == name {
			return l, mod, nil
		}
		names = append(names, mod.name)
	}
	return nil, nil, fmt.Errorf("no HSM server %q in the running configuration, which has %s", name, strings.Join(names, ", "))
}

// event tells an administrator of a change.
func (m *Manager) event(e Event) {
	m.events.Lock()
	defer m.events.Unlock()
	if m.o.Events != nil {
		m.o.Events(e)
	}
}
