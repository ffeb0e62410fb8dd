package config

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	ca := certificate(t, thirdKey(), nil)
	leaf := certificate(t, thirdKey(), leafOnly)
	forward, inbound := proxyPath+"/forward", proxyPath+"/inbound"
	certificates := rulePath("in") + "/type/ssl-inbound-inspection/certificates"
	for _, test := range []struct {
		name string
		set  func(*Builder)
		want []string
	}{
		{"nothing", func(*Builder) {}, nil},
		{"a port twice", func(b *Builder) {
			b.Set(below(forward, "a"))
			b.Set(below(forward, "b")+"/address", "127.0.0.2") // another address, another port
			b.Set(below(inbound, "c")+"/port", "8080")
			b.Set(below(inbound, "c")+"/server-address", "10.0.0.1")
		}, []string{inbound + `/entry[@name='c']/port: used twice, got "127.0.0.1:8080", which ` + forward + `/entry[@name='a'] has as 127.0.0.1:8080`}},
		{"a port of every address", func(b *Builder) {
			b.Set(below(forward, "a"))
			b.Set(below(forward, "b")+"/address", "::")
		}, []string{forward + `/entry[@name='b']/port: used twice, got "[::]:8080", which ` + forward + `/entry[@name='a'] has as 127.0.0.1:8080`}},
		{"a server that is the gateway", func(b *Builder) {
			b.Set(below(inbound, "a")+"/address", "::")
			b.Set(below(inbound, "a")+"/port", "443")
			b.Set(below(inbound, "a")+"/server-address", "127.0.0.1")
		}, []string{inbound + `/entry[@name='a']/server-address: a listener of this gateway, got "127.0.0.1" port 443, which is ` + inbound + `/entry[@name='a']`}},
		{"RSA where ECDSA is meant", func(b *Builder) {
			b.Set(trust+"/rsa", "trust")
		}, []string{trust + `/rsa: a certificate with another kind of key, got "trust" (EC), expected RSA`}},
		{"a short key", func(b *Builder) {
			onHSM(b, "short", certificate(t, shortKey(), nil))
			b.Set(trust+"/rsa", "short")
		}, []string{trust + `/rsa: too short a key, got "short" (1024 bits), expected at least 2048`}},
		{"no CA", func(b *Builder) {
			onHSM(b, "leaf", leaf)
			b.Set(trust+"/ecdsa", "leaf")
		}, []string{trust + "/ecdsa: not a CA certificate, got \"leaf\", expected one with CA in its basic constraints; `cmu selfSign` makes one of a key on the HSM"}},
		{"a CA that may not sign", func(b *Builder) {
			onHSM(b, "mute", certificate(t, thirdKey(), func(r *request) { r.KeyUsage = x509.KeyUsageCRLSign }))
			b.Set(trust+"/ecdsa", "mute")
		}, []string{trust + `/ecdsa: a CA that may not sign certificates, got "mute", expected keyCertSign in its key usage`}},
		{"no private key", func(b *Builder) {
			b.Set(certPath("ca")+"/public-key", inPEM(ca))
			b.Set(trust+"/ecdsa", "ca")
		}, []string{trust + `/ecdsa: a certificate without a private key, got "ca", expected one with private-key or with private-key-on-hsm yes`}},
		{"a revoked CA", func(b *Builder) {
			b.Set(certPath("trust")+"/status", "revoked")
		}, []string{trust + `/ecdsa: a revoked certificate, got "trust"`}},
		{"trust and untrust by one key", func(b *Builder) {
			onHSM(b, "again", certificate(t, ecKey(), nil))
			b.Set(untrust+"/ecdsa", "again")
		}, []string{untrust + `/ecdsa: the key of a forward-trust certificate, got "again", expected a CA that clients do not trust`}},
		{"trust in oneself", func(b *Builder) {
			b.Set(decryptPath+"/trusted-root-CA", "untrust")
		}, []string{decryptPath + `/trusted-root-CA: the gateway's own CA, got "untrust", which signs leaves and must not be trusted of servers`}},
		{"a root that is none", func(b *Builder) {
			b.Set(certPath("leaf")+"/public-key", inPEM(leaf))
			b.Set(decryptPath+"/trusted-root-CA", "leaf")
		}, []string{decryptPath + `/trusted-root-CA: not a CA certificate, got "leaf"`}},
		{"a revoked root", func(b *Builder) {
			b.Set(certPath("ca")+"/public-key", inPEM(ca))
			b.Set(certPath("ca")+"/status", "revoked")
			b.Set(decryptPath+"/trusted-root-CA", "ca")
		}, []string{decryptPath + `/trusted-root-CA: a revoked certificate, got "ca"`}},
		{"an exclusion in two cases", func(b *Builder) {
			b.Set(decryptPath+"/ssl-exclude-cert/"+EntryStep("a.example")+"/exclude", "no")
			b.Set(decryptPath + "/ssl-exclude-cert/" + EntryStep("A.example"))
		}, []string{decryptPath + `/ssl-exclude-cert/entry[@name='A.example']: the same servers as "a.example"`}},
		{"no version left", func(b *Builder) {
			b.Set(below(profilesPath, "p")+"/ssl-protocol-settings/min-version", "tls1-3")
			b.Set(below(profilesPath, "p")+"/ssl-protocol-settings/max-version", "tls1-2")
		}, []string{profilesPath + `/entry[@name='p']/ssl-protocol-settings: no version, got min-version TLS 1.3 above max-version TLS 1.2`}},
		{"inbound without certificates", func(b *Builder) {
			b.Set(rulePath("in")+"/action", "decrypt")
			b.Set(rulePath("in") + "/type/ssl-inbound-inspection")
		}, []string{certificates + `: missing, expected the names of the server's certificates`}},
		{"inbound, certificates of many kinds", func(b *Builder) {
			onHSM(b, "good", leaf)
			onHSM(b, "ed", certificate(t, edKey(), leafOnly))
			b.Set(certPath("keyless")+"/public-key", inPEM(leaf))
			b.Set(rulePath("in")+"/action", "decrypt")
			b.Set(certificates, "good", "ed", "keyless")
		}, []string{
			certificates + `: a kind of key that is not supported yet, got "ed" (Ed25519), expected RSA or EC`,
			certificates + `: a certificate without a private key, got "keyless", expected one with private-key or with private-key-on-hsm yes`,
		}},
		{"notes that are wrong", func(b *Builder) {
			notes := certPath("trust")
			b.Set(notes+"/algorithm", "RSA")
			b.Set(notes+"/ca", "no")
			b.Set(notes+"/common-name", "Another")
			b.Set(notes+"/expiry-epoch", "1")
			b.Set(notes+"/not-valid-before", "Jun  5 12:00:00 2029 GMT")
			b.Set(notes+"/not-valid-after", "Jun 5 12:00:00 2031 GMT")
		}, []string{
			certPath("trust") + `/algorithm: contradicts public-key, got "RSA", expected "EC"`,
			certPath("trust") + `/ca: contradicts public-key, got "no", expected "yes"`,
			certPath("trust") + `/common-name: contradicts public-key, got "Another", expected "Example"`,
			certPath("trust") + `/expiry-epoch: contradicts public-key, got "1", expected "1939291200"`,
			certPath("trust") + `/not-valid-before: contradicts public-key, got "Jun  5 12:00:00 2029 GMT", expected "Jun 15 12:00:00 2029 GMT"`,
			certPath("trust") + `/not-valid-after: contradicts public-key, got "Jun 5 12:00:00 2031 GMT", expected "Jun 15 12:00:00 2031 GMT"`,
		}},
		{"notes that are right", func(b *Builder) {
			notes := certPath("trust")
			b.Set(notes+"/algorithm", "EC")
			b.Set(notes+"/ca", "yes")
			b.Set(notes+"/common-name", "Example")
			b.Set(notes+"/expiry-epoch", "1939291200")
			b.Set(notes+"/not-valid-after", "Jun 15 12:00:00 2031 GMT")
			b.Set(notes+"/subject", "/CN=Example")
			b.Set(notes+"/subject-hash", "0a1b2c3d")
		}, nil},
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

func TestCheckWithoutHSM(t *testing.T) {
	t.Parallel()
	b := NewBuilder()
	onHSM(b, "ca", certificate(t, ecKey(), nil))
	if _, err := b.Bytes(); err != nil {
		t.Errorf("a key that nothing uses: %v", err)
	}
	b.Set(trust+"/ecdsa", "ca")
	_, err := b.Bytes()
	want := []string{trust + `/ecdsa: a key on the HSM and no HSM, got "ca", expected ` + providerPath + `/safenet-network or pkcs11`}
	if diff := cmp.Diff(want, lines(err)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	b = NewBuilder()
	b.Set(rulePath("all")+"/action", "decrypt")
	_, err = b.Bytes()
	want = []string{rulePath("all") + `/action: decrypt and no CA to sign with, expected ` + trust}
	if diff := cmp.Diff(want, lines(err)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	b := NewBuilder()
	b.Set(hsmPath+"/server-address", "127.0.0.1")
	onHSM(b, "trust", certificate(t, ecKey(), func(r *request) { r.NotAfter = now.Add(-time.Hour) }))
	b.Set(trust+"/ecdsa", "trust")
	b.Set(certPath("old")+"/public-key", inPEM(certificate(t, thirdKey(), func(r *request) { r.NotAfter = now.Add(-time.Hour) })))
	b.Set(certPath("new")+"/public-key", inPEM(certificate(t, thirdKey(), func(r *request) { r.NotBefore = now.Add(24 * time.Hour) })))
	data, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	s, warnings, problems := parse(data, now)
	if s == nil || len(problems) > 0 {
		t.Fatal(problems)
	}
	var got []string
	for _, w := range warnings {
		got = append(got, w.String())
	}
	want := []string{
		untrust + `: not set: servers whose chain cannot be verified are blocked`,
		certPath("trust") + `: expired on 2030-06-15: clients will refuse what it presents or signs`,
		certPath("old") + `: expired on 2030-06-15`,
		certPath("new") + `: not valid before 2030-06-16`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestParseChain(t *testing.T) {
	t.Parallel()
	root := certificate(t, thirdKey(), nil)
	leaf := certificate(t, ecKey(), func(r *request) { leafOnly(r); r.issuer, r.issuerKey = root, thirdKey() })
	other := certificate(t, otherKey(), nil)
	good := inPEM(leaf, root)
	for _, test := range []struct {
		name, in string
		want     int // certificates
		wrong    string
	}{
		{"one", inPEM(leaf), 1, ""},
		{"a chain", good, 2, ""},
		{"indented, with CRLF", "  " + strings.ReplaceAll(good, "\n", "\r\n    "), 2, ""},
		{"nothing", " ", 0, "no certificate"},
		{"text before", "subject=CN\n" + good, 0, "not PEM at certificate 1"},
		{"text after", good + "x", 0, "not PEM at certificate 3"},
		{"text between", inPEM(leaf) + "x\n" + inPEM(root), 0, "not PEM at certificate 2"},
		{"a damaged block before", "-----BEGIN CERTIFICATE-----\n!\n" + good, 0, "not PEM at certificate 1"},
		{"headers", strings.Replace(good, "-----\n", "-----\nA: b\n\n", 1), 0, "another kind of PEM at certificate 1"},
		{"a request", strings.ReplaceAll(inPEM(leaf), "CERTIFICATE", "CERTIFICATE REQUEST"), 0, "another kind of PEM at certificate 1"},
		{"a private key", strings.ReplaceAll(inPEM(leaf), "CERTIFICATE", "EC PRIVATE KEY"), 0, "a private key, which must not be here"},
		{"no DER", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", 0, "certificate 1 is damaged (x509: malformed certificate)"},
		{"not its issuer", inPEM(leaf, other), 0, "certificate 2 is not the issuer of the one before (x509: ECDSA verification failure)"},
		{"the wrong order", inPEM(root, leaf), 0, "certificate 2 is not the issuer of the one before (x509: invalid signature: parent certificate cannot sign this kind of certificate)"},
		{"too many", strings.Repeat(inPEM(root), maxChain+1), 0, "more than 16 certificates"},
		{"too long", strings.Repeat("x", maxChainSize+1), 0, "more than 65536 bytes"},
	} {
		chain, wrong := parseChain(test.in)
		if len(chain) != test.want || wrong != test.wrong {
			t.Errorf("%s: %d certificates, %q; want %d, %q", test.name, len(chain), wrong, test.want, test.wrong)
		}
	}
}
