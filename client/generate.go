package client

import (
	"context"
	"crypto/elliptic"
	"encoding/asn1"
	"fmt"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// generateFactor is how much longer than other calls the making of a key may
// take: RSA primes are found by luck.
const generateFactor = 10

// KeyPair names the two objects of a new key pair.
type KeyPair struct {
	Public, Private ID
}

// GenerateKeyPair makes a key pair. The public template says what kind of key
// (AttrModulusBits and AttrPublicExponent, or AttrECParams); GenerateRSA and
// GenerateEC fill that in. Not repeatable.
func (c *Client) GenerateKeyPair(ctx context.Context, m MechanismType, public, private Template) (KeyPair, error) {
	a, err := c.generate(ctx, wire.GenerateRequest{Mechanism: Mechanism{Type: m}, Public: public, Private: private})
	return KeyPair{a.Public, a.Private}, err
}

// GenerateRSA makes an RSA key pair of 2048, 3072 or 4096 bits with the
// exponent 65537.
func (c *Client) GenerateRSA(ctx context.Context, bits int, public, private Template) (KeyPair, error) {
	public = public.With(object.Number(AttrModulusBits, uint64(bits))).
		With(object.Bytes(AttrPublicExponent, []byte{1, 0, 1}))
	return c.GenerateKeyPair(ctx, MechRSAKeyPairGen, public, private)
}

// GenerateEC makes a key pair on P-256, P-384 or P-521.
func (c *Client) GenerateEC(ctx context.Context, curve elliptic.Curve, public, private Template) (KeyPair, error) {
	parameters, err := ecParameters(curve)
	if err != nil {
		return KeyPair{}, err
	}
	return c.GenerateKeyPair(ctx, MechECKeyPairGen, public.With(object.Bytes(AttrECParams, parameters)), private)
}

// ecParameters is the DER of the curve's object identifier (RFC 5480, section
// 2.1.1.1).
func ecParameters(curve elliptic.Curve) ([]byte, error) {
	var oid asn1.ObjectIdentifier
	switch curve {
	case elliptic.P256():
		oid = asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	case elliptic.P384():
		oid = asn1.ObjectIdentifier{1, 3, 132, 0, 34}
	case elliptic.P521():
		oid = asn1.ObjectIdentifier{1, 3, 132, 0, 35}
	default:
		return nil, fmt.Errorf("generating a key: curve %v is not P-256, P-384 or P-521", curve)
	}
	return asn1.Marshal(oid)
}

// GenerateEd25519 makes a key pair that signs whole messages.
func (c *Client) GenerateEd25519(ctx context.Context, public, private Template) (KeyPair, error) {
	return c.GenerateKeyPair(ctx, MechEdwardsGen, public, private)
}

// GenerateX25519 makes a key pair for DeriveECDH.
func (c *Client) GenerateX25519(ctx context.Context, public, private Template) (KeyPair, error) {
	return c.GenerateKeyPair(ctx, MechMontgomeryGen, public, private)
}

// GenerateSecret makes a generic secret key of so many bytes, for HMAC and
// HKDF. Not repeatable.
func (c *Client) GenerateSecret(ctx context.Context, bytes int, t Template) (ID, error) {
	t = t.With(object.Number(AttrValueLen, uint64(bytes)))
	a, err := c.generate(ctx, wire.GenerateRequest{Mechanism: Mechanism{Type: MechGenericSecretGen}, Private: t})
	return a.Private, err
}

// GenerateAES makes a secret key of 16, 24 or 32 bytes. Not repeatable.
func (c *Client) GenerateAES(ctx context.Context, bytes int, t Template) (ID, error) {
	t = t.With(object.Number(AttrValueLen, uint64(bytes)))
	a, err := c.generate(ctx, wire.GenerateRequest{Mechanism: Mechanism{Type: MechAESKeyGen}, Private: t})
	return a.Private, err
}

func (c *Client) generate(ctx context.Context, r wire.GenerateRequest) (wire.GenerateAnswer, error) {
	body, err := c.callWithin(ctx, generateFactor*c.config.CallTimeout, wire.OpGenerate, func(b []byte, session uint32) []byte {
		r.Session = session
		return r.Append(b)
	})
	if err != nil {
		return wire.GenerateAnswer{}, err
	}
	var a wire.GenerateAnswer
	if err := a.Decode(body); err != nil {
		return wire.GenerateAnswer{}, stageError(StageRequest, err)
	}
	return a, nil
}
