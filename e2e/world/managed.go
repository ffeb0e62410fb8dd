package world

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"

	"moongate/internal/gw/config"
	gateway "moongate/internal/gw/daemon"
)

// StartManaged makes a gateway below dir, which must exist, that has its
// management and an administrator, and no HSM, no key and no listener for
// traffic yet.
func StartManaged(ctx context.Context, dir string) (*Gateway, error) {
	return StartManagedOn(ctx, nil, dir)
}

// StartManagedOn is StartManaged on a host, whose ports the management has.
func StartManagedOn(ctx context.Context, host *Host, dir string) (*Gateway, error) {
	program, err := Program(ctx, "moongate")
	if err != nil {
		return nil, err
	}
	g := &Gateway{
		Host: host,
		Dir:  filepath.Join(dir, "gateway"), Inbound: map[string]string{}, Certificates: map[string]*x509.Certificate{},
		program: program,
	}
	g.files = gateway.In(g.Dir)
	if err := g.configureAlone(); err != nil {
		return nil, fmt.Errorf("configuring a gateway: %w", err)
	}
	return g, g.Start(ctx)
}

// configureAlone writes the configuration of the management alone.
func (g *Gateway) configureAlone() error {
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	b := config.NewBuilder()
	if err := g.configureManagement(b, ports); err != nil {
		return err
	}
	text, err := b.Bytes()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(g.Dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(g.files.Config(), text, 0o600)
}

// Managed starts a gateway that has its management alone.
func (w Test) Managed() *Gateway {
	w.t.Helper()
	return w.ManagedOn(nil)
}

// ManagedOn is Managed on a host.
func (w Test) ManagedOn(host *Host) *Gateway {
	w.t.Helper()
	g, err := StartManagedOn(w.t.Context(), host, w.Dir())
	if err != nil {
		w.t.Fatalf("%v", err)
	}
	w.t.Cleanup(func() {
		if err := g.Close(); err != nil {
			w.t.Errorf("closing the gateway: %v", err)
		}
		if w.t.Failed() {
			w.t.Logf("the end of the gateway's log:\n%s", tail(g.Log()))
		}
	})
	return g
}
