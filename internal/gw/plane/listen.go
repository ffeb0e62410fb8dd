package plane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"moongate/internal/gw/flow"
	"moongate/internal/gw/intercept"
)

// service is a listener with what serves it.
type service struct {
	kind     flow.Kind
	name     string // for errors: the kind and the configuration's word
	address  string // as it was asked for
	listener *net.TCPListener
	runtime  *atomic.Pointer[intercept.Runtime]
	serve    func(context.Context, net.Listener) error
	retire   func()
	kept     func() (n, limit int) // TLS sessions with servers
}

// place is a listener of a configuration that is being prepared.
type place struct {
	kind    flow.Kind
	name    string
	address string
	runtime *intercept.Runtime
}

// listenAddress is where a listener is opened.
func listenAddress(configured netip.AddrPort, instead string) string {
	if instead == "" {
		return configured.String()
	}
	return net.JoinHostPort(instead, fmt.Sprint(configured.Port()))
}

// newService makes what serves a place on a socket.
func (p *Plane) newService(at place, listener *net.TCPListener) (*service, error) {
	s := &service{kind: at.kind, name: at.name, address: at.address, listener: listener, runtime: new(atomic.Pointer[intercept.Runtime])}
	s.runtime.Store(at.runtime)
	options := intercept.Options{
		Runtime: s.runtime, Sink: p.figures, Log: p.options.Logger, Resolver: p.options.Resolver,
		Table: p.table, Decided: p.hits.decided,
	}
	if at.kind == flow.Forward {
		proxy, err := intercept.NewProxy(options)
		if err != nil {
			return nil, err
		}
		s.serve, s.retire, s.kept = proxy.Serve, proxy.Retire, proxy.Kept
		return s, nil
	}
	gate, err := intercept.NewGate(options)
	if err != nil {
		return nil, err
	}
	s.serve, s.retire, s.kept = gate.Serve, gate.Retire, gate.Kept
	return s, nil
}

// open returns a socket that listens at the address. Where one of those that
// are about to leave has it, it is that one's, once more: clients that wait on
// it are served by whoever serves the other half. Where one of them stands in
// the way at another address of the same port (0.0.0.0 beside 127.0.0.1), it
// makes room.
func open(address string, leaving []*service) (*net.TCPListener, error) {
	for _, s := range leaving {
		if s.address == address {
			return twin(s.listener)
		}
	}
	listener, err := listen(address, false)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return listener, err
	}
	var beside []*net.TCPListener
	_, port, splitErr := net.SplitHostPort(address)
	for _, s := range leaving {
		if _, other, otherErr := net.SplitHostPort(s.address); splitErr == nil && otherErr == nil && other == port {
			beside = append(beside, s.listener)
		}
	}
	if len(beside) == 0 {
		return nil, err
	}
	// The port is shared for this one moment only, and only with a process of
	// the same user that asks to share it too: one that does not, such as
	// another gateway, finds it taken.
	for _, l := range beside {
		defer share(l, false)
		if err := share(l, true); err != nil {
			return nil, err
		}
	}
	listener, err = listen(address, true)
	if err == nil {
		err = share(listener, false)
	}
	return listener, err
}

// twin returns another listener on the same socket, which stays open until
// both are closed.
func twin(l *net.TCPListener) (*net.TCPListener, error) {
	file, err := l.File()
	if err != nil {
		return nil, fmt.Errorf("keeping the socket: %w", err)
	}
	defer file.Close()
	other, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("keeping the socket: %w", err)
	}
	return other.(*net.TCPListener), nil // as what it was made of
}

func listen(address string, shared bool) (*net.TCPListener, error) {
	var config net.ListenConfig
	if shared {
		config.Control = func(_, _ string, raw syscall.RawConn) error { return reusePort(raw, true) }
	}
	l, err := config.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil // which is what it makes for "tcp"
}

func share(l *net.TCPListener, on bool) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	return reusePort(raw, on)
}

func reusePort(raw syscall.RawConn, on bool) error {
	value := 0
	if on {
		value = 1
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, value)
	}); err != nil {
		return err
	}
	return failed
}
