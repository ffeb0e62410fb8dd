package policy

import (
	"net/netip"
	"testing"

	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
)

func tcp(ports ...uint16) []config.Service {
	s := config.Service{Protocol: config.TCP}
	for _, p := range ports {
		s.Ports = append(s.Ports, config.PortRange{First: p, Last: p})
	}
	return []config.Service{s}
}

// TestConditions: each condition of a rule alone, and what it makes of a flow
// of which a part is not known.
func TestConditions(t *testing.T) {
	t.Parallel()
	type f struct {
		kind        flow.Kind
		client      string
		server      string
		host, sni   string
		port        uint16
		want, clear bool // clear: want is what a rule that does not decrypt does, otherwise one that does
	}
	tests := []struct {
		name  string
		rule  config.Rule
		flows []f
	}{
		{"source", config.Rule{Source: nets("10.0.0.0/8")}, []f{
			{client: "10.1.2.3", want: true}, {client: "::ffff:10.1.2.3", want: true}, {client: "11.1.2.3"}, {}}},
		{"source negated", config.Rule{Source: nets("10.0.0.0/8", "2001:db8::/32"), NegateSource: true}, []f{
			{client: "10.1.2.3"}, {client: "2001:db8::5"}, {client: "11.1.2.3", want: true}, {client: "2001:db9::5", want: true}, {}}},
		{"destination", config.Rule{Destination: nets("192.0.2.0/24")}, []f{
			{server: "192.0.2.7", want: true}, {server: "192.0.3.7"}, {}}},
		{"destination negated", config.Rule{Destination: nets("192.0.2.0/24"), NegateDestination: true}, []f{
			{server: "192.0.2.7"}, {server: "192.0.3.7", want: true}, {}}},
		{"ports", config.Rule{Services: append(tcp(443, 8443), config.Service{Protocol: config.TCP, Ports: []config.PortRange{{First: 9000, Last: 9010}}})}, []f{
			{port: 443, want: true}, {port: 8443, want: true}, {port: 9000, want: true}, {port: 9010, want: true}, {port: 9011}, {port: 444}, {}}},
		{"a wide range", config.Rule{Services: []config.Service{{Protocol: config.TCP, Ports: []config.PortRange{{First: 1, Last: 65535}}}}}, []f{
			{port: 1, want: true}, {port: 65535, want: true}}},
		{"UDP", config.Rule{Services: []config.Service{{Protocol: config.UDP, Ports: []config.PortRange{{First: 443, Last: 443}}}}}, []f{
			{port: 443}}},
		{"host, decrypt", config.Rule{Hosts: []string{"bank.example", "*.shop.example", "203.0.113.7"}}, []f{
			{host: "bank.example", want: true}, {host: "BANK.example.", sni: "Bank.Example", want: true}, {host: "a.bank.example"},
			{host: "a.b.shop.example", want: true}, {host: "shop.example"}, {host: "::ffff:203.0.113.7", want: true},
			{host: "bank.example", sni: "evil.example", want: true}, {host: "evil.example", sni: "bank.example", want: true}, {host: "evil.example"}}},
		{"host, no-decrypt", config.Rule{Hosts: []string{"bank.example", "*.shop.example"}}, []f{
			{clear: true, host: "bank.example", want: true}, {clear: true, host: "bank.example", sni: "bank.example", want: true},
			{clear: true, host: "bank.example", sni: "a.shop.example", want: true}, // both are in it
			{clear: true, host: "bank.example", sni: "evil.example"}, {clear: true, host: "evil.example", sni: "bank.example"}}},
		{"host, inbound", config.Rule{Type: config.InboundInspection, Hosts: []string{"shop.example"}}, []f{
			{kind: flow.Inbound, host: "192.0.2.1", sni: "shop.example", want: true}, {kind: flow.Inbound, host: "shop.example", want: true},
			{kind: flow.Inbound, host: "shop.example", sni: "other.example"}, {kind: flow.Forward, host: "shop.example"}}},
		{"all", config.Rule{Source: nets("10.0.0.0/8"), Destination: nets("192.0.2.0/24"), Hosts: []string{"*.example"}, Services: tcp(443)}, []f{
			{client: "10.0.0.1", server: "192.0.2.1", host: "a.example", port: 443, want: true},
			{client: "9.0.0.1", server: "192.0.2.1", host: "a.example", port: 443}, {client: "10.0.0.1", server: "192.0.3.1", host: "a.example", port: 443},
			{client: "10.0.0.1", server: "192.0.2.1", host: "a.test", port: 443}, {client: "10.0.0.1", server: "192.0.2.1", host: "a.example", port: 444}}},
	}
	for _, test := range tests {
		for i, f := range test.flows {
			rule := test.rule
			rule.Name, rule.Profile, rule.Action = "it", config.DefaultProfile(), config.Decrypt
			if f.clear {
				rule.Action = config.NoDecrypt
			}
			facts := Facts{Kind: f.kind, Host: f.host, SNI: f.sni, Port: f.port}
			if facts.Kind == "" {
				facts.Kind = flow.Forward
			}
			if f.client != "" {
				facts.Client = netip.MustParseAddr(f.client)
			}
			if f.server != "" {
				facts.Server = netip.MustParseAddr(f.server)
			}
			got := Compile(&config.Snapshot{Rules: []config.Rule{rule}}).Decide(facts)
			if (got.Rule == "it") != f.want {
				t.Errorf("%s, %d: %+v: decided by rule %q (%s)", test.name, i, facts, got.Rule, got.Reason)
			}
		}
	}
}

// TestProfileFields: what the configuration says of a profile reaches the data
// plane, each field by itself.
func TestProfileFields(t *testing.T) {
	t.Parallel()
	standard := compileProfile(config.DefaultProfile())
	if standard.NoECDHE || standard.RSAKeyExchange || standard.Forward != (Relaxed{}) || standard.Inbound != (Relaxed{}) || standard.MaxVersion != TLS13 {
		t.Errorf("the default profile is %+v", standard)
	}
	for name, test := range map[string]struct {
		change func(*config.Profile)
		holds  func(*Profile) bool
	}{
		"hsm, forward": {func(p *config.Profile) { p.BlockHSMUnavailable = false }, func(p *Profile) bool {
			return !p.BlocksHSMUnavailable(flow.Forward) && p.BlocksHSMUnavailable(flow.Inbound)
		}},
		"hsm, inbound": {func(p *config.Profile) { p.InboundBlockHSMUnavailable = false }, func(p *Profile) bool {
			return p.BlocksHSMUnavailable(flow.Forward) && !p.BlocksHSMUnavailable(flow.Inbound)
		}},
		"version, forward": {func(p *config.Profile) { p.BlockUnsupportedVersion = false }, func(p *Profile) bool {
			return !p.BlocksUnsupportedVersion(flow.Forward) && p.BlocksUnsupportedVersion(flow.Inbound)
		}},
		"version, inbound": {func(p *config.Profile) { p.InboundBlockUnsupportedVersion = false }, func(p *Profile) bool {
			return p.BlocksUnsupportedVersion(flow.Forward) && !p.BlocksUnsupportedVersion(flow.Inbound)
		}},
		"no ECDHE": {func(p *config.Profile) { p.ECDHEKeyExchange, p.RSAKeyExchange = false, true }, func(p *Profile) bool {
			return p.NoECDHE && p.RSAKeyExchange && p.MinVersion == TLS12 && p.MaxVersion == TLS13
		}},
		"neither": {func(p *config.Profile) { p.ECDHEKeyExchange = false }, func(p *Profile) bool { return p.MinVersion == TLS13 }},
	} {
		profile := config.DefaultProfile()
		test.change(&profile)
		if got := compileProfile(profile); !test.holds(got) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestCheckVersions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		min, max uint16
		offered  []uint16
		ok       bool
	}{
		{TLS12, TLS13, nil, true},
		{TLS12, TLS13, []uint16{TLS13, TLS12}, true},
		{TLS12, TLS13, []uint16{TLS11, TLS10}, false},
		{TLS13, TLS13, []uint16{TLS12}, false},
		{TLS12, TLS12, []uint16{TLS13}, false},
		{TLS12, TLS12, []uint16{TLS13, TLS12, TLS10}, true},
	} {
		p := &Profile{MinVersion: test.min, MaxVersion: test.max}
		if _, _, ok := p.CheckVersions(test.offered); ok != test.ok {
			t.Errorf("%x to %x, offered %x: %v", test.min, test.max, test.offered, ok)
		}
	}
}
