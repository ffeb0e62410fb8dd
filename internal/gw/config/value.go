package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// value is what a leaf or a list's member may hold.
type value struct {
	doc  string              // what is expected, in an error and in the manual
	find func(string) string // what is wrong with a value; "" when nothing is

	words  []string          // the choices of an enumeration, for a suggestion
	later  func(string) bool // values that are known and that nothing obeys yet
	unmet  string            // those values in the manual
	closed bool              // there are no values but words
	refers []string          // the lists, by path; an entry of that name is meant of the first that has one
	masked bool              // it is not shown
	secret bool              // an error must not repeat the value
}

// problem says what is wrong with s in the form of every error: "what is
// wrong, got …, expected …"; "" when nothing is.
func (v *value) problem(s string) string {
	if v.later != nil && v.later(s) {
		return fmt.Sprintf("not supported yet, got %s, expected %s", shown(s), v.doc)
	}
	wrong := v.find(s)
	switch {
	case wrong == "":
		return ""
	case v.secret:
		return fmt.Sprintf("%s, expected %s", wrong, v.doc)
	}
	if near := nearest(s, v.words); near != "" {
		return fmt.Sprintf("%s, got %s, expected %s; did you mean %q?", wrong, shown(s), v.doc, near)
	}
	return fmt.Sprintf("%s, got %s, expected %s", wrong, shown(s), v.doc)
}

// finder makes a find function of a predicate.
func finder(wrong string, accepts func(string) bool) func(string) string {
	return func(s string) string {
		if accepts(s) {
			return ""
		}
		return wrong
	}
}

// oneWord is an enumeration.
func oneWord(words ...string) *value {
	return &value{
		doc:   oneOf(words),
		words: words, closed: true,
		find: finder("not one of the choices", func(s string) bool { return slices.Contains(words, s) }),
	}
}

// except takes words that are known choices too and that nothing obeys yet.
func (v *value) except(words ...string) *value {
	v.later = func(s string) bool { return slices.Contains(words, s) }
	v.unmet = oneOf(words)
	return v
}

func yesNo() *value { return oneWord("yes", "no") }

// only is a value of which one alone is obeyed yet, whatever else there is.
func only(word string) *value {
	v := oneWord(word)
	v.later = func(s string) bool { return s != "" && s != word }
	v.unmet = "anything else"
	return v
}

func integer(low, high int) *value {
	return &value{
		doc: fmt.Sprintf("an integer from %d to %d", low, high),
		find: finder("out of range or not an integer", func(s string) bool {
			n, ok := decimal(s)
			return ok && n >= low && n <= high
		}),
	}
}

func port() *value {
	return &value{doc: "a port from 1 to 65535", find: finder("not a port", isPort)}
}

func isPort(s string) bool {
	n, ok := decimal(s)
	return ok && n >= 1 && n <= 65535
}

// decimal reads an integer that is written in one way only: no sign but a
// minus, no leading zeros, nothing around it.
func decimal(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && strconv.Itoa(n) == s
}

// text is printable text in Unicode of at most length characters.
func text(length int) *value {
	return &value{
		doc: fmt.Sprintf("text of at most %d characters", length),
		find: func(s string) string {
			switch {
			case len([]rune(s)) > length:
				return "too long"
			case strings.ContainsFunc(s, func(r rune) bool { return isControl(r) && r != '\n' && r != '\t' }):
				return "a control character"
			}
			return ""
		},
	}
}

// objectName is the name of an entry that others may refer to.
func objectName(length int) *value {
	return &value{
		doc: fmt.Sprintf("1 to %d letters, digits, spaces, dots, hyphens and underscores of ASCII, the first a letter or digit", length),
		find: finder("not a name", func(s string) bool {
			if s == "" || len(s) > length || !isAlphanumeric(s[0]) {
				return false
			}
			for i := range len(s) {
				if !isAlphanumeric(s[i]) && !strings.ContainsRune(" ._-", rune(s[i])) {
					return false
				}
			}
			return true
		}),
	}
}

// moduleName is what the administrator calls an HSM or a group of them. Its
// certificate is kept in a file of that name, which must stay in its directory.
func moduleName(length int) *value {
	return &value{
		doc: fmt.Sprintf("1 to %d printable characters of ASCII without slashes, the first no dot", length),
		find: finder("not a name", func(s string) bool {
			return s != "" && len(s) <= length && s[0] != '.' && !strings.ContainsAny(s, `/\`) &&
				!strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e })
		}),
	}
}

func isAlphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || lower(c) >= 'a' && lower(c) <= 'z'
}

// hexadecimal is a string of exactly n hexadecimal digits.
func hexadecimal(n int) *value {
	return &value{
		doc: fmt.Sprintf("%d hexadecimal digits", n),
		find: finder("not hexadecimal", func(s string) bool {
			return len(s) == n && strings.Trim(s, "0123456789abcdefABCDEF") == ""
		}),
	}
}

func hostName() *value {
	return &value{doc: "a host name", find: finder("not a host name", isHostName)}
}

// host is where a connection goes: an address or a name.
func host() *value {
	return &value{
		doc:  "an IPv4 or IPv6 address or a host name",
		find: finder("not an address or host name", isHost),
	}
}

// listenAddress is where connections are accepted.
func listenAddress() *value {
	return &value{
		doc: "an IPv4 or IPv6 address; 0.0.0.0 or :: for every one of the machine",
		find: func(s string) string {
			_, wrong := listenOn(s)
			return wrong
		},
	}
}

func listenOn(s string) (netip.Addr, string) {
	a, ok := address(s)
	if !ok || a.IsMulticast() {
		return netip.Addr{}, "not an address to listen on"
	}
	return a, ""
}

// network is a rule's source or destination.
func network() *value {
	return &value{
		doc: "any, an address or a network such as 10.0.0.0/8",
		find: func(s string) string {
			if s == anyWord {
				return ""
			}
			_, wrong := parseNetwork(s)
			return wrong
		},
	}
}

// allowedDestination is an exception from what the proxy refuses to reach.
func allowedDestination() *value {
	return &value{
		doc: "host:port, address:port, network or network:port, IPv6 before a port in brackets",
		find: func(s string) string {
			_, wrong := parseDestination(s)
			return wrong
		},
	}
}

// serverPattern names servers by their host name, or all names one label below.
func serverPattern() *value {
	return &value{
		doc: "a host name, or *. before one for every name below it",
		find: finder("not a host name or wildcard", func(s string) bool {
			return isHostName(strings.TrimPrefix(s, "*."))
		}),
	}
}

// hostPattern is a rule's destination-host.
func hostPattern() *value {
	v := serverPattern()
	v.doc = "any, " + v.doc
	find := v.find
	v.find = func(s string) string {
		if s == anyWord {
			return ""
		}
		return find(s)
	}
	return v
}

// certificates is a certificate in PEM, after it those that issued it.
func certificates() *value {
	return &value{
		doc:    "a certificate in PEM, then its issuers if any, each the issuer of the one before",
		secret: true, // somebody will put a private key here
		find: func(s string) string {
			_, wrong := parseChain(s)
			return wrong
		},
	}
}

// nameIn is the name of an entry of another list, or of one of several.
func nameIn(lists ...string) *value {
	return &value{
		doc:    "the name of an entry of " + oneOf(lists),
		refers: lists,
		find:   finder("no name", func(s string) bool { return s != "" }),
	}
}

// anyWord is the member that means every value.
const anyWord = "any"

// address parses an address as an administrator writes it: without a zone, an
// IPv4 address not as IPv6.
func address(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	return a, err == nil && a.Zone() == "" && !a.Is4In6()
}

// isHost reports an address that one can connect to, or a name.
func isHost(s string) bool {
	if a, ok := address(s); ok {
		return !a.IsUnspecified() && !a.IsMulticast()
	}
	return isHostName(s)
}

// isHostName reports a name of RFC 1123 section 2.1. Its last label is not
// numeric, so that a mistyped address is no name.
func isHostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	labels := strings.Split(s, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if !isAlphanumeric(label[i]) && label[i] != '-' {
				return false
			}
		}
	}
	return strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

// parseNetwork reads an address, as the network of that one, or a network.
func parseNetwork(s string) (netip.Prefix, string) {
	if a, ok := address(s); ok {
		return netip.PrefixFrom(a, a.BitLen()), ""
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil || p.Addr().Is4In6():
		return netip.Prefix{}, "not an address or network"
	case p != p.Masked():
		return netip.Prefix{}, fmt.Sprintf("bits set beyond the network's length, perhaps %s", p.Masked())
	}
	return p, ""
}

// parseDestination reads a member of allowed-destination.
func parseDestination(s string) (AllowedDestination, string) {
	if p, wrong := parseNetwork(s); wrong == "" {
		if !strings.Contains(s, "/") {
			return AllowedDestination{}, "no port" // an address alone would open all of its ports
		}
		return AllowedDestination{Network: p}, ""
	}
	colon := strings.LastIndexByte(s, ':')
	if colon < 0 {
		if isHostName(s) {
			return AllowedDestination{}, "no port"
		}
		return AllowedDestination{}, "not a destination"
	}
	where, number := s[:colon], s[colon+1:]
	if !isPort(number) {
		return AllowedDestination{}, "not a destination"
	}
	n, _ := decimal(number) // isPort said that it is one
	d := AllowedDestination{Port: uint16(n)}
	inner, bracketed := strings.CutPrefix(where, "[")
	if bracketed {
		inner, bracketed = strings.CutSuffix(inner, "]")
		if !bracketed {
			return AllowedDestination{}, "not a destination"
		}
	}
	p, wrong := parseNetwork(inner)
	switch {
	case wrong == "" && p.Addr().Is6() == bracketed:
		d.Network = p
		return d, ""
	case wrong == "" || bracketed:
		return AllowedDestination{}, "not a destination"
	case isHostName(where):
		d.Host = strings.ToLower(where)
		return d, ""
	}
	return AllowedDestination{}, wrong
}

// opensslTime is how OpenSSL prints a certificate's validity.
const opensslTime = "Jan _2 15:04:05 2006 GMT"

func certificateTime() *value {
	return &value{
		doc: `a time such as "Jan  2 15:04:05 2030 GMT"`,
		find: finder("not a time", func(s string) bool {
			_, err := time.Parse(opensslTime, s)
			return err == nil
		}),
	}
}
