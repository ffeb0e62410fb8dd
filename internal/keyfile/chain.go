package keyfile

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
)

// Chain orders certificates that came in any order: first the one that the
// private key belongs to, or without a key (nil) the one that issued none of
// the others; then each one's issuer. What belongs to nothing is an error, not
// dropped in silence; other certificates of the same issuers, which a CA that
// is known by several roots has, are left out.
func Chain(list []*x509.Certificate, public crypto.PublicKey) ([]*x509.Certificate, error) {
	if len(list) == 0 {
		return nil, errors.New("there is no certificate")
	}
	if len(list) > MaxCertificates {
		return nil, fmt.Errorf("%d certificates, expected at most %d", len(list), MaxCertificates)
	}
	f := newFamily(list)
	first, err := f.first(public)
	if err != nil {
		return nil, err
	}
	f.seen[first] = true
	chain := []*x509.Certificate{list[first]}
	for c := first; c >= 0 && !isSelfIssued(list[c]); {
		if c = f.issuerOf(c); c >= 0 {
			f.seen[c] = true
			chain = append(chain, list[c])
		}
	}
	for c := range list {
		if f.seen[c] {
			f.seeIssuers(c)
		}
	}
	for c, seen := range f.seen {
		if !seen {
			return nil, fmt.Errorf("the certificate %s issued none of the others: leave it out, or import it under a name of its own", subject(list[c]))
		}
	}
	return chain, nil
}

// family is certificates and who issued whom, which is costly to find out.
type family struct {
	list    []*x509.Certificate
	issuers [][]int // of each certificate: those of the list, itself aside
	seen    []bool  // what has its place: the chain, and what else issued it
}

func newFamily(list []*x509.Certificate) *family {
	f := &family{list: list, issuers: make([][]int, len(list)), seen: make([]bool, len(list))}
	for c := range list {
		for issuer := range list {
			if issuer != c && isIssuer(list[issuer], list[c]) {
				f.issuers[c] = append(f.issuers[c], issuer)
			}
		}
	}
	return f
}

func (f *family) first(public crypto.PublicKey) (int, error) {
	if public != nil {
		newest := -1
		for c, cert := range f.list {
			if SamePublic(cert.PublicKey, public) && (newest < 0 || cert.NotBefore.After(f.list[newest].NotBefore)) {
				newest = c
			}
		}
		if newest < 0 {
			return 0, fmt.Errorf("the private key does not belong to the certificate%s %s", plural(f.list), subjects(f.list))
		}
		return newest, nil
	}
	issued := make([]bool, len(f.list))
	for _, issuers := range f.issuers {
		for _, issuer := range issuers {
			issued[issuer] = true
		}
	}
	var ends []*x509.Certificate
	end := 0
	for c, cert := range f.list {
		if !issued[c] {
			ends, end = append(ends, cert), c
		}
	}
	switch len(ends) {
	case 1:
		return end, nil
	case 0:
		return 0, errors.New("the certificates issued one another in a circle")
	}
	return 0, fmt.Errorf("%d certificates that issued none of the others, expected one: %s: import each under a name of its own", len(ends), subjects(ends))
}

// issuerOf chooses a certificate's issuer: one that is not in the chain yet, a
// root before one that goes on to another; -1 for none.
func (f *family) issuerOf(c int) int {
	found := -1
	for _, issuer := range f.issuers[c] {
		if !f.seen[issuer] && (found < 0 || isSelfIssued(f.list[issuer])) {
			found = issuer
		}
	}
	return found
}

// seeIssuers marks what issued a certificate, and what issued that.
func (f *family) seeIssuers(c int) {
	for _, issuer := range f.issuers[c] {
		if !f.seen[issuer] {
			f.seen[issuer] = true
			f.seeIssuers(issuer)
		}
	}
}

func isIssuer(issuer, c *x509.Certificate) bool {
	return bytes.Equal(issuer.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(issuer) == nil
}

func isSelfIssued(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }

func plural(list []*x509.Certificate) string {
	if len(list) == 1 {
		return ""
	}
	return "s"
}

// maxNamed is how many certificates an error names.
const maxNamed = 4

func subjects(list []*x509.Certificate) string {
	var names []string
	for i, c := range list {
		if i == maxNamed {
			names = append(names, fmt.Sprintf("and %d more", len(list)-i))
			break
		}
		names = append(names, subject(c))
	}
	return strings.Join(names, ", ")
}

func subject(c *x509.Certificate) string {
	const most = 100
	s := c.Subject.String()
	if len(s) > most {
		s = s[:most] + "…"
	}
	return fmt.Sprintf("%q", s)
}
