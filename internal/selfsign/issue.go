package selfsign

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"
)

// Issuer is a CA: its certificate, and the key that belongs to it.
type Issuer struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// Issue returns a certificate for a public key, signed by an issuer, in DER.
// Its end must not be after the issuer's: what outlives its CA is refused by
// clients without telling why. Request.Algorithm is of the issuer's key.
func Issue(public crypto.PublicKey, r Request, issuer Issuer) ([]byte, error) {
	template, err := r.template(public)
	if err != nil {
		return nil, err
	}
	return sign(template, public, &issuer)
}

// Renewal returns a certificate that says what an old one does, with a new
// serial number and new dates, for the same key. Without an issuer it is
// self-signed by key; otherwise key is not used.
func Renewal(old *x509.Certificate, notBefore, notAfter time.Time, key crypto.Signer, issuer *Issuer) ([]byte, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, RawSubject: old.RawSubject, Subject: old.Subject,
		NotBefore: notBefore, NotAfter: notAfter, SubjectKeyId: old.SubjectKeyId,
	}
	for _, e := range old.Extensions {
		// All but what the signer makes anew: the two key identifiers.
		if !e.Id.Equal(oidSubjectKeyID) && !e.Id.Equal(oidAuthorityKeyID) {
			template.ExtraExtensions = append(template.ExtraExtensions, e)
		}
	}
	if len(template.SubjectKeyId) == 0 {
		if template.SubjectKeyId, err = keyID(old.PublicKey); err != nil {
			return nil, err
		}
	}
	if issuer == nil {
		issuer = &Issuer{Certificate: template, Key: key}
		template.AuthorityKeyId = template.SubjectKeyId
	}
	return sign(template, old.PublicKey, issuer)
}

var (
	oidSubjectKeyID   = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidAuthorityKeyID = asn1.ObjectIdentifier{2, 5, 29, 35}
)

// sign makes the certificate and holds the signature against the issuer's key:
// the key may be on the other side of a network.
func sign(template *x509.Certificate, public crypto.PublicKey, issuer *Issuer) ([]byte, error) {
	if !template.NotAfter.After(template.NotBefore) {
		return nil, fmt.Errorf("the certificate would end (%s) before it begins (%s)",
			template.NotAfter.Format(time.DateOnly), template.NotBefore.Format(time.DateOnly))
	}
	self := issuer.Certificate == template
	if end := issuer.Certificate.NotAfter; !self && template.NotAfter.After(end) {
		return nil, fmt.Errorf("the certificate would end (%s) after its CA does (%s): give it fewer days, or renew the CA first",
			template.NotAfter.UTC().Format(time.DateOnly), end.UTC().Format(time.DateOnly))
	}
	if !self && issuer.Certificate.PublicKey == nil {
		return nil, fmt.Errorf("signing the certificate: the CA %q has a key of an unknown kind", issuer.Certificate.Subject)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.Certificate, public, issuer.Key)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate: %w", err)
	}
	return der, nil
}

// newSerial is random and positive, of 126 bits (RFC 5280, section 4.1.2.2).
func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, fmt.Errorf("choosing a serial number: %w", err)
	}
	return serial.Add(serial, big.NewInt(1)), nil
}

// SigningRequest returns a certificate signing request (PKCS #10, RFC 2986) for
// what a certificate says: its subject, names and key usages. The key is the
// certificate's.
func SigningRequest(of *x509.Certificate, key crypto.Signer) ([]byte, error) {
	template := &x509.CertificateRequest{RawSubject: of.RawSubject}
	for _, e := range of.Extensions {
		for _, wanted := range requested {
			if e.Id.Equal(wanted) {
				template.ExtraExtensions = append(template.ExtraExtensions, e)
			}
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("signing the request: %w", err)
	}
	made, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("reading the request that was signed: %w", err)
	}
	if err := made.CheckSignature(); err != nil {
		return nil, fmt.Errorf("checking the request that was signed: %w", err)
	}
	if !bytes.Equal(made.RawSubjectPublicKeyInfo, of.RawSubjectPublicKeyInfo) {
		return nil, fmt.Errorf("the key does not belong to the certificate %q", of.Subject)
	}
	return der, nil
}

// requested are the extensions that a request asks its CA for: alternative
// names, basic constraints, the two key usages.
var requested = []asn1.ObjectIdentifier{{2, 5, 29, 17}, {2, 5, 29, 19}, {2, 5, 29, 15}, {2, 5, 29, 37}}

// NewSigningRequest returns a certificate signing request for what shall be
// said of a key that has no certificate yet. It says no dates: those are the
// CA's to choose.
func NewSigningRequest(key crypto.Signer, r Request) ([]byte, error) {
	// A certificate under a key of the moment says what the request takes over.
	throwaway, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("preparing the request: %w", err)
	}
	r.NotBefore = time.Now()
	r.NotAfter = r.NotBefore.Add(time.Hour)
	r.Algorithm = x509.UnknownSignatureAlgorithm
	template, err := r.template(key.Public())
	if err != nil {
		return nil, err
	}
	ca := &x509.Certificate{PublicKey: throwaway.Public(), NotAfter: r.NotAfter}
	der, err := sign(template, key.Public(), &Issuer{ca, throwaway})
	if err != nil {
		return nil, err
	}
	said, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("preparing the request: %w", err)
	}
	return SigningRequest(said, key)
}
