package plane

import (
	"sync"
	"sync/atomic"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
	"moongate/internal/gw/policy"
)

// Hit is how often a rule decided.
type Hit struct {
	Rule  string // empty for what no rule decided
	Kind  flow.Kind
	Count uint64
	First time.Time // zero before the first
	Last  time.Time
}

// hits counts the decisions of each rule, by name: the figures of a rule
// survive a change of it, and end with it.
type hits struct {
	rules    atomic.Pointer[ruleHits]
	fallback map[flow.Kind]*counter // never changes

	mu sync.Mutex // of those who replace rules
}

// ruleHits are the counters of one rule base. It does not change.
type ruleHits struct {
	order  []string
	byName map[string]*counter
}

// counter counts hits. Times are in Unix nanoseconds.
type counter struct {
	kind        flow.Kind
	count       atomic.Uint64
	first, last atomic.Int64
}

func newHits() *hits {
	h := &hits{fallback: map[flow.Kind]*counter{
		flow.Forward: {kind: flow.Forward}, flow.Inbound: {kind: flow.Inbound},
	}}
	h.rules.Store(&ruleHits{})
	return h
}

// follow makes the counters those of a snapshot's rules.
func (h *hits) follow(s *config.Snapshot) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.rules.Load()
	next := &ruleHits{order: make([]string, 0, len(s.Rules)), byName: make(map[string]*counter, len(s.Rules))}
	for i := range s.Rules {
		rule := &s.Rules[i]
		kind := flow.Forward
		if rule.Type == config.InboundInspection {
			kind = flow.Inbound
		}
		kept := before.byName[rule.Name]
		if kept == nil || kept.kind != kind {
			kept = &counter{kind: kind}
		}
		next.order, next.byName[rule.Name] = append(next.order, rule.Name), kept
	}
	h.rules.Store(next)
}

// decided counts a decision. One of a rule that is gone by now is not counted.
func (h *hits) decided(kind flow.Kind, d *policy.Decision) {
	c := h.fallback[kind]
	if d.Rule != "" {
		c = h.rules.Load().byName[d.Rule]
	}
	if c == nil {
		return
	}
	now := time.Now().UnixNano()
	c.count.Add(1)
	c.first.CompareAndSwap(0, now)
	c.last.Store(now)
}

func (c *counter) hit(rule string) Hit {
	return Hit{Rule: rule, Kind: c.kind, Count: c.count.Load(), First: moment(c.first.Load()), Last: moment(c.last.Load())}
}

func moment(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos)
}

func (c *counter) reset() {
	c.count.Store(0)
	c.first.Store(0)
	c.last.Store(0)
}

// Hits returns how often each rule decided, in the order of the rules, and
// behind them, without a name, how often none did: forward and inbound.
func (p *Plane) Hits() []Hit {
	rules := p.hits.rules.Load()
	list := make([]Hit, 0, len(rules.order)+2)
	for _, name := range rules.order {
		list = append(list, rules.byName[name].hit(name))
	}
	for _, kind := range []flow.Kind{flow.Forward, flow.Inbound} {
		list = append(list, p.hits.fallback[kind].hit(""))
	}
	return list
}

// ResetHits begins to count anew: the rules that are named, or, where none is,
// everything. It returns how many counters it set to zero.
func (p *Plane) ResetHits(names ...string) int {
	rules := p.hits.rules.Load()
	if len(names) > 0 {
		n := 0
		for _, name := range names {
			if c := rules.byName[name]; c != nil {
				c.reset()
				n++
			}
		}
		return n
	}
	for _, c := range rules.byName {
		c.reset()
	}
	for _, c := range p.hits.fallback {
		c.reset()
	}
	return len(rules.byName) + len(p.hits.fallback)
}
