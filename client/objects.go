package client

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"iter"
	"slices"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// Ping goes to the HSM and back, without the partition. It is answered at once,
// however many requests of ours are in flight and however busy the HSM is.
func (c *Client) Ping(ctx context.Context) error {
	p := c.patience(ctx, c.config.CallTimeout)
	defer p.release()
	for lost := 1; ; lost++ {
		l, err := c.wait(p)
		if err != nil {
			return err
		}
		switch err := l.ping(p); {
		case err == nil:
			return nil
		case !errors.Is(err, errNotSent) && (!errors.Is(err, errLost) || p.atOnce || lost == maxLost):
			return stageError(StageRequest, err)
		}
	}
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
	return c.store(ctx, t)
}

// StorePublicKey stores a public key, of which the HSM then verifies and
// encrypts: RSA, ECDSA, Ed25519 or X25519. The template adds a label, a CKA_ID
// and what the key may be used for. Not repeatable.
func (c *Client) StorePublicKey(ctx context.Context, public crypto.PublicKey, t Template) (ID, error) {
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return ID{}, &Error{Stage: StageKey, Err: err}
	}
	t = object.New(
		object.Number(AttrClass, uint64(ClassPublicKey)),
		object.Bytes(AttrPublicKeyInfo, spki),
	).Merge(t)
	return c.store(ctx, t)
}

func (c *Client) store(ctx context.Context, t Template) (ID, error) {
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
