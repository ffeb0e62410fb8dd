package plane

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"moongate/internal/gw/flow"
)

// figures are the data plane's, for Prometheus and for `show counter global`.
// They are taken from the records of flows that ended, on their way to the
// sink, and cost a flow under way nothing.
type figures struct {
	plane *Plane

	mu    sync.Mutex
	flows map[flowLabels]uint64 // guarded by mu, as what follows
	legs  map[legLabels]uint64
	bytes [2]uint64 // up, down
	calls uint64    // of the HSM
	spent time.Duration
}

type flowLabels struct {
	kind    flow.Kind
	action  string
	outcome string // ok, or the stage at which it failed
	bypass  flow.Bypass
}

type legLabels struct {
	leg, version string
	resumed      bool
}

// The figures, as Prometheus has them.
var (
	flowsDesc     = prometheus.NewDesc("moongate_flows_total", "Flows that ended.", []string{"kind", "action", "outcome", "bypass"}, nil)
	legsDesc      = prometheus.NewDesc("moongate_handshakes_total", "TLS handshakes that were finished.", []string{"leg", "version", "resumed"}, nil)
	bytesDesc     = prometheus.NewDesc("moongate_relayed_bytes_total", "Bytes of flows that ended.", []string{"direction"}, nil)
	callsDesc     = prometheus.NewDesc("moongate_hsm_calls_total", "Calls of the HSM made for flows that ended.", nil, nil)
	spentDesc     = prometheus.NewDesc("moongate_hsm_seconds_total", "Time that those calls took.", nil, nil)
	activeDesc    = prometheus.NewDesc("moongate_sessions_active", "Flows under way.", []string{"decrypted"}, nil)
	connectedDesc = prometheus.NewDesc("moongate_hsm_connected", "Whether keys on the HSM can be used (1) or not (0).", nil, nil)
)

func newFigures(p *Plane) *figures {
	return &figures{plane: p, flows: map[flowLabels]uint64{}, legs: map[legLabels]uint64{}}
}

// Write counts a record and passes it on, unless its rule keeps it silent.
func (f *figures) Write(r *flow.Record) {
	f.count(r)
	if !r.Silent {
		f.plane.options.Sink.Write(r)
	}
}

func (f *figures) count(r *flow.Record) {
	outcome := "ok"
	if r.FailureStage != "" {
		outcome = string(r.FailureStage)
	}
	action := r.Action
	if action == "" {
		action = "none"
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flows[flowLabels{r.Kind, action, outcome, r.Bypass}]++
	for name, leg := range map[string]*flow.Leg{"client": r.ClientLeg, "server": r.ServerLeg} {
		if leg != nil {
			f.legs[legLabels{name, leg.Version, leg.Resumed}]++
		}
	}
	f.bytes[0] += uint64(r.BytesUp)
	f.bytes[1] += uint64(r.BytesDown)
	f.calls += uint64(r.HSMCalls)
	f.spent += time.Duration(r.HSMTime)
}

// Describe is prometheus.Collector's.
func (f *figures) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{flowsDesc, legsDesc, bytesDesc, callsDesc, spentDesc, activeDesc, connectedDesc} {
		to <- d
	}
}

// Collect is prometheus.Collector's.
func (f *figures) Collect(to chan<- prometheus.Metric) {
	f.each(func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, kind, value, labels...)
	})
}

// each tells of every figure.
func (f *figures) each(tell func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for l, n := range f.flows {
		tell(flowsDesc, prometheus.CounterValue, float64(n), string(l.kind), l.action, l.outcome, string(l.bypass))
	}
	for l, n := range f.legs {
		tell(legsDesc, prometheus.CounterValue, float64(n), l.leg, l.version, yesNo(l.resumed))
	}
	tell(bytesDesc, prometheus.CounterValue, float64(f.bytes[0]), "up")
	tell(bytesDesc, prometheus.CounterValue, float64(f.bytes[1]), "down")
	tell(callsDesc, prometheus.CounterValue, float64(f.calls))
	tell(spentDesc, prometheus.CounterValue, f.spent.Seconds())
	all, decrypted := f.plane.table.Count()
	tell(activeDesc, prometheus.GaugeValue, float64(decrypted), "yes")
	tell(activeDesc, prometheus.GaugeValue, float64(all-decrypted), "no")
	connected := 0.0
	if f.plane.options.HSM.Status().Ready {
		connected = 1
	}
	tell(connectedDesc, prometheus.GaugeValue, connected)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// Counter is one of the data plane's figures since its start.
type Counter struct {
	Name        string // lower case with underscores
	Value       uint64
	Description string
}

// Counters returns the data plane's figures by name, those that are zero left
// out.
func (p *Plane) Counters() []Counter {
	f := p.figures
	sums := map[string]*Counter{}
	add := func(name string, n uint64, description string) {
		if n == 0 {
			return
		}
		if sums[name] == nil {
			sums[name] = &Counter{Name: name, Description: description}
		}
		sums[name].Value += n
	}
	f.mu.Lock()
	for l, n := range f.flows {
		add("flow_"+word(string(l.kind)), n, "Flows that ended, "+string(l.kind))
		add("flow_action_"+word(l.action), n, "Flows that ended, action "+l.action)
		if l.outcome != "ok" {
			add("flow_failed_"+word(l.outcome), n, "Flows that failed at stage "+l.outcome)
		}
		if l.bypass != "" {
			add("flow_bypass_"+word(string(l.bypass)), n, "Flows that were relayed undecrypted although a rule says decrypt: "+string(l.bypass))
		}
	}
	for l, n := range f.legs {
		add("tls_"+l.leg+"_"+word(l.version), n, "Handshakes with the "+l.leg+", "+l.version)
		if l.resumed {
			add("tls_"+l.leg+"_resumed", n, "Handshakes with the "+l.leg+" that resumed a session")
		}
	}
	add("bytes_up", f.bytes[0], "Bytes from clients to servers, of flows that ended")
	add("bytes_down", f.bytes[1], "Bytes from servers to clients, of flows that ended")
	add("hsm_calls", f.calls, "Calls of the HSM made for flows")
	add("hsm_milliseconds", uint64(f.spent.Milliseconds()), "Time that calls of the HSM took")
	f.mu.Unlock()
	all, decrypted := p.table.Count()
	add("session_active", uint64(all), "Flows under way")
	add("session_active_decrypted", uint64(decrypted), "Flows under way that are decrypted")
	list := make([]Counter, 0, len(sums))
	for _, c := range sums {
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b Counter) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// word makes a word of a counter's name of a value.
func word(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, strings.ToLower(s))
}
