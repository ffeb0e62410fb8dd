package keyfile

import (
	"crypto/x509"
	"encoding/pem"
)

// EncodePEM returns certificates in PEM (RFC 7468), in their order.
func EncodePEM(list ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range list {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// EncryptedKeyPEM returns encrypted PKCS #8, EncryptKey's, in PEM.
func EncryptedKeyPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der})
}

// RequestPEM returns a signing request in PEM.
func RequestPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}
