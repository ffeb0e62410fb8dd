package keyfile

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cryptobyteasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// readDER reads a certificate, or a private key as PKCS #8, encrypted PKCS #8,
// PKCS #1 or SEC 1, whichever the data's outline is of.
func readDER(data, passphrase []byte) (Contents, error) {
	var c Contents
	inner := cryptobyte.String(data)
	var body cryptobyte.String
	if !inner.ReadASN1(&body, cryptobyteasn1.SEQUENCE) {
		return c, errors.New("it is damaged: not one whole sequence")
	}
	if !inner.Empty() {
		return c, fmt.Errorf("%d bytes after its end", len(inner))
	}
	if len(data) > maxCertificate {
		return c, fmt.Errorf("%d bytes, expected at most %d", len(data), maxCertificate)
	}
	isKey := body.PeekASN1Tag(cryptobyteasn1.INTEGER)
	if !isKey && !isEncryptedPKCS8(body) {
		return c, c.add(append([]byte(nil), data...))
	}
	if len(data) > maxKey {
		return c, fmt.Errorf("%d bytes, expected at most %d", len(data), maxKey)
	}
	if !isKey {
		plain, err := decryptPKCS8(data, passphrase, newWork())
		if err != nil {
			return c, err
		}
		defer clear(plain)
		key, err := parsePKCS8(plain)
		if err != nil {
			return c, err
		}
		return c, c.setKey(key)
	}
	parse := parsePKCS1 // INTEGER version, INTEGER modulus
	var version int64
	if !body.ReadASN1Integer(&version) {
		return c, errors.New("it is damaged: no version")
	}
	switch {
	case body.PeekASN1Tag(cryptobyteasn1.SEQUENCE): // the algorithm
		parse = parsePKCS8
	case body.PeekASN1Tag(cryptobyteasn1.OCTET_STRING): // the key
		parse = parseSEC1
	}
	key, err := parse(data)
	if err != nil {
		return c, err
	}
	return c, c.setKey(key)
}

// isEncryptedPKCS8 reports a sequence of an algorithm and an octet string
// (RFC 5208, section 6), which a certificate's third part is not.
func isEncryptedPKCS8(body cryptobyte.String) bool {
	return body.SkipASN1(cryptobyteasn1.SEQUENCE) && body.SkipASN1(cryptobyteasn1.OCTET_STRING) && body.Empty()
}

// isSequence reports one whole ASN.1 sequence.
func isSequence(der []byte) bool {
	s := cryptobyte.String(der)
	return s.SkipASN1(cryptobyteasn1.SEQUENCE) && s.Empty()
}

// The algorithms of keys that are refused, to name them.
var refused = map[string]string{
	"1.2.840.10040.4.1":     "a DSA key, which TLS has given up",
	"1.3.101.112":           "an Ed25519 key, which browsers do not take in certificates",
	"1.3.101.113":           "an Ed448 key, which browsers do not take in certificates",
	"1.3.101.110":           "an X25519 key, which does not sign",
	"1.3.101.111":           "an X448 key, which does not sign",
	"1.2.840.113549.1.1.10": "an RSA key for RSASSA-PSS alone, which browsers do not take in certificates",
	"1.2.840.113549.1.3.1":  "a Diffie-Hellman key, which does not sign",
}

// parsePKCS8 reads a PrivateKeyInfo (RFC 5958).
func parsePKCS8(der []byte) (crypto.Signer, error) {
	var kind asn1.ObjectIdentifier
	outline := cryptobyte.String(der)
	var body, algorithm cryptobyte.String
	var version int64
	if !outline.ReadASN1(&body, cryptobyteasn1.SEQUENCE) || !outline.Empty() || !body.ReadASN1Integer(&version) ||
		!body.ReadASN1(&algorithm, cryptobyteasn1.SEQUENCE) || !algorithm.ReadASN1ObjectIdentifier(&kind) {
		return nil, errors.New("the private key is damaged: not PKCS #8")
	}
	if what, known := refused[kind.String()]; known {
		return nil, errors.New(what + ": expected RSA or ECDSA")
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	return checked(key, err)
}

func parsePKCS1(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS1PrivateKey(der)
	return checked(key, err)
}

func parseSEC1(der []byte) (crypto.Signer, error) {
	key, err := x509.ParseECPrivateKey(der)
	return checked(key, err)
}

// checked gives a key that can be used, or says why it cannot. What crypto/x509
// says of a key that it does not take names sizes and algorithms, no bytes.
func checked(key any, err error) (crypto.Signer, error) {
	if err != nil {
		return nil, fmt.Errorf("the private key is damaged or of a kind that is not supported (%v)", err)
	}
	var signer crypto.Signer
	switch k := key.(type) {
	case *rsa.PrivateKey:
		signer = k
	case *ecdsa.PrivateKey:
		signer = k
	default:
		return nil, errors.New("a private key of a kind that is not supported: expected RSA or ECDSA")
	}
	if err := CheckPublic(signer.Public()); err != nil {
		return nil, err
	}
	return signer, nil
}

// ParseKey reads a private key in PKCS #8, in the clear.
func ParseKey(der []byte) (crypto.Signer, error) {
	if len(der) > maxKey {
		return nil, fmt.Errorf("a private key of %d bytes, expected at most %d", len(der), maxKey)
	}
	return parsePKCS8(der)
}
