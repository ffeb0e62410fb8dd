package plane

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
)

// manyRules are n rules that match nothing of what the tests do, each by its
// own host, network or both.
func manyRules(n int) []config.Rule {
	rules := make([]config.Rule, 0, n)
	for i := range n {
		rule := config.Rule{Name: fmt.Sprintf("rule-%d", i), Action: config.NoDecrypt}
		if i%3 != 0 {
			rule.Source = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)}
		}
		if i%3 != 1 {
			rule.Hosts = []string{fmt.Sprintf("*.site-%d.example", i)}
		}
		rules = append(rules, rule)
	}
	return rules
}

// discard is a sink that keeps nothing.
type discard struct{}

func (discard) Write(*flow.Record) {}

// BenchmarkPrepare is a change of the data plane, from the snapshot to the
// moment that the next connection is handled by it.
func BenchmarkPrepare(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			w := newWorld(b, func(o *Options) { o.Sink = discard{} })
			s := w.snapshot(manyRules(n)...)
			w.apply(s)
			var before, after runtime.MemStats
			b.ReportAllocs()
			for b.Loop() {
				w.apply(s)
			}
			runtime.GC()
			runtime.ReadMemStats(&before)
			held, err := w.plane.compile(s, nil)
			must(b, err)
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc)-float64(before.HeapAlloc), "held-bytes")
			runtime.KeepAlive(held)
		})
	}
}

// BenchmarkFlow is a whole flow, from CONNECT over both handshakes to its
// record, with few rules and with many.
func BenchmarkFlow(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		w := newWorld(b, nil)
		port := w.origin(&tls.Config{Certificates: []tls.Certificate{w.public.leaf(b, newKey(b), nil, "a.test")}})
		s := w.snapshot(manyRules(n)...)
		w.apply(s)
		w.see(s.Forward[0].Listen, "a.test:"+port, "Forward Trust")
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			began, done := time.Now(), 0
			for b.Loop() {
				client, err := reach(b, s.Forward[0].Listen, "a.test:"+port, nil)
				must(b, err)
				client.Close()
				w.record()
				done++
			}
			b.ReportMetric(float64(done)/time.Since(began).Seconds(), "flows/s")
		})
		w.stop()
	}
}
