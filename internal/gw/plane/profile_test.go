package plane

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
)

// outcome is what a client meets, in a word: who signed what it was shown, or
// that it was refused.
func (w *world) outcome(at netip.AddrPort, target string, cfg *tls.Config) (string, *flow.Record) {
	w.Helper()
	client, err := reach(w, at, target, cfg)
	if err != nil {
		return "refused", w.record()
	}
	seen := issuer(client)
	client.Close()
	return seen, w.record()
}

// TestForwardProfile: each field of a profile, with traffic, at both values.
func TestForwardProfile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	stranger := newAuthority(t, "Stranger", newKey(t))
	ec, expired := newKey(t), func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	}
	certificate := func(a *authority, key crypto.Signer, change func(*x509.Certificate), names ...string) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{a.leaf(t, key, change, names...)}}
	}
	good, rsaOnly := certificate(w.public, ec, nil, "a.test"), certificate(w.public, rsaKey(), nil, "a.test")
	old, new12 := good.Clone(), good.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS11, tls.VersionTLS11
	new12.MaxVersion = tls.VersionTLS12
	only13 := good.Clone()
	only13.MinVersion = tls.VersionTLS13
	rsaOnly.MaxVersion, rsaOnly.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
	both := certificate(w.public, rsaKey(), nil, "a.test")
	both.MaxVersion, both.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
	ports := map[*tls.Config]string{}
	port := func(cfg *tls.Config) string {
		if ports[cfg] == "" {
			ports[cfg] = w.origin(cfg)
		}
		return ports[cfg]
	}
	const trusted, untrusted, passed, refused = "Forward Trust", "Forward Untrust", "Public Root", "refused"
	client12 := &tls.Config{MaxVersion: tls.VersionTLS12}
	client11 := &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	client13 := &tls.Config{MinVersion: tls.VersionTLS13}
	clientRSA := &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}
	clientECDHE := &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}
	clientBoth := &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}

	s := w.snapshot()
	at := s.Forward[0].Listen
	for _, test := range []struct {
		name   string
		server *tls.Config
		client *tls.Config
		change func(p *config.Profile)
		want   string
		cause  string // of the record, or its reason
	}{
		{"block-expired-certificate no", certificate(w.public, ec, expired, "a.test"), nil, func(p *config.Profile) { p.BlockExpired = false }, untrusted, ""},
		{"block-expired-certificate yes", certificate(w.public, ec, expired, "a.test"), nil, func(p *config.Profile) { p.BlockExpired = true }, refused, "block-expired-certificate"},
		{"block-untrusted-issuer no", certificate(stranger, ec, nil, "a.test"), nil, func(p *config.Profile) { p.BlockUntrustedIssuer = false }, untrusted, ""},
		{"block-untrusted-issuer yes", certificate(stranger, ec, nil, "a.test"), nil, func(p *config.Profile) { p.BlockUntrustedIssuer = true }, refused, "block-untrusted-issuer"},
		{"block-if-sni-mismatch no", certificate(w.public, ec, nil, "b.test"), nil, func(p *config.Profile) { p.BlockSNIMismatch = false }, untrusted, ""},
		{"block-if-sni-mismatch yes", certificate(w.public, ec, nil, "b.test"), nil, func(p *config.Profile) { p.BlockSNIMismatch = true }, refused, "block-if-sni-mismatch"},

		{"min-version tls1-2, client", good, client12, nil, trusted, ""},
		{"min-version tls1-3, client", good, client12, func(p *config.Profile) { p.MinVersion = config.TLS13 }, refused, "client offers at most TLS 1.2"},
		{"min-version tls1-2, server", new12, nil, nil, trusted, ""},
		{"min-version tls1-3, server", new12, nil, func(p *config.Profile) { p.MinVersion = config.TLS13 }, refused, "protocol version"},
		{"max-version max, client", good, client13, nil, trusted, ""},
		{"max-version tls1-2, client", good, client13, func(p *config.Profile) { p.MaxVersion = config.TLS12 }, refused, "client offers at least TLS 1.3"},
		{"max-version max, server", only13, nil, nil, trusted, ""},
		{"max-version tls1-2, server", only13, nil, func(p *config.Profile) { p.MaxVersion = config.TLS12 }, refused, "protocol version"},

		{"block-unsupported-version yes, old client", good, client11, nil, refused, "client offers at most TLS 1.1"},
		{"block-unsupported-version no, client", new12, client12, func(p *config.Profile) { p.MinVersion, p.BlockUnsupportedVersion = config.TLS13, false }, passed, "NOT DECRYPTED (unsupported-version)"},
		{"block-unsupported-version yes, old server", old, &tls.Config{MinVersion: tls.VersionTLS10}, nil, refused, "protocol version"},
		{"block-unsupported-version no, old server", old, &tls.Config{MinVersion: tls.VersionTLS10}, func(p *config.Profile) { p.BlockUnsupportedVersion = false }, passed, "NOT DECRYPTED (unsupported-version)"},
		{"block-unsupported-version no, server", only13, nil, func(p *config.Profile) { p.MaxVersion, p.BlockUnsupportedVersion = config.TLS12, false }, passed, "NOT DECRYPTED (unsupported-version)"},

		{"keyxchg-algo-rsa no, server", rsaOnly, nil, nil, refused, "handshake failure"},
		{"keyxchg-algo-rsa yes, server", rsaOnly, nil, func(p *config.Profile) { p.RSAKeyExchange = true }, trusted, ""},
		{"keyxchg-algo-rsa no, client", good, clientRSA, nil, refused, "handshake with the client"},
		{"keyxchg-algo-rsa yes, client", good, clientRSA, func(p *config.Profile) { p.RSAKeyExchange = true }, trusted, ""},
		{"keyxchg-algo-ecdhe yes", both, clientBoth, func(p *config.Profile) { p.RSAKeyExchange = true }, trusted, ""},
		{"keyxchg-algo-ecdhe no", both, clientBoth, func(p *config.Profile) { p.RSAKeyExchange, p.ECDHEKeyExchange = true, false }, trusted, ""},
		{"keyxchg-algo-ecdhe no, server", new12, clientBoth, func(p *config.Profile) { p.RSAKeyExchange, p.ECDHEKeyExchange = true, false }, refused, "handshake failure"},
		{"keyxchg-algo-ecdhe no, TLS 1.2 without RSA", both, clientECDHE, func(p *config.Profile) { p.RSAKeyExchange, p.ECDHEKeyExchange = true, false }, refused, "handshake with the client"},
		{"keyxchg-algo no, TLS 1.3", both, client13, func(p *config.Profile) { p.RSAKeyExchange, p.ECDHEKeyExchange = true, false }, trusted, ""},
	} {
		profile := config.DefaultProfile()
		profile.Name = "it"
		if test.change != nil {
			test.change(&profile)
		}
		next := w.snapshot(config.Rule{Name: "all", Action: config.Decrypt, Profile: profile})
		next.Forward = s.Forward
		w.apply(next)
		got, r := w.outcome(at, "a.test:"+port(test.server), test.client)
		if got != test.want || r.Rule != "all" {
			t.Errorf("%s: %s, want %s; record %+v", test.name, got, test.want, r)
		}
		says(t, test.name+": record", r.FailureCause+" "+r.Reason, test.cause)
		if (got == passed) != (r.Bypass == flow.BypassVersion && r.Action == "no-decrypt" && r.ClientLeg == nil && r.Authority == "") {
			t.Errorf("%s: record %+v", test.name, r)
		}
		if strings.HasPrefix(test.name, "keyxchg-algo-ecdhe") && got == trusted {
			for name, leg := range map[string]*flow.Leg{"client": r.ClientLeg, "server": r.ServerLeg} {
				if strings.Contains(leg.Cipher, "ECDHE") != profile.ECDHEKeyExchange {
					t.Errorf("%s: the %s's leg has %s", test.name, name, leg.Cipher)
				}
			}
		}
	}
}

// TestHSMUnavailable: a forward flow whose leaf cannot be signed is blocked, or
// relayed as it is where the profile says so, loudly; and never shown a trusted
// leaf.
func TestHSMUnavailable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	port := w.origin(&tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, newKey(t), nil, "a.test", "b.test", "c.test")}})
	s := w.snapshot()
	at := s.Forward[0].Listen
	apply := func(block bool) {
		profile := config.DefaultProfile()
		profile.Name, profile.BlockHSMUnavailable = "it", block
		next := w.snapshot(config.Rule{Name: "all", Action: config.Decrypt, Profile: profile})
		next.Forward = s.Forward
		w.apply(next)
	}
	apply(true)
	w.see(at, "a.test:"+port, "Forward Trust")

	// Away, and known to be: told at the CONNECT.
	w.hsm.SetAway(true)
	if _, err := reach(t, at, "b.test:"+port, nil); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("block: %v", err)
	}
	if r := w.record(); r.FailureStage != flow.StageHSM || r.Bypass != "" {
		t.Errorf("block: record %+v", r)
	}
	apply(false)
	bypassed := func(name, cause string) {
		t.Helper()
		r := w.see(at, name+":"+port, "Public Root")
		if r.Bypass != flow.BypassHSM || r.Action != "no-decrypt" || r.FailureStage != "" || r.ClientLeg != nil || r.ServerLeg != nil || r.Authority != "" || r.BytesDown == 0 {
			t.Errorf("no block: record %+v", r)
		}
		says(t, "the reason", r.Reason, `NOT DECRYPTED (hsm-unavailable) although rule "all" says to, since profile "it" does not block it: `)
		says(t, "the reason", r.Reason, cause)
	}
	bypassed("b.test", "the test took the provider away")
	// A leaf that is kept needs no key.
	if r := w.see(at, "a.test:"+port, "Forward Trust"); !r.Cached || r.Bypass != "" {
		t.Errorf("a leaf that is kept: record %+v", r)
	}

	// It fails at the signature: the server has heard of us by then, and is
	// asked again.
	w.hsm.SetAway(false)
	w.hsm.SetBroken(true)
	bypassed("c.test", "the test broke the provider")
	apply(true)
	if _, err := reach(t, at, "c.test:"+port, nil); err == nil || strings.Contains(err.Error(), "503") {
		t.Errorf("block: %v", err)
	}
	if r := w.record(); r.FailureStage != flow.StageHSM || r.Bypass != "" || r.ServerLeg == nil {
		t.Errorf("block: record %+v", r)
	}
	w.hsm.SetBroken(false)
	apply(false)
	w.see(at, "b.test:"+port, "Forward Trust")
}

// TestInboundHSMUnavailable: the same before a protected server, whose own key
// signs within the handshake.
func TestInboundHSMUnavailable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	// The server's own other certificate tells who answered.
	shown, own := w.public.leaf(t, newKey(t), nil, "shop.test"), w.public.leaf(t, newKey(t), nil, "shop.test")
	w.hsm.Add(shown.PrivateKey.(crypto.Signer))
	port := w.origin(&tls.Config{Certificates: []tls.Certificate{own}})
	var serverPort uint16
	fmt.Sscan(port, &serverPort)
	at := w.address()
	apply := func(block bool) {
		profile := config.DefaultProfile()
		profile.Name, profile.InboundBlockHSMUnavailable = "it", block
		s := w.snapshot(config.Rule{Name: "shop", Action: config.Decrypt, Type: config.InboundInspection, Certificates: []string{"shop"}, Profile: profile})
		s.Forward = nil
		w.certificate(s, "shop", shown.Leaf)
		s.Inbound = []config.InboundListener{{Name: "shop", Listen: at, ServerAddress: "127.0.0.1", ServerPort: serverPort}}
		w.apply(s)
	}
	get := func(version uint16) (string, *flow.Record) {
		t.Helper()
		conn, err := net.Dial("tcp", at.String())
		must(t, err)
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		client, err := speak(conn, "shop.test:443", &tls.Config{MinVersion: version, MaxVersion: version})
		if err != nil {
			return "refused", w.record()
		}
		leaf := client.ConnectionState().PeerCertificates[0]
		client.Close()
		switch {
		case leaf.Equal(shown.Leaf):
			return "shown", w.record()
		case leaf.Equal(own.Leaf):
			return "own", w.record()
		}
		return "another", w.record()
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, block := range []bool{true, false} {
			apply(block)
			if got, r := get(version); got != "shown" || r.Action != "decrypt" || r.Bypass != "" {
				t.Errorf("%x, block %v, the HSM is there: %s, record %+v", version, block, got, r)
			}
			// Known to be away; and away at the very signature.
			for _, known := range []bool{true, false} {
				want := "own"
				if block {
					want = "refused"
				}
				if known {
					w.hsm.SetAway(true)
				} else {
					w.hsm.SetBroken(true)
				}
				got, r := get(version)
				w.hsm.SetAway(false)
				w.hsm.SetBroken(false)
				if got != want || (r.Bypass == flow.BypassHSM) == block || (r.FailureStage == flow.StageHSM) != block {
					t.Errorf("%x, block %v, known %v: %s, want %s; record %+v", version, block, known, got, want, r)
				}
				if !block && (r.Action != "no-decrypt" || r.Authority != "" || r.ServerLeg != nil || !strings.HasPrefix(r.Reason, "NOT DECRYPTED")) {
					t.Errorf("%x, known %v: record %+v", version, known, r)
				}
			}
		}
	}
}

// TestInboundProfile: versions and key exchange before a protected server.
func TestInboundProfile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	shown, own := w.public.leaf(t, rsaKey(), nil, "shop.test"), w.public.leaf(t, newKey(t), nil, "shop.test")
	w.hsm.Add(shown.PrivateKey.(crypto.Signer))
	port := w.origin(&tls.Config{Certificates: []tls.Certificate{own}})
	var serverPort uint16
	fmt.Sscan(port, &serverPort)
	at := w.address()
	client12 := &tls.Config{MaxVersion: tls.VersionTLS12}
	clientRSA := &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}
	const decrypted, passed, refused = "RSA-2048", "P-256", "refused"
	for _, test := range []struct {
		name   string
		client *tls.Config
		change func(*config.Profile)
		want   string
		says   string
	}{
		{"min-version tls1-2", client12, func(*config.Profile) {}, decrypted, ""},
		{"min-version tls1-3, block-unsupported-version yes", client12, func(p *config.Profile) { p.MinVersion = config.TLS13 }, refused, "client offers at most TLS 1.2"},
		{"min-version tls1-3, block-unsupported-version no", client12, func(p *config.Profile) { p.MinVersion, p.InboundBlockUnsupportedVersion = config.TLS13, false }, passed, "NOT DECRYPTED (unsupported-version)"},
		{"max-version tls1-2", &tls.Config{MinVersion: tls.VersionTLS13}, func(p *config.Profile) { p.MaxVersion = config.TLS12 }, refused, "client offers at least TLS 1.3"},
		{"keyxchg-algo-rsa no", clientRSA, func(*config.Profile) {}, refused, "handshake with the client"},
		{"keyxchg-algo-rsa yes", clientRSA, func(p *config.Profile) { p.RSAKeyExchange = true }, decrypted, ""},
	} {
		profile := config.DefaultProfile()
		profile.Name = "it"
		test.change(&profile)
		s := w.snapshot(config.Rule{Name: "shop", Action: config.Decrypt, Type: config.InboundInspection, Certificates: []string{"shop"}, Profile: profile})
		s.Forward = nil
		w.certificate(s, "shop", shown.Leaf)
		s.Inbound = []config.InboundListener{{Name: "shop", Listen: at, ServerAddress: "127.0.0.1", ServerPort: serverPort}}
		// The server's own certificate is of the public PKI, so that it is trusted.
		w.apply(s)
		conn, err := net.Dial("tcp", at.String())
		must(t, err)
		got := refused
		if client, err := speak(conn, "shop.test:443", test.client); err == nil {
			got = flow.DescribeKey(client.ConnectionState().PeerCertificates[0].PublicKey)
			client.Close()
		}
		conn.Close()
		r := w.record()
		if got != test.want || (r.Bypass == flow.BypassVersion) != (test.want == passed) {
			t.Errorf("%s: %s, want %s; record %+v", test.name, got, test.want, r)
		}
		says(t, test.name+": record", r.FailureCause+" "+r.Reason, test.says)
	}
}

// TestSilence: what a rule keeps out of the logs is counted all the same, and
// what was relayed against its word is told.
func TestSilence(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	port := w.origin(&tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, newKey(t), nil, "a.test")}})
	for _, test := range []struct {
		success, failure bool
		want             []string // hosts of the records
	}{{true, true, []string{"a.test", "b.test"}}, {false, true, []string{"b.test"}}, {true, false, []string{"a.test"}}, {false, false, nil}} {
		s := w.snapshot(config.Rule{Name: "all", Action: config.Decrypt})
		s.Rules[0].LogSuccess, s.Rules[0].LogFail = test.success, test.failure
		s.Rules[0].Profile.BlockSNIMismatch = true
		before := w.plane.Hits()
		w.apply(s)
		for _, host := range []string{"a.test", "b.test"} {
			if client, err := reach(t, s.Forward[0].Listen, host+":"+port, nil); err == nil {
				client.Close()
			}
		}
		for w.plane.SessionInfo().Active > 0 {
			time.Sleep(time.Millisecond)
		}
		var got []string
		for len(w.records) > 0 {
			got = append(got, w.record().SNI)
		}
		slices.Sort(got)
		if !slices.Equal(got, test.want) {
			t.Errorf("%+v: records of %v", test, got)
		}
		count := w.plane.Hits()[0].Count
		if len(before) > 2 {
			count -= before[0].Count
		}
		if count != 2 {
			t.Errorf("%+v: %d hits", test, count)
		}
	}
}
