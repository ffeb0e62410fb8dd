package mech

import (
	"bytes"
	"crypto/elliptic"
	"crypto/rsa"
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
}

func curveOf(c elliptic.Curve) (curve, error) {
	for _, known := range curves {
		if known.Curve == c {
			return known, nil
		}
	}
	return curve{}, object.Errorf(object.ErrKeySize, "curve %s is not supported; P-256 and P-384 are", c.Params().Name)
}

func curveByParams(der []byte) (curve, error) {
	for _, known := range curves {
		if bytes.Equal(known.params, der) {
			return known, nil
		}
	}
	return curve{}, object.Errorf(object.ErrAttributeValue,
		"CKA_EC_PARAMS is %x, expected the DER object identifier of P-256 (%x) or P-384 (%x)", der, curves[0].params, curves[1].params)
}

func checkRSA(public *rsa.PublicKey) error {
	if public.E != rsaExponent {
		return object.Errorf(object.ErrAttributeValue, "public exponent is %d, expected %d", public.E, rsaExponent)
	}
	return checkSize(object.KeyRSA, rsaSizes, public.N.BitLen())
}

func checkSize(keyType object.KeyType, sizes []int, bits int) error {
	if !slices.Contains(sizes, bits) {
		return object.Errorf(object.ErrKeySize, "%v keys of %d bits are not supported; %v are", keyType, bits, sizes)
	}
	return nil
}
