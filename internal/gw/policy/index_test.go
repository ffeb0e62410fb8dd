package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
)

// randomRules are rules of every shape over a small world, so that many match.
func randomRules(r *rand.Rand, n int) []config.Rule {
	hosts := []string{"a.example", "b.example", "*.example", "*.a.example", "10.0.0.1", "*.test"}
	network := func() netip.Prefix {
		if r.IntN(4) == 0 {
			return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(r.IntN(4))}), 24+8*r.IntN(4)).Masked()
		}
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(r.IntN(3)), byte(r.IntN(3)), byte(r.IntN(3))}), 8*r.IntN(5)).Masked()
	}
	some := func(odds int, add func()) {
		if r.IntN(odds) == 0 {
			for range 1 + r.IntN(3) {
				add()
			}
		}
	}
	var rules []config.Rule
	for i := range n {
		rule := config.Rule{Name: fmt.Sprint(i), Type: config.ForwardProxy, Action: config.Decrypt, Profile: config.DefaultProfile()}
		if r.IntN(3) == 0 {
			rule.Type = config.InboundInspection
		}
		if r.IntN(2) == 0 {
			rule.Action = config.NoDecrypt
		}
		some(2, func() { rule.Source = append(rule.Source, network()) })
		some(2, func() { rule.Destination = append(rule.Destination, network()) })
		some(3, func() { rule.Hosts = append(rule.Hosts, hosts[r.IntN(len(hosts))]) })
		some(3, func() {
			first := uint16(440 + r.IntN(10))
			rule.Services = append(rule.Services, config.Service{Protocol: config.TCP, Ports: []config.PortRange{{First: first, Last: first + uint16(r.IntN(100))}}})
		})
		rule.NegateSource, rule.NegateDestination = rule.Source != nil && r.IntN(5) == 0, rule.Destination != nil && r.IntN(5) == 0
		rules = append(rules, rule)
	}
	return rules
}

// TestIndexIsTheList: the index finds what asking every rule in turn finds.
func TestIndexIsTheList(t *testing.T) {
	t.Parallel()
	matched := 0
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		p := Compile(&config.Snapshot{Rules: randomRules(r, 1+r.IntN(60))})
		names := []string{"", "a.example", "b.example", "c.a.example", "x.test", "10.0.0.1", "other"}
		address := func() netip.Addr {
			switch r.IntN(6) {
			case 0:
				return netip.Addr{}
			case 1:
				return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(r.IntN(4)), byte(r.IntN(2))})
			}
			return netip.AddrFrom4([4]byte{10, byte(r.IntN(3)), byte(r.IntN(3)), byte(r.IntN(3))})
		}
		for range 200 {
			f := Facts{Kind: flow.Forward, Client: address(), Server: address(), Host: names[r.IntN(len(names))], SNI: names[r.IntN(len(names))], Port: uint16(435 + r.IntN(120))}
			x := p.forward
			if r.IntN(3) == 0 {
				f.Kind, x = flow.Inbound, p.inbound
			}
			q := newQuery(f)
			want, got := "", ""
			for i := range p.rules {
				if p.rules[i].matches(&q) {
					want = p.rules[i].name
					matched++
					break
				}
			}
			if r := x.first(&q); r != nil {
				got = r.name
			}
			if got != want {
				t.Fatalf("seed %d, %+v: rule %q, want %q", seed, f, got, want)
			}
		}
	}
	if matched < 10_000 {
		t.Errorf("only %d of the flows met a rule", matched)
	}
}

// manyRules are n rules as a big site has them: most of them by one condition,
// with the same default in front of none.
func manyRules(n int) []config.Rule {
	rules := make([]config.Rule, 0, n)
	for i := range n {
		rule := config.Rule{Name: fmt.Sprintf("rule-%d", i), Type: config.ForwardProxy, Action: config.Decrypt, Profile: config.DefaultProfile()}
		a := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0})
		switch i % 4 {
		case 0:
			rule.Source = []netip.Prefix{netip.PrefixFrom(a, 24)}
		case 1:
			rule.Destination, rule.Services = []netip.Prefix{netip.PrefixFrom(a, 30)}, tcp(443)
		case 2:
			rule.Hosts, rule.Action = []string{fmt.Sprintf("*.site-%d.example", i), fmt.Sprintf("site-%d.example", i)}, config.NoDecrypt
		case 3:
			rule.Source, rule.Hosts = nets("10.0.0.0/8"), []string{fmt.Sprintf("site-%d.example", i)}
		}
		rules = append(rules, rule)
	}
	return rules
}

// BenchmarkDecide asks for a flow that no rule matches, which all of them would
// have to be asked about, and for one that the last rule matches.
func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		rules := manyRules(n)
		rules = append(rules, config.Rule{Name: "last", Type: config.ForwardProxy, Action: config.NoDecrypt, Hosts: []string{"last.example"}, Profile: config.DefaultProfile()})
		p := Compile(&config.Snapshot{Rules: rules, Exclusions: excluded("bank.example")})
		for name, host := range map[string]string{"none": "www.some.other.example", "last": "last.example"} {
			f := Facts{Kind: flow.Forward, Host: host, SNI: host, Port: 443, Client: netip.MustParseAddr("192.0.2.1"), Server: netip.MustParseAddr("198.51.100.1")}
			if got := p.Decide(f).Rule; (got == "last") != (name == "last") {
				b.Fatalf("%s: rule %q", name, got)
			}
			b.Run(fmt.Sprintf("rules=%d/%s", n, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					p.Decide(f)
				}
			})
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		s := &config.Snapshot{Rules: manyRules(n)}
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Compile(s)
			}
		})
	}
}
