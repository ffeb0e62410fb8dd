package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"moongate/internal/hsm/wire"
)

// Options are what a Server is made of. Zero limits and times are the defaults
// that stand beside them.
type Options struct {
	Backend     Backend
	Certificate tls.Certificate // the HSM's, which clients pin
	Serial      string          // the HSM's, told to clients
	Software    string          // name and version, told to clients
	Logger      *slog.Logger    // nil is none
	// Registerer receives the server's metrics, all of them moongate_hsm_...;
	// nil is none. One registerer serves one server.
	Registerer prometheus.Registerer

	MaxConnections          int // of admitted clients; 1024
	MaxConnectionsPerClient int // by certificate; 32
	MaxHandshakes           int // connections that are not admitted yet; 1024
	MaxHandshakesPerAddress int // the same, from one IP address; 512
	MaxSessions             int // of one connection; 64
	MaxInFlight             int // requests of one connection; 128
	MaxBuffered             int // bytes of one connection's requests and answers; 2 MiB
	MaxBufferedPerClient    int // the same of all connections of one client; 8 MiB

	Workers      int // requests that run at once; twice the CPUs, 4 at least
	SlowWorkers  int // the same for those that wait (see paceOf); the CPUs, 4 at least
	HeavyWorkers int // the same for those that compute for long; half the CPUs, 1 at least

	HandshakeTimeout time.Duration // from accept to the answer of Hello; 10 s
	IdleTimeout      time.Duration // between frames; 5 min
	FrameTimeout     time.Duration // within a frame; 10 s
	WriteTimeout     time.Duration // for a client to read its answers; 20 s
	Grace            time.Duration // for requests in flight at the end; 5 s
}

// Server serves a Backend to clients over TLS.
type Server struct {
	options    Options
	log        *slog.Logger
	tls        *tls.Config
	pools      [paces]*pool
	handshakes *handshakes
	strangers  *logLimit
	metrics    *metrics
	buffers    sync.Pool // of *buffer: answers on their way to clients

	mu      sync.Mutex
	conns   map[*conn]struct{}      // admitted, or about to be; guarded by mu
	clients map[Fingerprint]*tenant // those with a connection; guarded by mu
}

// tenant is what a client's connections share.
type tenant struct {
	conns  int // guarded by Server.mu
	lanes  [paces]lane
	budget *budget
}

// New returns a server. The error says what of the options cannot work.
func New(o Options) (*Server, error) {
	switch {
	case o.Backend == nil:
		return nil, errors.New("hsm server: no backend")
	case len(o.Certificate.Certificate) == 0 || o.Certificate.PrivateKey == nil:
		return nil, errors.New("hsm server: no certificate, or none with its key")
	case len(o.Serial) > wire.MaxSerial:
		return nil, fmt.Errorf("hsm server: serial number has %d bytes, at most %d", len(o.Serial), wire.MaxSerial)
	case len(o.Software) > wire.MaxSoftware:
		return nil, fmt.Errorf("hsm server: software has %d bytes, at most %d", len(o.Software), wire.MaxSoftware)
	}
	cpus := runtime.NumCPU()
	for _, d := range []struct {
		value    *int
		fallback int
	}{
		{&o.MaxConnections, 1024},
		{&o.MaxConnectionsPerClient, 32},
		{&o.MaxHandshakes, 1024},
		{&o.MaxHandshakesPerAddress, 512},
		{&o.MaxSessions, 64},
		{&o.MaxInFlight, 128},
		{&o.MaxBuffered, wire.MaxCharge},
		{&o.MaxBufferedPerClient, max(8<<20, o.MaxBuffered)},
		{&o.Workers, max(4, 2*cpus)},
		{&o.SlowWorkers, max(4, cpus)},
		{&o.HeavyWorkers, max(1, cpus/2)},
	} {
		if *d.value <= 0 {
			*d.value = d.fallback
		}
	}
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&o.HandshakeTimeout, 10 * time.Second},
		{&o.IdleTimeout, 5 * time.Minute},
		{&o.FrameTimeout, 10 * time.Second},
		{&o.WriteTimeout, 20 * time.Second},
		{&o.Grace, 5 * time.Second},
	} {
		if *d.value <= 0 {
			*d.value = d.fallback
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		options:    o,
		log:        o.Logger,
		tls:        tlsConfig(o.Certificate),
		handshakes: newHandshakes(o.MaxHandshakes, o.MaxHandshakesPerAddress, max(1, cpus/2)),
		strangers:  &logLimit{log: o.Logger},
		buffers:    sync.Pool{New: func() any { return new(buffer) }},
		conns:      map[*conn]struct{}{},
		clients:    map[Fingerprint]*tenant{},
	}
	s.pools = [paces]*pool{quick: newPool(o.Workers), slow: newPool(o.SlowWorkers), heavy: newPool(o.HeavyWorkers)}
	var err error
	if s.metrics, err = newMetrics(s); err != nil {
		return nil, fmt.Errorf("hsm server: registering metrics: %w", err)
	}
	return s, nil
}

// tlsConfig is that of docs/wire.md. A client proves in the handshake that it
// holds its certificate's key; whether it is registered is the backend's to
// say, as the answer to Hello, which tells a person more than an alert.
func tlsConfig(certificate tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:                  tls.VersionTLS13,
		NextProtos:                  []string{wire.ALPN},
		Certificates:                []tls.Certificate{certificate},
		ClientAuth:                  tls.RequireAnyClientCert,
		SessionTicketsDisabled:      true,
		CurvePreferences:            []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256},
		DynamicRecordSizingDisabled: true,
		GetConfigForClient:          onHello,
	}
}

// Serve accepts connections until ctx is done, then lets requests in flight
// end within Options.Grace. It closes the listener, and everything that it
// started has ended when it returns. The error is the listener's, nil after
// ctx. A Server serves once.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	s.checkFiles()
	for _, p := range s.pools {
		p.start()
	}
	var connections sync.WaitGroup
	defer func() {
		connections.Wait()
		for _, p := range s.pools {
			p.close()
		}
	}()
	// Connections are told to end whichever way the accepting does.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	defer listener.Close()

	for {
		raw, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if !isTransient(err) {
				return fmt.Errorf("accepting clients: %w", err)
			}
			s.log.Error("accepting clients", "error", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		from := remote(raw)
		waiting := s.handshakes.begin(raw, from.Addr(), time.Now())
		if waiting == nil {
			s.metrics.refuse(refusedError{refusedHandshakes, errHandshakes})
			s.strangers.warn(from, errHandshakes)
			raw.Close()
			continue
		}
		c := newConn(s, waiting, from)
		connections.Go(func() { c.serve(ctx) })
	}
}

// isTransient reports whether Accept may work again, as when the process is
// out of file descriptors.
func isTransient(err error) bool {
	var temporary interface{ Temporary() bool }
	return errors.As(err, &temporary) && temporary.Temporary()
}

func remote(c net.Conn) netip.AddrPort {
	if tcp, is := c.RemoteAddr().(*net.TCPAddr); is {
		at := tcp.AddrPort()
		return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	}
	return netip.AddrPort{}
}

var errHandshakes = errors.New("too many connections are not admitted yet")

// checkFiles warns where connections would meet the process's limit of open
// files before their own. Go has raised the soft limit to the hard one.
func (s *Server) checkFiles() {
	const others = 64 // the store, the log, listeners, administration
	need := uint64(s.options.MaxConnections + s.options.MaxHandshakes + others)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil && limit.Cur < need {
		s.log.Warn("the limit of open files is lower than that of connections; raise LimitNOFILE",
			"limit", limit.Cur, "needed", need)
	}
}

// connections is how many are admitted.
func (s *Server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// add enters a connection whose peer is known, before the backend is asked, so
// that Disconnect finds it. It reports why there is no room.
func (s *Server) add(c *conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= s.options.MaxConnections {
		return fmt.Errorf("the HSM has %d connections, its limit", len(s.conns))
	}
	t := s.clients[c.peer.Fingerprint]
	if t == nil {
		t = &tenant{budget: newBudget(s.options.MaxBufferedPerClient)}
		s.clients[c.peer.Fingerprint] = t
	}
	if t.conns >= s.options.MaxConnectionsPerClient {
		return fmt.Errorf("this client has %d connections, its limit", t.conns)
	}
	t.conns++
	s.conns[c] = struct{}{}
	c.tenant = t
	return nil
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if c.tenant.conns--; c.tenant.conns == 0 {
		delete(s.clients, c.peer.Fingerprint)
	}
}

// Disconnect cuts every connection of a client at once: answers that are not
// sent yet never are. It returns how many there were. Call it after the
// backend has begun to refuse the client.
func (s *Server) Disconnect(client Fingerprint) int {
	var cut []*conn
	s.mu.Lock()
	for c := range s.conns {
		if c.peer.Fingerprint == client {
			cut = append(cut, c)
		}
	}
	s.mu.Unlock()
	for _, c := range cut {
		c.cut(errDisconnected)
	}
	return len(cut)
}

var errDisconnected = errors.New("the client's registration was changed")
