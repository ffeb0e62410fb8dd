package main

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"moongate/internal/selfsign"
)

// Lives of certificates whose end is not given.
const (
	lifeCA     = 10 // years
	lifeServer = 397 * 24 * time.Hour
)

// requestOf reads the command line of selfSign.
func requestOf(o options, now time.Time) (selfsign.Request, error) {
	r := selfsign.Request{CA: o.flag("ca", true)}
	var err error
	if r.Subject, err = subjectOf(o); err != nil {
		return r, err
	}
	if err := setDates(&r, o, now); err != nil {
		return r, err
	}
	if r.Serial, err = serialOf(o); err != nil {
		return r, err
	}
	if r.Algorithm, err = algorithmOf(o); err != nil {
		return r, err
	}
	if r.CA {
		if o.has("san") {
			return r, &usageError{"-san goes with -ca=F; a CA certificate names no host"}
		}
		return r, nil
	}
	return r, setHosts(&r, o)
}

// Upper bounds of RFC 5280, appendix A.1, in characters.
var subjectFields = []struct {
	option string
	limit  int
	set    func(*pkix.Name, string)
}{
	{"CN", 64, func(n *pkix.Name, v string) { n.CommonName = v }},
	{"O", 64, func(n *pkix.Name, v string) { n.Organization = []string{v} }},
	{"OU", 64, func(n *pkix.Name, v string) { n.OrganizationalUnit = []string{v} }},
	{"L", 128, func(n *pkix.Name, v string) { n.Locality = []string{v} }},
	{"ST", 128, func(n *pkix.Name, v string) { n.Province = []string{v} }},
	{"E", 255, setEmail},
	{"C", 2, func(n *pkix.Name, v string) { n.Country = []string{v} }},
}

// setEmail adds an emailAddress, which is an IA5String (RFC 5280, section
// 4.1.2.6).
func setEmail(n *pkix.Name, v string) {
	n.ExtraNames = append(n.ExtraNames, pkix.AttributeTypeAndValue{
		Type:  asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1},
		Value: asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(v)},
	})
}

func subjectOf(o options) (pkix.Name, error) {
	var name pkix.Name
	for _, f := range subjectFields {
		value := o.text(f.option)
		if value == "" {
			continue
		}
		if !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return name, &usageError{fmt.Sprintf("-%s=%q holds what is not text", f.option, value)}
		}
		if n := utf8.RuneCountInString(value); n > f.limit {
			return name, &usageError{fmt.Sprintf("-%s has %d characters, at most %d", f.option, n, f.limit)}
		}
		f.set(&name, value)
	}
	if c := o.text("C"); c != "" && !isCountry(c) {
		return name, &usageError{fmt.Sprintf("-C=%s; expected a country's two capital letters", c)}
	}
	if e := o.text("E"); e != "" && (!isASCII(e) || !strings.Contains(e, "@")) {
		return name, &usageError{fmt.Sprintf("-E=%s; expected an e-mail address", e)}
	}
	return name, nil
}

func isCountry(s string) bool {
	return len(s) == 2 && 'A' <= s[0] && s[0] <= 'Z' && 'A' <= s[1] && s[1] <= 'Z'
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

func setDates(r *selfsign.Request, o options, now time.Time) error {
	// An hour back, for clocks that differ.
	r.NotBefore = now.UTC().Add(-time.Hour).Truncate(time.Second)
	if o.has("startDate") {
		first, err := parseDay("startDate", o.text("startDate"))
		if err != nil {
			return err
		}
		r.NotBefore = first
	}
	if o.has("endDate") {
		last, err := parseDay("endDate", o.text("endDate"))
		if err != nil {
			return err
		}
		r.NotAfter = last.AddDate(0, 0, 1).Add(-time.Second)
	} else if r.CA {
		r.NotAfter = r.NotBefore.AddDate(lifeCA, 0, 0)
	} else {
		r.NotAfter = r.NotBefore.Add(lifeServer)
	}
	if r.NotAfter.Before(r.NotBefore) {
		return &usageError{fmt.Sprintf("the certificate would end (%s) before it begins (%s)", day(r.NotAfter), day(r.NotBefore))}
	}
	return nil
}

func parseDay(name, value string) (time.Time, error) {
	d, err := time.Parse("20060102", value)
	if err != nil {
		return time.Time{}, &usageError{fmt.Sprintf("-%s=%s; expected a day as YYYYMMDD", name, value)}
	}
	return d, nil
}

// serialOf reads a serial number; nil is a random one.
func serialOf(o options) (*big.Int, error) {
	if !o.has("serialNumber") {
		return nil, nil
	}
	text := strings.TrimPrefix(strings.ToLower(strings.ReplaceAll(o.text("serialNumber"), ":", "")), "0x")
	n, ok := new(big.Int).SetString(text, 16)
	// RFC 5280, section 4.1.2.2: positive, at most 20 octets as an INTEGER.
	if !ok || strings.ContainsAny(text, "+-_") || n.Sign() <= 0 || n.BitLen() > 159 {
		return nil, &usageError{fmt.Sprintf("-serialNumber=%s; expected hexadecimal, more than 0, at most 20 bytes", o.text("serialNumber"))}
	}
	return n, nil
}

func algorithmOf(o options) (x509.SignatureAlgorithm, error) {
	withRSA, withECDSA := o.flag("sha256withrsa", false), o.flag("sha256withecdsa", false)
	switch {
	case withRSA && withECDSA:
		return 0, &usageError{"-sha256withrsa and -sha256withecdsa exclude each other"}
	case withRSA:
		return x509.SHA256WithRSA, nil
	case withECDSA:
		return x509.ECDSAWithSHA256, nil
	}
	return x509.UnknownSignatureAlgorithm, nil
}

// setHosts sets the names of a server's certificate: -san, or the CN.
func setHosts(r *selfsign.Request, o options) error {
	list := o.text("san")
	if list == "" {
		list = o.text("CN")
		if !isServerName(list) {
			return &usageError{fmt.Sprintf("a server's certificate needs names: the CN %q is no host name; give -san=NAME,NAME", list)}
		}
	}
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		for _, prefix := range []string{"dns:", "ip:"} {
			if len(name) > len(prefix) && strings.EqualFold(name[:len(prefix)], prefix) {
				name = name[len(prefix):]
			}
		}
		if !isServerName(name) {
			return &usageError{fmt.Sprintf("-san: %q is neither a host name nor an IP address", name)}
		}
		if ip, err := netip.ParseAddr(name); err == nil {
			r.Addresses = append(r.Addresses, net.IP(ip.Unmap().AsSlice()))
		} else {
			r.Names = append(r.Names, name)
		}
	}
	return nil
}

// isServerName admits an address, a host name, and one with a star as its
// first label (RFC 6125, section 6.4.3).
func isServerName(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return isHostName(strings.TrimPrefix(s, "*."))
}

// fits refuses an algorithm that the key cannot sign with.
func fits(algorithm x509.SignatureAlgorithm, public crypto.PublicKey) error {
	_, isRSA := public.(*rsa.PublicKey)
	switch {
	case algorithm == x509.SHA256WithRSA && !isRSA:
		return &usageError{"-sha256withrsa needs an RSA key, and this one is " + keyWords(public)}
	case algorithm == x509.ECDSAWithSHA256 && isRSA:
		return &usageError{"-sha256withecdsa needs an ECDSA key, and this one is " + keyWords(public)}
	}
	return nil
}

// namesIn are a certificate's host names and addresses.
func namesIn(cert *x509.Certificate) []string {
	names := append([]string(nil), cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}
