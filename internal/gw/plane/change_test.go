package plane

import (
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
	"moongate/internal/gw/keys"
	"moongate/internal/gw/keys/keystest"
)

// TestListenersChange: a listener that is added takes connections, one that is
// gone takes none, and what it took goes on.
func TestListenersChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	target := "a.test:" + w.origin(&tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, newKey(t), nil, "a.test")}})
	before := w.snapshot()
	w.apply(before)
	first := before.Forward[0].Listen
	w.see(first, target, "Forward Trust")
	kept, err := reach(t, first, target, nil)
	must(t, err)

	after := w.snapshot()
	second := after.Forward[0].Listen
	if conn, err := net.Dial("tcp", second.String()); err == nil {
		conn.Close()
		t.Error("the second listener is open before it is configured")
	}
	w.apply(after)
	w.see(second, target, "Forward Trust")
	if conn, err := net.Dial("tcp", first.String()); err == nil {
		conn.Close()
		t.Error("the first listener is open after it was removed")
	}
	if err := echoed(kept); err != nil {
		t.Errorf("a flow of the listener that is gone: %v", err)
	}
	if got := w.plane.Addresses(); len(got) != 1 || got[0] != second.String() {
		t.Errorf("addresses %v", got)
	}
	kept.Close()
	w.record()

	// And none at all, and back.
	none := w.snapshot()
	none.Forward = nil
	w.apply(none)
	if conn, err := net.Dial("tcp", second.String()); err == nil {
		conn.Close()
		t.Error("there is a listener where none is configured")
	}
	w.apply(after)
	w.see(second, target, "Forward Trust")
}

// TestListenerMovesWithinAPort: 127.0.0.1 to 0.0.0.0 and back, forward to
// inbound and back, on one port: no client meets a closed one.
func TestListenerMovesWithinAPort(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	own := w.public.leaf(t, newKey(t), nil, "a.test")
	w.hsm.Add(own.PrivateKey.(crypto.Signer))
	port := w.origin(&tls.Config{Certificates: []tls.Certificate{own}})
	narrow := w.snapshot()
	at := narrow.Forward[0].Listen
	wide := w.snapshot()
	wide.Forward[0].Listen = netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port())
	inbound := w.snapshot(config.Rule{Name: "shop", Action: config.Decrypt, Type: config.InboundInspection, Certificates: []string{"shop"}})
	w.certificate(inbound, "shop", own.Leaf)
	inbound.Forward = nil
	var serverPort uint16
	fmt.Sscan(port, &serverPort)
	inbound.Inbound = []config.InboundListener{{Name: "shop", Listen: at, ServerAddress: "127.0.0.1", ServerPort: serverPort}}

	other := netip.MustParseAddrPort(fmt.Sprintf("127.0.0.2:%d", at.Port()))
	for round := range 2 {
		w.apply(narrow)
		w.see(at, "a.test:"+port, "Forward Trust")
		if conn, err := net.Dial("tcp", other.String()); err == nil {
			conn.Close()
			t.Errorf("round %d: the narrow listener is wide", round)
		}
		w.apply(wide)
		w.see(at, "a.test:"+port, "Forward Trust")
		w.see(other, "a.test:"+port, "Forward Trust")
		w.apply(narrow)
		w.see(at, "a.test:"+port, "Forward Trust")
		w.apply(inbound)
		conn, err := net.Dial("tcp", at.String())
		must(t, err)
		client, err := speak(conn, "a.test:"+port, nil)
		must(t, err)
		if got := issuer(client); got != "Public Root" {
			t.Errorf("inbound: a certificate of %q", got)
		}
		client.Close()
		if r := w.record(); r.Kind != flow.Inbound || r.Rule != "shop" || r.Authority != "shop" || r.ClientLeg == nil {
			t.Errorf("inbound record: %+v", r)
		}
	}
	// Another program finds the port taken.
	if l, err := listen(at.String(), false); !errors.Is(err, syscall.EADDRINUSE) {
		if err == nil {
			l.Close()
		}
		t.Errorf("another program may listen on the port: %v", err)
	}
}

// TestPrepareFails: what runs is untouched by a change that cannot be made, and
// nothing of it stays open.
func TestPrepareFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	target := "a.test:" + w.origin(&tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, newKey(t), nil, "a.test")}})
	good := w.snapshot()
	w.apply(good)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	free := w.address()
	for name, bad := range map[string]struct {
		change func(*config.Snapshot)
		says   string
	}{
		"a port that is taken": {func(s *config.Snapshot) {
			s.Forward = append(s.Forward, config.Listener{Name: "free", Listen: free}, config.Listener{Name: "taken", Listen: taken.Addr().(*net.TCPAddr).AddrPort()})
		}, "forward listener taken: "},
		"one address twice": {func(s *config.Snapshot) {
			s.Forward = append(s.Forward, config.Listener{Name: "twin", Listen: s.Forward[0].Listen})
		}, "is the address of forward listener proxy too"},
		"a wide address beside a narrow one that stays": {func(s *config.Snapshot) {
			s.Forward = append(s.Forward, config.Listener{Name: "wide", Listen: netip.AddrPortFrom(netip.IPv4Unspecified(), s.Forward[0].Listen.Port())})
		}, "address already in use"},
		"a CA that is not there": {func(s *config.Snapshot) { s.ForwardTrust.ECDSA = "nobody" }, `no certificate is named "nobody"`},
		"no CA":                  {func(s *config.Snapshot) { s.ForwardTrust = config.CAPair{} }, "no forward-trust certificate"},
	} {
		s := w.snapshot()
		s.Forward = append([]config.Listener(nil), good.Forward...)
		bad.change(s)
		if _, err := w.plane.Prepare(s); err == nil || !strings.Contains(err.Error(), bad.says) {
			t.Errorf("%s: %v", name, err)
		}
		w.see(good.Forward[0].Listen, target, "Forward Trust")
	}
	if conn, err := net.Dial("tcp", free.String()); err == nil {
		conn.Close()
		t.Error("a listener of a change that was not made is open")
	}
	// One that is discarded is as if it had not been.
	s := w.snapshot()
	next, err := w.plane.Prepare(s)
	must(t, err)
	if _, err := w.plane.Prepare(s); !errors.Is(err, ErrPreparing) {
		t.Errorf("a second change meanwhile: %v", err)
	}
	next.Discard()
	if conn, err := net.Dial("tcp", s.Forward[0].Listen.String()); err == nil {
		conn.Close()
		t.Error("a listener of a change that was discarded is open")
	}
	w.see(good.Forward[0].Listen, target, "Forward Trust")
}

// TestCAChange: the next connection is shown a leaf of the other CA; leaves of a
// CA that stays are kept.
func TestCAChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	target := "a.test:" + w.origin(&tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, newKey(t), nil, "a.test")}})
	s := w.snapshot()
	at := s.Forward[0].Listen
	w.apply(s)
	if r := w.see(at, target, "Forward Trust"); r.Authority != "trust" || r.Cached {
		t.Errorf("record: %+v", r)
	}
	same := *s
	same.Rules = []config.Rule{{Name: "all", Type: config.ForwardProxy, Action: config.Decrypt, Profile: config.DefaultProfile(), LogSuccess: true}}
	w.apply(&same)
	if r := w.see(at, target, "Forward Trust"); !r.Cached || r.Rule != "all" {
		t.Errorf("a leaf did not survive a change of the rules: %+v", r)
	}
	if leaves := w.plane.Leaves(); len(leaves) != 1 || leaves[0].Name != "a.test" || leaves[0].Authority != "trust" || !leaves[0].Trusted {
		t.Errorf("leaves: %+v", leaves)
	}

	other := newAuthority(t, "Second Trust", newKey(t))
	w.hsm.Add(other.key)
	next := same
	next.Certificates = append([]config.Certificate(nil), s.Certificates...)
	w.certificate(&next, "second", other.cert)
	next.ForwardTrust.ECDSA = "second"
	w.apply(&next)
	if r := w.see(at, target, "Second Trust"); r.Authority != "second" || r.Cached {
		t.Errorf("record: %+v", r)
	}
}

// TestRulesChange: a rule that leaves a bank alone, taken away again.
func TestRulesChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	port := w.origin(&tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, newKey(t), nil, "bank.example", "www.shop.example", "a.test")}})
	without := w.snapshot()
	at := without.Forward[0].Listen
	apply := func(rules ...config.Rule) {
		t.Helper()
		s := w.snapshot(rules...)
		s.Forward = without.Forward
		w.apply(s)
	}
	var originPort uint16
	fmt.Sscan(port, &originPort)
	service := func(port uint16) []config.Service {
		return []config.Service{{Name: "s", Protocol: config.TCP, Ports: []config.PortRange{{First: port, Last: port}}}}
	}
	no := func(r config.Rule) config.Rule { r.Name, r.Action = "leave", config.NoDecrypt; return r }
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	elsewhere := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, test := range []struct {
		name      string
		rule      config.Rule
		untouched []string // hosts
		decrypted []string
	}{
		{"host", config.Rule{Hosts: []string{"bank.example"}}, []string{"bank.example"}, []string{"www.shop.example", "a.test"}},
		{"wildcard", config.Rule{Hosts: []string{"*.shop.example"}}, []string{"www.shop.example"}, []string{"bank.example"}},
		{"source", config.Rule{Source: loopback}, []string{"a.test"}, nil},
		{"another source", config.Rule{Source: elsewhere}, nil, []string{"a.test"}},
		{"source negated", config.Rule{Source: loopback, NegateSource: true}, nil, []string{"a.test"}},
		{"another source negated", config.Rule{Source: elsewhere, NegateSource: true}, []string{"a.test"}, nil},
		{"destination", config.Rule{Destination: loopback}, []string{"a.test"}, nil},
		{"destination negated", config.Rule{Destination: loopback, NegateDestination: true}, nil, []string{"a.test"}},
		{"service", config.Rule{Services: service(originPort)}, []string{"a.test"}, nil},
		{"another service", config.Rule{Services: service(443)}, nil, []string{"a.test"}},
	} {
		apply(no(test.rule))
		for _, host := range test.untouched {
			if r := w.see(at, host+":"+port, "Public Root"); r.Action != "no-decrypt" || r.Rule != "leave" || r.Reason != "rule" || r.ClientLeg != nil {
				t.Errorf("%s, %s: record: %+v", test.name, host, r)
			}
		}
		for _, host := range test.decrypted {
			if r := w.see(at, host+":"+port, "Forward Trust"); r.Action != "decrypt" || r.Rule != "" || r.Reason != "default" || r.ClientLeg == nil {
				t.Errorf("%s, %s: record: %+v", test.name, host, r)
			}
		}
		apply()
		for _, host := range test.untouched {
			w.see(at, host+":"+port, "Forward Trust")
		}
	}

	// The first that matches decides; and a connection keeps what it began with.
	apply(config.Rule{Name: "first", Action: config.Decrypt, Hosts: []string{"bank.example"}}, config.Rule{Name: "second", Action: config.NoDecrypt})
	if r := w.see(at, "bank.example:"+port, "Forward Trust"); r.Rule != "first" {
		t.Errorf("record: %+v", r)
	}
	if r := w.see(at, "a.test:"+port, "Public Root"); r.Rule != "second" {
		t.Errorf("record: %+v", r)
	}
	conn, err := tunnel(t, at, "a.test:"+port)
	must(t, err)
	apply()
	client, err := speak(conn, "a.test:"+port, nil)
	must(t, err)
	if got := issuer(client); got != "Public Root" {
		t.Errorf("a connection that began before the change: a certificate of %q", got)
	}
	client.Close()
	w.record()
	w.see(at, "a.test:"+port, "Forward Trust")
}

// TestInboundChange: another certificate for a protected server.
func TestInboundChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	one, two := w.public.leaf(t, newKey(t), nil, "shop.test"), w.public.leaf(t, rsaKey(), nil, "shop.test")
	w.hsm.Add(one.PrivateKey.(crypto.Signer), two.PrivateKey.(crypto.Signer))
	port := w.origin(&tls.Config{Certificates: []tls.Certificate{one}})
	at := w.address()
	shown := func(name string) string {
		t.Helper()
		s := w.snapshot()
		s.Forward = nil
		if name != "" {
			s = w.snapshot(config.Rule{Name: "shop", Action: config.Decrypt, Type: config.InboundInspection, Certificates: []string{name}})
			s.Forward = nil
		}
		w.certificate(s, "one", one.Leaf)
		w.certificate(s, "two", two.Leaf)
		var serverPort uint16
		fmt.Sscan(port, &serverPort)
		s.Inbound = []config.InboundListener{{Name: "shop", Listen: at, ServerAddress: "127.0.0.1", ServerPort: serverPort}}
		w.apply(s)
		conn, err := net.Dial("tcp", at.String())
		must(t, err)
		client, err := speak(conn, "shop.test:443", nil)
		must(t, err)
		defer client.Close()
		return flow.DescribeKey(client.ConnectionState().PeerCertificates[0].PublicKey)
	}
	for _, step := range []struct{ name, key, action string }{{"one", "P-256", "decrypt"}, {"two", "RSA-2048", "decrypt"}, {"", "P-256", "no-decrypt"}, {"one", "P-256", "decrypt"}} {
		if got := shown(step.name); got != step.key {
			t.Errorf("certificate %q: a key %s, want %s", step.name, got, step.key)
		}
		if r := w.record(); r.Action != step.action || r.Authority != step.name {
			t.Errorf("certificate %q: record %+v", step.name, r)
		}
	}
}

// TestHSMChange: a commit that names another HSM has keys come from there.
func TestHSMChange(t *testing.T) {
	t.Parallel()
	links := map[string]*link{"empty": {Provider: &keystest.Provider{}}, "full": {Provider: &keystest.Provider{}}}
	opened := map[string]int{}
	failing := errors.New("its certificate is not pinned")
	w := newWorld(t, func(o *Options) {
		o.OpenHSM = func(hsm *config.HSM) (keys.Link, error) {
			name := hsm.Servers[0].Name
			opened[name]++
			if l := links[name]; l != nil {
				return l, nil
			}
			return nil, failing
		}
	})
	links["full"].Add(w.trust.key, w.untrust.key)
	target := "a.test:" + w.origin(&tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, newKey(t), nil, "a.test")}})
	s := w.snapshot()
	at := s.Forward[0].Listen
	on := func(name string) *config.Snapshot {
		next := *s
		next.HSM = &config.HSM{Provider: config.NetworkHSM, Servers: []config.HSMServer{{Name: name, Address: "192.0.2.50", Port: 1792}}}
		return &next
	}
	w.apply(on("empty"))
	if _, err := reach(t, at, target, nil); err == nil {
		t.Error("a leaf was signed by a key that is not there")
	}
	if r := w.record(); r.FailureStage != flow.StageHSM || !strings.Contains(r.FailureCause, "key not found") {
		t.Errorf("record: %+v", r)
	}
	if _, err := w.plane.Prepare(on("unknown")); !errors.Is(err, failing) {
		t.Errorf("an HSM that cannot be reached in any way: %v", err)
	}
	w.apply(on("full"))
	w.see(at, target, "Forward Trust")
	w.apply(on("full"))
	if opened["full"] != 1 || opened["empty"] != 1 {
		t.Errorf("links were opened: %v", opened)
	}
	without := *s
	without.HSM = nil
	w.apply(&without)
	if cause := w.plane.HSM().Status().Cause; !strings.Contains(cause, "no HSM is configured") {
		t.Errorf("status without an HSM: %s", cause)
	}
	w.stop()
	if !links["empty"].closed.Load() || !links["full"].closed.Load() {
		t.Error("a link is still open")
	}
}

// TestChangeUnderLoad: clients that come all the time meet no closed port and
// no half of a change: what decided is what they were shown.
func TestChangeUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	port := w.origin(&tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, newKey(t), nil, "a.test")}})
	other := newAuthority(t, "Second Trust", newKey(t))
	w.hsm.Add(other.key)
	first := w.snapshot(config.Rule{Name: "first", Action: config.Decrypt})
	at := first.Forward[0].Listen
	second, third := w.snapshot(config.Rule{Name: "second", Action: config.Decrypt}), w.snapshot(config.Rule{Name: "third", Action: config.NoDecrypt})
	w.certificate(second, "second", other.cert)
	second.ForwardTrust.ECDSA = "second"
	second.Forward, third.Forward = first.Forward, first.Forward
	w.apply(first)
	shown := map[string]string{"first": "Forward Trust", "second": "Second Trust", "third": "Public Root"}

	stop := make(chan struct{})
	var clients sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]string{} // client address to issuer; guarded by mu
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				client, err := reach(t, at, "a.test:"+port, nil)
				if err != nil {
					t.Errorf("a client: %v", err)
					return
				}
				mu.Lock()
				seen[client.LocalAddr().String()] = issuer(client)
				mu.Unlock()
				client.Close()
			}
		})
	}
	for i := range 60 {
		w.apply([]*config.Snapshot{first, second, third}[i%3])
		before := w.plane.Hits()[0].Count
		for w.plane.Hits()[0].Count == before && !t.Failed() {
			time.Sleep(time.Millisecond)
		}
	}
	close(stop)
	clients.Wait()
	rules := map[string]int{}
	for range len(seen) {
		r := w.record()
		rules[r.Rule]++
		if got := seen[r.Client]; got != shown[r.Rule] || r.FailureStage != "" {
			t.Errorf("rule %q and a certificate of %q; record %+v", r.Rule, got, r)
		}
	}
	if len(rules) != 3 {
		t.Errorf("rules that decided: %v", rules)
	}
}
