package config

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const day = 24 * time.Hour

var (
	defaultManagement = Management{
		Address: netip.MustParseAddr("127.0.0.1"), HTTPSPort: 4443, SSHPort: 2222, MetricsPort: 9180, MinVersion: TLS12, MaxVersion: TLS13,
		IdleTimeout: time.Hour, APIKeyLifetime: 365 * day, FailedAttempts: 5, LockoutTime: 15 * time.Minute,
	}
	defaultRetention = Retention{Traffic: 90 * day, Decryption: 90 * day, System: 365 * day, Config: 365 * day, Size: 4 << 30}
)

func TestSnapshot(t *testing.T) {
	t.Parallel()
	root := certificate(t, thirdKey(), nil)
	server := certificate(t, rsaKey(), func(r *request) { leafOnly(r); r.issuer, r.issuerKey = root, thirdKey() })
	system, proxy := DevicePath+"/deviceconfig/system", DevicePath+"/deviceconfig/setting/proxy"

	b := gateway(t)
	b.Set(system+"/hostname", "edge-1")
	b.Set(hsmPath+"/port", "1793")
	b.Set(proxy + "/forward/entry[@name='lan']") // all defaults
	b.Set(proxy+"/forward/entry[@name='lan6']/address", "::1")
	b.Set(proxy+"/forward/entry[@name='lan6']/port", "3128")
	b.Set(proxy+"/inbound/entry[@name='shop']/port", "8443")
	b.Set(proxy+"/inbound/entry[@name='shop']/server-address", "10.1.1.2")
	b.Set(proxy+"/inbound/entry[@name='mail']/address", "0.0.0.0")
	b.Set(proxy+"/inbound/entry[@name='mail']/port", "9443")
	b.Set(proxy+"/inbound/entry[@name='mail']/server-address", "mail.internal")
	b.Set(proxy+"/inbound/entry[@name='mail']/server-port", "8443")
	b.Set(proxy+"/inbound/entry[@name='mail']/server-name", "Mail.Example.com")
	b.Set(proxy+"/allowed-destination", "127.0.0.1:9443", "Localhost:80", "169.254.0.0/16")
	b.Set(proxy+"/limits/idle-timeout", "60")
	onHSM(b, "server", server, root)
	b.Set(certPath("root")+"/public-key", inPEM(root))
	b.Set(decryptPath+"/trusted-root-CA", "root")
	b.Set(decryptPath + "/ssl-exclude-cert/entry[@name='*.Bank.example']")
	b.Set(decryptPath+"/ssl-exclude-cert/entry[@name='no.example']/exclude", "no")
	b.Set(decryptPath+"/ssl-exclude-cert/entry[@name='no.example']/description", "pinned once")
	b.Set(below(profilesPath, "strict")+"/ssl-forward-proxy/block-untrusted-issuer", "yes")
	b.Set(below(profilesPath, "strict")+"/ssl-protocol-settings/min-version", "tls1-3")
	b.Set(below(profilesPath, "legacy")+"/ssl-protocol-settings/max-version", "tls1-2")
	b.Set(below(profilesPath, "legacy")+"/ssl-protocol-settings/keyxchg-algo-rsa", "yes")
	b.Set(rulePath("z first")+"/action", "no-decrypt")
	b.Set(rulePath("z first")+"/destination", "10.0.0.0/8", "2001:db8::1")
	b.Set(rulePath("z first")+"/source", "any")
	b.Set(rulePath("off")+"/action", "decrypt")
	b.Set(rulePath("off")+"/disabled", "yes")
	b.Set(rulePath("in")+"/action", "decrypt")
	b.Set(rulePath("in")+"/type/ssl-inbound-inspection/certificates", "server")
	b.Set(rulePath("in")+"/profile", "legacy")
	b.Set(rulePath("all")+"/action", "decrypt")
	b.Set(rulePath("all") + "/type/ssl-forward-proxy")
	b.Set(rulePath("all")+"/profile", "strict")
	b.Set(rulePath("all")+"/description", "the rest")
	data, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	got, warnings, problems := parse(data, now)
	if len(warnings) > 0 || len(problems) > 0 {
		t.Fatalf("warnings %v, problems %v", warnings, problems)
	}

	plain := Profile{MinVersion: TLS12, MaxVersion: TLS13, ECDHEKeyExchange: true, BlockUnsupportedVersion: true,
		InboundBlockUnsupportedVersion: true, BlockHSMUnavailable: true, InboundBlockHSMUnavailable: true}
	strict, legacy := plain, plain
	strict.Name, strict.BlockUntrustedIssuer, strict.MinVersion = "strict", true, TLS13
	legacy.Name, legacy.MaxVersion, legacy.RSAKeyExchange = "legacy", TLS12, true
	trustCA, _ := got.Certificate("trust")
	untrustCA, _ := got.Certificate("untrust")
	want := &Snapshot{
		Hostname: "edge-1",
		HSM:      &HSM{Provider: NetworkHSM, Servers: []HSMServer{{"luna-1", "127.0.0.1", 1793, 2022}}},
		Forward: []Listener{
			{"lan", netip.MustParseAddrPort("127.0.0.1:8080")},
			{"lan6", netip.MustParseAddrPort("[::1]:3128")},
		},
		Inbound: []InboundListener{
			{"shop", netip.MustParseAddrPort("127.0.0.1:8443"), "10.1.1.2", 443, ""},
			{"mail", netip.MustParseAddrPort("0.0.0.0:9443"), "mail.internal", 8443, "mail.example.com"},
		},
		AllowedDestinations: []AllowedDestination{
			{Network: netip.MustParsePrefix("127.0.0.1/32"), Port: 9443},
			{Host: "localhost", Port: 80},
			{Network: netip.MustParsePrefix("169.254.0.0/16")},
		},
		Limits: Limits{MaxConnections: 10000, Handshake: 30 * time.Second, Connect: 10 * time.Second, Idle: time.Minute},
		Certificates: []Certificate{
			trustCA, untrustCA,
			{Name: "server", Chain: []*x509.Certificate{server, root}, OnHSM: true},
			{Name: "root", Chain: []*x509.Certificate{root}},
		},
		ForwardTrust:   CAPair{ECDSA: "trust"},
		ForwardUntrust: CAPair{ECDSA: "untrust"},
		TrustedRoots:   []*x509.Certificate{root},
		Exclusions: []Exclusion{
			{"*.bank.example", "", true},
			{"no.example", "pinned once", false},
		},
		Rules: []Rule{
			{Name: "z first", Action: NoDecrypt, Type: ForwardProxy, Profile: plain, LogSuccess: true, LogFail: true,
				Destination: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::1/128")}},
			{Name: "in", Action: Decrypt, Type: InboundInspection, Profile: legacy, Certificates: []string{"server"}, LogSuccess: true, LogFail: true},
			{Name: "all", Action: Decrypt, Type: ForwardProxy, Profile: strict, Description: "the rest", LogSuccess: true, LogFail: true},
		},
		Profiles:   []Profile{strict, legacy},
		Management: defaultManagement,
		Retention:  defaultRetention,
	}
	same := cmp.Options{
		cmp.Comparer(func(a, b *x509.Certificate) bool { return a.Equal(b) }),
		cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	}
	if diff := cmp.Diff(want, got, same); diff != "" {
		t.Errorf("snapshot (-want +got):\n%s", diff)
	}
	if !trustCA.Leaf().Equal(trustCA.Chain[0]) || trustCA.Name != "trust" || !trustCA.OnHSM {
		t.Errorf("Certificate found %v", trustCA.Name)
	}
}

func TestEmptySnapshot(t *testing.T) {
	t.Parallel()
	got, warnings, err := Parse([]byte("<config/>"))
	if err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	want := &Snapshot{
		Hostname: "moongate",
		Limits:   Limits{10000, 30 * time.Second, 10 * time.Second, time.Hour},

		Management: defaultManagement,
		Retention:  defaultRetention,
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("snapshot (-want +got):\n%s", diff)
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "gateway.xml")
	if _, _, err := Load(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("<config>\n  <shared>\n    <certificat/>\n    <x/>\n  </shared>\n</config>\n")
	_, _, err := Load(path)
	want := []string{
		path + `:3: /config/shared/certificat: unknown element, got "certificat", did you mean "certificate"?`,
		path + `:4: /config/shared/x: unknown element, got "x", expected certificate, ssl-decrypt, service, log-settings or ssl-tls-service-profile`,
	}
	if diff := cmp.Diff(want, lines(err)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	var problem Problem
	if !errors.As(err, &problem) || problem.Line != 3 {
		t.Errorf("errors.As found %+v", problem)
	}

	write(inProxy("\n<allowed-destination><member>0.0.0.0/0</member></allowed-destination>"))
	_, warnings, err := Load(path)
	if err != nil || len(warnings) != 1 {
		t.Fatalf("warnings %v, error %v", warnings, err)
	}
	if want := path + ":2: " + proxyPath + "/allowed-destination: 0.0.0.0/0 opens every address: clients can reach this machine and its management through the proxy"; warnings[0].String() != want {
		t.Errorf("got  %s\nwant %s", warnings[0], want)
	}

	big, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(big.Truncate(1<<40), big.Close()); err != nil {
		t.Skip("no sparse files here:", err)
	}
	_, _, err = Load(path)
	if want := path + ":1: /: the configuration is too large, expected at most 67108864 bytes"; err == nil || err.Error() != want {
		t.Errorf("a terabyte: %v", err)
	}
}
