package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	openDevice  = `<config><devices><entry name="localhost.localdomain">`
	closeDevice = `</entry></devices></config>`
	openVsys    = openDevice + `<vsys><entry name="vsys1">`
	closeVsys   = `</entry></vsys>` + closeDevice
)

func inSystem(s string) string {
	return openDevice + `<deviceconfig><system>` + s + `</system></deviceconfig>` + closeDevice
}

func inProxy(s string) string {
	return openDevice + `<deviceconfig><setting><proxy>` + s + `</proxy></setting></deviceconfig>` + closeDevice
}

func inShared(s string) string { return `<config><shared>` + s + `</shared></config>` }

func inRule(s string) string {
	return openVsys + `<rulebase><decryption><rules><entry name="r1"><action>no-decrypt</action>` + s +
		`</entry></rules></decryption></rulebase>` + closeVsys
}

func inProfile(s string) string {
	return openVsys + `<profiles><decryption><entry name="p1">` + s + `</entry></decryption></profiles>` + closeVsys
}

func TestValidateRefuses(t *testing.T) {
	t.Parallel()
	const (
		device  = DevicePath
		system  = DevicePath + "/deviceconfig/system"
		server  = system + "/hsm-settings/provider/safenet-network/hsm-server"
		rule    = VsysPath + "/rulebase/decryption/rules/entry[@name='r1']"
		profile = VsysPath + "/profiles/decryption/entry[@name='p1']"
		listen  = DevicePath + "/deviceconfig/setting/proxy"
		many    = "any, an address or a network such as 10.0.0.0/8"
	)
	seventeen := ""
	for i := range 17 {
		seventeen += fmt.Sprintf(`<entry name="hsm-%d"><server-address>10.0.0.%d</server-address></entry>`, i, i+1)
	}
	hsm := func(s string) string {
		return inSystem(`<hsm-settings><provider><safenet-network><hsm-server>` + s + `</hsm-server></safenet-network></provider></hsm-settings>`)
	}
	for _, test := range []struct {
		name, in string
		want     []string
	}{
		{"another root", `<response/>`, []string{
			`/response: unknown element, got "response", expected config`}},
		{"a misspelt element", inShared(`<certifcate/>`), []string{
			`/config/shared/certifcate: unknown element, got "certifcate", did you mean "certificate"?`}},
		{"swapped letters", inSystem(`<hostnmae>gw</hostnmae>`), []string{
			system + `/hostnmae: unknown element, got "hostnmae", did you mean "hostname"?`}},
		{"an element like no other", inShared(`<admin-password>hunter2</admin-password>`), []string{
			`/config/shared/admin-password: unknown element, got "admin-password", expected certificate, ssl-decrypt, service, log-settings or ssl-tls-service-profile`}},
		{"an unknown attribute", `<config dirtyId="2"/>`, []string{
			`/config/@dirtyId: unknown attribute`}},
		{"text in a container", inShared(`hunter2`), []string{
			`/config/shared: text where elements are expected`}},
		{"elements in a leaf", inSystem(`<hostname><b/></hostname>`), []string{
			system + `/hostname: elements where a value is expected, got <b>, expected a host name`}},
		{"an empty leaf", inSystem(`<hostname/>`), []string{
			system + `/hostname: not a host name, got "", expected a host name`}},
		{"another device", `<config><devices><entry name="fw1"/></devices></config>`, []string{
			`/config/devices/entry[@name='fw1']/@name: not one of the choices, got "fw1", expected localhost.localdomain`}},
		{"another virtual system", openDevice + `<vsys><entry name="vsys2"/></vsys>` + closeDevice, []string{
			device + `/vsys/entry[@name='vsys2']/@name: not one of the choices, got "vsys2", expected vsys1; did you mean "vsys1"?`}},
		{"not an entry in a list", `<config><devices><localhost/></devices></config>`, []string{
			`/config/devices/localhost: unknown element, got "localhost", expected <entry name="…">`}},

		{"an HSM without servers", hsm(``), []string{
			server + `: empty, expected an entry`}},
		{"no list of servers", inSystem(`<hsm-settings><provider><safenet-network/></provider></hsm-settings>`), []string{
			server + `: missing, expected an entry`}},
		{"seventeen servers", hsm(seventeen), []string{
			server + `: too many, got 17 entries, expected at most 16`}},
		{"a server without an address, its port wrong", hsm(`<entry name="a"><port>99999</port></entry>`), []string{
			server + `/entry[@name='a']/port: not a port, got "99999", expected a port from 1 to 65535`,
			server + `/entry[@name='a']/server-address: missing, expected an IPv4 or IPv6 address or a host name`}},
		{"a port written another way", hsm(`<entry name="a"><server-address>h</server-address><port>01792</port></entry>`), []string{
			server + `/entry[@name='a']/port: not a port, got "01792", expected a port from 1 to 65535`}},
		{"an address with a slip", hsm(`<entry name="a"><server-address>10.164.75.256</server-address></entry>`), []string{
			server + `/entry[@name='a']/server-address: not an address or host name, got "10.164.75.256", expected an IPv4 or IPv6 address or a host name`}},
		{"a module name of 32", hsm(`<entry name="aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"><server-address>h</server-address></entry>`), []string{
			server + `/entry[@name='aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa']/@name: not a name, got "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", expected 1 to 31 printable characters of ASCII without slashes, the first no dot`}},
		{"two providers", inSystem(`<hsm-settings><provider><none/><safenet-network><hsm-server><entry name="a"><server-address>h</server-address></entry></hsm-server></safenet-network></provider></hsm-settings>`), []string{
			system + `/hsm-settings/provider: a choice, got both none and safenet-network, expected none, safenet-network or pkcs11`}},
		{"something in none", inSystem(`<hsm-settings><provider><none><a/></none></provider></hsm-settings>`), []string{
			system + `/hsm-settings/provider/none/a: unknown element, got "a", expected none within none`}},
		{"a PKCS#11 module of nothing, a route of nothing", inSystem(`<hsm-settings><provider><pkcs11/></provider></hsm-settings><route><service><entry name="hsm"/></service></route>`), []string{
			system + `/hsm-settings/provider/pkcs11/module: missing, expected the absolute path of a file, of at most 1024 characters`,
			system + `/hsm-settings/provider/pkcs11/token: missing, expected 1 to 32 bytes of text`,
			system + `/route/service/entry[@name='hsm']/source: missing, expected the element`}},
		{"501 retries, a group name of 32", inSystem(`<hsm-settings><provider><safenet-network><hsm-server><entry name="a"><server-address>h</server-address></entry></hsm-server><ha><auto-recovery-retry>501</auto-recovery-retry><ha-group-name>aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa</ha-group-name></ha></safenet-network></provider></hsm-settings>`), []string{
			system + `/hsm-settings/provider/safenet-network/ha/auto-recovery-retry: out of range or not an integer, got "501", expected an integer from 0 to 500`,
			system + `/hsm-settings/provider/safenet-network/ha/ha-group-name: not a name, got "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", expected 1 to 31 printable characters of ASCII without slashes, the first no dot`}},
		{"a version that nobody speaks, another service's route", inSystem(`<hsm-settings><client-version>7.2.0</client-version></hsm-settings><route><service><entry name="dns"><source><interface>eth 0</interface><address>0.0.0.0</address></source></entry></service></route>`), []string{
			system + `/hsm-settings/client-version: not one of the choices, got "7.2.0", expected automatic or 1`,
			system + `/route/service/entry[@name='dns']/@name: not one of the choices, got "dns", expected hsm`,
			system + `/route/service/entry[@name='dns']/source/interface: not an interface, got "eth 0", expected an interface's name, of at most 15 printable characters of ASCII without spaces, slashes and colons`,
			system + `/route/service/entry[@name='dns']/source/address: not an address that connections can come from, got "0.0.0.0", expected an IPv4 or IPv6 address of this machine`}},

		{"a listener's address", inProxy(`<forward><entry name="f"><address>localhost</address></entry></forward>`), []string{
			listen + `/forward/entry[@name='f']/address: not an address to listen on, got "localhost", expected an IPv4 or IPv6 address; 0.0.0.0 or :: for every one of the machine`}},
		{"an inbound listener with nothing", inProxy(`<inbound><entry name="i"/></inbound>`), []string{
			listen + `/inbound/entry[@name='i']/port: missing, expected a port from 1 to 65535`,
			listen + `/inbound/entry[@name='i']/server-address: missing, expected an IPv4 or IPv6 address or a host name`}},
		{"a destination without a port", inProxy(`<allowed-destination><member>127.0.0.1</member></allowed-destination>`), []string{
			listen + `/allowed-destination/member: no port, got "127.0.0.1", expected host:port, address:port, network or network:port, IPv6 before a port in brackets`}},
		{"an endless timeout", inProxy(`<limits><idle-timeout>0</idle-timeout></limits>`), []string{
			listen + `/limits/idle-timeout: out of range or not an integer, got "0", expected an integer from 10 to 86400`}},

		{"a key in the configuration", inShared(`<certificate><entry name="c"><public-key>x</public-key><private-key>-----BEGIN</private-key></entry></certificate>`), []string{
			`/config/shared/certificate/entry[@name='c']/public-key: not PEM at certificate 1, expected a certificate in PEM, then its issuers if any, each the issuer of the one before`,
			`/config/shared/certificate/entry[@name='c']/private-key: not sealed, expected a private key in PKCS#8, sealed by this gateway`}},
		{"a masked key", inShared(`<certificate><entry name="c"><private-key>********</private-key></entry></certificate>`), []string{
			`/config/shared/certificate/entry[@name='c']/private-key: a masked secret, which says nothing, expected a private key in PKCS#8, sealed by this gateway`}},
		{"a reference to nothing", inShared(`<ssl-decrypt><forward-trust-certificate><rsa>ca</rsa></forward-trust-certificate></ssl-decrypt>`), []string{
			`/config/shared/ssl-decrypt/forward-trust-certificate/rsa: no such entry, got "ca", expected one of /config/shared/certificate, which has none`}},
		{"a wildcard in the middle", inShared(`<ssl-decrypt><ssl-exclude-cert><entry name="www.*.com"><exclude>maybe</exclude></entry></ssl-exclude-cert></ssl-decrypt>`), []string{
			`/config/shared/ssl-decrypt/ssl-exclude-cert/entry[@name='www.*.com']/@name: not a host name or wildcard, got "www.*.com", expected a host name, or *. before one for every name below it`,
			`/config/shared/ssl-decrypt/ssl-exclude-cert/entry[@name='www.*.com']/exclude: not one of the choices, got "maybe", expected yes or no`}},

		{"a rule of another kind", inRule(`<from><member>trust</member></from><tag><member>x</member></tag>`), []string{
			rule + `/from/member: not supported yet, got "trust", expected any`,
			rule + `/tag: not supported yet`}},
		{"an action with a slip", strings.Replace(inRule(``), "no-decrypt", "no-decript", 1), []string{
			rule + `/action: not one of the choices, got "no-decript", expected decrypt or no-decrypt; did you mean "no-decrypt"?`}},
		{"no action", strings.Replace(inRule(``), "<action>no-decrypt</action>", "", 1), []string{
			rule + `/action: missing, expected decrypt or no-decrypt`}},
		{"a rule's identity", strings.Replace(inRule(``), `name="r1"`, `name="r1" uuid="1"`, 1), []string{
			rule + `/@uuid: not supported yet`}},
		{"addresses of many kinds", inRule(`<source><member>10.0.0.5/8</member><member>web-servers</member><member>::ffff:10.0.0.1</member></source>`), []string{
			rule + `/source/member: bits set beyond the network's length, perhaps 10.0.0.0/8, got "10.0.0.5/8", expected ` + many,
			rule + `/source/member: not an address or network, got "web-servers", expected ` + many,
			rule + `/source/member: not an address or network, got "::ffff:10.0.0.1", expected ` + many}},
		{"any and more", inRule(`<source><member>10.0.0.5</member><member>any</member></source>`), []string{
			rule + `/source: any beside other members, expected it alone`}},
		{"an emptied source", inRule(`<source/>`), []string{
			rule + `/source: empty, expected a member, or no source`}},
		{"not a member", inRule(`<source><entry name="10.0.0.0/8"/></source>`), []string{
			rule + `/source/entry[@name='10.0.0.0/8']: unknown element, got "entry", expected <member>`}},
		{"elements in a member", inRule(`<source><member><ip>10.0.0.1</ip></member></source>`), []string{
			rule + `/source/member: elements where a value is expected, got <ip>, expected ` + many}},
		{"two types", inRule(`<type><ssl-forward-proxy/><ssh-proxy/></type>`), []string{
			rule + `/type/ssh-proxy: not supported yet`,
			rule + `/type: a choice, got both ssl-forward-proxy and ssh-proxy, expected ssl-forward-proxy, ssl-inbound-inspection or ssh-proxy`}},
		{"a profile that is not there", strings.Replace(inProfile(``), `<profiles>`,
			`<rulebase><decryption><rules><entry name="r1"><action>no-decrypt</action><profile>p2</profile></entry></rules></decryption></rulebase><profiles>`, 1), []string{
			rule + `/profile: no such entry, got "p2", expected one of ` + profilesPath + `: p1`}},

		{"a profile of another kind", inProfile(`<ssl-forward-proxy><block-unknown-cert>no</block-unknown-cert></ssl-forward-proxy><ssl-protocol-settings><min-version>tls1-0</min-version><max-version>tls1-4</max-version><enc-algo-rc4>no</enc-algo-rc4></ssl-protocol-settings>`), []string{
			profile + `/ssl-forward-proxy/block-unknown-cert: not supported yet`,
			profile + `/ssl-protocol-settings/min-version: not supported yet, got "tls1-0", expected tls1-2 or tls1-3`,
			profile + `/ssl-protocol-settings/max-version: not one of the choices, got "tls1-4", expected tls1-2, tls1-3 or max; did you mean "tls1-2"?`,
			profile + `/ssl-protocol-settings/enc-algo-rc4: not supported yet`}},
		{"a virtual system's own certificates", openVsys + `<certificate/><ssl-decrypt/>` + closeVsys, []string{
			VsysPath + `/certificate: not supported yet`,
			VsysPath + `/ssl-decrypt: not supported yet`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			root, err := Decode([]byte(test.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, lines(Validate(root))); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidateBoundsProblems(t *testing.T) {
	t.Parallel()
	root := &Node{Name: "config"}
	for range maxChildren {
		root.Children = append(root.Children, &Node{Name: "x", Line: 1})
	}
	got := lines(Validate(root))
	if len(got) != maxProblems+1 {
		t.Fatalf("%d problems", len(got))
	}
	if want := "/config/x: more than 100 problems, the rest is not shown"; got[maxProblems] != want {
		t.Errorf("got %q, want %q", got[maxProblems], want)
	}
}

// A password that lands in the wrong place must not be printed.
func TestProblemsKeepSecrets(t *testing.T) {
	t.Parallel()
	key := "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIhunter2\n-----END EC PRIVATE KEY-----"
	for _, in := range []string{
		inShared(`hunter2`),
		inShared(`<passwd>hunter2</passwd>`),
		inShared(`<certificate/>hunter2`),
		inShared(`<certificate><entry name="c">hunter2</entry></certificate>`),
		inShared(`<certificate><entry name="c"><public-key>` + key + `</public-key></entry></certificate>`),
		inShared(`<certificate><entry name="c"><private-key>` + key + `</private-key></entry></certificate>`),
		`<config passwd="hunter2"/>`,
	} {
		_, _, err := Parse([]byte(in))
		if err == nil {
			t.Errorf("accepted: %s", in)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s\nprints it: %v", in, err)
		}
	}
}
