package config

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// newSnapshot reads a validated tree. It finds nothing wrong: that is
// Validate's and check's part.
func newSnapshot(root *Node) *Snapshot {
	device := view{root, schema}.at("devices").only()
	system, proxy := device.at("deviceconfig", "system"), device.at("deviceconfig", "setting", "proxy")
	vsys := device.at("vsys").only()
	shared := view{root, schema}.at("shared")
	decrypt := shared.at("ssl-decrypt")

	s := &Snapshot{
		Hostname:       system.text("hostname"),
		HSM:            hsm(system),
		Limits:         limits(proxy.at("limits")),
		ForwardTrust:   caPair(decrypt.at("forward-trust-certificate")),
		ForwardUntrust: caPair(decrypt.at("forward-untrust-certificate")),
	}
	for _, e := range proxy.at("forward").entries() {
		s.Forward = append(s.Forward, Listener{e.node.Entry, e.addrPort()})
	}
	for _, e := range proxy.at("inbound").entries() {
		s.Inbound = append(s.Inbound, InboundListener{
			Name:          e.node.Entry,
			Listen:        e.addrPort(),
			ServerAddress: e.text("server-address"),
			ServerPort:    e.port("server-port"),
			ServerName:    strings.ToLower(e.text("server-name")),
		})
	}
	for _, m := range proxy.at("allowed-destination").members() {
		s.AllowedDestinations = append(s.AllowedDestinations, must(parseDestination(m)))
	}
	for _, e := range shared.at("certificate").entries() {
		if e.at("public-key").node == nil {
			continue // a request
		}
		s.Certificates = append(s.Certificates, Certificate{
			Name:       e.node.Entry,
			Chain:      must(parseChain(e.text("public-key"))),
			OnHSM:      e.yes("private-key-on-hsm"),
			PrivateKey: e.text("private-key"),
			Revoked:    e.text("status") == "revoked",
		})
	}
	for _, name := range decrypt.at("trusted-root-CA").members() {
		if c, ok := s.Certificate(name); ok {
			s.TrustedRoots = append(s.TrustedRoots, c.Leaf())
		}
	}
	for _, e := range decrypt.at("ssl-exclude-cert").entries() {
		s.Exclusions = append(s.Exclusions, Exclusion{
			Pattern:     strings.ToLower(e.node.Entry),
			Description: e.text("description"),
			Excluded:    e.yes("exclude"),
		})
	}
	for _, e := range vsys.at("profiles", "decryption").entries() {
		s.Profiles = append(s.Profiles, profile(e))
	}
	profiles := make(map[string]Profile, len(s.Profiles)+1)
	profiles[""] = DefaultProfile()
	for _, p := range s.Profiles {
		profiles[p.Name] = p
	}
	known := services(vsys, shared)
	for _, e := range vsys.at("rulebase", "decryption", "rules").entries() {
		if !e.yes("disabled") {
			s.Rules = append(s.Rules, s.rule(e, profiles, known))
		}
	}
	s.management(view{root, schema}, device, shared)
	s.forwarding(shared.at("log-settings"))
	return s
}

func limits(v view) Limits {
	seconds := func(name string) time.Duration { return time.Duration(v.integer(name)) * time.Second }
	return Limits{
		MaxConnections: v.integer("max-connections"),
		Handshake:      seconds("handshake-timeout"),
		Connect:        seconds("connect-timeout"),
		Idle:           seconds("idle-timeout"),
	}
}

func caPair(v view) CAPair { return CAPair{RSA: v.text("rsa"), ECDSA: v.text("ecdsa")} }

func (s *Snapshot) rule(e view, profiles map[string]Profile, known map[string]Service) Rule {
	r := Rule{
		Name:              e.node.Entry,
		Action:            Action(e.text("action")),
		Type:              ForwardProxy,
		Source:            networks(e.at("source").members()),
		Destination:       networks(e.at("destination").members()),
		NegateSource:      e.yes("negate-source"),
		NegateDestination: e.yes("negate-destination"),
		LogSuccess:        e.yes("log-success"),
		LogFail:           e.yes("log-fail"),
		Profile:           profiles[e.text("profile")],
		Description:       e.text("description"),
	}
	for _, host := range e.at("destination-host").members() {
		if host != anyWord {
			r.Hosts = append(r.Hosts, strings.ToLower(host))
		}
	}
	for _, name := range e.at("service").members() {
		if name != anyWord {
			r.Services = append(r.Services, known[name])
		}
	}
	if inbound := e.at("type", string(InboundInspection)); inbound.node != nil {
		r.Type = InboundInspection
		r.Certificates = inbound.at("certificates").members()
	}
	return r
}

// networks returns nil for any.
func networks(members []string) []netip.Prefix {
	var list []netip.Prefix
	for _, m := range members {
		if m != anyWord {
			list = append(list, must(parseNetwork(m)))
		}
	}
	return list
}

// DefaultProfile is what a rule that names no profile gets: the defaults.
func DefaultProfile() Profile {
	return profile(view{nil, schema}.at("devices").only().at("vsys").only().at("profiles", "decryption"))
}

func profile(e view) Profile {
	forward, inbound, protocol := e.at("ssl-forward-proxy"), e.at("ssl-inbound-proxy"), e.at("ssl-protocol-settings")
	p := Profile{
		BlockExpired:         forward.yes("block-expired-certificate"),
		BlockUntrustedIssuer: forward.yes("block-untrusted-issuer"),
		BlockSNIMismatch:     forward.yes("block-if-sni-mismatch"),
		MinVersion:           version(protocol.text("min-version")),
		MaxVersion:           version(protocol.text("max-version")),
		RSAKeyExchange:       protocol.yes("keyxchg-algo-rsa"),
		ECDHEKeyExchange:     protocol.yes("keyxchg-algo-ecdhe"),

		BlockUnsupportedVersion:        forward.yes("block-unsupported-version"),
		InboundBlockUnsupportedVersion: inbound.yes("block-unsupported-version"),
		BlockHSMUnavailable:            forward.yes("block-if-hsm-unavailable"),
		InboundBlockHSMUnavailable:     inbound.yes("block-if-hsm-unavailable"),
	}
	if e.node != nil {
		p.Name = e.node.Entry
	}
	return p
}

func version(word string) TLSVersion {
	if word == "tls1-2" {
		return TLS12
	}
	return TLS13 // tls1-3, and max, which it is today
}

// view is a node of a validated tree beside its row: an absent leaf has its
// row's value. The node is nil where the element is not there.
type view struct {
	node *Node
	row  *element
}

// at descends. The names are constants of this file.
func (v view) at(names ...string) view {
	for _, name := range names {
		row := v.row.child(name)
		if row == nil {
			panic(fmt.Sprintf("config: the schema has no %s in %s", name, v.row.name)) // any test finds it
		}
		v = view{v.node.child(name), row}
	}
	return v
}

// only is the single entry of a list that can have no other.
func (v view) only() view { return view{v.node.child(entryName), v.row} }

func (v view) entries() []view {
	if v.node == nil {
		return nil
	}
	list := make([]view, len(v.node.Children))
	for i, c := range v.node.Children {
		list[i] = view{c, v.row}
	}
	return list
}

func (v view) members() []string {
	if v.node == nil {
		return nil
	}
	list := make([]string, len(v.node.Children))
	for i, c := range v.node.Children {
		list[i] = c.Text
	}
	return list
}

func (v view) text(name string) string {
	below := v.at(name)
	if below.node == nil {
		return below.row.absent
	}
	return below.node.Text
}

func (v view) yes(name string) bool { return v.text(name) == "yes" }

// integer and what follows read values that Validate has read before.
func (v view) integer(name string) int {
	n, ok := decimal(v.text(name))
	if !ok {
		panic("config: not validated: " + name)
	}
	return n
}

func (v view) port(name string) uint16 { return uint16(v.integer(name)) }

func (v view) addrPort() netip.AddrPort {
	return netip.AddrPortFrom(must(listenOn(v.text("address"))), v.port("port"))
}

// must is for values that Validate has parsed before.
func must[T any](parsed T, wrong string) T {
	if wrong != "" {
		panic("config: not validated: " + wrong)
	}
	return parsed
}
