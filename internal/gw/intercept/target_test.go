package intercept

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	t.Parallel()
	good := map[string]string{
		"example.com:443":        "example.com:443",
		"EXAMPLE.com.:443":       "example.com:443",
		"a_b.example:1":          "a_b.example:1",
		"xn--bcher-kva.test:80":  "xn--bcher-kva.test:80",
		"localhost:65535":        "localhost:65535",
		"192.0.2.1:443":          "192.0.2.1:443",
		"[2001:DB8:0::1]:443":    "[2001:db8::1]:443",
		"[::ffff:192.0.2.1]:443": "192.0.2.1:443",
		"1.example:443":          "1.example:443",
		"0x7f.example:443":       "0x7f.example:443",
	}
	for in, want := range good {
		if got, err := ParseTarget(in); err != nil || got.String() != want {
			t.Errorf("ParseTarget(%q) = %v, %v; want %s", in, got, err, want)
		}
	}
	bad := []string{
		"", ":", "example.com", "example.com:", ":443", "example.com:0", "example.com:65536", "example.com:+443",
		"example.com:-1", "example.com: 443", "example.com:0443", "example.com:443 ", "example.com:443/", "example.com:443:443",
		"example.com:https", "http://example.com:443", "//example.com:443", "/path", "user@example.com:443", "user:pw@example.com:443",
		"exa mple.com:443", "example..com:443", ".example.com:443", "example.com..:443", "exämple.com:443", "ex%61mple.com:443",
		"example.com\x00.evil:443", "example.com\r\nX:443", "*.example.com:443", "example.com?:443", "example.com#:443",
		strings.Repeat("a", 64) + ".com:443", strings.Repeat("a.", 127) + "com:443",
		// What some resolver reads as an address.
		"2130706433:443", "127.1:443", "0x7f000001:443", "0x7f.1:443", "017700000001:443", "0177.0.0.1:443", "127.0.0.01:443",
		"127.0.0.1.:443", "1.2.3.4.5:443", "256.0.0.1:443", "0x:443", "a.0x1:443", "1.2.3:443",
		"::1:443", "[::1]", "[::1]443", "[::1:443", "::1]:443", "[127.0.0.1]:443", "[fe80::1%eth0]:443", "[example.com]:443", "[]:443", "[::1]:0",
	}
	for _, in := range bad {
		if got, err := ParseTarget(in); err == nil {
			t.Errorf("ParseTarget(%q) = %v, want an error", in, got)
		}
	}
}

// FuzzParseTarget: what is accepted has one spelling, and none that means
// something else elsewhere.
func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"example.com:443", "[::1]:443", "127.0.0.1:1", "0x7f.1:443", "[::ffff:1.2.3.4]:80", "a.:1", "1.2.3.4.:5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		target, err := ParseTarget(s)
		if err != nil {
			return
		}
		again, err := ParseTarget(target.String())
		if err != nil || again != target {
			t.Fatalf("%q was read as %v, and that as %v, %v", s, target, again, err)
		}
		host, port, err := net.SplitHostPort(target.String())
		if err != nil || host != target.Host || port != strconv.Itoa(int(target.Port)) || target.Port == 0 {
			t.Fatalf("%q was read as %v, which splits into %q and %q: %v", s, target, host, port, err)
		}
		if a, err := netip.ParseAddr(host); err == nil {
			if a.Is4In6() || a.Zone() != "" || a.String() != host {
				t.Fatalf("%q was read as the address %v", s, a)
			}
			return
		}
		if strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || len(host) > maxName {
			t.Fatalf("%q was read as the host %q", s, host)
		}
		if last := host[strings.LastIndexByte(host, '.')+1:]; strings.Trim(last, "0123456789") == "" {
			t.Fatalf("%q was read as the host %q, which ends in a number", s, host)
		}
	})
}
