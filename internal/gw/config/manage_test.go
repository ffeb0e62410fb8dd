package config

import (
	"crypto/x509"
	"encoding/base64"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
)

const (
	someHash   = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b2dWRWJTmaaJObGJhcmFsbGVsIQ"
	someSecret = sealedPrefix + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo"
)

// publicKeyLine is a key as ssh-keygen writes it.
func publicKeyLine(t testing.TB) string {
	t.Helper()
	key, err := ssh.NewPublicKey(edKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + " alice@example"
}

func account(b *Builder, name, role string) {
	b.Set(below(usersPath, name)+"/phash", someHash)
	b.Set(below(usersPath, name)+"/permissions/role-based/"+role, "yes")
}

func compiled(t testing.TB, b *Builder) (*Snapshot, []string) {
	t.Helper()
	s, warnings, err := Compile(b.root, now)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, w := range warnings {
		texts = append(texts, w.String())
	}
	return s, texts
}

func TestManagementSnapshot(t *testing.T) {
	t.Parallel()
	line := publicKeyLine(t)
	ca := certificate(t, thirdKey(), nil)
	b := gateway(t)
	account(b, "admin", "superuser")
	account(b, "reader", "superreader")
	b.Set(below(usersPath, "robot")+"/public-key", base64.StdEncoding.EncodeToString([]byte(line+"\n\n"+line+"\n")))
	b.Set(below(usersPath, "robot")+"/permissions/role-based/deviceadmin", "yes")
	b.Set(managementPath+"/listen-address", "::")
	b.Set(managementPath+"/https-port", "443")
	b.Set(managementPath+"/idle-timeout", "0")
	b.Set(managementPath+"/api/key/lifetime", "60")
	b.Set(managementPath+"/admin-lockout/failed-attempts", "3")
	b.Set(managementPath+"/quota-settings/max-size", "100")
	b.Set(managementPath+"/quota-settings/log-expiration-period/config", "2000")
	b.Set(certPath("web")+"/public-key", inPEM(certificate(t, thirdKey(), leafOnly)))
	b.Set(certPath("web")+"/private-key", someSecret)
	b.Set(below(tlsProfilesPath, "p")+"/certificate", "web")
	b.Set(below(tlsProfilesPath, "p")+"/protocol-settings/min-version", "tls1-3")
	b.Set(DevicePath+"/deviceconfig/system/ssl-tls-service-profile", "p")
	b.Set(certPath("log-ca")+"/public-key", inPEM(ca))
	servers := below(syslogPath, "siem") + "/server/"
	b.Set(servers+EntryStep("a")+"/server", "10.0.0.1")
	b.Set(servers+EntryStep("b")+"/server", "siem.example")
	b.Set(servers+EntryStep("b")+"/transport", "SSL")
	b.Set(servers+EntryStep("b")+"/server-ca", "log-ca")
	b.Set(servers+EntryStep("b")+"/facility", "LOG_LOCAL3")
	b.Set(servers+EntryStep("c")+"/server", "::1")
	b.Set(servers+EntryStep("c")+"/transport", "TCP")
	b.Set(servers+EntryStep("c")+"/port", "601")
	b.Set(below(logSettingsPath+"/config/match-list", "all")+"/send-syslog", "siem")
	b.Set(below(logSettingsPath+"/system/match-list", "bad")+"/send-syslog", "siem")
	b.Set(below(logSettingsPath+"/system/match-list", "bad")+"/filter", "( severity geq high )")
	got, warnings := compiled(t, b)
	if len(warnings) > 0 {
		t.Errorf("warnings: %q", warnings)
	}
	want := &Snapshot{
		Administrators: []Administrator{
			{Name: "admin", PasswordHash: someHash, Role: Superuser},
			{Name: "reader", PasswordHash: someHash, Role: SuperReader},
			{Name: "robot", PublicKeys: []string{line, line}, Role: DeviceAdmin},
		},
		Management: Management{
			Address: netip.IPv6Unspecified(), HTTPSPort: 443, SSHPort: 2222, MetricsPort: 9180,
			Certificate: "web", MinVersion: TLS13, MaxVersion: TLS13,
			APIKeyLifetime: time.Hour, FailedAttempts: 3, LockoutTime: 15 * time.Minute,
		},
		Retention: Retention{90 * day, 90 * day, 365 * day, 2000 * day, 100 << 20},
		Syslog: []SyslogProfile{{"siem", []SyslogServer{
			{"a", "10.0.0.1", 514, SyslogUDP, "LOG_USER", nil},
			{"b", "siem.example", 6514, SyslogSSL, "LOG_LOCAL3", []*x509.Certificate{ca}},
			{"c", "::1", 601, SyslogTCP, "LOG_USER", nil},
		}}},
		Forwarding: []LogForwarding{
			{"system", "bad", "( severity geq high )", []string{"siem"}},
			{"config", "all", "", []string{"siem"}},
		},
	}
	only := &Snapshot{Administrators: got.Administrators, Management: got.Management, Retention: got.Retention, Syslog: got.Syslog, Forwarding: got.Forwarding}
	same := cmp.Options{
		cmp.Comparer(func(a, b *x509.Certificate) bool { return a.Equal(b) }),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	}
	if diff := cmp.Diff(want, only, same); diff != "" {
		t.Errorf("snapshot (-want +got):\n%s", diff)
	}
}

func TestRuleSnapshot(t *testing.T) {
	t.Parallel()
	b := gateway(t)
	b.Set(below(vsysServicesPath, "web")+"/protocol/tcp/port", "80,8080-8090")
	b.Set(below(sharedServicesPath, "web")+"/protocol/tcp/port", "1")
	b.Set(below(sharedServicesPath, "quic")+"/protocol/udp/port", "443")
	b.Set(below(sharedServicesPath, "quic") + "/protocol/udp/override/no")
	b.Set(rulePath("a")+"/action", "no-decrypt")
	b.Set(rulePath("a")+"/destination-host", "*.Bank.example", "bank.example")
	b.Set(rulePath("a")+"/service", "web", "quic", "service-https", "service-http", "application-default")
	b.Set(rulePath("a")+"/source", "10.0.0.0/8")
	b.Set(rulePath("a")+"/negate-source", "yes")
	b.Set(rulePath("a")+"/log-success", "no")
	b.Set(rulePath("b")+"/action", "no-decrypt")
	b.Set(rulePath("b")+"/destination-host", "any")
	b.Set(rulePath("b")+"/service", "any")
	b.Set(below(profilesPath, "p")+"/ssl-inbound-proxy/block-if-hsm-unavailable", "no")
	b.Set(below(profilesPath, "p")+"/ssl-forward-proxy/block-unsupported-version", "no")
	b.Set(below(profilesPath, "p")+"/ssl-protocol-settings/keyxchg-algo-ecdhe", "no")
	b.Set(below(profilesPath, "p")+"/ssl-protocol-settings/keyxchg-algo-rsa", "yes")
	s, _ := compiled(t, b)
	wantServices := []Service{
		{"web", TCP, []PortRange{{80, 80}, {8080, 8090}}},
		{"quic", UDP, []PortRange{{443, 443}}},
		{"service-https", TCP, []PortRange{{443, 443}}},
		{"service-http", TCP, []PortRange{{80, 80}, {8080, 8080}}},
		{"application-default", TCP, []PortRange{{443, 443}}},
	}
	r := s.Rules[0]
	if diff := cmp.Diff(wantServices, r.Services); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"*.bank.example", "bank.example"}, r.Hosts); diff != "" || !r.NegateSource || r.NegateDestination || r.LogSuccess || !r.LogFail {
		t.Errorf("rule a: %+v", r)
	}
	if r := s.Rules[1]; len(r.Hosts)+len(r.Services) > 0 {
		t.Errorf("rule b: %+v", r)
	}
	p := s.Profiles[0]
	if p.InboundBlockHSMUnavailable || !p.BlockHSMUnavailable || p.BlockUnsupportedVersion || !p.InboundBlockUnsupportedVersion || p.ECDHEKeyExchange {
		t.Errorf("profile: %+v", p)
	}
	if web := wantServices[0].Ports[1]; web.Contains(8079) || !web.Contains(8080) || !web.Contains(8090) || web.Contains(8091) {
		t.Error("a range's ends")
	}
}

// A private key may be here, sealed, and is said to be software where it signs.
func TestSoftwareKeys(t *testing.T) {
	t.Parallel()
	b := NewBuilder()
	b.Set(certPath("ca")+"/public-key", inPEM(certificate(t, ecKey(), nil)))
	b.Set(certPath("ca")+"/private-key", someSecret)
	b.Set(certPath("ca")+"/private-key-on-hsm", "no")
	b.Set(trust+"/ecdsa", "ca")
	b.Set(certPath("request")+"/csr", "-----BEGIN CERTIFICATE REQUEST-----\n"+request2986(t)+"\n-----END CERTIFICATE REQUEST-----")
	b.Set(certPath("request")+"/private-key", someSecret)
	s, warnings := compiled(t, b)
	want := []string{
		trust + `/ecdsa: its private key is software, got "ca": whoever takes over the gateway takes it`,
		untrust + `: not set: servers whose chain cannot be verified are blocked`,
	}
	if diff := cmp.Diff(want, warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
	if len(s.Certificates) != 1 || s.Certificates[0].PrivateKey != someSecret || !s.Certificates[0].HasKey() || s.Certificates[0].OnHSM {
		t.Errorf("certificates: %+v", s.Certificates)
	}
}

func request2986(t testing.TB) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{}, edKey())
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

func TestManagementRefuses(t *testing.T) {
	t.Parallel()
	user := below(usersPath, "a")
	for _, test := range []struct {
		name string
		set  func(*Builder)
		want []string
	}{
		{"no role", func(b *Builder) {
			account(b, "admin", "superuser")
			b.Set(user + "/permissions/role-based")
		}, []string{user + `/permissions/role-based: no role, expected superuser, deviceadmin or superreader`}},
		{"nobody who can change accounts", func(b *Builder) {
			account(b, "a", "deviceadmin")
			b.Set(below(usersPath, "b")+"/permissions/role-based/superuser", "yes") // without a password
		}, []string{usersPath + `: no superuser that can log in, expected one: nobody could change the accounts any more`}},
		{"two roles", func(b *Builder) {
			account(b, "a", "superuser")
			b.Set(user+"/permissions/role-based/superreader", "yes")
		}, []string{user + `/permissions/role-based: a choice, got both superuser and superreader, expected superuser, deviceadmin, superreader, custom, vsysadmin or vsysreader`}},
		{"a password as it is", func(b *Builder) { b.Set(user+"/phash", "hunter2") },
			[]string{user + `/phash: not a hash, expected ` + passwordHash().doc}},
		{"a hash that would exhaust the memory", func(b *Builder) { b.Set(user+"/phash", strings.Replace(someHash, "m=65536", "m=9999999", 1)) },
			[]string{user + `/phash: a hash that costs too much or nothing, expected ` + passwordHash().doc}},
		{"a key with options", func(b *Builder) { b.Set(user+"/public-key", `command="x" `+publicKeyLine(t)) },
			[]string{user + `/public-key: options, which are not supported, at key 1, expected ` + publicKeys().doc}},
		{"no key", func(b *Builder) { b.Set(user+"/public-key", "ssh-ed25519 AAAA") },
			[]string{user + `/public-key: not a key on line 1, expected ` + publicKeys().doc}},
		{"a listener on a port of management", func(b *Builder) { b.Set(below(proxyPath+"/forward", "f")+"/port", "2222") },
			[]string{below(proxyPath+"/forward", "f") + `/port: used twice, got "127.0.0.1:2222", which ` + managementPath + ` has as 127.0.0.1:2222`}},
		{"management on one port", func(b *Builder) { b.Set(managementPath+"/ssh-port", "4443") },
			[]string{managementPath + `/ssh-port: used twice, got "127.0.0.1:4443", which ` + managementPath + ` has as 127.0.0.1:4443`}},
		{"a web certificate on the HSM", func(b *Builder) {
			b.Set(below(tlsProfilesPath, "p")+"/certificate", "trust")
			b.Set(DevicePath+"/deviceconfig/system/ssl-tls-service-profile", "p")
		}, []string{below(tlsProfilesPath, "p") + `/certificate: a private key on the HSM, got "trust", expected one that is here: management is needed when the HSM is away`}},
		{"a CA without SSL", func(b *Builder) {
			b.Set(below(syslogPath, "s")+"/server/"+EntryStep("a")+"/server", "10.0.0.1")
			b.Set(below(syslogPath, "s")+"/server/"+EntryStep("a")+"/server-ca", "trust")
		}, []string{below(syslogPath, "s") + `/server/entry[@name='a']/server-ca: a CA without SSL, got "trust", expected transport SSL`}},
		{"logs to nobody", func(b *Builder) { b.Set(below(logSettingsPath+"/system/match-list", "m")+"/send-syslog", "s") },
			[]string{below(logSettingsPath+"/system/match-list", "m") + `/send-syslog/member: no such entry, got "s", expected one of ` + syslogPath + `, which has none`}},
		{"a service that is not there", func(b *Builder) {
			b.Set(rulePath("r")+"/action", "no-decrypt")
			b.Set(rulePath("r")+"/service", "web")
		}, []string{rulePath("r") + `/service/member: no such entry, got "web", expected one of ` + vsysServicesPath + ` or ` + sharedServicesPath + `: any, application-default, service-http or service-https`}},
		{"a service of a known name", func(b *Builder) { b.Set(below(sharedServicesPath, "service-http")) },
			[]string{below(sharedServicesPath, "service-http") + `: a name that always has its own meaning, got "service-http", expected ` + serviceName().doc}},
		{"ports", func(b *Builder) { b.Set(below(sharedServicesPath, "s")+"/protocol/tcp/port", "9-8") },
			[]string{below(sharedServicesPath, "s") + `/protocol/tcp/port: a range that ends before it begins, got "9-8", expected ports and ranges such as 443 or 80,8080-8090`}},
		{"not any", func(b *Builder) {
			b.Set(rulePath("r")+"/action", "no-decrypt")
			b.Set(rulePath("r")+"/negate-source", "yes")
			b.Set(rulePath("r")+"/destination", "any")
			b.Set(rulePath("r")+"/negate-destination", "yes")
		}, []string{rulePath("r") + `/negate-source: not any is nothing, expected source`, rulePath("r") + `/negate-destination: not any is nothing, expected destination`}},
		{"no key exchange", func(b *Builder) {
			b.Set(below(profilesPath, "p")+"/ssl-protocol-settings/keyxchg-algo-ecdhe", "no")
		},
			[]string{below(profilesPath, "p") + `/ssl-protocol-settings: no key exchange for TLS 1.2, expected keyxchg-algo-ecdhe yes, keyxchg-algo-rsa yes or min-version tls1-3`}},
		{"a key in two places", func(b *Builder) { b.Set(certPath("trust")+"/private-key", someSecret) },
			[]string{certPath("trust") + `/private-key: a private key here and on the HSM, expected one of them`}},
		{"no certificate", func(b *Builder) { b.Set(certPath("x")) },
			[]string{certPath("x") + `/public-key: missing, expected ` + certificates().doc}},
		{"a request in place of a certificate", func(b *Builder) {
			b.Set(certPath("x")+"/csr", "-----BEGIN CERTIFICATE REQUEST-----\n"+request2986(t)+"\n-----END CERTIFICATE REQUEST-----")
			b.Set(trust+"/rsa", "x")
		}, []string{trust + `/rsa: a request for a certificate, got "x", expected a certificate`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := gateway(t)
			test.set(b)
			_, err := b.Bytes()
			if diff := cmp.Diff(test.want, lines(err)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}
