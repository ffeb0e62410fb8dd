package mech

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"
	"slices"

	"moongate/internal/hsm/object"
)

// rsaExponent is the one public exponent: F4 (FIPS 186-5, section 5.4, asks
// for more than 2^16).
const rsaExponent = 65537

// curve is a curve and the DER of its OBJECT IDENTIFIER, which is its
// CKA_EC_PARAMS.
type curve struct {
	elliptic.Curve
	params []byte
}

var curves = []curve{
	{elliptic.P256(), []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}}, // 1.2.840.10045.3.1.7
	{elliptic.P384(), []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22}},                   // 1.3.132.0.34
	{elliptic.P521(), []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23}},                   // 1.3.132.0.35
}

// CKA_EC_PARAMS of the curves that have one use each (RFC 8410, section 3).
var (
	edwardsParams    = []byte{0x06, 0x03, 0x2b, 0x65, 0x70} // 1.3.101.112
	montgomeryParams = []byte{0x06, 0x03, 0x2b, 0x65, 0x6e} // 1.3.101.110
)

func curveOf(c elliptic.Curve) (curve, error) {
	for _, known := range curves {
		if known.Curve == c {
			return known, nil
		}
	}
	return curve{}, object.Errorf(object.ErrKeySize, "curve %s is not supported; P-256, P-384 and P-521 are", c.Params().Name)
}

func curveByParams(der []byte) (curve, error) {
	expected := ""
	for _, known := range curves {
		if bytes.Equal(known.params, der) {
			return known, nil
		}
		expected += fmt.Sprintf(", %s (%x)", known.Params().Name, known.params)
	}
	return curve{}, object.Errorf(object.ErrAttributeValue, "CKA_EC_PARAMS is %x, expected the DER object identifier of a curve%s", der, expected)
}

// measure returns a public key's type and size in bits, and refuses one that
// no key of this HSM may have.
func measure(public crypto.PublicKey) (object.KeyType, int, error) {
	switch public := public.(type) {
	case *rsa.PublicKey:
		if public.E != rsaExponent {
			return 0, 0, object.Errorf(object.ErrAttributeValue, "public exponent is %d, expected %d", public.E, rsaExponent)
		}
		return object.KeyRSA, public.N.BitLen(), checkSize(object.KeyRSA, rsaSizes, public.N.BitLen())
	case *ecdsa.PublicKey:
		_, err := curveOf(public.Curve)
		return object.KeyEC, public.Curve.Params().BitSize, err
	case ed25519.PublicKey:
		return object.KeyEdwards, 256, nil
	case *ecdh.PublicKey:
		if public.Curve() == ecdh.X25519() {
			return object.KeyMontgomery, 256, nil
		}
	}
	return 0, 0, object.Errorf(object.ErrKeyType, "asymmetric keys are RSA, EC, Ed25519 or X25519")
}

// Sizes of a generic secret in bytes.
const (
	MinGeneric = 16
	MaxGeneric = 512
)

// checkSecretSize refuses a secret key's type or its length in bytes.
func checkSecretSize(keyType object.KeyType, size int) error {
	switch keyType {
	case object.KeyAES:
		return checkSize(keyType, aesSizes, 8*size)
	case object.KeyGeneric:
		if size < MinGeneric || size > MaxGeneric {
			return object.Errorf(object.ErrKeySize, "generic secrets of %d bytes are not supported; %d to %d are", size, MinGeneric, MaxGeneric)
		}
		return nil
	}
	return object.Errorf(object.ErrKeyType, "secret keys are AES or generic secrets, this one is %v", keyType)
}

func checkSize(keyType object.KeyType, sizes []int, bits int) error {
	if !slices.Contains(sizes, bits) {
		return object.Errorf(object.ErrKeySize, "%v keys of %d bits are not supported; %v are", keyType, bits, sizes)
	}
	return nil
}
