package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"moongate/e2e/world"
)

// moongateName is the contestant that the others are compared with.
const moongateName = "moongate"

// startMoongate runs the gateway with its HSM, as two processes. Keys are the
// HSM's; each signature is one request over TLS and one line of the HSM's
// audit log, and each flow one record.
func startMoongate(ctx context.Context, s setting) (*contestant, error) {
	dir := filepath.Join(s.dir, moongateName)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	block, _ := pem.Decode(s.origin.CA)
	if block == nil {
		return nil, errors.New("the origin's CA is no PEM")
	}
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading the origin's CA: %w", err)
	}
	hsm, err := world.StartHSM(ctx, dir)
	if err != nil {
		return nil, err
	}
	gateway, err := startGateway(ctx, dir, hsm, s, root)
	if err != nil {
		return nil, errors.Join(err, hsm.Close())
	}
	return &contestant{
		name: moongateName, version: "this tree",
		watch:     map[string]int{"gateway": gateway.PID(), "hsm": hsm.PID()},
		forwardEC: gateway.Proxy, forwardRSA: gateway.Proxy, forwardRoots: bundle(gateway, "forward-trust", "forward-trust-ecdsa"),
		inboundEC: gateway.Inbound["ec"], inboundRSA: gateway.Inbound["rsa"], inboundRoots: bundle(gateway, "ec-ecdsa", "ec-rsa", "rsa-rsa"),
		close: func() error { return errors.Join(gateway.Close(), hsm.Close()) },
	}, nil
}

// startGateway configures the two protected servers on different addresses of
// one origin: a rule finds its certificates by the server's address.
func startGateway(ctx context.Context, dir string, hsm *world.HSM, s setting, root *x509.Certificate) (*world.Gateway, error) {
	partition, err := hsm.NewPartition(ctx, "bench")
	if err != nil {
		return nil, err
	}
	link, err := hsm.Register(ctx, "gateway", partition)
	if err != nil {
		return nil, err
	}
	return world.StartGateway(ctx, dir, link, world.GatewaySettings{
		TrustedRoots: []*x509.Certificate{root},
		Allowed:      []string{s.origin.Addr},
		Inbound: []world.Site{
			{Name: "ec", Server: s.origin.Addr, Hosts: []string{inboundName}},
			{Name: "rsa", Server: s.origin.Second, Hosts: []string{inboundName}, RSAOnly: true},
		},
	})
}

func bundle(g *world.Gateway, names ...string) []byte {
	var text []byte
	for _, name := range names {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: g.Certificates[name].Raw})...)
	}
	return text
}
