// Package selfsign makes self-signed certificates for keys that live on an HSM:
// CA certificates for the gateway to sign leaves with, and server certificates
// (RFC 5280). It asks the key for one signature and holds nothing.
package selfsign

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
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
	// it is a server's, for Names and Addresses.
	CA        bool
	Names     []string
	Addresses []net.IP
	// Algorithm is chosen by the key where it is zero.
	Algorithm x509.SignatureAlgorithm
}

// Certificate returns the certificate, signed by key, in DER.
func Certificate(key crypto.Signer, r Request) ([]byte, error) {
	serial := r.Serial
	if serial == nil {
		var err error
		if serial, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126)); err != nil {
			return nil, fmt.Errorf("choosing a serial number: %w", err)
		}
		serial.Add(serial, big.NewInt(1))
	}
	if !r.NotAfter.After(r.NotBefore) {
		return nil, fmt.Errorf("the certificate would end (%s) before it begins (%s)", r.NotAfter.Format(time.DateOnly), r.NotBefore.Format(time.DateOnly))
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: r.Subject, NotBefore: r.NotBefore, NotAfter: r.NotAfter,
		BasicConstraintsValid: true, IsCA: r.CA, SignatureAlgorithm: r.Algorithm,
		DNSNames: r.Names, IPAddresses: r.Addresses,
	}
	if r.CA {
		template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	} else {
		template.KeyUsage = x509.KeyUsageDigitalSignature
		if _, isRSA := key.Public().(*rsa.PublicKey); isRSA {
			// For the RSA key exchange of TLS 1.2 (RFC 5246, section 7.4.2).
			template.KeyUsage |= x509.KeyUsageKeyEncipherment
		}
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	id, err := keyID(key.Public())
	if err != nil {
		return nil, err
	}
	template.SubjectKeyId, template.AuthorityKeyId = id, id
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate: %w", err)
	}
	return der, nil
}
