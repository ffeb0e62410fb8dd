package policy

import (
	"fmt"
	"net/netip"
	"strings"
)

// patterns is a set of host names, IP addresses and wildcards.
type patterns struct {
	exact    map[string]string // canonical name to the pattern as it was written
	wildcard map[string]string // "*.example.com" is under "example.com"
}

// add takes a pattern: a host name, an IP address, or "*." and a name, which
// stands for every name below that one, at any depth, but not for it itself.
func (p *patterns) add(pattern string) {
	if p.exact == nil {
		p.exact, p.wildcard = map[string]string{}, map[string]string{}
	}
	if parent, below := strings.CutPrefix(canonical(pattern), "*."); below {
		p.wildcard[parent] = pattern
		return
	}
	p.exact[canonical(pattern)] = pattern
}

// find returns the pattern that a canonical name is under; empty for none.
func (p *patterns) find(name string) string {
	if found, ok := p.exact[name]; ok {
		return found
	}
	if len(p.wildcard) == 0 {
		return ""
	}
	for parent := range parents(name) {
		if found, ok := p.wildcard[parent]; ok {
			return found
		}
	}
	return ""
}

// parents are the names above a name, the nearest first.
func parents(name string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for {
			_, parent, more := strings.Cut(name, ".")
			if !more || !yield(parent) {
				return
			}
			name = parent
		}
	}
}

// cover returns the pattern that excludes a flow with this CONNECT host and
// server name, both canonical, or, where only one of the two is excluded, a
// note on that.
func (p *patterns) cover(host, sni string) (pattern, note string) {
	byHost := p.find(host)
	if sni == "" || sni == host {
		return byHost, ""
	}
	bySNI := p.find(sni)
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

// canonical brings a name into the form that names are compared in: lower
// case, without the root's dot. Internationalised names are compared as the
// A-labels that TLS and CONNECT carry (RFC 5890, section 2.3.2.1); IP
// addresses in their shortest form, IPv4-mapped ones as IPv4.
func canonical(name string) string {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if !mayBeAddress(name) {
		return name
	}
	if a, err := netip.ParseAddr(name); err == nil {
		return a.Unmap().String()
	}
	return name
}

// mayBeAddress spares host names a parser's error: an address has a colon, or
// ends in a digit.
func mayBeAddress(name string) bool {
	if name == "" {
		return false
	}
	last := name[len(name)-1]
	return last >= '0' && last <= '9' || strings.IndexByte(name, ':') >= 0
}
