package daemon

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"moongate/internal/gw/certstore"
	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
	"moongate/internal/gw/inbound"
	"moongate/internal/gw/intercept"
	"moongate/internal/gw/keys"
	"moongate/internal/gw/mint"
	"moongate/internal/gw/policy"
	"moongate/internal/gw/verify"
)

// plane is the data plane of one snapshot: everything that connections need,
// made before the first of them.
type plane struct {
	forward *intercept.Runtime
	inbound map[string]*intercept.Runtime // by the listener's name
	mint    *mint.Mint                    // nil without a forward-trust CA
}

// compile makes the data plane. It asks no key for anything, so that it works
// while the HSM is away.
func compile(s *config.Snapshot, provider keys.Provider) (*plane, error) {
	if len(s.Forward)+len(s.Inbound) == 0 {
		return nil, errors.New("the configuration has no listener: set deviceconfig/setting/proxy/forward or inbound")
	}
	certificates, err := certstore.New(s.Certificates, provider)
	if err != nil {
		return nil, err
	}
	verifier, err := verify.New(verify.Options{Extra: s.TrustedRoots, Own: ownAuthorities(s)})
	if err != nil {
		return nil, err
	}
	p := &plane{inbound: map[string]*intercept.Runtime{}}
	shared := intercept.Runtime{
		Policy: policy.Compile(s),
		Limits: intercept.Limits{
			Connections: s.Limits.MaxConnections, DialTimeout: s.Limits.Connect,
			HelloTimeout: s.Limits.Handshake, TLSTimeout: 2 * s.Limits.Handshake, IdleTimeout: s.Limits.Idle,
		},
	}
	if len(s.Forward) > 0 {
		if p.mint, err = newMint(s, certificates); err != nil {
			return nil, err
		}
		forward := shared
		forward.Stand = intercept.Stand{Certifier: p.mint, Verifier: verifier}
		forward.Destinations = policy.NewDestinations(policy.DestinationRules{
			Allowed: s.AllowedDestinations, OwnPorts: ownPorts(s), OwnAddresses: ownAddresses, Reserved: reserved(s),
		})
		p.forward = &forward
	}
	if len(s.Inbound) > 0 {
		if shared.ByRule, err = inboundStands(s, certificates, verifier); err != nil {
			return nil, err
		}
	}
	for _, listener := range s.Inbound {
		rt := shared
		rt.Server, rt.ServerName = net.JoinHostPort(listener.ServerAddress, strconv.Itoa(int(listener.ServerPort))), listener.ServerName
		p.inbound[listener.Name] = &rt
	}
	return p, nil
}

func (p *plane) close() {
	if p.mint != nil {
		p.mint.Close()
	}
}

func newMint(s *config.Snapshot, certificates *certstore.Store) (*mint.Mint, error) {
	trust, err := authorities(certificates, s.ForwardTrust)
	if err != nil {
		return nil, err
	}
	untrust, err := authorities(certificates, s.ForwardUntrust)
	if err != nil {
		return nil, err
	}
	m, err := mint.New(mint.Options{Trust: trust, Untrust: untrust})
	if err != nil {
		return nil, fmt.Errorf("forward proxy: %w", err)
	}
	return m, nil
}

func authorities(certificates *certstore.Store, pair config.CAPair) (mint.Authorities, error) {
	var a mint.Authorities
	for _, kind := range []struct {
		name string
		into **certstore.Entry
	}{{pair.RSA, &a.RSA}, {pair.ECDSA, &a.ECDSA}} {
		if kind.name == "" {
			continue
		}
		entry, err := certificates.Certificate(kind.name)
		if err != nil {
			return a, err
		}
		*kind.into = entry
	}
	return a, nil
}

// inboundStands makes, for each rule of inbound inspection, what stands in for
// its servers: the rule's certificates, and a server that proves itself by a
// trusted chain or by the very certificate.
func inboundStands(s *config.Snapshot, certificates *certstore.Store, verifier *verify.Verifier) (map[string]intercept.Stand, error) {
	stands := map[string]intercept.Stand{}
	for _, rule := range s.Rules {
		if rule.Type != config.InboundInspection || rule.Action != config.Decrypt {
			continue
		}
		var entries []*certstore.Entry
		var pins intercept.Pins
		for _, name := range rule.Certificates {
			entry, err := certificates.Certificate(name)
			if err != nil {
				return nil, fmt.Errorf("rule %s: %w", rule.Name, err)
			}
			entries, pins = append(entries, entry), append(pins, entry.Leaf())
		}
		certifier, err := inbound.New(inbound.Options{
			Certificates: entries, RSAKeyExchange: rule.Profile.RSAKeyExchange,
			MinVersion: uint16(rule.Profile.MinVersion), MaxVersion: uint16(rule.Profile.MaxVersion),
		})
		if err != nil {
			return nil, fmt.Errorf("rule %s: %w", rule.Name, err)
		}
		stands[rule.Name] = intercept.Stand{Certifier: certifier, Verifier: protected{pins, verifier}}
	}
	return stands, nil
}

// protected judges a protected server: by the certificate that is configured
// for it, or else by its chain.
type protected struct {
	pins  intercept.Pins
	chain *verify.Verifier
}

func (p protected) Verify(name string, chain []*x509.Certificate) *flow.Verdict {
	if verdict := p.pins.Verify(name, chain); verdict.Status == flow.Trusted {
		return verdict
	}
	return p.chain.Verify(name, chain)
}

// ownAuthorities are the CAs that the gateway signs with: never trusted in a
// server's chain.
func ownAuthorities(s *config.Snapshot) []*x509.Certificate {
	var list []*x509.Certificate
	for _, name := range []string{s.ForwardTrust.RSA, s.ForwardTrust.ECDSA, s.ForwardUntrust.RSA, s.ForwardUntrust.ECDSA} {
		if c, found := s.Certificate(name); found {
			list = append(list, c.Leaf())
		}
	}
	return list
}

// ownPorts are those of the gateway's listeners, and of its HSM where that is
// on this host.
func ownPorts(s *config.Snapshot) []uint16 {
	var list []uint16
	for _, l := range s.Forward {
		list = append(list, l.Listen.Port())
	}
	for _, l := range s.Inbound {
		list = append(list, l.Listen.Port())
	}
	if s.HSM != nil {
		list = append(list, s.HSM.Port)
	}
	return list
}

// reserved is the HSM's client port, where the configuration knows its address.
func reserved(s *config.Snapshot) []netip.AddrPort {
	if s.HSM == nil {
		return nil
	}
	addr, err := netip.ParseAddr(s.HSM.Address)
	if err != nil {
		return nil
	}
	return []netip.AddrPort{netip.AddrPortFrom(addr, s.HSM.Port)}
}

func ownAddresses() []netip.Addr {
	var list []netip.Addr
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if ipnet, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(ipnet.IP); ok {
				list = append(list, addr.Unmap())
			}
		}
	}
	return list
}
