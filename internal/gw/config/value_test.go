package config

import (
	"net/netip"
	"strings"
	"testing"
)

func TestValues(t *testing.T) {
	t.Parallel()
	label := strings.Repeat("a", 63)
	for _, test := range []struct {
		name     string
		value    *value
		yes, not []string
	}{
		{"port", port(), []string{"1", "65535"}, []string{"", "0", "65536", "-1", "+1", "01", " 1", "1.0", "0x1"}},
		{"integer", integer(0, 500), []string{"0", "500"}, []string{"", "-1", "501", "-0", "99999999999999999999"}},
		{"yes or no", yesNo(), []string{"yes", "no"}, []string{"", "Yes", "true"}},
		{"host name", hostName(),
			[]string{"a", "localhost", "3com.example", "A-b.example.com", label + ".example", "xn--bcher-kva.example"},
			[]string{"", ".", "a.", ".a", "a..b", "-a", "a-", "a_b", "a b", "1", "1.2.3.4", "10.0.0.256", "bücher.example", label + "a", strings.Repeat("abcdefghi.", 25) + "abcde"}},
		{"host", host(), []string{"10.0.0.1", "::1", "hsm.example"}, []string{"", "0.0.0.0", "::", "224.0.0.1", "fe80::1%eth0", "::ffff:10.0.0.1", "[::1]", "10.0.0.01"}},
		{"listening address", listenAddress(), []string{"0.0.0.0", "::", "127.0.0.1"}, []string{"", "localhost", "ff02::1", "fe80::1%lo"}},
		{"pattern", serverPattern(), []string{"a.example", "*.a.example"}, []string{"", "*", "*.", "*.*.a", "a*.example", "*a.example", "*.10.0.0.1"}},
		{"object name", objectName(5), []string{"a", "1 b", "a._-b"}, []string{"", "-a", " a", "a/b", "abcdef", "ä", "a'"}},
		{"module name", moduleName(3), []string{"a b", "'~!", "a.."}, []string{"", "abcd", "ä", "a\n", "..", "a/b", "a\\b"}},
		{"text", text(3), []string{"", "äöü", "a\nb"}, []string{"abcd", "\u0085", "\u2028"}},
		{"hash", hexadecimal(8), []string{"0a1b2C3D"}, []string{"", "0a1b2c3", "0a1b2c3g"}},
		{"time", certificateTime(), []string{"Jan  2 15:04:05 2030 GMT", "Jan 2 15:04:05 2030 GMT", "Jan 12 15:04:05 2030 GMT"}, []string{"", "2030-01-02", "Jan 2 15:04:05 2030 CET"}},
		{"only", only("any"), []string{"any"}, []string{"", "trust", "Any"}},
	} {
		for _, s := range test.yes {
			if problem := test.value.problem(s); problem != "" {
				t.Errorf("%s refuses %q: %s", test.name, s, problem)
			}
		}
		for _, s := range test.not {
			if test.value.problem(s) == "" {
				t.Errorf("%s accepts %q", test.name, s)
			}
		}
	}
}

func TestParseDestination(t *testing.T) {
	t.Parallel()
	network := func(s string, port uint16) AllowedDestination {
		return AllowedDestination{Network: netip.MustParsePrefix(s), Port: port}
	}
	for in, want := range map[string]AllowedDestination{
		"127.0.0.1:80":      network("127.0.0.1/32", 80),
		"[::1]:80":          network("::1/128", 80),
		"10.0.0.0/8":        network("10.0.0.0/8", 0),
		"10.0.0.0/8:443":    network("10.0.0.0/8", 443),
		"fd00::/8":          network("fd00::/8", 0),
		"[fd00::/8]:443":    network("fd00::/8", 443),
		"::1/128":           network("::1/128", 0),
		"Intra.example:443": {Host: "intra.example", Port: 443},
	} {
		if got, wrong := parseDestination(in); got != want || wrong != "" {
			t.Errorf("%s: got %v, %q, want %v", in, got, wrong, want)
		}
	}
	for _, in := range []string{
		"", ":", ":80", "127.0.0.1", "::1", "localhost", "localhost:", "localhost:0", "localhost:http", "localhost:65536",
		"10.0.0.1/8", "10.0.0.1/8:80", "fd00::/8:443", "[10.0.0.1]:80", "[::1:80", "::1]:80", "[localhost]:80", "any", "*:80",
		"fe80::1%eth0", "[fe80::1%eth0]:80", "10.0.0.0/33", "::ffff:10.0.0.0/104", "[::1]80", "[]:80",
	} {
		if got, wrong := parseDestination(in); wrong == "" {
			t.Errorf("%s: got %v, want a refusal", in, got)
		}
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"certificate", "ssl-decrypt", "ca", "rsa", "ecdsa"}
	for name, want := range map[string]string{
		"certificates":           "certificate",
		"Certificate":            "certificate",
		"certifictae":            "certificate",
		"ssldecrypt":             "ssl-decrypt",
		"cert":                   "",
		"rss":                    "rsa",
		"x":                      "",
		"":                       "",
		strings.Repeat("a", 500): "",
	} {
		if got := nearest(name, known); got != want {
			t.Errorf("%.20q: got %q, want %q", name, got, want)
		}
	}
}
