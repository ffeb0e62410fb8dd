package verify

import (
	"bytes"
	"crypto/x509"
	"errors"
	"strings"

	"moongate/internal/gw/flow"
)

// maxSignatureChecks bounds the work that a chain without a path can cause.
const maxSignatureChecks = 64

// explain notes why no path leads from the leaf to a trusted root: it follows
// the signatures through what the server sent, and looks at each issuer there.
func (v *Verifier) explain(chain []*x509.Certificate, f faults) {
	leaf := chain[0]
	if isSelfSigned(leaf) {
		f.add(flow.SelfSigned, "the certificate %s is its own issuer and not trusted", subjectOf(leaf))
		v.checkOwn(leaf, f)
		return
	}

	// reached are the leaf and the presented certificates that signed it,
	// directly or over others; depth counts the CA certificates in between.
	type step struct {
		cert  *x509.Certificate
		depth int
	}
	reached := []step{{leaf, 0}}
	visited := map[*x509.Certificate]bool{leaf: true}
	checks := 0
	for i := 0; i < len(reached); i++ {
		child := reached[i]
		v.checkOwn(child.cert, f)
		if isSelfSigned(child.cert) {
			continue
		}
		if weakSignature(child.cert.SignatureAlgorithm) {
			f.add(flow.Invalid, "the certificate %s is signed with %v, which proves nothing", subjectOf(child.cert), child.cert.SignatureAlgorithm)
		}
		for _, parent := range chain[1:] {
			if visited[parent] || !bytes.Equal(parent.RawSubject, child.cert.RawIssuer) {
				continue
			}
			if checks++; checks > maxSignatureChecks {
				f.add(flow.Invalid, "the server sent more issuers of one name than are looked at")
				return
			}
			if !signedBy(child.cert, parent) {
				continue
			}
			visited[parent] = true
			reached = append(reached, step{parent, child.depth + 1})
			f.checkIssuer(parent, child.depth)
		}
	}

	last := reached[len(reached)-1].cert
	if isSelfSigned(last) {
		f.add(flow.UnknownIssuer, "the chain of the certificate %s ends in %s, which is not trusted", subjectOf(leaf), subjectOf(last))
		return
	}
	f.add(flow.UnknownIssuer, "the issuer of the certificate %s, %s, is neither trusted nor sent by the server",
		subjectOf(last), quote(last.Issuer.String()))
}

// checkOwn notes a certificate that one of the gateway's authorities signed, or
// that has its key.
func (v *Verifier) checkOwn(c *x509.Certificate, f faults) {
	if v.isOwn(c) {
		f.add(flow.OwnAuthority, "the certificate %s has the key of one of the gateway's own authorities", subjectOf(c))
		return
	}
	for _, own := range v.own {
		named := bytes.Equal(c.RawIssuer, own.RawSubject) ||
			len(c.AuthorityKeyId) > 0 && bytes.Equal(c.AuthorityKeyId, own.SubjectKeyId)
		if named && own.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil {
			f.add(flow.OwnAuthority, "the certificate %s was issued by %s, which is the gateway's own authority", subjectOf(c), subjectOf(own))
		}
	}
}

// checkIssuer notes what keeps a certificate from being an issuer with so many
// CA certificates below it.
func (f faults) checkIssuer(c *x509.Certificate, below int) {
	f.checkKeys([]*x509.Certificate{c})
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		f.add(flow.Invalid, "the issuer %s is not a certificate authority", subjectOf(c))
	case c.MaxPathLen >= 0 && below > c.MaxPathLen:
		f.add(flow.Invalid, "the issuer %s allows %d authorities below it, and there are %d", subjectOf(c), c.MaxPathLen, below)
	case len(c.UnhandledCriticalExtensions) > 0:
		f.add(flow.Invalid, "the issuer %s has a critical extension that is not understood, %v", subjectOf(c), c.UnhandledCriticalExtensions[0])
	}
}

// signedBy reports whether parent's key made child's signature, as far as that
// can be told: where algorithm or key is too weak to be checked, the names,
// which matched, decide, and the weakness is noted elsewhere.
func signedBy(child, parent *x509.Certificate) bool {
	if weakSignature(child.SignatureAlgorithm) || weakKey(parent) {
		return true
	}
	return parent.CheckSignature(child.SignatureAlgorithm, child.RawTBSCertificate, child.Signature) == nil
}

func isSelfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) && signedBy(c, c)
}

func weakSignature(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1, x509.DSAWithSHA256:
		return true
	}
	return false
}

// reason is an error of crypto/x509 as the end of a sentence.
func reason(err error) string {
	var invalid x509.CertificateInvalidError
	var critical x509.UnhandledCriticalExtension
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return "it, or an issuer of it, is not for server authentication"
	case errors.As(err, &invalid) && invalid.Reason == x509.CANotAuthorizedForThisName:
		return "its issuer's name constraints exclude one of its names: " + quote(invalid.Detail)
	case errors.As(err, &critical):
		return "it has a critical extension that is not understood"
	}
	return quote(strings.TrimPrefix(err.Error(), "x509: "))
}
