package daemon

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"moongate/internal/hsm/server"
)

// ntls serves the client protocol, and can be stopped and begun anew while the
// rest of the HSM goes on: with another certificate, or at another address.
type ntls struct {
	options server.Options // Certificate, Registerer and Serial are set for each server
	load    func() (tls.Certificate, error)
	serial  func() string

	requests chan restart

	mu      sync.Mutex
	current *generation // guarded by mu; nil while none serves
}

// generation is one server, from its listener's opening to its end.
type generation struct {
	server      *server.Server
	listener    net.Listener
	certificate tls.Certificate
	metrics     *prometheus.Registry
}

// restart asks run to serve anew, at an address.
type restart struct {
	listen string
	done   chan error
}

func newNTLS(options server.Options, load func() (tls.Certificate, error), serial func() string) *ntls {
	return &ntls{options: options, load: load, serial: serial, requests: make(chan restart)}
}

// open makes the next generation; it listens when open returns.
func (n *ntls) open(ctx context.Context, listen string) (*generation, error) {
	certificate, err := n.load()
	if err != nil {
		return nil, err
	}
	g := &generation{certificate: certificate, metrics: prometheus.NewRegistry()}
	options := n.options
	options.Certificate, options.Registerer, options.Serial = certificate, g.metrics, n.serial()
	if g.server, err = server.New(options); err != nil {
		return nil, err
	}
	if g.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", listen); err != nil {
		return nil, fmt.Errorf("listening for clients on %s: %w", listen, err)
	}
	return g, nil
}

// reopen is how long a port that this process has just closed is tried again.
const reopen = 2 * time.Second

// run serves the first generation, and those that restart asks for, until ctx
// is done. The error is that of a generation that ended by itself, or of a
// restart that could not begin again what it had ended.
func (n *ntls) run(ctx context.Context, first *generation) error {
	for g := first; ; {
		next, err := n.serve(ctx, g)
		if err != nil || next == nil {
			return err
		}
		g = next
	}
}

// serve serves one generation and returns the next, or nil at the end.
func (n *ntls) serve(ctx context.Context, g *generation) (*generation, error) {
	n.set(g)
	defer n.set(nil)
	serving, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- g.server.Serve(serving, g.listener) }()
	defer stop()
	for {
		select {
		case err := <-ended:
			return nil, err // nil after ctx
		case r := <-n.requests:
			next, err := n.replace(ctx, g, r.listen, func() error { stop(); return <-ended })
			if next == nil && !errors.Is(err, errStopped) {
				r.done <- err // and this generation goes on
				continue
			}
			r.done <- err
			return next, err
		}
	}
}

// errStopped says that the old generation has ended and none follows it.
var errStopped = errors.New("the client port is closed; start the HSM again")

// replace ends a generation for the next one. What can fail beforehand does
// so while the old one still serves.
func (n *ntls) replace(ctx context.Context, old *generation, listen string, end func() error) (*generation, error) {
	if listen != old.listener.Addr().String() {
		next, err := n.open(ctx, listen)
		if err != nil {
			return nil, err
		}
		return next, end()
	}
	if _, err := n.load(); err != nil {
		return nil, err
	}
	if err := end(); err != nil {
		return nil, errors.Join(errStopped, err)
	}
	for deadline := time.Now().Add(reopen); ; {
		next, err := n.open(ctx, listen)
		if err == nil {
			return next, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, errors.Join(errStopped, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (n *ntls) set(g *generation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.current = g
}

func (n *ntls) get() *generation {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.current
}

// restart serves anew at an address; empty is the one that it has.
func (n *ntls) restart(ctx context.Context, listen string) error {
	if listen == "" {
		g := n.get()
		if g == nil {
			return errStopped
		}
		listen = g.listener.Addr().String()
	}
	r := restart{listen, make(chan error, 1)}
	select {
	case n.requests <- r:
		return <-r.done
	case <-ctx.Done():
		return ctx.Err()
	}
}

// disconnect ends the connections of the client with a certificate's
// fingerprint (SHA-256, hex).
func (n *ntls) disconnect(fingerprint string) {
	g := n.get()
	var f server.Fingerprint
	if size, err := hex.Decode(f[:], []byte(fingerprint)); g == nil || err != nil || size != len(f) {
		return
	}
	g.server.Disconnect(f)
}

// address is where clients are served; empty while they are not.
func (n *ntls) address() string {
	if g := n.get(); g != nil {
		return g.listener.Addr().String()
	}
	return ""
}

// Gather implements prometheus.Gatherer: the numbers of the server that serves.
// A restart begins them anew, as a restart of the process would.
func (n *ntls) Gather() ([]*dto.MetricFamily, error) {
	if g := n.get(); g != nil {
		return g.metrics.Gather()
	}
	return nil, nil
}

// fingerprintOf is the SHA-256 of a certificate, in hex.
func fingerprintOf(c tls.Certificate) string {
	sum := sha256.Sum256(c.Certificate[0])
	return hex.EncodeToString(sum[:])
}
