package config

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	haPath      = networkHSMPath + "/ha"
	serversPath = networkHSMPath + "/hsm-server"
	modulePath  = providerPath + "/pkcs11"
	versionPath = DevicePath + "/deviceconfig/system/hsm-settings/client-version"
)

// ofHSM is the snapshot of what a test sets, and its warnings.
func ofHSM(t *testing.T, set func(*Builder)) (*Snapshot, []string) {
	t.Helper()
	b := NewBuilder()
	set(b)
	data, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	s, warnings, problems := parse(data, now)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var texts []string
	for _, w := range warnings {
		texts = append(texts, w.Path+": "+w.Text)
	}
	return s, texts
}

func servers(b *Builder, n int) {
	for i := range n {
		b.Set(below(serversPath, fmt.Sprintf("hsm-%d", i+1))+"/server-address", fmt.Sprintf("10.0.0.%d", i+1))
	}
}

func TestHSM(t *testing.T) {
	t.Parallel()
	server := func(i int) HSMServer {
		return HSMServer{fmt.Sprintf("hsm-%d", i), fmt.Sprintf("10.0.0.%d", i), 1792, 2022}
	}
	var sixteen []HSMServer
	for i := range 16 {
		sixteen = append(sixteen, server(i+1))
	}
	long := strings.Repeat("n", 31)
	for _, test := range []struct {
		name     string
		set      func(*Builder)
		want     *HSM
		warnings []string
	}{
		{"nothing", func(*Builder) {}, nil, nil},
		{"none", func(b *Builder) { b.Set(providerPath + "/none") }, nil, nil},
		{"one server", func(b *Builder) { servers(b, 1) }, &HSM{Provider: NetworkHSM, Servers: []HSMServer{server(1)}}, nil},
		{"names, addresses and ports", func(b *Builder) {
			b.Set(below(serversPath, long)+"/server-address", "2001:db8::1")
			b.Set(below(serversPath, long)+"/port", "443")
			b.Set(below(serversPath, long)+"/ssh-port", "22")
			b.Set(versionPath, "1")
		}, &HSM{Provider: NetworkHSM, Servers: []HSMServer{{long, "2001:db8::1", 443, 22}}, Version: 1}, nil},
		{"two servers alone", func(b *Builder) { servers(b, 2) },
			&HSM{Provider: NetworkHSM, Servers: sixteen[:2]},
			[]string{networkHSMPath + ": 2 servers and no ha: keys on hsm-1 alone are used, and the gateway has none while it is away; set ha for a group of all of them"}},
		{"a group of sixteen", func(b *Builder) {
			servers(b, 16)
			b.Set(haPath+"/ha-group-name", long)
			b.Set(haPath+"/auto-recovery-retry", "500")
			b.Set(versionPath, "automatic")
		}, &HSM{Provider: NetworkHSM, Servers: sixteen, HA: &HSMGroup{long, 500}}, nil},
		{"a route", func(b *Builder) {
			servers(b, 1)
			b.Set(hsmRoutePath+"/interface", "eth1")
			b.Set(hsmRoutePath+"/address", "10.0.0.9")
		}, &HSM{Provider: NetworkHSM, Servers: sixteen[:1], Source: HSMSource{"eth1", netip.MustParseAddr("10.0.0.9")}}, nil},
		{"a module", func(b *Builder) {
			b.Set(modulePath+"/module", "/usr/lib/softhsm/libsofthsm2.so")
			b.Set(modulePath+"/token", "gateway")
		}, &HSM{Provider: PKCS11HSM, Module: &PKCS11Module{"/usr/lib/softhsm/libsofthsm2.so", "gateway", false}}, nil},
		{"a module as Crypto User", func(b *Builder) {
			b.Set(modulePath+"/module", "/usr/safenet/lunaclient/lib/libCryptoki2_64.so")
			b.Set(modulePath+"/token", "gateway")
			b.Set(modulePath+"/user-type", "crypto-user")
		}, &HSM{Provider: PKCS11HSM, Module: &PKCS11Module{"/usr/safenet/lunaclient/lib/libCryptoki2_64.so", "gateway", true}}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, warnings := ofHSM(t, test.set)
			same := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
			if diff := cmp.Diff(test.want, got.HSM, same); diff != "" {
				t.Errorf("snapshot (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.warnings, warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHSMRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		set  func(*Builder)
		want []string
	}{
		{"a group of one", func(b *Builder) {
			servers(b, 1)
			b.Set(haPath+"/ha-group-name", "g")
		}, []string{haPath + ": a group of 1 server, expected 2 to 16 in " + serversPath + ", or no ha"}},
		{"a group without a name", func(b *Builder) {
			servers(b, 2)
			b.Set(haPath+"/auto-recovery-retry", "0")
		}, []string{haPath + "/ha-group-name: missing, expected 1 to 31 printable characters of ASCII without slashes, the first no dot"}},
		{"one HSM twice", func(b *Builder) {
			servers(b, 2)
			b.Set(below(serversPath, "hsm-2")+"/server-address", "10.0.0.1")
		}, []string{below(serversPath, "hsm-2") + `/server-address: used twice, got "10.0.0.1" port 1792, which is server "hsm-1", expected another HSM`}},
		{"an empty route", func(b *Builder) {
			servers(b, 1)
			b.Set(hsmRoutePath)
		}, []string{hsmRoutePath + ": neither an interface nor an address, expected one of them, or no route for hsm"}},
		{"a route of another family", func(b *Builder) {
			servers(b, 1)
			b.Set(hsmRoutePath+"/address", "2001:db8::9")
		}, []string{hsmRoutePath + `/address: of another family than the address of server "hsm-1" (10.0.0.1), got "2001:db8::9", expected one that it can be reached from`}},
		{"a module without a path", func(b *Builder) {
			b.Set(modulePath+"/module", "libsofthsm2.so")
			b.Set(modulePath+"/token", strings.Repeat("t", 33))
		}, []string{
			modulePath + `/module: not an absolute path, got "libsofthsm2.so", expected the absolute path of a file, of at most 1024 characters`,
			modulePath + `/token: not a token's label, got "` + strings.Repeat("t", 33) + `", expected 1 to 32 bytes of text`,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := NewBuilder()
			test.set(b)
			_, err := b.Bytes()
			if diff := cmp.Diff(test.want, lines(err)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}
