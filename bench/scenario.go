package main

import (
	"time"

	"moongate/bench/load"
	"moongate/bench/origin"
)

// scenario is one kind of load, the same for every contestant that has an
// endpoint for it.
type scenario struct {
	id      string // for -only
	title   string
	names   origin.Names
	fresh   bool // each connection a name that no contestant has seen
	body    int  // 0: the small page
	keep    bool
	workers int
	metrics []metric
	// endpoint says where a contestant takes part, if it does.
	endpoint func(*contestant) (endpoint, bool)
	direct   bool // measure the client and the origin without a contestant too
}

// endpoint is where and how the load meets a contestant.
type endpoint struct {
	proxy  string // CONNECT through it; "" with direct TLS to target
	target string
	roots  []byte
}

// metric is one figure of a result.
type metric struct {
	unit string
	of   func(load.Result) float64
	// lowerIsBetter turns the reading of a ratio around.
	lowerIsBetter bool
}

var (
	rate       = metric{unit: "conn/s", of: load.Result.Rate}
	throughput = metric{unit: "MB/s", of: load.Result.Throughput}
	p50        = metric{unit: "ms p50", lowerIsBetter: true, of: func(r load.Result) float64 { return milliseconds(r.P50) }}
	p99        = metric{unit: "ms p99", lowerIsBetter: true, of: func(r load.Result) float64 { return milliseconds(r.P99) }}
)

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

const (
	// busyWorkers keep two cores busy with handshakes and leave no queue long
	// enough to time out.
	busyWorkers = 16
	bodyWorkers = 4
	bodySize    = 1 << 20
)

// scenarios are all there are, in the order of the table. The origin's address
// is where forward proxies are asked to connect to: the name is in the hello.
func scenarios(target string) []scenario {
	known := origin.Names{Pattern: "known.ec" + origin.Domain, Count: 1}
	forwardEC := func(c *contestant) (endpoint, bool) { return forward(c, c.forwardEC, target) }
	forwardRSA := func(c *contestant) (endpoint, bool) { return forward(c, c.forwardRSA, target) }
	inboundEC := func(c *contestant) (endpoint, bool) { return inbound(c, c.inboundEC) }
	inboundRSA := func(c *contestant) (endpoint, bool) { return inbound(c, c.inboundRSA) }
	inboundNames := origin.Names{Pattern: inboundName, Count: 1}
	return []scenario{
		{
			id: "forward-known", title: "forward, known host", names: known,
			workers: busyWorkers, metrics: []metric{rate}, endpoint: forwardEC, direct: true,
		},
		{
			id: "forward-new", title: "forward, new host each time, P-256", fresh: true,
			names:   origin.Names{Pattern: "n%d.ec" + origin.Domain},
			workers: busyWorkers, metrics: []metric{rate}, endpoint: forwardEC,
		},
		{
			id: "forward-new-rsa", title: "forward, new host each time, RSA-2048", fresh: true,
			names:   origin.Names{Pattern: "n%d" + origin.RSASuffix},
			workers: busyWorkers, metrics: []metric{rate}, endpoint: forwardRSA,
		},
		{
			id: "inbound-rsa", title: "inbound, RSA-2048 key", names: inboundNames,
			workers: busyWorkers, metrics: []metric{rate}, endpoint: inboundRSA,
		},
		{
			id: "inbound-ec", title: "inbound, P-256 key", names: inboundNames,
			workers: busyWorkers, metrics: []metric{rate}, endpoint: inboundEC,
		},
		{
			id: "forward-body", title: "forward, 1 MiB bodies", names: known, body: bodySize, keep: true,
			workers: bodyWorkers, metrics: []metric{throughput}, endpoint: forwardEC, direct: true,
		},
		{
			id: "inbound-body", title: "inbound, 1 MiB bodies", names: inboundNames, body: bodySize, keep: true,
			workers: bodyWorkers, metrics: []metric{throughput}, endpoint: inboundEC, direct: true,
		},
		{
			id: "forward-latency", title: "forward, known host, one at a time", names: known,
			workers: 1, metrics: []metric{p50, p99}, endpoint: forwardEC, direct: true,
		},
	}
}

func forward(c *contestant, proxy, target string) (endpoint, bool) {
	if c.direct {
		proxy = ""
	} else if proxy == "" {
		return endpoint{}, false
	}
	return endpoint{proxy: proxy, target: target, roots: c.forwardRoots}, true
}

func inbound(c *contestant, addr string) (endpoint, bool) {
	return endpoint{target: addr, roots: c.inboundRoots}, addr != ""
}

// takesPart says whether a contestant is measured in a scenario.
func (s scenario) takesPart(c *contestant) bool {
	_, ok := s.endpoint(c)
	return ok && (s.direct || !c.direct)
}
