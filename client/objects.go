package client

import (
	"context"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"iter"
	"slices"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// generateFactor is how much longer than other calls the making of a key may
// take: RSA primes are found by luck.
const generateFactor = 10

// Ping goes to the HSM and back, without the partition.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.call(ctx, wire.OpPing, empty)
	return err
}

// Partitions lists what is assigned to us.
func (c *Client) Partitions(ctx context.Context) ([]PartitionInfo, error) {
	body, err := c.call(ctx, wire.OpListPartitions, empty)
	if err != nil {
		return nil, err
	}
	var m wire.PartitionsAnswer
	if err := m.Decode(body); err != nil {
		return nil, stageError(StageRequest, err)
	}
	return m.Partitions, nil
}

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

// GenerateEC makes a key pair on P-256, P-384 or, where the HSM has it, P-521.
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

// StoreCertificate stores an X.509 certificate. Its value, subject, issuer and
// serial number are set from it; the template adds a label and a CKA_ID. Not
// repeatable.
func (c *Client) StoreCertificate(ctx context.Context, cert *x509.Certificate, t Template) (ID, error) {
	serial, err := asn1.Marshal(cert.SerialNumber)
	if err != nil {
		return ID{}, fmt.Errorf("storing a certificate: %w", err)
	}
	t = object.New(
		object.Number(AttrClass, uint64(ClassCertificate)),
		object.Number(AttrCertificateType, 0), // CKC_X_509
		object.Bytes(AttrValue, cert.Raw),
		object.Bytes(AttrSubject, cert.RawSubject),
		object.Bytes(AttrIssuer, cert.RawIssuer),
		object.Bytes(AttrSerialNumber, serial),
	).Merge(t)
	body, err := c.call(ctx, wire.OpStore, func(b []byte, session uint32) []byte {
		return (&wire.StoreRequest{Session: session, Template: t}).Append(b)
	})
	return idOf(body, err)
}

func idOf(body []byte, err error) (ID, error) {
	if err != nil {
		return ID{}, err
	}
	var a wire.IDAnswer
	if err := a.Decode(body); err != nil {
		return ID{}, stageError(StageRequest, err)
	}
	return a.ID, nil
}

// Objects iterates over the objects that match the pattern, in the order of
// their handles, with the attributes that are wanted and AttrHandle; no want
// is all of them. It fetches a page at a time, so that objects made or
// destroyed meanwhile may be seen or not. An error ends it.
func (c *Client) Objects(ctx context.Context, pattern Template, want ...AttributeType) iter.Seq2[Found, error] {
	if len(want) > 0 {
		// Its handle is where the next page begins.
		want = ascending(append(slices.Clone(want), AttrHandle))
	}
	return func(yield func(Found, error) bool) {
		var after uint64
		for more := true; more; {
			body, err := c.call(ctx, wire.OpFind, func(b []byte, session uint32) []byte {
				return (&wire.FindRequest{Session: session, Pattern: pattern, Want: want, After: after, Limit: wire.MaxFind}).Append(b)
			})
			var a wire.FindAnswer
			if err == nil {
				err = a.Decode(body)
			}
			if err != nil {
				yield(Found{}, stageError(StageRequest, err))
				return
			}
			more = a.More
			for _, found := range a.Objects {
				handle, ok := found.Attributes.Number(AttrHandle)
				if !ok || handle <= after {
					yield(Found{}, stageError(StageRequest, fmt.Errorf("object %v is out of order", found.ID)))
					return
				}
				after = handle
				if !yield(found, nil) {
					return
				}
			}
			if more && len(a.Objects) == 0 {
				yield(Found{}, stageError(StageRequest, fmt.Errorf("a page without objects after handle %d", after)))
				return
			}
		}
	}
}

// Find collects Objects.
func (c *Client) Find(ctx context.Context, pattern Template, want ...AttributeType) ([]Found, error) {
	var list []Found
	for found, err := range c.Objects(ctx, pattern, want...) {
		if err != nil {
			return nil, err
		}
		list = append(list, found)
	}
	return list, nil
}

// ascending is the one order of attribute types on the wire.
func ascending(types []AttributeType) []AttributeType {
	slices.Sort(types)
	return slices.Compact(types)
}

// Attributes reads an object's attributes: those that are wanted and there, or
// all.
func (c *Client) Attributes(ctx context.Context, id ID, want ...AttributeType) (Template, error) {
	want = ascending(slices.Clone(want))
	body, err := c.call(ctx, wire.OpGet, func(b []byte, session uint32) []byte {
		return (&wire.GetRequest{Session: session, ID: id, Want: want}).Append(b)
	})
	if err != nil {
		return nil, err
	}
	var a wire.GetAnswer
	if err := a.Decode(body); err != nil {
		return nil, stageError(StageRequest, err)
	}
	return a.Template, nil
}

// SetAttributes changes an object's attributes. Not repeatable.
func (c *Client) SetAttributes(ctx context.Context, id ID, t Template) error {
	_, err := c.call(ctx, wire.OpSet, func(b []byte, session uint32) []byte {
		return (&wire.SetRequest{Session: session, ID: id, Template: t}).Append(b)
	})
	return err
}

// Destroy destroys an object for ever. Not repeatable.
func (c *Client) Destroy(ctx context.Context, id ID) error {
	_, err := c.call(ctx, wire.OpDestroy, func(b []byte, session uint32) []byte {
		return (&wire.DestroyRequest{Session: session, ID: id}).Append(b)
	})
	return err
}

// Sign signs a digest with a mechanism; ECDSA returns r || s. Key.Sign is more
// convenient.
func (c *Client) Sign(ctx context.Context, id ID, m Mechanism, digest []byte) ([]byte, error) {
	return c.use(ctx, wire.OpSign, id, m, digest)
}

// Encrypt encrypts with AES-GCM. The HSM chooses the nonce: the answer is 12
// bytes of it, the ciphertext and 16 bytes of tag.
func (c *Client) Encrypt(ctx context.Context, id ID, plaintext, aad []byte) ([]byte, error) {
	return c.use(ctx, wire.OpEncrypt, id, Mechanism{Type: MechAESGCM, AAD: aad}, plaintext)
}

// Decrypt is the reverse of Encrypt.
func (c *Client) Decrypt(ctx context.Context, id ID, ciphertext, aad []byte) ([]byte, error) {
	return c.use(ctx, wire.OpDecrypt, id, Mechanism{Type: MechAESGCM, AAD: aad}, ciphertext)
}

func (c *Client) use(ctx context.Context, op wire.Op, id ID, m Mechanism, data []byte) ([]byte, error) {
	body, err := c.call(ctx, op, func(b []byte, session uint32) []byte {
		return (&wire.UseRequest{Session: session, ID: id, Mechanism: m, Data: data}).Append(b)
	})
	return dataOf(body, err)
}

func dataOf(body []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	var a wire.DataAnswer
	if err := a.Decode(body); err != nil {
		return nil, stageError(StageRequest, err)
	}
	return a.Data, nil
}

// Wrap returns the key target encrypted under the key wrapping, by RFC 5649.
func (c *Client) Wrap(ctx context.Context, wrapping, target ID) ([]byte, error) {
	body, err := c.call(ctx, wire.OpWrap, func(b []byte, session uint32) []byte {
		return (&wire.WrapRequest{Session: session, Wrapping: wrapping, Target: target, Mechanism: Mechanism{Type: MechAESKWP}}).Append(b)
	})
	return dataOf(body, err)
}

// Unwrap is the reverse of Wrap: it makes a new key with the template, which
// says its class and type. Not repeatable.
func (c *Client) Unwrap(ctx context.Context, unwrapping ID, wrapped []byte, t Template) (ID, error) {
	body, err := c.call(ctx, wire.OpUnwrap, func(b []byte, session uint32) []byte {
		return (&wire.UnwrapRequest{Session: session, ID: unwrapping, Mechanism: Mechanism{Type: MechAESKWP}, Wrapped: wrapped, Template: t}).Append(b)
	})
	return idOf(body, err)
}

// Random returns n random bytes of the HSM's, 1 to 64 KiB.
func (c *Client) Random(ctx context.Context, n int) ([]byte, error) {
	if n < 1 || n > wire.MaxRandom {
		return nil, stageError(StageRequest, object.Errorf(ErrArgumentsBad, "%d random bytes, expected 1 to %d", n, wire.MaxRandom))
	}
	body, err := c.call(ctx, wire.OpRandom, func(b []byte, session uint32) []byte {
		return (&wire.RandomRequest{Session: session, N: uint32(n)}).Append(b)
	})
	return dataOf(body, err)
}
