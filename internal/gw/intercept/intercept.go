// Package intercept is the gateway's data plane: it takes clients'
// connections, looks at the TLS ClientHello, lets the policy decide, and then
// relays the connection as it is, ends it, or stands between its two halves
// with a TLS session on each.
//
// A decrypted flow goes through these steps, each a method named after it:
//
//	request   CONNECT host:port (RFC 9110, section 9.3.6), or an inbound connection
//	dial      resolve, check the address that is dialled, connect
//	hello     read the ClientHello (RFC 8446, section 4.1.2), decide
//	server    handshake with the server, with the client's own name and protocols
//	verify    judge the server's chain
//	certify   get what is presented to the client in the server's stead
//	client    finish the handshake with the client
//	relay     copy both ways until both sides have ended
//
// A flow that is not decrypted is relayed from the hello on, byte for byte, on
// Linux by splice. So is one that cannot be decrypted, where its profile would
// rather have it so than ended, and nothing was sent to the client (bypass.go).
// Whatever happens, a flow leaves exactly one flow.Record.
//
// Flows under way are in a Table, where they can be looked at and ended, and
// where handshakes wait while the HSM's sessions are made anew.
//
// # What a tunnel may hold
//
// A tunnel that does not begin with a TLS handshake record is refused, also to
// hosts that are excluded from decryption: it would be traffic of an unknown
// kind that nobody looked at and nobody would hear of. So are protocols in
// which the server speaks first: they end when the time for the hello is over.
// Client certificates are refused by name: the gateway cannot prove to be the
// client, and sites that ask for one belong on the exclusion list. So is early
// data (RFC 8446, section 4.2.10), which only a client sends that talked to the
// server without the gateway before.
//
// # Use
//
// Everything that configuration changes is in a Runtime, which is immutable
// and reached through one atomic pointer: store another one and new
// connections use it, while those under way keep theirs.
//
//	var current atomic.Pointer[intercept.Runtime]
//	current.Store(runtime)
//	proxy, err := intercept.NewProxy(intercept.Options{Runtime: &current, ...})
//	err = proxy.Serve(ctx, listener) // until ctx is done and the flows are drained
//
// A Gate does the same for one inbound listener.
package intercept

import (
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"moongate/internal/gw/flow"
	"moongate/internal/gw/policy"
)

// Verifier judges the chain that a server presented, leaf first, for a name (a
// host name or an IP address). It is called from many goroutines, for resumed
// sessions too, and must not wait for a network.
type Verifier interface {
	Verify(name string, chain []*x509.Certificate) *flow.Verdict
}

// Stand is what stands in for a server: who makes what clients are shown, and
// who judges what the server shows.
type Stand struct {
	Certifier flow.Certifier
	Verifier  Verifier
}

// Runtime is what connections are handled by. It is immutable.
type Runtime struct {
	Policy *policy.Policy
	// Destinations says where the proxy goes; a Gate does not ask it.
	Destinations *policy.Destinations
	// Stand serves the flows that are decrypted, but for those whose rule has
	// a stand of its own in ByRule.
	Stand
	ByRule map[string]Stand
	// Server is the protected server of a Gate, "host:port"; ServerName, where
	// it is set, is the name that it is asked for and must prove, instead of
	// the one that the client asks for. Both are unused in a Proxy.
	Server     string
	ServerName string
	Limits     Limits
}

// stand returns what stands in for the servers of a rule.
func (rt *Runtime) stand(rule string) Stand {
	if s, ok := rt.ByRule[rule]; ok && rule != "" {
		return s
	}
	return rt.Stand
}

// Limits bound what clients can make the gateway do. A zero field is its
// default.
type Limits struct {
	Connections    int           // clients at a time, for each listener; 10,000
	RequestTimeout time.Duration // for the headers of a proxy request; 15 s
	RequestHeader  int           // bytes of those headers; 64 KiB
	DialTimeout    time.Duration // name, TCP, and all addresses; 15 s
	HelloTimeout   time.Duration // from an open tunnel to a whole ClientHello; 15 s
	TLSTimeout     time.Duration // both handshakes together, hello included; 45 s
	IdleTimeout    time.Duration // no byte either way; 1 h
	HalfClosed     time.Duration // the same, once one side has ended; 2 min
	Drain          time.Duration // for flows under way at shutdown; 10 s
}

func (l Limits) withDefaults() Limits {
	set(&l.Connections, 10_000)
	set(&l.RequestTimeout, 15*time.Second)
	set(&l.RequestHeader, 64<<10)
	set(&l.DialTimeout, 15*time.Second)
	set(&l.HelloTimeout, 15*time.Second)
	set(&l.TLSTimeout, 45*time.Second)
	set(&l.IdleTimeout, time.Hour)
	set(&l.HalfClosed, 2*time.Minute)
	set(&l.Drain, 10*time.Second)
	return l
}

func set[T int | time.Duration](field *T, otherwise T) {
	if *field <= 0 {
		*field = otherwise
	}
}

// Options wire a Proxy or a Gate.
type Options struct {
	// Runtime is loaded once for each connection; it must hold one from the
	// start.
	Runtime *atomic.Pointer[Runtime]
	Sink    flow.Sink
	Log     *slog.Logger
	// Table holds the flows under way, those of other listeners too; nil is
	// one of its own.
	Table *Table
	// Decided hears of each flow's decision, once it is final; nil is nobody.
	// It must not wait.
	Decided func(flow.Kind, *policy.Decision)
	// Resolver finds servers' addresses; nil is the system's.
	Resolver *net.Resolver
}

func (o Options) check() error {
	switch {
	case o.Runtime == nil || o.Runtime.Load() == nil:
		return errors.New("intercept: no runtime")
	case o.Sink == nil:
		return errors.New("intercept: no sink for records")
	case o.Log == nil:
		return errors.New("intercept: no logger")
	}
	if o.Runtime.Load().Policy == nil {
		return errors.New("intercept: no policy")
	}
	return nil
}
