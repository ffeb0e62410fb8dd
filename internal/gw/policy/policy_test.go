package policy

import (
	"net/netip"
	"strings"
	"testing"

	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
)

func excluded(patterns ...string) []config.Exclusion {
	var list []config.Exclusion
	for _, p := range patterns {
		list = append(list, config.Exclusion{Pattern: p, Excluded: true})
	}
	return list
}

func nets(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestExclusions(t *testing.T) {
	t.Parallel()
	p := Compile(&config.Snapshot{Exclusions: append(
		excluded("bank.example", "*.health.example", "xn--bcher-kva.example", "203.0.113.7"),
		config.Exclusion{Pattern: "off.example"})})
	tests := []struct {
		host, sni string
		want      Action
	}{
		{"bank.example", "bank.example", NoDecrypt},
		{"bank.example", "", NoDecrypt}, // the gateway resolves the name itself
		{"BANK.example.", "Bank.Example", NoDecrypt},
		{"xn--bcher-kva.example", "XN--BCHER-KVA.example", NoDecrypt},
		{"a.health.example", "a.health.example", NoDecrypt},
		{"b.a.health.example", "b.a.health.example", NoDecrypt},
		{"a.health.example", "bank.example", NoDecrypt}, // both are excluded
		{"203.0.113.7", "", NoDecrypt},
		{"::ffff:203.0.113.7", "", NoDecrypt},
		{"203.0.113.7", "bank.example", NoDecrypt},

		{"health.example", "health.example", Decrypt}, // not below itself
		{"nothealth.example", "nothealth.example", Decrypt},
		{"bank.example.evil.example", "", Decrypt},
		{"off.example", "off.example", Decrypt},
		{"other.example", "other.example", Decrypt},

		// A client must not talk a host out of inspection.
		{"evil.example", "bank.example", Decrypt},
		{"bank.example", "evil.example", Decrypt},
		{"198.51.100.1", "bank.example", Decrypt},
		{"203.0.113.7", "evil.example", Decrypt},
	}
	for _, test := range tests {
		t.Run(test.host+"_"+test.sni, func(t *testing.T) {
			t.Parallel()
			got := p.Decide(Facts{Kind: flow.Forward, Host: test.host, SNI: test.sni})
			if got.Action != test.want {
				t.Errorf("got %s (%s), want %s", got.Action, got.Reason, test.want)
			}
			if got.Profile == nil {
				t.Error("no profile")
			}
		})
	}
	if got := p.Decide(Facts{Kind: flow.Inbound, Host: "bank.example", SNI: "bank.example"}); strings.HasPrefix(got.Reason, "exclusion") {
		t.Errorf("the exclusion list was applied to an inbound flow: %+v", got)
	}
	got := p.Decide(Facts{Kind: flow.Forward, Host: "evil.example", SNI: "bank.example"})
	if want := `default (the server name is excluded by "bank.example", the CONNECT host is not)`; got.Reason != want {
		t.Errorf("reason %q, want %q", got.Reason, want)
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	strict := config.DefaultProfile()
	strict.Name, strict.BlockExpired, strict.MinVersion = "strict", true, config.TLS13
	p := Compile(&config.Snapshot{Rules: []config.Rule{
		{Name: "lab", Action: config.NoDecrypt, Type: config.ForwardProxy, Source: nets("10.1.0.0/16"), Destination: nets("192.0.2.0/24", "2001:db8::/32"), Profile: config.DefaultProfile()},
		{Name: "shop", Action: config.Decrypt, Type: config.InboundInspection, Destination: nets("192.0.2.10/32"), Profile: strict},
		{Name: "rest", Action: config.Decrypt, Type: config.ForwardProxy, Source: nets("10.0.0.0/8"), Profile: strict},
		{Name: "odd", Action: "guess", Type: config.ForwardProxy, Source: nets("172.16.0.0/12"), Profile: strict},
	}})
	tests := []struct {
		name           string
		kind           flow.Kind
		client, server string
		rule           string
		want           Action
	}{
		{"both match", flow.Forward, "10.1.2.3", "192.0.2.9", "lab", NoDecrypt},
		{"IPv6 server", flow.Forward, "10.1.2.3", "2001:db8::1", "lab", NoDecrypt},
		{"mapped client and server", flow.Forward, "::ffff:10.1.2.3", "::ffff:192.0.2.9", "lab", NoDecrypt},
		{"destination differs", flow.Forward, "10.1.2.3", "198.51.100.1", "rest", Decrypt},
		{"server not known", flow.Forward, "10.1.2.3", "", "rest", Decrypt},
		{"source differs", flow.Forward, "192.168.0.1", "192.0.2.9", "", Decrypt},
		{"inbound", flow.Inbound, "198.51.100.1", "192.0.2.10", "shop", Decrypt},
		{"inbound elsewhere", flow.Inbound, "198.51.100.1", "192.0.2.11", "", NoDecrypt},
		{"an unknown action", flow.Forward, "172.16.0.1", "192.0.2.9", "odd", Block},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := Facts{Kind: test.kind, Host: "h.example", Client: netip.MustParseAddr(test.client)}
			if test.server != "" {
				f.Server = netip.MustParseAddr(test.server)
			}
			got := p.Decide(f)
			if got.Action != test.want || got.Rule != test.rule {
				t.Errorf("got %s by rule %q (%s), want %s by %q", got.Action, got.Rule, got.Reason, test.want, test.rule)
			}
		})
	}
	got := p.Decide(Facts{Kind: flow.Forward, Client: netip.MustParseAddr("10.9.9.9")}).Profile
	if !got.BlockExpired || got.MinVersion != TLS13 || got.MaxVersion != TLS13 {
		t.Errorf("the rule's profile was not compiled: %+v", got)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	open := &Profile{}
	closed := &Profile{Name: "closed", BlockExpired: true, BlockUntrusted: true, BlockNameMismatch: true}
	statuses := []flow.Status{
		flow.Trusted, flow.Expired, flow.SelfSigned, flow.UnknownIssuer, flow.WrongName,
		flow.OwnAuthority, flow.Invalid, flow.Unverified, "", "something new",
	}
	for _, status := range statuses {
		v := &flow.Verdict{Status: status}
		known := status != flow.Unverified && status != "" && status != "something new"
		var want Trust
		switch {
		case status == flow.Trusted:
			want = Trusted
		case known:
			want = Untrusted
		}
		if got := open.Judge(flow.Forward, v); got.Trust != want {
			t.Errorf("open profile, %q: got %v, want %v", status, got.Trust, want)
		}
		if status != flow.Trusted {
			want = Blocked
		}
		for kind, profile := range map[flow.Kind]*Profile{flow.Forward: closed, flow.Inbound: open} {
			got := profile.Judge(kind, v)
			if got.Trust != want {
				t.Errorf("%s, %s, %q: got %v, want %v", kind, profile, status, got.Trust, want)
			}
			if (got.Reason == "") != (status == flow.Trusted) {
				t.Errorf("%s, %q: reason %q", kind, status, got.Reason)
			}
		}
	}
	if got := closed.Judge(flow.Forward, nil).Trust; got != Blocked {
		t.Errorf("no verdict: got %v, want %v", got, Blocked)
	}
}

func TestEachFaultHasItsOwnSetting(t *testing.T) {
	t.Parallel()
	settings := map[flow.Status]*Profile{
		flow.Expired:       {BlockExpired: true},
		flow.UnknownIssuer: {BlockUntrusted: true},
		flow.WrongName:     {BlockNameMismatch: true},
	}
	for status := range settings {
		for of, profile := range settings {
			want := Untrusted
			if of == status {
				want = Blocked
			}
			if got := profile.Judge(flow.Forward, &flow.Verdict{Status: status}).Trust; got != want {
				t.Errorf("%s under the setting for %s: got %v, want %v", status, of, got, want)
			}
		}
	}
}

func TestDestinations(t *testing.T) {
	t.Parallel()
	d := NewDestinations(DestinationRules{
		Allowed: []config.AllowedDestination{
			{Network: netip.MustParsePrefix("127.0.0.1/32"), Port: 9443},
			{Network: netip.MustParsePrefix("127.8.0.0/16")},
			{Host: "demo.example", Port: 443},
		},
		OwnPorts: []uint16{8080, 4443},
		OwnAddresses: func() []netip.Addr {
			return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
		},
		Reserved: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.50:1792")},
	})
	tests := []struct {
		host, addr string
		refused    string // part of the reason; empty for an address that is dialled
	}{
		{"a.example", "198.51.100.7:443", ""},
		{"a.example", "10.0.0.1:443", ""},
		{"a.example", "[2001:db8::2]:443", ""},
		{"a.example", "127.0.0.1:443", "loopback"},
		{"a.example", "127.255.255.254:443", "loopback"},
		{"a.example", "[::1]:443", "loopback"},
		{"a.example", "[::ffff:127.0.0.1]:443", "loopback"},
		{"a.example", "[::127.0.0.1]:443", "loopback"},
		{"a.example", "[64:ff9b::7f00:1]:443", "loopback"},
		{"a.example", "[64:ff9b:1::7f00:1]:443", "loopback"},
		{"a.example", "[::ffff:0:7f00:1]:443", "loopback"},
		{"a.example", "[2002:7f00:1::]:443", "loopback"},
		{"a.example", "0.0.0.0:443", "unspecified"},
		{"a.example", "0.1.2.3:443", "unspecified"},
		{"a.example", "[::]:443", "unspecified"},
		{"a.example", "169.254.169.254:80", "link-local"},
		{"a.example", "[::ffff:169.254.169.254]:80", "link-local"},
		{"a.example", "[64:ff9b::a9fe:a9fe]:80", "link-local"},
		{"a.example", "[fe80::1]:443", "link-local"},
		{"a.example", "[fe80::1%eth0]:443", "link-local"},
		{"a.example", "224.0.0.1:443", "multicast"},
		{"a.example", "[ff02::1]:443", "multicast"},
		{"a.example", "255.255.255.255:443", "broadcast"},
		{"a.example", "100.100.100.200:80", "metadata"},
		{"a.example", "[fd00:ec2::254]:80", "metadata"},
		{"a.example", "192.0.2.1:4443", "port of this gateway"},
		{"a.example", "[::ffff:192.0.2.1]:8080", "port of this gateway"},
		{"a.example", "[2001:db8::1]:8080", "port of this gateway"},
		{"a.example", "192.0.2.1:443", ""},
		{"a.example", "192.0.2.2:4443", ""},
		{"a.example", "192.0.2.50:1792", "management"},
		{"a.example", "[64:ff9b::192.0.2.50]:1792", "management"},
		{"a.example", "192.0.2.50:443", ""},

		{"localhost", "127.0.0.1:9443", ""},
		{"127.0.0.1", "127.0.0.1:9443", ""},
		{"::ffff:127.0.0.1", "[::ffff:127.0.0.1]:9443", ""},
		{"127.0.0.1", "127.0.0.1:9444", "loopback"},
		{"localhost", "[::1]:9443", "loopback"},
		{"a.example", "127.8.1.1:77", ""},
		{"Demo.Example.", "127.0.0.1:443", ""},
		{"demo.example", "127.0.0.1:444", "loopback"},
	}
	for _, test := range tests {
		t.Run(test.host+" "+test.addr, func(t *testing.T) {
			t.Parallel()
			err := d.Check(test.host, netip.MustParseAddrPort(test.addr))
			if (err == nil) != (test.refused == "") || err != nil && !strings.Contains(err.Error(), test.refused) {
				t.Errorf("got %v, want refusal %q", err, test.refused)
			}
		})
	}
}

// TestEveryFaultCounts: a fault behind a worse one is blocked all the same.
func TestEveryFaultCounts(t *testing.T) {
	t.Parallel()
	verdict := &flow.Verdict{Status: flow.SelfSigned, Faults: []flow.Status{flow.SelfSigned, flow.WrongName, flow.Expired}}
	for _, test := range []struct {
		name    string
		profile Profile
		want    Trust
	}{
		{"none blocked", Profile{}, Untrusted},
		{"the first", Profile{BlockUntrusted: true}, Blocked},
		{"one behind it", Profile{BlockNameMismatch: true}, Blocked},
		{"the last", Profile{BlockExpired: true}, Blocked},
	} {
		if got := test.profile.Judge(flow.Forward, verdict); got.Trust != test.want {
			t.Errorf("%s: %v (%s), want %v", test.name, got.Trust, got.Reason, test.want)
		}
	}
}
