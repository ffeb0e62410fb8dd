// Package keyfile reads and writes files that hold certificates and private
// keys: PEM (RFC 7468), DER, PKCS #8 and PKCS #12, in the clear and under a
// passphrase.
//
// What is read comes from anywhere: input has bounds in bytes, certificates,
// nesting, and in the work that a passphrase's derivation asks for. A wrong
// passphrase is told apart from damage. No error repeats input, which may be a
// private key.
package keyfile

import (
	"bytes"
	"crypto"
	"crypto/dsa" //lint:ignore SA1019 to name what is refused
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
)

// Bounds of what is read, more than any real file has.
const (
	MaxSize         = 1 << 20  // bytes of a file
	MaxCertificates = 32       // of a file
	maxCertificate  = 32 << 10 // bytes of DER
	maxKey          = 8 << 10  // bytes of DER; RSA of 8192 bits has 4.7 KiB
	MinRSA, MaxRSA  = 2048, 8192
	// Of a certificate that only verifies others.
	maxRSACertificate = 16384
)

// What a caller tells apart; everything else is damage, or a kind of file or
// key that is not read.
var (
	// ErrPassphraseMissing: the file is encrypted and no passphrase was given.
	ErrPassphraseMissing = errors.New("it is encrypted: give its passphrase")
	// ErrPassphraseWrong: the passphrase is not the file's.
	ErrPassphraseWrong = errors.New("the passphrase is wrong")
)

// Contents are a file's certificates, in its order, and its private key, nil
// where it has none: an *rsa.PrivateKey or *ecdsa.PrivateKey.
type Contents struct {
	Certificates []*x509.Certificate
	Key          crypto.Signer
}

// Format is how a file is written.
type Format string

const (
	PEM    Format = "pem"
	DER    Format = "der"
	PKCS12 Format = "pkcs12"
)

// Read reads a file of a format; "" finds the format out. The passphrase is
// for what is encrypted in it, nil for none; it is not kept. A file without an
// encrypted part is read whatever the passphrase.
func Read(data []byte, format Format, passphrase []byte) (Contents, error) {
	if len(data) == 0 {
		return Contents{}, errors.New("the file is empty")
	}
	if len(data) > MaxSize {
		return Contents{}, fmt.Errorf("the file has %d bytes, expected at most %d", len(data), MaxSize)
	}
	if len(passphrase) > maxPassphrase {
		return Contents{}, fmt.Errorf("the passphrase has %d bytes, expected at most %d", len(passphrase), maxPassphrase)
	}
	found := sniff(data)
	if format != "" && found != format {
		if _, known := readers[format]; !known {
			return Contents{}, fmt.Errorf("format %q, expected pem, der or pkcs12", format)
		}
		if found == "" {
			return Contents{}, fmt.Errorf("this is no %s file", format.name())
		}
		return Contents{}, fmt.Errorf("this is a %s file, and not %s: give the format %q", found.name(), format.name(), string(found))
	}
	if found == "" {
		return Contents{}, errors.New("this is no certificate and no key: expected PEM, DER or PKCS #12")
	}
	c, err := readers[found](data, passphrase)
	if err != nil {
		return Contents{}, fmt.Errorf("reading %s: %w", found.name(), err)
	}
	if len(c.Certificates) == 0 && c.Key == nil {
		return Contents{}, fmt.Errorf("reading %s: there is no certificate and no key in it", found.name())
	}
	return c, nil
}

var readers = map[Format]func(data, passphrase []byte) (Contents, error){
	PEM: readPEM, DER: readDER, PKCS12: readPKCS12,
}

func (f Format) name() string {
	switch f {
	case PEM:
		return "PEM"
	case DER:
		return "DER"
	default:
		return "PKCS #12"
	}
}

// sniff tells the format of a file by its beginning, "" for none.
func sniff(data []byte) Format {
	switch {
	case bytes.Contains(data, []byte("-----BEGIN ")):
		return PEM
	case isPKCS12(data):
		return PKCS12
	case data[0] == 0x30:
		return DER
	}
	return ""
}

// add appends a certificate that is not there yet.
func (c *Contents) add(der []byte) error {
	number := len(c.Certificates) + 1
	if number > MaxCertificates {
		return fmt.Errorf("more than %d certificates", MaxCertificates)
	}
	if len(der) > maxCertificate {
		return fmt.Errorf("certificate %d has %d bytes, expected at most %d", number, len(der), maxCertificate)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("certificate %d is damaged (%v)", number, err)
	}
	if k, is := cert.PublicKey.(*rsa.PublicKey); is && k.N.BitLen() > maxRSACertificate {
		return fmt.Errorf("certificate %d has an RSA key of %d bits, expected at most %d", number, k.N.BitLen(), maxRSACertificate)
	}
	for _, known := range c.Certificates {
		if bytes.Equal(known.Raw, cert.Raw) {
			return nil
		}
	}
	c.Certificates = append(c.Certificates, cert)
	return nil
}

// setKey takes the file's only key.
func (c *Contents) setKey(key crypto.Signer) error {
	if c.Key != nil && !SamePublic(c.Key.Public(), key.Public()) {
		return errors.New("more than one private key")
	}
	c.Key = key
	return nil
}

// SamePublic reports whether two public keys are one.
func SamePublic(a, b crypto.PublicKey) bool {
	known, comparable := a.(interface{ Equal(crypto.PublicKey) bool })
	return comparable && known.Equal(b)
}

// CheckPublic says why keys of a kind cannot be used, nil when they can: RSA of
// 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521.
func CheckPublic(public crypto.PublicKey) error {
	const expected = "expected RSA of 2048 bits or more, or ECDSA on P-256, P-384 or P-521"
	switch k := public.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < MinRSA || bits > MaxRSA {
			return fmt.Errorf("an RSA key of %d bits, expected %d to %d", bits, MinRSA, MaxRSA)
		}
		return nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return fmt.Errorf("an ECDSA key on %s, %s", k.Curve.Params().Name, expected)
	case ed25519.PublicKey:
		return errors.New("an Ed25519 key, which browsers do not take in certificates: " + expected)
	case *dsa.PublicKey:
		return errors.New("a DSA key, which TLS has given up: " + expected)
	}
	return errors.New("a key of a kind that is not supported: " + expected)
}
