package client

import (
	"context"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"moongate/internal/hsm/server"
)

// TestUnixSocket: over a socket of this machine the same is spoken, pins and
// all.
func TestUnixSocket(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	o := k.options
	o.Backend = k
	s, err := server.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, listener) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}()

	k.address = "unix:" + path
	c := dial(t, k.config(t))
	if err := c.Ping(t.Context()); err != nil {
		t.Errorf("Ping: %v", err)
	}
	if status := c.Status(); status.Serial != "4711" {
		t.Errorf("the serial number is %q", status.Serial)
	}

	config := k.config(t)
	config.ServerCertificates = mustCertificates(t, newToken(t).certificate)
	if c, err := Dial(t.Context(), config); err == nil {
		c.Close()
		t.Error("a server with another certificate is believed on a unix socket")
	} else if !strings.Contains(err.Error(), "pinned is") {
		t.Errorf("another certificate: %v", err)
	}

	for address, change := range map[string]func(*Config){
		"unix:" + path: func(c *Config) { c.LocalAddress = netip.MustParseAddr("127.0.0.1") },
		"unix:s":       func(*Config) {},
		"unix:":        func(*Config) {},
	} {
		config := k.config(t)
		config.Address = address
		change(&config)
		if c, err := Open(config); err == nil {
			c.Close()
			t.Errorf("Open takes the address %q", address)
		} else if !strings.Contains(err.Error(), address) {
			t.Errorf("%q: %v", address, err)
		}
	}
	config = k.config(t)
	config.Address = "unix:" + path + "none"
	if c, err := Dial(t.Context(), config); err == nil {
		c.Close()
		t.Error("a socket that is not there")
	} else if e, is := err.(*Error); !is || e.Stage != StageTCP {
		t.Errorf("a socket that is not there: %v", err)
	}
}
