package intercept

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Target is where a flow is to go.
type Target struct {
	// Host is a name in lower case without the root's dot, or an IP address in
	// its canonical form, without brackets.
	Host string
	Port uint16
}

// String returns host:port, an IPv6 address in brackets.
func (t Target) String() string { return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))) }

// maxName is the length of the longest host name (RFC 1035, section 2.3.4).
const maxName = 253

// ParseTarget reads the authority-form of a CONNECT request: host and port,
// both of them, and nothing else (RFC 9112, section 3.2.3). It takes a single
// spelling of each: what a resolver might read differently than we do, such as
// 2130706433 or 0x7f.1 for 127.0.0.1, is refused.
func ParseTarget(s string) (Target, error) {
	var host, portText string
	if inside, bracketed := strings.CutPrefix(s, "["); bracketed {
		address, rest, closed := strings.Cut(inside, "]")
		port, colon := strings.CutPrefix(rest, ":")
		if !closed || !colon {
			return Target{}, errors.New("want [IPv6 address]:port")
		}
		a, err := netip.ParseAddr(address)
		if err != nil || !a.Is6() || a.Zone() != "" {
			return Target{}, errors.New("no IPv6 address between the brackets")
		}
		host, portText = a.Unmap().String(), port
	} else {
		name, port, colon := strings.Cut(s, ":")
		if !colon {
			return Target{}, errors.New("want host:port, the port is missing")
		}
		var err error
		if host, err = parseHost(name); err != nil {
			return Target{}, err
		}
		portText = port
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 || portText != strconv.FormatUint(port, 10) {
		return Target{}, errors.New("the port is no number from 1 to 65535")
	}
	return Target{Host: host, Port: uint16(port)}, nil
}

// parseHost reads a host name or an IPv4 address.
func parseHost(s string) (string, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Is4() {
		return a.String(), nil
	}
	name := strings.ToLower(strings.TrimSuffix(s, "."))
	if err := checkName(name); err != nil {
		return "", err
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	if isNumber(last) {
		return "", fmt.Errorf("an IPv4 address is written as four decimal numbers, or this is none")
	}
	return name, nil
}

// checkName accepts what can be a host name in a certificate: letters, digits,
// hyphens and underscores in labels of 1 to 63 (RFC 1123, section 2.1; the
// underscore is not in it, and is in use).
func checkName(name string) error {
	if name == "" || len(name) > maxName {
		return errors.New("a host name has 1 to 253 characters")
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return errors.New("a label of a host name has 1 to 63 characters")
		}
		for i := range len(label) {
			c := label[i]
			if c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
				return errors.New("a host name has letters, digits, hyphens and dots (others as xn-- labels)")
			}
		}
	}
	return nil
}

// isNumber reports whether the last label of a name makes old resolvers read
// the whole as an IPv4 address (WHATWG URL, section 3.5, "ends in a number").
func isNumber(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}
