package plane

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"hash"
	"net"
	"net/netip"
	"strconv"

	"moongate/internal/gw/certstore"
	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
	"moongate/internal/gw/inbound"
	"moongate/internal/gw/intercept"
	"moongate/internal/gw/mint"
	"moongate/internal/gw/policy"
	"moongate/internal/gw/verify"
)

// generation is the data plane of one snapshot: everything that connections
// need, made before the first of them. It does not change.
type generation struct {
	snapshot *config.Snapshot
	policy   *policy.Policy
	places   []place // forward first, each kind in the configuration's order

	// Parts, by what they were made of, for the next generation to take over
	// where it is the same: they have leaves, sessions and verdicts in store.
	verifiers map[digest]*verify.Verifier
	mints     map[digest]*mint.Mint
	inbounds  map[digest]*inbound.Inbound
	mint      *mint.Mint // of the proxies; nil without one
}

// digest names what a part was made of.
type digest [sha256.Size]byte

// compile makes the generation of a snapshot, with parts of the one before it;
// nil is none.
func (p *Plane) compile(s *config.Snapshot, before *generation) (*generation, error) {
	certificates, err := certstore.New(s.Certificates, p.options.Provider)
	if err != nil {
		return nil, err
	}
	c := &compiler{plane: p, snapshot: s, certificates: certificates, before: before, next: &generation{
		snapshot: s, policy: policy.Compile(s),
		verifiers: map[digest]*verify.Verifier{}, mints: map[digest]*mint.Mint{}, inbounds: map[digest]*inbound.Inbound{},
	}}
	if c.before == nil {
		c.before = &generation{}
	}
	if c.verifier, err = c.newVerifier(); err != nil {
		return nil, err
	}
	if err := c.forward(); err != nil {
		return nil, err
	}
	if err := c.inbound(); err != nil {
		return nil, err
	}
	return c.next, nil
}

// compiler is one compilation.
type compiler struct {
	plane        *Plane
	snapshot     *config.Snapshot
	certificates *certstore.Store
	verifier     *verify.Verifier
	before, next *generation
}

// runtime is what the listeners have in common.
func (c *compiler) runtime() intercept.Runtime {
	l := c.snapshot.Limits
	return intercept.Runtime{
		Policy: c.next.policy,
		Limits: intercept.Limits{
			Connections: l.MaxConnections, DialTimeout: l.Connect,
			HelloTimeout: l.Handshake, TLSTimeout: 2 * l.Handshake, IdleTimeout: l.Idle,
		},
	}
}

// forward makes the places of the proxies.
func (c *compiler) forward() error {
	if len(c.snapshot.Forward) == 0 {
		return nil
	}
	m, err := c.newMint()
	if err != nil {
		return err
	}
	c.next.mint = m
	rt := c.runtime()
	rt.Stand = intercept.Stand{Certifier: m, Verifier: c.verifier}
	rt.Destinations = policy.NewDestinations(policy.DestinationRules{
		Allowed: c.snapshot.AllowedDestinations, OwnPorts: c.ownPorts(), OwnAddresses: ownAddresses, Reserved: reserved(c.snapshot),
	})
	for _, l := range c.snapshot.Forward {
		c.next.places = append(c.next.places, place{
			kind: flow.Forward, name: "forward listener " + l.Name,
			address: listenAddress(l.Listen, c.plane.options.Listen), runtime: &rt,
		})
	}
	return nil
}

// inbound makes the places before protected servers.
func (c *compiler) inbound() error {
	if len(c.snapshot.Inbound) == 0 {
		return nil
	}
	stands, err := c.stands()
	if err != nil {
		return err
	}
	for _, l := range c.snapshot.Inbound {
		rt := c.runtime()
		rt.ByRule = stands
		rt.Server, rt.ServerName = net.JoinHostPort(l.ServerAddress, strconv.Itoa(int(l.ServerPort))), l.ServerName
		c.next.places = append(c.next.places, place{
			kind: flow.Inbound, name: "inbound listener " + l.Name,
			address: listenAddress(l.Listen, c.plane.options.Listen), runtime: &rt,
		})
	}
	return nil
}

func (c *compiler) newVerifier() (*verify.Verifier, error) {
	own := ownAuthorities(c.snapshot)
	h := sha256.New()
	addCertificates(h, c.snapshot.TrustedRoots)
	addCertificates(h, own)
	key := digest(h.Sum(nil))
	v := c.before.verifiers[key]
	if v == nil {
		var err error
		if v, err = verify.New(verify.Options{Roots: c.plane.options.Roots, Extra: c.snapshot.TrustedRoots, Own: own}); err != nil {
			return nil, err
		}
	}
	c.next.verifiers[key] = v
	return v, nil
}

func (c *compiler) newMint() (*mint.Mint, error) {
	h := sha256.New()
	trust, err := c.authorities(h, c.snapshot.ForwardTrust)
	if err != nil {
		return nil, err
	}
	untrust, err := c.authorities(h, c.snapshot.ForwardUntrust)
	if err != nil {
		return nil, err
	}
	key := digest(h.Sum(nil))
	m := c.before.mints[key]
	if m == nil {
		if m, err = mint.New(mint.Options{Trust: trust, Untrust: untrust, Running: &c.plane.minting}); err != nil {
			return nil, fmt.Errorf("forward proxy: %w", err)
		}
	}
	c.next.mints[key] = m
	return m, nil
}

func (c *compiler) authorities(h hash.Hash, pair config.CAPair) (mint.Authorities, error) {
	var a mint.Authorities
	for _, kind := range []struct {
		name string
		into **certstore.Entry
	}{{pair.RSA, &a.RSA}, {pair.ECDSA, &a.ECDSA}} {
		fmt.Fprintf(h, "%q:", kind.name)
		if kind.name == "" {
			continue
		}
		entry, err := c.certificate(h, kind.name)
		if err != nil {
			return a, err
		}
		*kind.into = entry
	}
	return a, nil
}

// certificate returns the certificate of a name, and adds to h what it is.
func (c *compiler) certificate(h hash.Hash, name string) (*certstore.Entry, error) {
	entry, err := c.certificates.Certificate(name)
	if err != nil {
		return nil, err
	}
	configured, _ := c.snapshot.Certificate(name)
	fmt.Fprintf(h, "%q %t %q ", name, configured.OnHSM, configured.PrivateKey)
	addCertificates(h, entry.Chain)
	return entry, nil
}

// stands makes, for each rule of inbound inspection, what stands in for its
// servers: the rule's certificates, and a server that proves itself by a
// trusted chain or by the very certificate.
func (c *compiler) stands() (map[string]intercept.Stand, error) {
	stands := map[string]intercept.Stand{}
	for i := range c.snapshot.Rules {
		rule := &c.snapshot.Rules[i]
		if rule.Type != config.InboundInspection || rule.Action != config.Decrypt {
			continue
		}
		h := sha256.New()
		var entries []*certstore.Entry
		var pins intercept.Pins
		for _, name := range rule.Certificates {
			entry, err := c.certificate(h, name)
			if err != nil {
				return nil, fmt.Errorf("rule %s: %w", rule.Name, err)
			}
			entries, pins = append(entries, entry), append(pins, entry.Leaf())
		}
		profile := &rule.Profile
		fmt.Fprintf(h, "%d %d %t", profile.MinVersion, profile.MaxVersion, profile.RSAKeyExchange)
		key := digest(h.Sum(nil))
		certifier := c.next.inbounds[key]
		if certifier == nil {
			certifier = c.before.inbounds[key]
		}
		if certifier == nil {
			var err error
			certifier, err = inbound.New(inbound.Options{
				Certificates: entries, RSAKeyExchange: profile.RSAKeyExchange,
				MinVersion: uint16(profile.MinVersion), MaxVersion: uint16(profile.MaxVersion),
			})
			if err != nil {
				return nil, fmt.Errorf("rule %s: %w", rule.Name, err)
			}
		}
		c.next.inbounds[key] = certifier
		stands[rule.Name] = intercept.Stand{Certifier: certifier, Verifier: protected{pins, c.verifier}}
	}
	return stands, nil
}

// addCertificates hashes certificates, their number and each one's length in
// front.
func addCertificates(h hash.Hash, list []*x509.Certificate) {
	fmt.Fprintf(h, "%d;", len(list))
	for _, c := range list {
		fmt.Fprintf(h, "%d:", len(c.Raw))
		h.Write(c.Raw)
	}
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

// ownPorts are those of this program, and of its HSMs where they are on this
// host.
func (c *compiler) ownPorts() []uint16 {
	list := append([]uint16(nil), c.plane.options.OwnPorts...)
	for _, l := range c.snapshot.Forward {
		list = append(list, l.Listen.Port())
	}
	for _, l := range c.snapshot.Inbound {
		list = append(list, l.Listen.Port())
	}
	if c.snapshot.HSM != nil {
		for _, server := range c.snapshot.HSM.Servers {
			list = append(list, server.Port, server.SSHPort)
		}
	}
	for _, port := range []uint16{c.snapshot.Management.HTTPSPort, c.snapshot.Management.SSHPort, c.snapshot.Management.MetricsPort} {
		if port != 0 {
			list = append(list, port)
		}
	}
	return list
}

// reserved are the HSMs' ports for clients and for administration, where the
// configuration knows their addresses.
func reserved(s *config.Snapshot) []netip.AddrPort {
	if s.HSM == nil {
		return nil
	}
	var list []netip.AddrPort
	for _, server := range s.HSM.Servers {
		if addr, err := netip.ParseAddr(server.Address); err == nil {
			list = append(list, netip.AddrPortFrom(addr, server.Port), netip.AddrPortFrom(addr, server.SSHPort))
		}
	}
	return list
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
