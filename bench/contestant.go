package main

import (
	"moongate/bench/origin"
)

// inboundName is the host whose certificate the contestants present inbound.
const inboundName = "app.ec" + origin.Domain

// contestant is one running program under comparison, known by its addresses.
// An empty address means that it does not take part there.
type contestant struct {
	name    string
	version string
	watch   map[string]int // its processes, by what they are called

	// Forward proxies (CONNECT), by the key of the origin's certificate.
	// Where the issuing CA's key follows it, or is set by the port, it is of
	// that type too.
	forwardEC, forwardRSA string
	forwardRoots          []byte // PEM of the issuing CAs

	// Inbound listeners, by the key that is presented for inboundName.
	inboundEC, inboundRSA string
	inboundRoots          []byte

	// direct stands for no proxy: the client talks to the origin.
	direct bool

	close func() error
}

// setting is what a contestant is started for.
type setting struct {
	dir     string // private; one directory below it for each contestant
	origin  *origin.Origin
	classic bool // no post-quantum groups at the client and the origin
}

// startDirect is the contestant that is not there: what client and origin can
// do by themselves.
func startDirect(s setting) *contestant {
	return &contestant{
		name: "direct", direct: true,
		forwardEC: s.origin.Addr, forwardRSA: s.origin.Addr, forwardRoots: s.origin.CA,
		inboundEC: s.origin.Addr, inboundRSA: s.origin.Addr, inboundRoots: s.origin.CA,
		close: func() error { return nil },
	}
}
