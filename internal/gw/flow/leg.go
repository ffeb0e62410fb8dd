package flow

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
)

// DescribeLeg tells of a finished handshake. leaf is the certificate of the
// side that authenticated itself; nil where it is not known.
func DescribeLeg(state tls.ConnectionState, leaf *x509.Certificate) *Leg {
	leg := &Leg{
		Version:     tls.VersionName(state.Version),
		Cipher:      tls.CipherSuiteName(state.CipherSuite),
		ALPN:        state.NegotiatedProtocol,
		Resumed:     state.DidResume,
		Certificate: DescribeCertificate(leaf),
	}
	if state.CurveID != 0 {
		leg.Group = state.CurveID.String()
	}
	return leg
}

// DescribeCertificate tells of a certificate; nil for nil.
func DescribeCertificate(c *x509.Certificate) *Certificate {
	if c == nil {
		return nil
	}
	sum := sha256.Sum256(c.Raw)
	return &Certificate{
		Subject:  c.Subject.String(),
		Issuer:   c.Issuer.String(),
		Serial:   c.SerialNumber.Text(16),
		NotAfter: c.NotAfter,
		Key:      DescribeKey(c.PublicKey),
		SHA256:   hex.EncodeToString(sum[:]),
	}
}

// DescribeKey names a public key's kind and size: RSA-2048, P-256, Ed25519.
func DescribeKey(pub any) string {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA-%d", pub.N.BitLen())
	case *ecdsa.PublicKey:
		return pub.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return fmt.Sprintf("%T", pub)
}
