package mint

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"net"
	"strings"
	"time"

	"moongate/internal/gw/flow"
)

const (
	// maxLifetime is the longest validity of a leaf that is valid now: some
	// clients refuse more, also from authorities that their user added.
	maxLifetime = 397 * 24 * time.Hour
	// backdate is how far back a shortened validity begins, for slow clocks.
	backdate = 7 * 24 * time.Hour
	// maxNames is how many names are mirrored; public authorities stop at 250.
	// Of a server with more, only those that are for the requested name are.
	maxNames = 512
)

// prepare returns the template of a leaf that mirrors the server's.
//
// Mirrored are the subject, as it is encoded, and the DNS names and IP
// addresses of the subject alternative name. E-mail addresses and URIs are
// not: no client looks for them in a server's certificate, and an authority
// that clients trust should not vouch for them unseen. The requested name is
// never added: a server that is not for the name must look like it. A server
// whose only name is its common name gets a leaf with a common name alone,
// which clients refuse as they would the original. Nothing else is copied: no
// policies, no SCTs, no pointers to the original's issuer.
func prepare(req *flow.CertifyRequest, issuer *x509.Certificate, key leafKey, now time.Time) *x509.Certificate {
	server := req.Upstream[0]
	from, until := validity(server, issuer, now)
	t := &x509.Certificate{
		SerialNumber:          newSerial(),
		RawSubject:            server.RawSubject,
		NotBefore:             from,
		NotAfter:              until,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		SubjectKeyId:          key.id,
		AuthorityKeyId:        issuer.SubjectKeyId,
		IPAddresses:           server.IPAddresses,
	}
	if _, isRSA := key.private.Public().(*rsa.PublicKey); isRSA {
		t.KeyUsage |= x509.KeyUsageKeyEncipherment // for RSA key exchange (RFC 5246, section 7.4.2)
	}
	for _, name := range server.DNSNames {
		if isHostPattern(name) {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
	if len(t.DNSNames)+len(t.IPAddresses) > maxNames {
		keepMatching(t, req.Name)
	}
	return t
}

// validity is the time that the server's and the issuer's certificates have in
// common, so that the leaf ends no later than either. Where they have none, it
// is the server's own: the certificate of a server that expired before the
// authority was made is presented as expired as it is. A validity that is
// longer than maxLifetime is cut around now.
func validity(server, issuer *x509.Certificate, now time.Time) (from, until time.Time) {
	from = later(server.NotBefore, issuer.NotBefore)
	until = earlier(server.NotAfter, issuer.NotAfter)
	if !from.Before(until) {
		return server.NotBefore, server.NotAfter
	}
	if until.Sub(from) > maxLifetime && !now.Before(from) && !now.After(until) {
		from = later(from, now.Add(-backdate).Truncate(time.Second))
		until = earlier(until, from.Add(maxLifetime))
	}
	return from, until
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// newSerial returns a random positive number of 127 bits, the top one set so
// that all have the same length (RFC 5280, section 4.1.2.2).
func newSerial() *big.Int {
	var b [16]byte
	rand.Read(b[:]) // never fails (crypto/rand, since Go 1.24)
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b[:])
}

// isHostPattern reports whether a server's DNS name is a host name, or one
// with a wildcard for its first label: letters, digits, hyphens and, as in
// practice, underscores. Others match nothing that a client asks for.
func isHostPattern(name string) bool {
	name = strings.TrimPrefix(name, "*.")
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			switch {
			case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
			default:
				return false
			}
		}
	}
	return true
}

// keepMatching drops a template's names that are not for the requested one.
func keepMatching(t *x509.Certificate, name string) {
	var dns []string
	for _, pattern := range t.DNSNames {
		if (&x509.Certificate{DNSNames: []string{pattern}}).VerifyHostname(name) == nil {
			dns = append(dns, pattern)
		}
	}
	var ips []net.IP
	for _, ip := range t.IPAddresses {
		if (&x509.Certificate{IPAddresses: []net.IP{ip}}).VerifyHostname(name) == nil {
			ips = append(ips, ip)
		}
	}
	t.DNSNames, t.IPAddresses = dns, ips
}
