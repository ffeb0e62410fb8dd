package mint

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"moongate/internal/gw/flow"
)

const (
	minSerialBits = 64  // CA/Browser Forum baseline requirements, 7.1
	maxSerialBits = 159 // 20 bytes (RFC 5280, section 4.1.2.2)
	// maxSubject bounds a subject, in bytes of DER.
	maxSubject = 4096
)

// check refuses a template that must not be signed. It trusts nothing that
// prepare did: a signature cannot be taken back.
func check(t *x509.Certificate, req *flow.CertifyRequest, issuer *x509.Certificate, now time.Time) error {
	for _, step := range []func() error{
		func() error { return checkForm(t, issuer) },
		func() error { return checkNames(t, req, issuer) },
		func() error { return checkDates(t, req, issuer, now) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// checkForm: an end entity for servers and nothing else.
func checkForm(t, issuer *x509.Certificate) error {
	if !t.BasicConstraintsValid || t.IsCA || t.MaxPathLen != 0 {
		return errors.New("the leaf would not be an end entity")
	}
	if t.KeyUsage&^x509.KeyUsageKeyEncipherment != x509.KeyUsageDigitalSignature || !slices.Equal(t.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) || len(t.UnknownExtKeyUsage) != 0 {
		return errors.New("the leaf's key usage would not be that of a server")
	}
	if len(t.ExtraExtensions) != 0 || len(t.Policies) != 0 || len(t.PolicyIdentifiers) != 0 || len(t.EmailAddresses) != 0 || len(t.URIs) != 0 ||
		len(t.OCSPServer) != 0 || len(t.IssuingCertificateURL) != 0 || len(t.CRLDistributionPoints) != 0 {
		return errors.New("the leaf would say more than names and dates")
	}
	if bits := t.SerialNumber.BitLen(); t.SerialNumber.Sign() <= 0 || bits < minSerialBits || bits > maxSerialBits {
		return fmt.Errorf("the leaf's serial number has %d bits, expected %d to %d", bits, minSerialBits, maxSerialBits)
	}
	if len(t.SubjectKeyId) == 0 || !bytes.Equal(t.AuthorityKeyId, issuer.SubjectKeyId) {
		return errors.New("the leaf's key identifiers are not its own and its issuer's")
	}
	return nil
}

// checkNames: the server's names and no others; the requested one among them
// if the leaf will be trusted.
func checkNames(t *x509.Certificate, req *flow.CertifyRequest, issuer *x509.Certificate) error {
	server := req.Upstream[0]
	switch {
	case !bytes.Equal(t.RawSubject, server.RawSubject):
		return errors.New("the leaf would not have the server's subject")
	case len(t.RawSubject) > maxSubject:
		return fmt.Errorf("the server's subject has %d bytes, at most %d are mirrored", len(t.RawSubject), maxSubject)
	case bytes.Equal(t.RawSubject, issuer.RawSubject):
		return errors.New("the leaf would have its issuer's own subject")
	}
	if len(t.DNSNames) == 0 && len(t.IPAddresses) == 0 && server.Subject.CommonName == "" {
		return errors.New("the server's certificate has no name to mirror")
	}
	if len(t.DNSNames)+len(t.IPAddresses) > maxNames {
		return fmt.Errorf("the leaf would have more than %d names", maxNames)
	}
	for _, name := range t.DNSNames {
		if !slices.Contains(server.DNSNames, name) {
			return fmt.Errorf("the leaf would have the name %q, which the server's certificate has not", name)
		}
	}
	for _, ip := range t.IPAddresses {
		if !slices.ContainsFunc(server.IPAddresses, ip.Equal) {
			return fmt.Errorf("the leaf would have the address %v, which the server's certificate has not", ip)
		}
	}
	if !req.Trust {
		return nil
	}
	if err := t.VerifyHostname(canonical(req.Name)); err != nil {
		return fmt.Errorf("the leaf would be trusted and is not for %q", req.Name)
	}
	return nil
}

// checkDates: never after the server's own end; trusted only while the leaf
// and its issuer are valid.
func checkDates(t *x509.Certificate, req *flow.CertifyRequest, issuer *x509.Certificate, now time.Time) error {
	if !t.NotBefore.Before(t.NotAfter) {
		return fmt.Errorf("the leaf's validity would end at %v and begin at %v", t.NotAfter.UTC(), t.NotBefore.UTC())
	}
	if t.NotAfter.After(req.Upstream[0].NotAfter) {
		return errors.New("the leaf would be valid for longer than the server's certificate")
	}
	if now.Before(issuer.NotBefore) || now.After(issuer.NotAfter) {
		return fmt.Errorf("the signing certificate is valid from %v until %v only", issuer.NotBefore.UTC(), issuer.NotAfter.UTC())
	}
	if !req.Trust {
		return nil
	}
	if now.Before(t.NotBefore) || now.After(t.NotAfter) {
		return errors.New("the leaf would be trusted and is not valid now")
	}
	if t.NotBefore.Before(issuer.NotBefore) || t.NotAfter.After(issuer.NotAfter) {
		return errors.New("the leaf would be trusted and valid when its issuer is not")
	}
	return nil
}
