package plane

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
	"moongate/internal/gw/policy"
)

// TestSessions: flows under way are seen with what they are, and ended one by
// one and together.
func TestSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	port := w.origin(&tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, newKey(t), nil, "a.test", "b.test", "bank.example")}})
	s := w.snapshot(config.Rule{Name: "bank", Action: config.NoDecrypt, Hosts: []string{"bank.example"}})
	at := s.Forward[0].Listen
	w.apply(s)
	began := time.Now()
	clients := map[string]*tls.Conn{}
	for _, host := range []string{"a.test", "bank.example", "b.test"} {
		client, err := reach(t, at, host+":"+port, nil)
		must(t, err)
		clients[host] = client
	}
	// Bulk through the one that is not decrypted, which nobody counts as it passes.
	const bulk = 1 << 20
	var writing sync.WaitGroup
	writing.Go(func() { clients["bank.example"].Write(make([]byte, bulk)) })
	_, err := io.CopyN(io.Discard, clients["bank.example"], bulk)
	must(t, err)
	writing.Wait()
	// Acknowledgements may take a moment.
	for deadline := time.Now().Add(patience); time.Now().Before(deadline) && w.plane.Sessions(nil)[1].BytesDown < bulk; {
		time.Sleep(time.Millisecond)
	}

	list := w.plane.Sessions(nil)
	if len(list) != 3 || w.plane.SessionInfo() != (SessionInfo{Active: 3, Decrypted: 2, Limit: 1000}) {
		t.Fatalf("sessions: %+v, %+v", list, w.plane.SessionInfo())
	}
	for i, want := range []struct{ host, action, rule string }{{"a.test", "decrypt", ""}, {"bank.example", "no-decrypt", "bank"}, {"b.test", "decrypt", ""}} {
		got := list[i]
		decrypted := want.action == "decrypt"
		if got.Target != want.host+":"+port || got.Action != want.action || got.Rule != want.rule || got.Decrypted != decrypted || got.SNI != want.host ||
			got.Client != clients[want.host].LocalAddr().String() || got.Server != "127.0.0.1:"+port || got.Kind != flow.Forward ||
			got.Start.Before(began.Add(-time.Minute)) || len(got.Flow) != 32 || (got.Version == "TLS 1.3") != decrypted {
			t.Errorf("session %d: %+v", i, got)
		}
		least := int64(4)
		if !decrypted {
			least = bulk
		}
		if got.BytesUp < least || got.BytesDown < least || got.BytesUp > 2*bulk {
			t.Errorf("session %d: %d bytes up, %d down", i, got.BytesUp, got.BytesDown)
		}
	}
	if only := w.plane.Sessions(func(s *Session) bool { return s.Decrypted }); len(only) != 2 {
		t.Errorf("decrypted: %+v", only)
	}

	if !w.plane.End(list[0].ID) || w.plane.End(list[2].ID+100) {
		t.Error("a session that is there was not ended, or one that is not was")
	}
	if _, err := clients["a.test"].Read(make([]byte, 1)); err == nil {
		t.Error("the session goes on")
	}
	if r := w.record(); r.SNI != "a.test" || r.FailureStage != flow.StageRelay || r.FailureCause != "ended by an administrator" {
		t.Errorf("record: %+v", r)
	}
	if err := errors.Join(echoed(clients["b.test"]), echoed(clients["bank.example"])); err != nil {
		t.Errorf("another session was ended: %v", err)
	}
	if n := w.plane.EndAll(nil); n != 2 {
		t.Errorf("%d sessions were ended", n)
	}
	w.record()
	w.record()
	if got := w.plane.SessionInfo(); got.Active != 0 || got.Decrypted != 0 {
		t.Errorf("sessions are left: %+v", got)
	}
}

// TestHits: each rule counts what it decided, with the time, across commits.
func TestHits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	port := w.origin(&tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, newKey(t), nil, "a.test", "bank.example")}})
	bank := config.Rule{Name: "bank", Action: config.NoDecrypt, Hosts: []string{"bank.example"}}
	s := w.snapshot(bank, config.Rule{Name: "never", Action: config.NoDecrypt, Hosts: []string{"never.example"}})
	at := s.Forward[0].Listen
	w.apply(s)
	began := time.Now()
	w.see(at, "bank.example:"+port, "Public Root")
	w.see(at, "bank.example:"+port, "Public Root")
	w.see(at, "a.test:"+port, "Forward Trust")
	next := w.snapshot(config.Rule{Name: "first", Action: config.Decrypt, Hosts: []string{"other.example"}}, bank)
	next.Forward = s.Forward
	w.apply(next)
	w.see(at, "bank.example:"+port, "Public Root")
	hits := w.plane.Hits()
	for i, want := range []Hit{{Rule: "first", Kind: flow.Forward}, {Rule: "bank", Kind: flow.Forward, Count: 3}, {Kind: flow.Forward, Count: 1}, {Kind: flow.Inbound}} {
		got := hits[i]
		if got.Rule != want.Rule || got.Kind != want.Kind || got.Count != want.Count {
			t.Errorf("hits %d: %+v, want %+v", i, got, want)
		}
		if got.Last.IsZero() != (want.Count == 0) || got.First.After(got.Last) || want.Count > 0 && got.First.Before(began.Add(-time.Second)) {
			t.Errorf("hits %d: from %v to %v", i, got.First, got.Last)
		}
	}
	if n := w.plane.ResetHits("bank", "nobody"); n != 1 || w.plane.Hits()[1].Count != 0 || !w.plane.Hits()[1].Last.IsZero() || w.plane.Hits()[2].Count != 1 {
		t.Errorf("reset of one: %d, %+v", n, w.plane.Hits())
	}
	if n := w.plane.ResetHits(); n != 4 || w.plane.Hits()[2].Count != 0 {
		t.Errorf("reset of all: %d, %+v", n, w.plane.Hits())
	}
	// A flow that is only asked about is no hit.
	_, err := w.plane.Explain(Query{Client: netip.MustParseAddr("10.0.0.1"), Host: "bank.example"})
	must(t, err)
	if got := w.plane.Hits()[1].Count; got != 0 {
		t.Errorf("a question counted as %d hits", got)
	}
}

// TestFigures: what ended is counted, for Prometheus and for people.
func TestFigures(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	w := newWorld(t, func(o *Options) { o.Registerer = registry })
	port := w.origin(&tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, newKey(t), nil, "a.test", "bank.example")}})
	s := w.snapshot(config.Rule{Name: "bank", Action: config.NoDecrypt, Hosts: []string{"bank.example"}})
	at := s.Forward[0].Listen
	w.apply(s)
	w.see(at, "a.test:"+port, "Forward Trust")
	w.see(at, "bank.example:"+port, "Public Root")
	if _, err := reach(t, at, "a.test:1", nil); err == nil {
		t.Error("a server answers on port 1")
	}
	w.record()
	open, err := reach(t, at, "a.test:"+port, nil)
	must(t, err)
	defer open.Close()
	families, err := registry.Gather()
	must(t, err)
	var text []string
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			text = append(text, fmt.Sprintf("%s{%s} %v", family.GetName(), strings.Join(labels, ","), m.GetCounter().GetValue()+m.GetGauge().GetValue()))
		}
	}
	all := strings.Join(text, "\n")
	for _, want := range []string{
		"moongate_flows_total{action=decrypt,bypass=,kind=forward,outcome=ok} 1",
		"moongate_flows_total{action=no-decrypt,bypass=,kind=forward,outcome=ok} 1",
		"moongate_flows_total{action=decrypt,bypass=,kind=forward,outcome=connect} 1",
		"moongate_handshakes_total{leg=client,resumed=no,version=TLS 1.3} 1",
		"moongate_handshakes_total{leg=server,resumed=no,version=TLS 1.3} 1",
		"moongate_sessions_active{decrypted=yes} 1", "moongate_sessions_active{decrypted=no} 0",
		"moongate_hsm_calls_total{} 1", "moongate_hsm_connected{} 1",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no figure %q in\n%s", want, all)
		}
	}
	counters := map[string]uint64{}
	for _, c := range w.plane.Counters() {
		counters[c.Name] = c.Value
		if c.Description == "" {
			t.Errorf("counter %s has no description", c.Name)
		}
	}
	for name, want := range map[string]uint64{"flow_forward": 3, "flow_action_no_decrypt": 1, "flow_failed_connect": 1, "tls_client_tls_1_3": 1, "session_active_decrypted": 1, "hsm_calls": 1} {
		if counters[name] != want {
			t.Errorf("counter %s is %d, want %d; all: %v", name, counters[name], want, counters)
		}
	}
}

// TestExplain: what the production policy says of flows that nobody opened.
func TestExplain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	if _, err := w.plane.Explain(Query{Host: "a.test"}); !errors.Is(err, ErrNothing) {
		t.Errorf("without a configuration: %v", err)
	}
	strict := config.DefaultProfile()
	strict.Name, strict.MinVersion = "strict", config.TLS13
	s := w.snapshot(
		config.Rule{Name: "bank", Action: config.NoDecrypt, Hosts: []string{"bank.example"}},
		config.Rule{Name: "lab", Action: config.Decrypt, Source: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Profile: strict},
		config.Rule{Name: "net", Action: config.NoDecrypt, Destination: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
		config.Rule{Name: "shop", Action: config.Decrypt, Type: config.InboundInspection, Certificates: []string{"trust"}},
	)
	s.AllowedDestinations = nil
	s.Inbound = []config.InboundListener{{Name: "shop", Listen: w.address(), ServerAddress: "192.0.2.80", ServerPort: 443}}
	w.apply(s)
	lab, home := netip.MustParseAddr("10.1.1.1"), netip.MustParseAddr("192.168.1.1")
	for _, test := range []struct {
		name   string
		q      Query
		action policy.Action
		rule   string
		says   string
	}{
		{"host", Query{Client: home, Host: "bank.example"}, policy.NoDecrypt, "bank", "rule"},
		{"host, another name", Query{Client: home, Host: "bank.example", SNI: "evil.example"}, policy.Decrypt, "", "default"},
		{"source", Query{Client: lab, Host: "a.test", Versions: []uint16{policy.TLS13}}, policy.Decrypt, "lab", `profile "strict"`},
		{"an old client", Query{Client: lab, Host: "a.test", Versions: []uint16{policy.TLS12}}, policy.Block, "lab", "none of which the profile allows"},
		{"an address", Query{Client: home, Host: "192.0.2.7"}, policy.NoDecrypt, "net", "rule"},
		{"a name that is resolved", Query{Client: home, Host: "a.test", Server: netip.MustParseAddr("192.0.2.7")}, policy.NoDecrypt, "net", "rule"},
		{"a name that is not", Query{Client: home, Host: "a.test"}, policy.Decrypt, "", "the server's address is not known"},
		{"where the proxy does not go", Query{Client: home, Host: "127.0.0.1"}, policy.Block, "", "a loopback address"},
		{"inbound", Query{Kind: flow.Inbound, Client: home}, policy.Decrypt, "shop", "the server's own key"},
	} {
		e, err := w.plane.Explain(test.q)
		if err != nil || e.Action != test.action || test.rule != "" && e.Rule != test.rule || !strings.Contains(fmt.Sprint(e), test.says) {
			t.Errorf("%s: %+v, %v", test.name, e, err)
		}
	}
	if _, err := w.plane.Explain(Query{Host: "no host"}); err == nil {
		t.Error("a host that is none was explained")
	}
	if _, err := w.plane.Explain(Query{Kind: flow.Inbound, Host: "192.0.2.81"}); !errors.Is(err, ErrNothing) {
		t.Error("a protected server that is not configured was explained")
	}
	w.hsm.SetAway(true)
	e, err := w.plane.Explain(Query{Client: home, Host: "a.test"})
	if err != nil || !strings.Contains(fmt.Sprint(e), "the test took the provider away") || len(e.Certificates) != 2 {
		t.Errorf("without the HSM: %+v, %v", e, err)
	}
}
