package hsmlink

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"moongate/client"
	"moongate/internal/gw/config"
)

// insideEnv says that this process has a network of its own.
const insideEnv = "MOONGATE_HSMLINK_OWN_NETWORK"

// TestMoving: the source address is leased, is lost, comes back, and is another
// one. It runs in a network namespace of its own, since it changes addresses.
func TestMoving(t *testing.T) {
	t.Parallel()
	if os.Getenv(insideEnv) == "" {
		arguments := []string{"--net", "--", os.Args[0], "-test.run=^TestMoving$", "-test.v"}
		if os.Getuid() != 0 {
			arguments = append([]string{"--map-root-user"}, arguments...)
		}
		cmd := exec.CommandContext(t.Context(), "unshare", arguments...)
		cmd.Env = append(os.Environ(), insideEnv+"=yes")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("in a network of its own: %v\n%s", err, out)
		}
		return
	}
	ip := func(arguments string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(arguments)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", arguments, err, out)
		}
	}
	ip("link set lo up")
	ip("link add uplink type veth peer name far")
	ip("link set far up")
	ip("link set uplink up")
	ip("addr add 10.9.0.1/32 dev uplink valid_lft 3600 preferred_lft 3600")

	h, g := newHSM(t, "luna-1"), newGateway(t, nil)
	c := network(h)
	c.Source = config.HSMSource{Interface: "uplink"}
	warned := func(text string) {
		t.Helper()
		if all := strings.Join(g.m.Warnings(c, c), "\n"); !strings.Contains(all, text) || (text == "") != (all == "") {
			t.Errorf("warnings %q, want %q", all, text)
		}
	}
	warned("leave from 10.9.0.1, which was leased and may change")
	g.use(c)
	_, err := g.m.ImportServerCertificate("luna-1", h.certificate())
	must(t, err)
	own, err := g.m.ExportClientCertificate(t.Context(), "luna-1")
	must(t, err)
	if own.Name != "10.9.0.1.pem" {
		t.Errorf("the file is called %s", own.Name)
	}
	h.register("gw", own.Address, own.PEM, true)
	g.login(client.RoleCryptoOfficer, coPassword, true)
	g.shows("luna-1", StateAuthenticated, "", prompt)
	if s := g.m.Status().Source; s.Interface != "uplink" || s.Address != "10.9.0.1" || !s.Dynamic {
		t.Errorf("source: %+v", s)
	}

	ip("addr del 10.9.0.1/32 dev uplink")
	g.told("hsm-source-address", "the source address of connections to the HSMs is gone")
	warned("interface uplink has no address from which 127.0.0.1 can be reached")
	g.shows("luna-1", "tcp", CodeSource, patience)
	ip("addr add 10.9.0.1/32 dev uplink")
	g.told("hsm-source-address", "leave from 10.9.0.1 again")
	g.shows("luna-1", StateAuthenticated, "", patience)
	warned("")
	g.sign()

	// The DHCP server gave another one.
	ip("addr add 10.9.0.2/32 dev uplink")
	ip("addr del 10.9.0.1/32 dev uplink")
	g.told("hsm-source-address", "leave from 10.9.0.2, before from 10.9.0.1")
	s := g.shows("luna-1", "registered", CodeAddress, patience)
	if !strings.Contains(s.Problem.Reason, "10.9.0.1") || !strings.Contains(s.Problem.Reason, "10.9.0.2") {
		t.Errorf("both addresses should be named: %v", s.Problem)
	}

	// Without a service route the machine's own choice is watched.
	g.use(network(h))
	ip("addr add 10.9.0.3/32 dev uplink")
	time.Sleep(2 * sourceEach)
	if s := g.m.Status().Source; s.Address != "127.0.0.1" || s.Dynamic {
		t.Errorf("source without a route: %+v", s)
	}
}
