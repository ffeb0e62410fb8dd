// Package selfsign makes certificates for keys that live on an HSM or elsewhere
// (RFC 5280): self-signed ones, CA certificates for the gateway to sign leaves
// with and server certificates, and what such a CA signs; renewals; and signing
// requests for other CAs. It asks a key for one signature and holds nothing.
package selfsign

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"time"
)

// Request says what the certificate shall say.
type Request struct {
	Subject   pkix.Name
	NotBefore time.Time
	NotAfter  time.Time
	// Serial is random, 126 bits, where it is nil.
	Serial *big.Int
	// CA makes a certificate that may sign others and nothing else; otherwise
	// it is a server's, for Names and Addresses; Emails are its owner's.
	CA        bool
	Names     []string
	Addresses []net.IP
	Emails    []string
	// Algorithm is chosen by the key where it is zero.
	Algorithm x509.SignatureAlgorithm
}

// Certificate returns the certificate, signed by its own key, in DER.
func Certificate(key crypto.Signer, r Request) ([]byte, error) {
	template, err := r.template(key.Public())
	if err != nil {
		return nil, err
	}
	template.AuthorityKeyId = template.SubjectKeyId
	return sign(template, key.Public(), &Issuer{Certificate: template, Key: key})
}

func (r Request) template(public crypto.PublicKey) (*x509.Certificate, error) {
	serial := r.Serial
	if serial == nil {
		var err error
		if serial, err = newSerial(); err != nil {
			return nil, err
		}
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: r.Subject, NotBefore: r.NotBefore, NotAfter: r.NotAfter,
		BasicConstraintsValid: true, IsCA: r.CA, SignatureAlgorithm: r.Algorithm,
		DNSNames: r.Names, IPAddresses: r.Addresses, EmailAddresses: r.Emails,
	}
	if r.CA {
		template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	} else {
		template.KeyUsage = x509.KeyUsageDigitalSignature
		if _, isRSA := public.(*rsa.PublicKey); isRSA {
			// For the RSA key exchange of TLS 1.2 (RFC 5246, section 7.4.2).
			template.KeyUsage |= x509.KeyUsageKeyEncipherment
		}
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	id, err := keyID(public)
	if err != nil {
		return nil, err
	}
	template.SubjectKeyId = id
	return template, nil
}
