package p11

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"moongate/internal/hsm/object"
)

// publicOf makes a public key of a key object's attributes. It returns nil where
// they do not say enough.
func publicOf(t object.Template) (crypto.PublicKey, error) {
	keyType, _ := t.KeyType()
	switch keyType {
	case object.KeyRSA:
		return rsaPublic(t)
	case object.KeyEC:
		return ecPublic(t)
	}
	return nil, nil
}

// maxModulus bounds what is computed with, in bits.
const maxModulus = 16384

func rsaPublic(t object.Template) (crypto.PublicKey, error) {
	modulus, _ := t.Get(object.AttrModulus)
	exponent, _ := t.Get(object.AttrPublicExponent)
	if len(modulus) == 0 || len(exponent) == 0 {
		return nil, nil
	}
	n, e := new(big.Int).SetBytes(modulus), new(big.Int).SetBytes(exponent)
	if n.BitLen() > maxModulus || n.Sign() == 0 || n.Bit(0) == 0 || !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 {
		return nil, errors.New("its modulus or exponent is not that of an RSA key")
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
}

// curves by the DER of their object identifiers (RFC 5480, section 2.1.1.1).
var curves = map[string]elliptic.Curve{
	"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07": elliptic.P256(),
	"\x06\x05\x2b\x81\x04\x00\x22":             elliptic.P384(),
	"\x06\x05\x2b\x81\x04\x00\x23":             elliptic.P521(),
}

// ecPublic takes CKA_EC_POINT, as the DER OCTET STRING that it should be or as
// the bare point that some modules give, or CKA_PUBLIC_KEY_INFO.
func ecPublic(t object.Template) (crypto.PublicKey, error) {
	parameters, _ := t.Get(object.AttrECParams)
	curve, known := curves[string(parameters)]
	if !known {
		return nil, fmt.Errorf("its curve (CKA_EC_PARAMS %x) is not P-256, P-384 or P-521", parameters)
	}
	if point, given := t.Get(object.AttrECPoint); given && len(point) > 0 {
		var inner []byte
		if rest, err := asn1.Unmarshal(point, &inner); err == nil && len(rest) == 0 {
			if public, err := ecdsa.ParseUncompressedPublicKey(curve, inner); err == nil {
				return public, nil
			}
		}
		public, err := ecdsa.ParseUncompressedPublicKey(curve, point)
		if err != nil {
			return nil, fmt.Errorf("its CKA_EC_POINT is no point of the curve: %w", err)
		}
		return public, nil
	}
	if info, given := t.Get(object.AttrPublicKeyInfo); given && len(info) > 0 {
		parsed, err := x509.ParsePKIXPublicKey(info)
		if public, is := parsed.(*ecdsa.PublicKey); err == nil && is && public.Curve == curve {
			return public, nil
		}
	}
	return nil, nil
}

// describe puts what a public key says into a key object's attributes, in the
// one form that clients look for, in the place of the module's.
func describe(t object.Template, class object.Class, public crypto.PublicKey) (object.Template, error) {
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	t = t.With(object.Bytes(object.AttrPublicKeyInfo, spki))
	switch public := public.(type) {
	case *rsa.PublicKey:
		t = t.With(object.Bytes(object.AttrModulus, public.N.Bytes())).
			With(object.Number(object.AttrModulusBits, uint64(public.N.BitLen()))).
			With(object.Bytes(object.AttrPublicExponent, big.NewInt(int64(public.E)).Bytes()))
	case *ecdsa.PublicKey:
		point, err := public.Bytes()
		if err != nil {
			return nil, err
		}
		t = t.Without(object.AttrECPoint)
		if class == object.ClassPublicKey {
			der, err := asn1.Marshal(point)
			if err != nil {
				return nil, err
			}
			t = t.With(object.Bytes(object.AttrECPoint, der))
		}
	}
	return t, nil
}

// curveOf is the DER of an EC key's curve, nil of other keys.
func curveOf(public crypto.PublicKey) []byte {
	if ec, is := public.(*ecdsa.PublicKey); is {
		for der, curve := range curves {
			if curve == ec.Curve {
				return []byte(der)
			}
		}
	}
	return nil
}
