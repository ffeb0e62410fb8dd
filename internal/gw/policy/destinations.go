package policy

import (
	"fmt"
	"net/netip"
	"strconv"

	"moongate/internal/gw/config"
)

// DestinationRules say where the proxy must not go, besides what is refused
// always, and where it may go all the same.
type DestinationRules struct {
	// Allowed are the configuration's exceptions. One by name holds for
	// clients that ask for that name, whatever it resolves to; one by network
	// holds for its addresses, whatever the client called them.
	Allowed []config.AllowedDestination
	// OwnPorts are the ports of this program, and of an HSM that runs beside
	// it, on every address of this host.
	OwnPorts []uint16
	// OwnAddresses returns the addresses of this host's interfaces. It is
	// called for a port among OwnPorts alone; nil is a host without any.
	OwnAddresses func() []netip.Addr
	// Reserved are more addresses to be left alone: the management and client
	// ports of HSMs elsewhere.
	Reserved []netip.AddrPort
}

// Destinations says which addresses the proxy connects to. The answer is about
// the address that is dialled, after resolution, so that a name which resolves
// differently the second time gains nothing.
type Destinations struct {
	names        map[string]bool // allowed, canonical host:port
	networks     []config.AllowedDestination
	reserved     map[netip.AddrPort]bool // unmapped
	ownPorts     map[uint16]bool
	ownAddresses func() []netip.Addr
}

// NewDestinations compiles the rules.
func NewDestinations(rules DestinationRules) *Destinations {
	d := &Destinations{
		names:        map[string]bool{},
		reserved:     map[netip.AddrPort]bool{},
		ownPorts:     map[uint16]bool{},
		ownAddresses: rules.OwnAddresses,
	}
	if d.ownAddresses == nil {
		d.ownAddresses = func() []netip.Addr { return nil }
	}
	for _, a := range rules.Allowed {
		if a.Host != "" {
			d.names[nameAndPort(a.Host, a.Port)] = true
		} else {
			d.networks = append(d.networks, a)
		}
	}
	for _, ap := range rules.Reserved {
		d.reserved[netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())] = true
	}
	for _, port := range rules.OwnPorts {
		d.ownPorts[port] = true
	}
	return d
}

func nameAndPort(host string, port uint16) string {
	return canonical(host) + ":" + strconv.Itoa(int(port))
}

func (d *Destinations) allowed(host string, addr netip.AddrPort) bool {
	if d.names[nameAndPort(host, addr.Port())] {
		return true
	}
	for _, a := range d.networks {
		if a.Network.Contains(addr.Addr()) && (a.Port == 0 || a.Port == addr.Port()) {
			return true
		}
	}
	return false
}

// Refused is the answer no, with its reason.
type Refused struct {
	Addr   netip.AddrPort
	Reason string
}

func (r *Refused) Error() string {
	return fmt.Sprintf("the proxy does not go to %v: %s", r.Addr, r.Reason)
}

// Check says whether the proxy may connect to addr for a client that asked for
// host: nil, or a *Refused.
func (d *Destinations) Check(host string, addr netip.AddrPort) error {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	if d.allowed(host, addr) {
		return nil
	}
	if reason := d.reason(addr); reason != "" {
		return &Refused{Addr: addr, Reason: reason}
	}
	return nil
}

func (d *Destinations) reason(addr netip.AddrPort) string {
	if reason := forbidden(addr.Addr()); reason != "" {
		return reason
	}
	if inner, ok := embedded(addr.Addr()); ok {
		if reason := forbidden(inner); reason != "" {
			return fmt.Sprintf("it stands for %v, %s", inner, reason)
		}
		if d.reserved[netip.AddrPortFrom(inner, addr.Port())] {
			return "a management port"
		}
	}
	if d.reserved[addr] {
		return "a management port"
	}
	if d.ownPorts[addr.Port()] {
		for _, own := range d.ownAddresses() {
			if own.Unmap().WithZone("") == addr.Addr().WithZone("") {
				return "a port of this gateway"
			}
		}
	}
	return ""
}

// forbidden says why an address is refused whatever its port; empty if not.
func forbidden(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return "no address"
	case a.IsLoopback():
		return "a loopback address"
	case a.IsUnspecified() || thisNetwork.Contains(a):
		return "an unspecified address"
	case a.IsLinkLocalUnicast():
		return "a link-local address"
	case a.IsMulticast():
		return "a multicast address"
	case a == broadcast:
		return "a broadcast address"
	case a.Zone() != "":
		return "an address of one link"
	}
	for _, m := range metadata {
		if a == m {
			return "a cloud's metadata service"
		}
	}
	return ""
}

var (
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8") // RFC 1122, section 3.2.1.3
	broadcast   = netip.MustParseAddr("255.255.255.255")

	// metadata are the services, outside 169.254.0.0/16, where clouds hand
	// credentials to whoever can connect.
	metadata = []netip.Addr{
		netip.MustParseAddr("fd00:ec2::254"),   // Amazon
		netip.MustParseAddr("fd20:ce::254"),    // Google
		netip.MustParseAddr("100.100.100.200"), // Alibaba
		netip.MustParseAddr("192.0.0.192"),     // Oracle
		netip.MustParseAddr("168.63.129.16"),   // Azure
	}

	nat64      = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052, section 2.1
	localNAT64 = netip.MustParsePrefix("64:ff9b:1::/48")  // RFC 8215: a site's own, read as a /96
	translated = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 2765, section 2.1
	sixToFour  = netip.MustParsePrefix("2002::/16")       // RFC 3056, section 2
	compatible = netip.MustParsePrefix("::/96")           // RFC 4291, section 2.5.5.1
)

// embedded returns the IPv4 address that an IPv6 address stands for on a
// network with a translator or a tunnel.
func embedded(a netip.Addr) (netip.Addr, bool) {
	b := a.As16()
	switch {
	case !a.Is6():
		return netip.Addr{}, false
	case nat64.Contains(a), localNAT64.Contains(a), translated.Contains(a), compatible.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:])), true
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}
