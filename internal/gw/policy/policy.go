// Package policy decides what becomes of a flow: whether it is decrypted, by
// which rule and under which profile; what a server's verdict means for the
// certificate that the client gets; and which addresses the proxy connects to.
//
// Everything here is a function of the configuration's snapshot and of the
// facts given: there is no I/O and no state, so that a decision can be asked
// for again, and explained, at any time. Compile once per commit; the values
// are immutable and safe for concurrent use.
package policy

import (
	"fmt"
	"net/netip"
	"strings"

	"moongate/internal/gw/flow"
)

// Facts are what is known of a flow when a decision is asked for.
type Facts struct {
	Kind   flow.Kind
	Client netip.Addr
	// Host is what the client asked the proxy for (CONNECT), or the protected
	// server's configured host: a name in lower case or an IP address.
	Host string
	// Port is the server's.
	Port uint16
	// SNI is the name in the client's hello; empty if it has none, or if the
	// hello was not seen yet.
	SNI string
	// Server is the address that the gateway connected to; the zero Addr when
	// it has not. A rule that names destinations does not match without it.
	Server netip.Addr
}

// Action is what becomes of a flow.
type Action string

const (
	Decrypt   Action = "decrypt"
	NoDecrypt Action = "no-decrypt"
	Block     Action = "block"
)

// Decision is an action with its grounds.
type Decision struct {
	Action Action
	// Rule is the name of the rule that matched; empty where none did.
	Rule string
	// Reason says in a sentence's part why the action was taken.
	Reason string
	// Profile holds for a flow that is decrypted; never nil.
	Profile *Profile
}

// Policy is a compiled rule base with its exclusion list.
type Policy struct {
	exclusions exclusions
	rules      []rule
	fallback   *Profile // where no rule names one
}

// rule is a row of the rule base, in the order of evaluation.
type rule struct {
	name        string
	kind        flow.Kind
	action      Action
	source      addresses
	destination addresses
	profile     *Profile
}

func (r *rule) matches(f *Facts) bool {
	return r.kind == f.Kind && r.source.contain(f.Client) && r.destination.contain(f.Server)
}

// Decide says what becomes of a flow, in this order:
//
//  1. A forward flow whose every known name is on the exclusion list is not
//     decrypted. Both the CONNECT host and the server name of the hello count:
//     a client that could choose one of them freely would talk any host out
//     of inspection (CONNECT evil.example with the server name of an excluded
//     host, or the other way round on a shared front end). For the same reason
//     a CONNECT to an IP address is excluded only if that address is listed.
//  2. The first rule that matches.
//  3. Where no rule matches, a forward flow is decrypted under the default
//     profile: to look is the purpose, and to look away takes a rule. An
//     inbound flow is not decrypted, since only a rule says with which
//     certificate it could be.
func (p *Policy) Decide(f Facts) Decision {
	f.Client, f.Server = f.Client.Unmap().WithZone(""), f.Server.Unmap().WithZone("")
	note := ""
	if f.Kind == flow.Forward {
		pattern, half := p.exclusions.cover(f.Host, f.SNI)
		if pattern != "" {
			return Decision{Action: NoDecrypt, Reason: fmt.Sprintf("exclusion %q", pattern), Profile: p.fallback}
		}
		note = half
	}
	for i := range p.rules {
		if r := &p.rules[i]; r.matches(&f) {
			return Decision{Action: r.action, Rule: r.name, Reason: "rule" + note, Profile: r.profile}
		}
	}
	if f.Kind == flow.Inbound {
		return Decision{Action: NoDecrypt, Reason: "default: no rule gives a certificate to present", Profile: p.fallback}
	}
	return Decision{Action: Decrypt, Reason: "default" + note, Profile: p.fallback}
}

// addresses is a set of networks; empty means any address, known or not. An
// address that is asked for is unmapped and without a zone.
type addresses []netip.Prefix

func (set addresses) contain(a netip.Addr) bool {
	if len(set) == 0 {
		return true
	}
	for _, p := range set {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// exclusions are the names that are not decrypted.
type exclusions struct {
	exact    map[string]string // canonical name to the pattern as it was written
	wildcard map[string]string // "*.example.com" is under "example.com"
}

// add takes a pattern: a host name, an IP address, or "*." and a name, which
// stands for every name below that one, at any depth, but not for it itself.
func (e *exclusions) add(pattern string) {
	if e.exact == nil {
		e.exact, e.wildcard = map[string]string{}, map[string]string{}
	}
	if parent, below := strings.CutPrefix(canonical(pattern), "*."); below {
		e.wildcard[parent] = pattern
		return
	}
	e.exact[canonical(pattern)] = pattern
}

// cover returns the pattern that excludes a flow with this CONNECT host and
// server name, or, where only one of the two is excluded, a note on that.
func (e *exclusions) cover(host, sni string) (pattern, note string) {
	byHost := e.find(host)
	if sni == "" || canonical(sni) == canonical(host) {
		return byHost, ""
	}
	bySNI := e.find(sni)
	switch {
	case byHost != "" && bySNI != "":
		return bySNI, ""
	case byHost != "":
		return "", fmt.Sprintf(" (the CONNECT host is excluded by %q, the server name is not)", byHost)
	case bySNI != "":
		return "", fmt.Sprintf(" (the server name is excluded by %q, the CONNECT host is not)", bySNI)
	}
	return "", ""
}

func (e *exclusions) find(name string) string {
	name = canonical(name)
	if p, ok := e.exact[name]; ok {
		return p
	}
	for {
		_, parent, more := strings.Cut(name, ".")
		if !more {
			return ""
		}
		if p, ok := e.wildcard[parent]; ok {
			return p
		}
		name = parent
	}
}

// canonical brings a name into the form that names are compared in: lower
// case, without the root's dot. Internationalised names are compared as the
// A-labels that TLS and CONNECT carry (RFC 5890, section 2.3.2.1); IP
// addresses in their shortest form, IPv4-mapped ones as IPv4.
func canonical(name string) string {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if a, err := netip.ParseAddr(name); err == nil {
		return a.Unmap().String()
	}
	return name
}
