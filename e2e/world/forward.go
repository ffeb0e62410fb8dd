package world

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"sync"
)

// Forwarder takes connections on this machine's loopback and makes one from a
// host for each: how a client that is a part of this process, and dials in
// goroutines of its own, is on that host.
type Forwarder struct {
	Address string // on the loopback

	from   *Host
	to     string
	listen net.Listener
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	copies sync.WaitGroup
}

// NewForwarder forwards to an address, host:port, from a host.
func NewForwarder(from *Host, to string) (*Forwarder, error) {
	l, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		return nil, fmt.Errorf("forwarding to %s: %w", to, err)
	}
	f := &Forwarder{Address: l.Addr().String(), from: from, to: to, listen: l}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.copies.Go(f.accept)
	return f, nil
}

func (f *Forwarder) accept() {
	for {
		near, err := f.listen.Accept()
		if err != nil {
			return
		}
		f.copies.Go(func() { f.join(near) })
	}
}

// join copies both ways until either end is done; then both are.
func (f *Forwarder) join(near net.Conn) {
	defer near.Close()
	far, err := f.from.Dial(f.ctx, "tcp", f.to)
	if err != nil {
		return
	}
	defer far.Close()
	end := context.AfterFunc(f.ctx, func() { near.Close(); far.Close() })
	defer end()
	var back sync.WaitGroup
	back.Go(func() {
		io.Copy(near, far)
		near.Close()
	})
	io.Copy(far, near)
	far.Close()
	back.Wait()
}

// Close ends all connections.
func (f *Forwarder) Close() error {
	err := f.listen.Close()
	f.cancel()
	f.copies.Wait()
	return err
}

// forwarders are the ways from a host to some addresses. A nil host's are the
// addresses themselves.
type forwarders struct {
	from *Host
	list []*Forwarder
	err  error // of the first that could not be made
}

// to is the way to an address.
func (f *forwarders) to(address string) string {
	if f.from == nil {
		return address
	}
	forwarder, err := NewForwarder(f.from, address)
	if err != nil {
		f.err = cmp.Or(f.err, err)
		return address
	}
	f.list = append(f.list, forwarder)
	return forwarder.Address
}

func (f *forwarders) close() {
	for _, forwarder := range f.list {
		forwarder.Close()
	}
}

// Forward is NewForwarder, and ends with the test.
func (w Test) Forward(from *Host, to string) string {
	w.t.Helper()
	f, err := NewForwarder(from, to)
	if err != nil {
		w.t.Fatalf("%v", err)
	}
	w.t.Cleanup(func() {
		if err := f.Close(); err != nil {
			w.t.Errorf("closing the forwarder to %s: %v", to, err)
		}
	})
	return f.Address
}
