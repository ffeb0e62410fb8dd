package config

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

const (
	decryptPath  = SharedPath + "/ssl-decrypt"
	proxyPath    = DevicePath + "/deviceconfig/setting/proxy"
	providerPath = DevicePath + "/deviceconfig/system/hsm-settings/provider"
	rulesPath    = VsysPath + "/rulebase/decryption/rules"
)

// check looks for what each element alone cannot show: parts that contradict
// one another, or that together would weaken what the gateway promises.
func check(s *Snapshot, root *Node, now time.Time) ([]Warning, Problems) {
	c := checker{s: s, root: root, now: now, used: make(map[string]bool), certs: make(map[string]*Certificate, len(s.Certificates))}
	for i, cert := range s.Certificates {
		c.certs[cert.Name] = &s.Certificates[i]
	}
	c.listeners()
	c.hsm()
	c.destinations()
	c.certificates()
	c.certificateNotes()
	c.authorities()
	c.roots()
	c.exclusions()
	c.profiles()
	c.rules()
	c.management()
	c.forwarding()
	c.expiry()
	return c.warnings, c.problems
}

type checker struct {
	s        *Snapshot
	root     *Node
	now      time.Time
	certs    map[string]*Certificate // by name; requests are not among them
	used     map[string]bool         // the names of those whose private keys the gateway uses
	warnings []Warning
	problems Problems
}

// refuse reports a problem at the path, with the line of what is there.
func (c *checker) refuse(path, format string, args ...any) {
	if !c.problems.full() {
		c.problems.add(c.line(path), path, format, args...)
	}
}

func (c *checker) warn(path, format string, args ...any) {
	if len(c.warnings) < maxProblems {
		c.warnings = append(c.warnings, Warning{Line: c.line(path), Path: path, Text: fmt.Sprintf(format, args...)})
	}
}

// line is that of the deepest element of the path that is there.
func (c *checker) line(path string) int {
	steps, err := parsePath(path)
	if err != nil {
		return 0
	}
	n := c.root
	for _, s := range steps[1:] {
		next := n.find([]step{s})
		if next == nil {
			break
		}
		n = next
	}
	return n.Line
}

func below(list, name string) string { return list + "/" + EntryStep(name) }

// listeners must not share a port of the same address, or of every address;
// nor may a protected server be a listener, which would call itself for ever.
func (c *checker) listeners() {
	type listener struct {
		Listener
		path, port string // port is what follows path
	}
	m := c.s.Management
	var all []listener
	for _, l := range []struct {
		name string
		port uint16
	}{{"https-port", m.HTTPSPort}, {"ssh-port", m.SSHPort}, {"metrics-port", m.MetricsPort}} {
		listen := netip.AddrPortFrom(m.Address, l.port)
		all = append(all, listener{Listener{l.name, listen}, managementPath, "/" + l.name})
	}
	for _, l := range c.s.Forward {
		all = append(all, listener{l, below(proxyPath+"/forward", l.Name), "/port"})
	}
	for _, l := range c.s.Inbound {
		all = append(all, listener{Listener{l.Name, l.Listen}, below(proxyPath+"/inbound", l.Name), "/port"})
	}
	for i, l := range all {
		for _, earlier := range all[:i] {
			a, b := l.Listen.Addr(), earlier.Listen.Addr()
			if l.Listen.Port() == earlier.Listen.Port() && (a == b || a.IsUnspecified() || b.IsUnspecified()) {
				c.refuse(l.path+l.port, "used twice, got %s, which %s has as %s",
					shown(l.Listen.String()), earlier.path, earlier.Listen)
				break
			}
		}
	}
	for _, in := range c.s.Inbound {
		server, ok := address(in.ServerAddress)
		for _, l := range all {
			listens := l.Listen.Addr()
			if ok && in.ServerPort == l.Listen.Port() && (server == listens || listens.IsUnspecified() && server.IsLoopback()) {
				c.refuse(below(proxyPath+"/inbound", in.Name)+"/server-address", "a listener of this gateway, got %s port %d, which is %s",
					shown(in.ServerAddress), in.ServerPort, l.path)
				break
			}
		}
	}
}

func (c *checker) destinations() {
	for _, d := range c.s.AllowedDestinations {
		if d.Host == "" && d.Network.Bits() == 0 {
			c.warn(proxyPath+"/allowed-destination", "%s opens every address: clients can reach this machine and its management through the proxy", d.Network)
		}
	}
}

// certificateNotes holds what an entry says of its certificate against what
// the certificate says.
func (c *checker) certificateNotes() {
	for _, e := range (view{c.root, schema}).at("shared", "certificate").entries() {
		cert := c.certs[e.node.Entry]
		if cert == nil {
			continue
		}
		leaf := cert.Leaf()
		for _, note := range []struct{ name, actual string }{
			{"algorithm", keyAlgorithm(leaf)},
			{"ca", yesOrNo(leaf.IsCA)},
			{"common-name", leaf.Subject.CommonName},
			{"expiry-epoch", strconv.FormatInt(leaf.NotAfter.Unix(), 10)},
		} {
			if e.node.child(note.name) != nil && e.text(note.name) != note.actual {
				c.contradicts(e, note.name, note.actual)
			}
		}
		for _, note := range []struct {
			name   string
			actual time.Time
		}{
			{"not-valid-before", leaf.NotBefore},
			{"not-valid-after", leaf.NotAfter},
		} {
			// Compared as times, since OpenSSL pads a day of one digit.
			if stated, err := time.Parse(opensslTime, e.text(note.name)); err == nil && !stated.Equal(note.actual) {
				c.contradicts(e, note.name, note.actual.UTC().Format(opensslTime))
			}
		}
	}
}

func (c *checker) contradicts(e view, name, actual string) {
	c.refuse(below(certificatesPath, e.node.Entry)+"/"+name, "contradicts public-key, got %s, expected %s", shown(e.text(name)), shown(actual))
}

func keyAlgorithm(cert *x509.Certificate) string {
	switch cert.PublicKey.(type) {
	case *rsa.PublicKey:
		return "RSA"
	case *ecdsa.PublicKey:
		return "EC"
	default:
		return cert.PublicKeyAlgorithm.String()
	}
}

func yesOrNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// authorities are the CAs that sign leaves.
func (c *checker) authorities() {
	trust, untrust := decryptPath+"/forward-trust-certificate", decryptPath+"/forward-untrust-certificate"
	for _, a := range []struct{ path, name, algorithm string }{
		{trust + "/rsa", c.s.ForwardTrust.RSA, "RSA"},
		{trust + "/ecdsa", c.s.ForwardTrust.ECDSA, "EC"},
		{untrust + "/rsa", c.s.ForwardUntrust.RSA, "RSA"},
		{untrust + "/ecdsa", c.s.ForwardUntrust.ECDSA, "EC"},
	} {
		if a.name != "" {
			c.authority(a.path, a.name, a.algorithm)
		}
	}
	// Clients trust the one CA and not the other: were they one, each
	// unverified server would be given a trusted leaf.
	for _, u := range []struct{ path, name string }{
		{untrust + "/rsa", c.s.ForwardUntrust.RSA},
		{untrust + "/ecdsa", c.s.ForwardUntrust.ECDSA},
	} {
		for _, t := range []string{c.s.ForwardTrust.RSA, c.s.ForwardTrust.ECDSA} {
			if c.sameKey(u.name, t) {
				c.refuse(u.path, "the key of a forward-trust certificate, got %s, expected a CA that clients do not trust", shown(u.name))
			}
		}
	}
	if !c.s.ForwardTrust.IsZero() && c.s.ForwardUntrust.IsZero() {
		c.warn(untrust, "not set: servers whose chain cannot be verified are blocked")
	}
}

// minRSA is the shortest RSA key of a CA that clients still accept (CA/Browser
// Forum baseline requirements section 6.1.5).
const minRSA = 2048

func (c *checker) authority(path, name, algorithm string) {
	cert := c.key(path, name)
	if cert == nil {
		return
	}
	leaf := cert.Leaf()
	if cert.PrivateKey != "" {
		c.warn(path, "its private key is software, got %s: whoever takes over the gateway takes it", shown(name))
	}
	switch {
	case keyAlgorithm(leaf) != algorithm:
		c.refuse(path, "a certificate with another kind of key, got %s (%s), expected %s", shown(name), keyAlgorithm(leaf), algorithm)
	case !leaf.BasicConstraintsValid || !leaf.IsCA:
		c.refuse(path, "not a CA certificate, got %s, expected one with CA in its basic constraints; `cmu selfSign` makes one of a key on the HSM", shown(name))
	case leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageCertSign == 0:
		c.refuse(path, "a CA that may not sign certificates, got %s, expected keyCertSign in its key usage", shown(name))
	}
	if key, ok := leaf.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < minRSA {
		c.refuse(path, "too short a key, got %s (%d bits), expected at least %d", shown(name), key.N.BitLen(), minRSA)
	}
}

// named returns the certificate that an element refers to, nil where there is
// only a request for one.
func (c *checker) named(path, name string) *Certificate {
	cert := c.certs[name]
	if cert == nil {
		c.refuse(path, "a request for a certificate, got %s, expected a certificate", shown(name))
	}
	return cert
}

// key requires that the certificate's private key can be used.
func (c *checker) key(path, name string) *Certificate {
	cert := c.named(path, name)
	switch {
	case cert == nil:
		return nil
	case cert.Revoked:
		c.refuse(path, "a revoked certificate, got %s", shown(name))
	case !cert.HasKey():
		c.refuse(path, "a certificate without a private key, got %s, expected one with private-key or with private-key-on-hsm yes", shown(name))
	case cert.OnHSM && c.s.HSM == nil:
		c.refuse(path, "a key on the HSM and no HSM, got %s, expected %s/safenet-network or pkcs11", shown(name), providerPath)
	}
	c.used[name] = true
	return cert
}

func (c *checker) sameKey(a, b string) bool {
	first, second := c.certs[a], c.certs[b]
	return first != nil && second != nil && string(first.Leaf().RawSubjectPublicKeyInfo) == string(second.Leaf().RawSubjectPublicKeyInfo)
}

// roots are what upstream chains may end in: CAs, and never one of our own.
func (c *checker) roots() {
	path := decryptPath + "/trusted-root-CA"
	for _, name := range (view{c.root, schema}).at("shared", "ssl-decrypt", "trusted-root-CA").members() {
		c.ca(path, name)
		for _, own := range []string{c.s.ForwardTrust.RSA, c.s.ForwardTrust.ECDSA, c.s.ForwardUntrust.RSA, c.s.ForwardUntrust.ECDSA} {
			if own != "" && c.sameKey(name, own) {
				c.refuse(path, "the gateway's own CA, got %s, which signs leaves and must not be trusted of servers", shown(name))
				break
			}
		}
	}
}

// exclusions are compared without regard to letter case.
func (c *checker) exclusions() {
	seen := make(map[string]string)
	for _, e := range (view{c.root, schema}).at("shared", "ssl-decrypt", "ssl-exclude-cert").entries() {
		pattern := strings.ToLower(e.node.Entry)
		if earlier, twice := seen[pattern]; twice {
			c.refuse(below(decryptPath+"/ssl-exclude-cert", e.node.Entry), "the same servers as %s", shown(earlier))
		}
		seen[pattern] = e.node.Entry
	}
}

func (c *checker) profiles() {
	for _, p := range c.s.Profiles {
		if p.MinVersion > p.MaxVersion {
			c.refuse(below(profilesPath, p.Name)+"/ssl-protocol-settings", "no version, got min-version %s above max-version %s", p.MinVersion, p.MaxVersion)
		}
		if p.MinVersion == TLS12 && !p.RSAKeyExchange && !p.ECDHEKeyExchange {
			c.refuse(below(profilesPath, p.Name)+"/ssl-protocol-settings", "no key exchange for TLS 1.2, expected keyxchg-algo-ecdhe yes, keyxchg-algo-rsa yes or min-version tls1-3")
		}
	}
}

func (c *checker) rules() {
	for _, r := range c.s.Rules {
		path := below(rulesPath, r.Name)
		if r.NegateSource && len(r.Source) == 0 {
			c.refuse(path+"/negate-source", "not any is nothing, expected source")
		}
		if r.NegateDestination && len(r.Destination) == 0 {
			c.refuse(path+"/negate-destination", "not any is nothing, expected destination")
		}
		if r.Action != Decrypt {
			continue
		}
		switch r.Type {
		case ForwardProxy:
			if c.s.ForwardTrust.IsZero() {
				c.refuse(path+"/action", "decrypt and no CA to sign with, expected %s/forward-trust-certificate", decryptPath)
			}
		case InboundInspection:
			list := path + "/type/ssl-inbound-inspection/certificates"
			if len(r.Certificates) == 0 {
				c.refuse(list, "missing, expected the names of the server's certificates")
			}
			for _, name := range r.Certificates {
				cert := c.key(list, name)
				if cert == nil {
					continue
				}
				if algorithm := keyAlgorithm(cert.Leaf()); algorithm != "RSA" && algorithm != "EC" {
					c.refuse(list, "a kind of key that is not supported yet, got %s (%s), expected RSA or EC", shown(name), algorithm)
				}
			}
		}
	}
}

// expiry warns: a certificate that expires while the gateway runs must not
// keep it from starting again.
func (c *checker) expiry() {
	for _, cert := range c.s.Certificates {
		path := below(certificatesPath, cert.Name)
		if leaf := cert.Leaf(); c.now.After(leaf.NotAfter) {
			c.warn(path, "expired on %s%s", leaf.NotAfter.UTC().Format(time.DateOnly), c.inUse(cert.Name))
		} else if c.now.Before(leaf.NotBefore) {
			c.warn(path, "not valid before %s%s", leaf.NotBefore.UTC().Format(time.DateOnly), c.inUse(cert.Name))
		}
	}
}

func (c *checker) inUse(name string) string {
	if c.used[name] {
		return ": clients will refuse what it presents or signs"
	}
	return ""
}
