package world

import (
	"context"
	"os"
	"strings"
)

// TB is the part of testing.TB that a Test needs, so that a program which is
// no test can import this package.
type TB interface {
	Helper()
	Context() context.Context
	Cleanup(func())
	Failed() bool
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Test is a world that ends with a test and tells its logs when that fails.
type Test struct{ t TB }

// T makes a world for a test.
func T(t TB) Test { return Test{t} }

// Dir makes a directory. Its path is short, since that of a socket has 107
// bytes, and a test's own directory repeats the test's name.
func (w Test) Dir() string {
	w.t.Helper()
	dir, err := os.MkdirTemp("", "world-")
	if err != nil {
		w.t.Fatalf("making a directory: %v", err)
	}
	w.t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			w.t.Errorf("removing %s: %v", dir, err)
		}
	})
	return dir
}

// HSM starts a network HSM.
func (w Test) HSM() *HSM {
	w.t.Helper()
	return w.HSMOn(nil)
}

// HSMOn starts a network HSM on a host.
func (w Test) HSMOn(host *Host, options ...string) *HSM {
	w.t.Helper()
	h, err := StartHSMOn(w.t.Context(), host, w.Dir(), options...)
	if err != nil {
		w.t.Fatalf("%v", err)
	}
	w.t.Cleanup(func() {
		if err := h.Close(); err != nil {
			w.t.Errorf("closing the HSM: %v", err)
		}
		if w.t.Failed() {
			w.t.Logf("the end of the HSM's log:\n%s", tail(h.Log()))
		}
	})
	return h
}

// Partition makes a partition on an HSM.
func (w Test) Partition(h *HSM, label string) *Partition {
	w.t.Helper()
	p, err := h.NewPartition(w.t.Context(), label)
	if err != nil {
		w.t.Fatalf("%v", err)
	}
	return p
}

// Register registers a client for a partition.
func (w Test) Register(h *HSM, name string, p *Partition) *Registered {
	w.t.Helper()
	r, err := h.Register(w.t.Context(), name, p)
	if err != nil {
		w.t.Fatalf("%v", err)
	}
	return r
}

// RegisterFrom registers a client on a host for a partition.
func (w Test) RegisterFrom(host *Host, h *HSM, name string, p *Partition) *Registered {
	w.t.Helper()
	r, err := h.RegisterFrom(w.t.Context(), host, name, p)
	if err != nil {
		w.t.Fatalf("%v", err)
	}
	return r
}

// shownLog is how much of a log a failed test shows, in bytes.
const shownLog = 8 << 10

func tail(log string) string {
	if len(log) <= shownLog {
		return log
	}
	_, rest, _ := strings.Cut(log[len(log)-shownLog:], "\n")
	return rest
}

// TestNetwork is a Network that ends with a test.
type TestNetwork struct {
	*Network
	t TB
}

// Network makes a network, and says where it is not of namespaces.
func (w Test) Network() TestNetwork {
	w.t.Helper()
	n, err := NewNetwork(w.t.Context())
	if err != nil {
		w.t.Fatalf("making a network: %v", err)
	}
	w.t.Cleanup(func() {
		if err := n.Close(); err != nil {
			w.t.Errorf("closing the network: %v", err)
		}
	})
	if !n.Namespaces {
		w.t.Logf("THE NETWORK IS OF LOOPBACK ADDRESSES, WITHOUT NAMESPACES: %s", n.Why)
	}
	return TestNetwork{n, w.t}
}

// Host adds a host.
func (n TestNetwork) Host(name string, addresses ...string) *Host {
	n.t.Helper()
	h, err := n.Network.Host(n.t.Context(), name, addresses...)
	if err != nil {
		n.t.Fatalf("%v", err)
	}
	return h
}
