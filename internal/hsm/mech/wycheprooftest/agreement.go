package wycheprooftest

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"

	"moongate/internal/hsm/object"
)

var curves = map[string]elliptic.Curve{"secp256r1": elliptic.P256(), "secp384r1": elliptic.P384(), "secp521r1": elliptic.P521()}

func judgePeer(_ *file, _ *group, v *vector) judgement {
	switch {
	case slices.Contains(v.Flags, "CompressedPublic"):
		return judgement{refused: "a peer's point is uncompressed"}
	case slices.Contains(v.Flags, "ZeroSharedSecret"):
		return judgement{refused: "a shared secret is not zero"}
	}
	return judgement{}
}

func tryECDH(b *bench, _ *file, g *group, v *vector) (string, error) {
	name := g.Curve + string(v.Private)
	made, had := b.made[name]
	if !had {
		var err error
		if made.pkcs8, made.keyType, err = agreementKey(g, v); err != nil {
			return fmt.Sprintf("the vector's private key: %v", err), nil
		}
		b.made[name] = made
	}
	private, err := b.importOnce(template(object.ClassPrivateKey, made.keyType, object.AttrDerive), made.pkcs8)
	if err != nil {
		return "", err
	}
	derived, err := b.device.Derive(private, object.Mechanism{Type: object.MechECDH1Derive, Peer: v.Public},
		template(object.ClassSecretKey, object.KeyGeneric, object.AttrSign))
	if err != nil {
		return "", err
	}
	return b.isSecret(derived, v.Shared)
}

// madeKey is a private key that was put together of a vector's numbers.
type madeKey struct {
	pkcs8   []byte
	keyType object.KeyType
}

// agreementKey is the vector's private key as PKCS#8: of X25519 it has the
// bytes, of the others a number.
func agreementKey(g *group, v *vector) ([]byte, object.KeyType, error) {
	if g.Curve == "curve25519" {
		key, err := ecdh.X25519().NewPrivateKey(v.Private)
		if err != nil {
			return nil, 0, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return der, object.KeyMontgomery, err
	}
	curve, known := curves[g.Curve]
	if !known {
		return nil, 0, fmt.Errorf("curve %q", g.Curve)
	}
	scalar := new(big.Int).SetBytes(v.Private).FillBytes(make([]byte, (curve.Params().BitSize+7)/8))
	key, err := ecdsa.ParseRawPrivateKey(curve, scalar)
	if err != nil {
		return nil, 0, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return der, object.KeyEC, err
}

func hmacSHA256(key, message []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(message)
	return mac.Sum(nil)
}
