package hsmlink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"moongate/internal/gw/config"
)

// source is the address that connections to a server leave from: that of the
// service route, or the zero Addr where the machine's routes decide.
func source(route config.HSMSource, server string) (netip.Addr, error) {
	if route.IsZero() {
		return netip.Addr{}, nil
	}
	if route.Interface == "" {
		if !isLocal(route.Address) {
			return netip.Addr{}, fmt.Errorf("no interface of this machine has the source address %v", route.Address)
		}
		return route.Address, nil
	}
	have, err := addressesOf(route.Interface)
	if err != nil {
		return netip.Addr{}, err
	}
	if route.Address.IsValid() {
		for _, a := range have {
			if a == route.Address {
				return a, nil
			}
		}
		return netip.Addr{}, fmt.Errorf("interface %s does not have the source address %v", route.Interface, route.Address)
	}
	peer, isAddress := parseAddr(server)
	for _, a := range have {
		// Of a name the family is not known: the interface's first address.
		if (!isAddress || a.Is4() == peer.Is4()) && (!a.IsLinkLocalUnicast() || isAddress && peer.IsLinkLocalUnicast()) {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("interface %s has no address from which %s can be reached", route.Interface, server)
}

func parseAddr(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	return a.Unmap(), err == nil
}

func addressesOf(name string) ([]netip.Addr, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("there is no interface %s", name)
	}
	list, err := i.Addrs()
	if err != nil {
		return nil, fmt.Errorf("reading the addresses of interface %s: %w", name, err)
	}
	return addrsIn(list), nil
}

func addrsIn(list []net.Addr) []netip.Addr {
	var addrs []netip.Addr
	for _, a := range list {
		if network, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(network.IP); ok {
				addrs = append(addrs, addr.Unmap())
			}
		}
	}
	return addrs
}

// isLocal reports whether the machine has the address. All of 127.0.0.0/8 is
// its own on Linux, whatever the interface says.
func isLocal(a netip.Addr) bool {
	if a.Is4() && a.IsLoopback() {
		return true
	}
	list, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, have := range addrsIn(list) {
		if have == a {
			return true
		}
	}
	return false
}

// seenFrom is the address that a server sees connections come from, as far as
// this machine can tell: that of the service route, or else the one that its
// routing table chooses. Nothing is sent.
func seenFrom(ctx context.Context, route config.HSMSource, server string, port uint16) (netip.Addr, error) {
	from, err := source(route, server)
	if err != nil || from.IsValid() {
		return from, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", net.JoinHostPort(server, strconv.Itoa(int(port))))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("finding the address that %s would see: %w", server, err)
	}
	defer conn.Close()
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.Addr{}, errors.New("finding the address that the HSM would see: the machine does not say")
	}
	return local.AddrPort().Addr().Unmap().WithZone(""), nil
}

// isDynamic reports whether an address was leased: the kernel knows an end of
// its life (IFA_F_PERMANENT is not set, linux/if_addr.h), as DHCP clients and
// router advertisements tell it.
func isDynamic(a netip.Addr) bool {
	if !a.IsValid() || a.IsLoopback() {
		return false
	}
	rib, err := syscall.NetlinkRIB(syscall.RTM_GETADDR, syscall.AF_UNSPEC)
	if err != nil {
		return false
	}
	return leased(rib, a)
}

// leased looks an address up in the kernel's answer to RTM_GETADDR.
func leased(rib []byte, a netip.Addr) bool {
	const (
		ifaFlags     = 8 // IFA_FLAGS, all 32 bits of what the header has 8 of
		ifaPermanent = 0x80
		header       = 8 // struct ifaddrmsg: family, prefix, flags, scope, index
	)
	messages, err := syscall.ParseNetlinkMessage(rib)
	if err != nil {
		return false
	}
	for i := range messages {
		m := &messages[i]
		if m.Header.Type != syscall.RTM_NEWADDR || len(m.Data) < header {
			continue
		}
		flags, found := uint32(m.Data[2]), false
		for kind, value := range attributes(m.Data[header:]) {
			switch kind {
			case syscall.IFA_ADDRESS, syscall.IFA_LOCAL:
				if addr, ok := netip.AddrFromSlice(value); ok && addr == a {
					found = true
				}
			case ifaFlags:
				if len(value) == 4 {
					flags = binary.NativeEndian.Uint32(value)
				}
			}
		}
		if found {
			return flags&ifaPermanent == 0
		}
	}
	return false
}

// attributes iterates over struct rtattr (rtnetlink(7)): length, type, value,
// each at a multiple of four bytes. What does not fit ends it.
func attributes(data []byte) iter.Seq2[uint16, []byte] {
	const head = 4
	return func(yield func(uint16, []byte) bool) {
		for len(data) >= head {
			size := int(binary.NativeEndian.Uint16(data))
			if size < head || size > len(data) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(data[2:]), data[head:size]) {
				return
			}
			data = data[min((size+3)&^3, len(data)):]
		}
	}
}
