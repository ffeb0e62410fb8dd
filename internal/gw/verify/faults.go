package verify

import (
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"moongate/internal/gw/flow"
)

// order is from worst to mildest. A verdict's Status is the worst fault: first
// what betrays an attack or a loop, then what leaves the server's identity
// without any proof, then what proves another identity, last what was proof
// once.
var order = []flow.Status{
	flow.OwnAuthority,
	flow.Invalid,
	flow.SelfSigned,
	flow.UnknownIssuer,
	flow.WrongName,
	flow.Expired,
}

// faults is what is wrong with a chain: for each status a sentence.
type faults map[flow.Status]string

// add notes a fault; of two with the same status the first stays.
func (f faults) add(status flow.Status, format string, args ...any) {
	if _, known := f[status]; !known {
		f[status] = fmt.Sprintf(format, args...)
	}
}

// verdict turns faults, of which there is one at least, into a verdict.
func (f faults) verdict() *flow.Verdict {
	v := &flow.Verdict{Revocation: notChecked}
	var details []string
	for _, status := range order {
		if detail, found := f[status]; found {
			v.Faults = append(v.Faults, status)
			details = append(details, detail)
		}
	}
	v.Status = v.Faults[0]
	v.Detail = strings.Join(details, "; ")
	return v
}

// maxText bounds what of a server's own words gets into a sentence.
const maxText = 120

// quote makes text that a server chose safe to print on one line.
func quote(s string) string {
	if len(s) > maxText {
		return strconv.QuoteToASCII(s[:maxText]) + "..."
	}
	return strconv.QuoteToASCII(s)
}

// subjectOf names a certificate for people.
func subjectOf(c *x509.Certificate) string {
	if s := c.Subject.String(); s != "" {
		return quote(s)
	}
	return "with serial number " + quote(c.SerialNumber.Text(16))
}

// namesOf lists the names that a certificate is for, the first few of them.
func namesOf(c *x509.Certificate) string {
	const shown = 5
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, net.IP(ip).String())
	}
	rest := ""
	if len(names) > shown {
		rest = fmt.Sprintf(" and %d more", len(names)-shown)
		names = names[:shown]
	}
	for i := range names {
		names[i] = quote(names[i])
	}
	return strings.Join(names, ", ") + rest
}

// checkName notes a leaf that is not for the name.
func (f faults) checkName(leaf *x509.Certificate, name string) {
	switch err := leaf.VerifyHostname(name); {
	case err == nil:
	case len(leaf.DNSNames) == 0 && len(leaf.IPAddresses) == 0:
		f.add(flow.WrongName, "the certificate %s has no subject alternative name, so it is not for %s", subjectOf(leaf), quote(name))
	default:
		f.add(flow.WrongName, "the certificate %s is not for %s, but for %s", subjectOf(leaf), quote(name), namesOf(leaf))
	}
}

// checkDates notes the first certificate of the path that is not valid now.
func (f faults) checkDates(path []*x509.Certificate, now time.Time) {
	for _, c := range path {
		switch {
		case now.After(c.NotAfter):
			f.add(flow.Expired, "the certificate %s expired on %s", subjectOf(c), date(c.NotAfter))
		case now.Before(c.NotBefore):
			f.add(flow.Expired, "the certificate %s is not valid before %s", subjectOf(c), date(c.NotBefore))
		}
	}
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
