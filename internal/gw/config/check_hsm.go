package config

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

const (
	networkHSMPath = providerPath + "/safenet-network"
	hsmRoutePath   = DevicePath + "/deviceconfig/system/route/service/entry[@name='hsm']/source"
)

// hsm looks at what the HSM's settings say together.
func (c *checker) hsm() {
	c.hsmRoute()
	h := c.s.HSM
	if h == nil || h.Provider != NetworkHSM {
		return
	}
	path := networkHSMPath + "/hsm-server"
	seen := map[string]string{} // by where it is
	for _, s := range h.Servers {
		at := net.JoinHostPort(strings.ToLower(s.Address), strconv.Itoa(int(s.Port)))
		if earlier, twice := seen[at]; twice {
			c.refuse(below(path, s.Name)+"/server-address", "used twice, got %s port %d, which is server %s, expected another HSM", shown(s.Address), s.Port, shown(earlier))
		}
		seen[at] = s.Name
		if a, err := netip.ParseAddr(s.Address); err == nil && h.Source.Address.IsValid() && a.Is4() != h.Source.Address.Is4() {
			c.refuse(hsmRoutePath+"/address", "of another family than the address of server %s (%s), got %s, expected one that it can be reached from", shown(s.Name), a, shown(h.Source.Address.String()))
		}
	}
	switch n := len(h.Servers); {
	case h.HA != nil && n < 2:
		c.refuse(networkHSMPath+"/ha", "a group of %d server, expected 2 to %d in %s, or no ha", n, MaxHSMServers, path)
	case h.HA == nil && n > 1:
		c.warn(networkHSMPath, "%d servers and no ha: keys on %s alone are used, and the gateway has none while it is away; set ha for a group of all of them", n, h.Servers[0].Name)
	}
}

// hsmRoute requires that a route says something.
func (c *checker) hsmRoute() {
	for _, e := range (view{c.root, schema}).at("devices").only().at("deviceconfig", "system", "route", "service").entries() {
		from := e.at("source")
		if from.text("interface") == "" && from.text("address") == "" {
			c.refuse(hsmRoutePath, "neither an interface nor an address, expected one of them, or no route for hsm")
		}
	}
}
