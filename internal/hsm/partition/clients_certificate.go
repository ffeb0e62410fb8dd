package partition

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// parseClientCertificate returns the DER of what a client shows: one PEM block
// and no second one, however broken, that a person who looks at the file could
// take for the one that counts. Text around it is let be. The error goes on a
// sentence about the certificate.
func parseClientCertificate(file []byte) ([]byte, error) {
	block, rest := pem.Decode(file)
	if block == nil || block.Type != "CERTIFICATE" || len(block.Headers) > 0 ||
		bytes.Count(file, []byte("-----BEGIN")) != 1 || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, errors.New("is not one PEM CERTIFICATE block")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("does not parse: %w", err)
	}
	return block.Bytes, checkClientKey(cert)
}

// Bounds of a client's RSA key: that of the HSM's own keys, and what TLS here
// still verifies.
const minClientRSA, maxClientRSA = 2048, 8192

// checkClientKey refuses a key that could not shake hands in TLS 1.3, and one
// that is too weak for what its holder may do.
func checkClientKey(cert *x509.Certificate) error {
	switch key := cert.PublicKey.(type) {
	case ed25519.PublicKey:
		return nil
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() || key.Curve == elliptic.P384() || key.Curve == elliptic.P521() {
			return nil
		}
		return fmt.Errorf("has a key on %s; expected P-256, P-384 or P-521", key.Curve.Params().Name)
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minClientRSA || bits > maxClientRSA {
			return fmt.Errorf("has an RSA key of %d bits; expected %d to %d", bits, minClientRSA, maxClientRSA)
		}
		return nil
	}
	return fmt.Errorf("has a key of the kind %v; expected ECDSA, Ed25519 or RSA", cert.PublicKeyAlgorithm)
}
