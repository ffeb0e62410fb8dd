package hsmlink

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"moongate/client"
	"moongate/internal/gw/config"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestSource(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		route  config.HSMSource
		server string
		want   string // an address, or the beginning of an error
	}{
		{"no route", config.HSMSource{}, "10.0.0.1", "invalid IP"},
		{"an address", config.HSMSource{Address: addr("127.0.0.5")}, "127.0.0.1", "127.0.0.5"},
		{"an address of somebody else's", config.HSMSource{Address: addr("192.0.2.77")}, "192.0.2.1", "no interface of this machine has the source address 192.0.2.77"},
		{"an interface", config.HSMSource{Interface: "lo"}, "127.0.0.1", "127.0.0.1"},
		{"an interface, to a name", config.HSMSource{Interface: "lo"}, "hsm.example", "127.0.0.1"},
		{"an interface with an address", config.HSMSource{Interface: "lo", Address: addr("127.0.0.1")}, "127.0.0.1", "127.0.0.1"},
		{"an address of another interface", config.HSMSource{Interface: "lo", Address: addr("192.0.2.77")}, "127.0.0.1", "interface lo does not have the source address 192.0.2.77"},
		{"an interface that is not there", config.HSMSource{Interface: "none0"}, "127.0.0.1", "there is no interface none0"},
	} {
		from, err := source(test.route, test.server)
		got := from.String()
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
	if a, err := seenFrom(t.Context(), config.HSMSource{}, "127.0.0.1", 1792); err != nil || a != addr("127.0.0.1") {
		t.Errorf("seen from: %v, %v", a, err)
	}
	if a, err := seenFrom(t.Context(), config.HSMSource{Address: addr("127.0.0.5")}, "127.0.0.1", 1792); err != nil || a != addr("127.0.0.5") {
		t.Errorf("seen from a source: %v, %v", a, err)
	}
}

// message is one address as the kernel tells it (rtnetlink(7)).
func message(address string, header uint8, attributes map[uint16]uint32) []byte {
	a := addr(address)
	data := []byte{syscall.AF_INET, 24, header, 0, 1, 0, 0, 0}
	add := func(kind uint16, value []byte) {
		data = binary.NativeEndian.AppendUint16(data, uint16(4+len(value)))
		data = binary.NativeEndian.AppendUint16(data, kind)
		data = append(data, value...)
	}
	add(syscall.IFA_ADDRESS, a.AsSlice())
	for kind, value := range attributes {
		add(kind, binary.NativeEndian.AppendUint32(nil, value))
	}
	m := binary.NativeEndian.AppendUint32(nil, uint32(syscall.NLMSG_HDRLEN+len(data)))
	m = binary.NativeEndian.AppendUint16(m, syscall.RTM_NEWADDR)
	m = append(m, make([]byte, 10)...)
	return append(m, data...)
}

func TestLeased(t *testing.T) {
	t.Parallel()
	rib := append(message("10.0.0.1", 0x80, nil), message("10.0.0.2", 0, nil)...)
	rib = append(rib, message("10.0.0.3", 0, map[uint16]uint32{8: 0x280})...)
	rib = append(rib, message("10.0.0.4", 0x80, map[uint16]uint32{8: 0x200})...)
	for address, want := range map[string]bool{"10.0.0.1": false, "10.0.0.2": true, "10.0.0.3": false, "10.0.0.4": true, "10.0.0.5": false} {
		if leased(rib, addr(address)) != want {
			t.Errorf("%s is leased: %t", address, !want)
		}
	}
	if isDynamic(addr("127.0.0.1")) || isDynamic(netip.Addr{}) {
		t.Error("loopback is leased")
	}
	interfaces, err := net.InterfaceAddrs()
	must(t, err)
	for _, a := range addrsIn(interfaces) { // the kernel's own words are read without harm
		t.Logf("%v is leased: %t", a, isDynamic(a))
	}
}

// FuzzLeased: the kernel's answer is read within its bounds.
func FuzzLeased(f *testing.F) {
	f.Add(message("10.0.0.2", 0, map[uint16]uint32{8: 0x280}))
	f.Fuzz(func(t *testing.T, rib []byte) { leased(rib, addr("10.0.0.2")) })
}

// TestRoute: connections leave from the service route's address, which is what
// the HSM checks; changing it is warned of.
func TestRoute(t *testing.T) {
	t.Parallel()
	h, g := newHSM(t, "luna-1"), newGateway(t, nil)
	c := network(h)
	c.Source = config.HSMSource{Address: addr("127.0.0.5")}
	g.use(c)
	_, err := g.m.ImportServerCertificate("luna-1", h.certificate())
	must(t, err)
	own, err := g.m.ExportClientCertificate(t.Context(), "luna-1")
	must(t, err)
	if own.Name != "127.0.0.5.pem" {
		t.Errorf("the file is called %s", own.Name)
	}
	h.register("gw", own.Address, own.PEM, true)
	g.login(client.RoleCryptoOfficer, coPassword, true)
	g.shows("luna-1", StateAuthenticated, "", prompt)
	if s := g.m.Status().Source; s.Address != "127.0.0.5" || s.Dynamic || s.Problem != nil {
		t.Errorf("source: %+v", s)
	}
	g.sign()

	next := network(h)
	if w := g.m.Warnings(c, next); len(w) != 1 || !strings.Contains(w[0], "the connections to the HSMs are made anew") {
		t.Errorf("warnings: %v", w)
	}
	if w := g.m.Warnings(c, c); len(w) != 0 {
		t.Errorf("warnings of nothing: %v", w)
	}
	g.use(next)
	s := g.shows("luna-1", "registered", CodeAddress, prompt)
	if !strings.Contains(s.Problem.Reason, "127.0.0.5") || !strings.Contains(s.Problem.Reason, "127.0.0.1") {
		t.Errorf("both addresses should be named: %v", s.Problem)
	}

	gone := network(h)
	gone.Source = config.HSMSource{Address: addr("192.0.2.77")}
	if w := g.m.Warnings(next, gone); len(w) != 2 || !strings.Contains(strings.Join(w, "\n"), "no interface of this machine has the source address 192.0.2.77") {
		t.Errorf("warnings: %v", w)
	}
	g.use(gone)
	g.shows("luna-1", "tcp", CodeSource, prompt)
	g.told("hsm-source-address", "is gone")
	g.use(c)
	g.shows("luna-1", StateAuthenticated, "", prompt)

	// Automatic authentication comes from there, too.
	key, err := g.m.HostKey(t.Context(), "luna-1")
	must(t, err)
	must(t, g.m.Authenticate(t.Context(), "luna-1", AuthenticateRequest{
		Fingerprint: key.Fingerprint, Password: []byte(adminPassword), Register: true, Replace: true, ClientName: "gw", Partition: "p",
	}, nil))
	if !strings.Contains(h.shell("client show -client gw"), "127.0.0.5") {
		t.Error("registered for another address")
	}
	g.shows("luna-1", StateAuthenticated, "", prompt+time.Second)
}
