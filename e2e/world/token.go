package world

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"moongate/client"
	"moongate/internal/gw/config"
	gateway "moongate/internal/gw/daemon"
	"moongate/internal/gw/p11host"
)

// Token is a token behind a PKCS#11 module of another maker's.
type Token struct {
	Module string // path
	Label  string
	PIN    string
	Env    []string // by which the module finds the token
}

// Serve runs moongate-p11 over the token, and returns a client of it, a Crypto
// Officer, with what ends both.
func (k *Token) Serve(ctx context.Context, dir string) (c *client.Client, end func() error, err error) {
	program, err := Program(ctx, "moongate-p11")
	if err != nil {
		return nil, nil, err
	}
	host, err := p11host.Start(p11host.Config{
		Module: k.Module, Token: k.Label, Program: program, Dir: dir, Env: k.Env,
		PIN: func() ([]byte, error) { return []byte(k.PIN), nil },
	})
	if err != nil {
		return nil, nil, err
	}
	settings := host.Client()
	settings.Role = client.RoleCryptoOfficer
	if c, err = client.Open(settings); err != nil {
		return nil, nil, errors.Join(err, host.Close())
	}
	if err := c.Ready(ctx); err != nil {
		return nil, nil, errors.Join(err, c.Close(), host.Close())
	}
	return c, func() error { return errors.Join(c.Close(), host.Close()) }, nil
}

// StartTokenGateway makes a gateway below dir, which must exist, whose HSM is a
// token behind a PKCS#11 module, and serves it on free ports.
func StartTokenGateway(ctx context.Context, dir string, token *Token, settings GatewaySettings) (*Gateway, error) {
	program, err := Program(ctx, "moongate")
	if err != nil {
		return nil, err
	}
	g := &Gateway{
		Dir: filepath.Join(dir, "gateway"), Inbound: map[string]string{}, Certificates: map[string]*x509.Certificate{},
		Env: token.Env, program: program,
	}
	g.files = gateway.In(g.Dir)
	for _, dir := range []string{g.files.Dir(), g.files.HSM(), g.files.Log()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(g.files.Password(), []byte(token.PIN), 0o600); err != nil {
		return nil, err
	}
	c, end, err := token.Serve(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("serving the token: %w", err)
	}
	if err := errors.Join(g.makeKeysOn(ctx, c, settings), end()); err != nil {
		return nil, fmt.Errorf("making the gateway's keys: %w", err)
	}
	b := config.NewBuilder()
	b.Set(providerPath+"/pkcs11/module", token.Module)
	b.Set(providerPath+"/pkcs11/token", token.Label)
	if err := g.configureTraffic(b, settings); err != nil {
		return nil, fmt.Errorf("configuring a gateway: %w", err)
	}
	return g, g.Start(ctx)
}

// TokenGateway starts a gateway with its keys on a token.
func (w Test) TokenGateway(token *Token, settings GatewaySettings) *Gateway {
	w.t.Helper()
	g, err := StartTokenGateway(w.t.Context(), w.Dir(), token, settings)
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

// Helper is the process id of the gateway's moongate-p11; 0 while there is none.
func (g *Gateway) Helper() (int, error) {
	processes, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, path := range processes {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// pid (name) state parent; proc(5)
		name, rest, found := bytes.Cut(stat, []byte(") "))
		fields := strings.Fields(string(rest))
		if !found || !bytes.HasSuffix(name, []byte("(moongate-p11")) || len(fields) < 2 || fields[0] == "Z" || fields[1] != strconv.Itoa(g.PID()) {
			continue
		}
		return strconv.Atoi(filepath.Base(filepath.Dir(path)))
	}
	return 0, nil
}
