package server

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// Every label has a bounded set of values: what is not in these tables counts
// as "other", whatever numbers a client or a backend makes up.

// mechanisms are those that have a label of their own.
var mechanisms = []object.MechanismType{
	object.MechRSAKeyPairGen, object.MechRSAPKCS, object.MechRSAOAEP, object.MechRSAPSS,
	object.MechSHA256HMAC, object.MechSHA384HMAC, object.MechSHA512HMAC, object.MechGenericSecretGen,
	object.MechECKeyPairGen, object.MechECDSA, object.MechECDH1Derive, object.MechRSAAESKeyWrap,
	object.MechEdwardsGen, object.MechMontgomeryGen, object.MechEdDSA,
	object.MechAESKeyGen, object.MechAESCBC, object.MechAESCBCPad, object.MechAESCTR, object.MechAESGCM,
	object.MechAESCMAC, object.MechAESKW, object.MechAESKWP, object.MechHKDFDerive,
}

const other = "other"

// noMechanism marks a request that names none.
const noMechanism = object.MechanismType(1<<32 - 1)

func mechanismLabel(m object.MechanismType) string {
	switch {
	case m == noMechanism:
		return ""
	case slices.Contains(mechanisms, m):
		return m.String()
	}
	return other
}

// outcomeLabel is "ok", or the words of a code that has any.
func outcomeLabel(code object.Code) string {
	if text := code.String(); !strings.HasPrefix(text, "error 0x") {
		return text
	}
	return other
}

// refusal is why a connection was not admitted.
type refusal string

const (
	refusedHandshakes refusal = "handshakes"  // too many in progress
	refusedEvicted    refusal = "evicted"     // silent, and another wanted its place
	refusedTLS        refusal = "tls"         // the handshake failed, or took too long
	refusedHello      refusal = "hello"       // malformed, late, no version in common
	refusedLimit      refusal = "limit"       // too many connections
	refusedUnknown    refusal = "not_allowed" // not registered, or for another address
	refusedOther      refusal = other
)

var refusals = []refusal{
	refusedHandshakes, refusedEvicted, refusedTLS, refusedHello, refusedLimit, refusedUnknown, refusedOther,
}

// refusalOf finds the reason in the backend's word on a peer.
func refusalOf(err error) refusal {
	var r refusedError
	if errors.As(err, &r) {
		return r.reason
	}
	switch object.CodeOf(err) {
	case object.ErrNotRegistered, object.ErrAddress:
		return refusedUnknown
	case object.ErrBusy:
		return refusedLimit
	case object.ErrProtocol, object.ErrVersion:
		return refusedHello
	}
	return refusedOther
}

// refusedError is an error with the reason under which it counts.
type refusedError struct {
	reason refusal
	error
}

func (e refusedError) Unwrap() error { return e.error }

// metrics are what a server counts. The usual way of an operation, one that
// succeeds, is a look-up in tables that are filled once.
type metrics struct {
	operations *prometheus.CounterVec
	latency    *prometheus.HistogramVec
	wait       *prometheus.HistogramVec
	cloned     *prometheus.CounterVec
	refused    map[refusal]prometheus.Counter

	// Of every request that was read, by its op's place in wire.Ops.
	ops       map[wire.Op]*opMetrics
	unknownOp *opMetrics
	waits     [paces]prometheus.Observer

	admitted   prometheus.Counter
	answered   atomic.Uint64
	failed     atomic.Uint64
	handshakes atomic.Uint64 // that failed
	refusedAll atomic.Uint64
	sessions   atomic.Int64
	inFlight   atomic.Int64
}

// opMetrics are those of one op.
type opMetrics struct {
	label   string
	latency prometheus.Observer
	// done counts successes, by the mechanism's place in mechanisms; the last
	// is that of requests without one. Filled as they are first needed, so
	// that what never happens has no line.
	done [32]atomic.Pointer[counter]
}

// counter is an interface with an address.
type counter struct{ prometheus.Counter }

// seconds are the buckets of latencies: a signature takes tens of
// microseconds, an RSA key seconds.
var seconds = []float64{
	50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 100e-3, 200e-3, 500e-3, 1, 2, 5, 10, 30,
}

func newMetrics(s *Server) (*metrics, error) {
	m := &metrics{
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "moongate_hsm_operations_total", Help: "Requests that were answered, by op, mechanism and outcome.",
		}, []string{"op", "mechanism", "outcome"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "moongate_hsm_operation_seconds", Help: "From a request's turn to its answer, without its wait in the queue.", Buckets: seconds,
		}, []string{"op"}),
		wait: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "moongate_hsm_queue_wait_seconds", Help: "From a request's reading to its turn, by pool.", Buckets: seconds,
		}, []string{"pool"}),
		cloned: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "moongate_hsm_cloned_objects_total", Help: "Objects of clones that were carried out, by direction and what became of them here.",
		}, []string{"direction", "outcome"}),
		admitted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "moongate_hsm_connections_total", Help: "Connections that were admitted.",
		}),
		refused: map[refusal]prometheus.Counter{},
		ops:     map[wire.Op]*opMetrics{},
	}
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "moongate_hsm_connections_refused_total", Help: "Connections that were not admitted, by reason.",
	}, []string{"reason"})
	for _, r := range refusals {
		m.refused[r] = refused.WithLabelValues(string(r))
	}
	for _, op := range wire.Ops() {
		m.ops[op] = &opMetrics{label: op.String(), latency: m.latency.WithLabelValues(op.String())}
	}
	m.unknownOp = &opMetrics{label: other, latency: m.latency.WithLabelValues(other)}
	for p := range m.waits {
		m.waits[p] = m.wait.WithLabelValues(pace(p).String())
	}
	return m, m.register(s, refused)
}

// register shows the metrics, and the server's gauges, to its registerer.
func (m *metrics) register(s *Server, refused prometheus.Collector) error {
	if s.options.Registerer == nil {
		return nil
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "moongate_hsm_" + name, Help: help}, value)
	}
	count := func(name, help string, value *atomic.Uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "moongate_hsm_" + name, Help: help},
			func() float64 { return float64(value.Load()) })
	}
	collectors := []prometheus.Collector{
		m.operations, m.latency, m.wait, m.cloned, m.admitted, refused,
		count("handshakes_failed_total", "TLS handshakes that failed or took too long.", &m.handshakes),
		gauge("connections", "Connections that are admitted.", func() float64 { return float64(s.connections()) }),
		gauge("handshakes", "Connections that are not admitted yet.", func() float64 { return float64(s.handshakes.count()) }),
		gauge("sessions", "Sessions that are open.", func() float64 { return float64(m.sessions.Load()) }),
		gauge("in_flight", "Requests that run.", func() float64 { return float64(m.inFlight.Load()) }),
	}
	for p, pool := range s.pools {
		collectors = append(collectors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "moongate_hsm_queue_length", Help: "Requests that wait for their turn, by pool.",
			ConstLabels: prometheus.Labels{"pool": pace(p).String()},
		}, func() float64 { return float64(pool.length()) }))
	}
	for _, c := range collectors {
		if err := s.options.Registerer.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// began notes that a request's turn has come.
func (m *metrics) began(r *request, now time.Time) {
	m.inFlight.Add(1)
	if r.head.Op != wire.OpPing { // which has no queue
		m.waits[r.pace].Observe(now.Sub(r.arrived).Seconds())
	}
}

// ended notes a request's outcome.
func (m *metrics) ended(r *request, code object.Code, took time.Duration) {
	m.inFlight.Add(-1)
	m.answered.Add(1)
	op := m.ops[r.head.Op]
	if op == nil {
		op = m.unknownOp
	}
	op.latency.Observe(took.Seconds())
	if code != object.OK {
		m.failed.Add(1)
		m.operations.WithLabelValues(op.label, mechanismLabel(r.mechanism), outcomeLabel(code)).Inc()
		return
	}
	m.success(op, r.mechanism).Inc()
}

func (m *metrics) success(op *opMetrics, mechanism object.MechanismType) prometheus.Counter {
	place := slices.Index(mechanisms, mechanism)
	if place < 0 {
		if mechanism != noMechanism { // a backend with mechanisms of its own
			return m.operations.WithLabelValues(op.label, other, object.OK.String())
		}
		place = len(op.done) - 1
	}
	if c := op.done[place].Load(); c != nil {
		return c
	}
	c := &counter{m.operations.WithLabelValues(op.label, mechanismLabel(mechanism), object.OK.String())}
	op.done[place].Store(c)
	return c
}

// clonedOut counts the objects of a package that was made, clonedIn those of
// one that was taken in.
func (m *metrics) clonedOut(objects int) {
	m.cloned.WithLabelValues("out", "sent").Add(float64(objects))
}

func (m *metrics) clonedIn(results []object.CloneResult) {
	for _, r := range results {
		m.cloned.WithLabelValues("in", r.Outcome.String()).Inc()
	}
}

// refuse counts a connection that was not admitted.
func (m *metrics) refuse(err error) {
	reason := refusalOf(err)
	if reason == refusedTLS {
		m.handshakes.Add(1)
	}
	m.refusedAll.Add(1)
	m.refused[reason].Inc()
}

// Stats are a server's numbers at one moment, and its counts since its start.
type Stats struct {
	Connections int // admitted
	Handshakes  int // not admitted yet
	Sessions    int
	Queued      int // requests that wait for their turn
	InFlight    int // requests that run

	Operations uint64 // requests that were answered
	Failed     uint64 // those that were refused or failed
	// Refused are connections that were not admitted; HandshakesFailed are
	// those of them that failed in TLS.
	Refused          uint64
	HandshakesFailed uint64
}

// Stats returns the numbers that the metrics show too.
func (s *Server) Stats() Stats {
	m := s.metrics
	stats := Stats{
		Connections: s.connections(), Handshakes: s.handshakes.count(),
		Sessions: int(m.sessions.Load()), InFlight: int(m.inFlight.Load()),
		Operations: m.answered.Load(), Failed: m.failed.Load(),
		Refused: m.refusedAll.Load(), HandshakesFailed: m.handshakes.Load(),
	}
	for _, p := range s.pools {
		stats.Queued += p.length()
	}
	return stats
}
