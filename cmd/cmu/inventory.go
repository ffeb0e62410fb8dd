package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"

	"moongate/client"
	"moongate/internal/hsm/object"
)

// entry is one object of the partition.
type entry struct {
	client.Found
	handle uint64
	cert   *x509.Certificate // of a certificate that parses
}

func (e *entry) class() client.Class { return e.Attributes.Class() }
func (e *entry) label() string       { return e.Attributes.Text(client.AttrLabel) }

// created is when it was made, in seconds since 1970.
func (e *entry) created() uint64 {
	n, _ := e.Attributes.Number(client.AttrCreated)
	return n
}

// publicInfo is the SubjectPublicKeyInfo that the object is about: what makes
// a key pair and its certificates belong together, whatever their CKA_IDs say.
func (e *entry) publicInfo() []byte {
	if e.cert != nil {
		return e.cert.RawSubjectPublicKeyInfo
	}
	info, _ := e.Attributes.Get(client.AttrPublicKeyInfo)
	return info
}

// kind describes the object: "RSA-2048", "P-256", "AES-256", or a certificate's
// subject.
func (e *entry) kind() string {
	if e.cert != nil {
		return nameWords(e.cert.Subject)
	}
	if public, err := x509.ParsePKIXPublicKey(e.publicInfo()); err == nil {
		return keyWords(public)
	}
	if n, ok := e.Attributes.Number(client.AttrValueLen); ok {
		kind, _ := e.Attributes.KeyType()
		return fmt.Sprintf("%v-%d", kind, 8*n)
	}
	return e.class().String()
}

func keyWords(public any) string {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA-%d", k.N.BitLen())
	case *ecdsa.PublicKey:
		return k.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	case *ecdh.PublicKey:
		return fmt.Sprint(k.Curve())
	}
	return "unknown"
}

// inventory is what a partition holds, by handle.
type inventory []*entry

// inventory reads the objects that match the pattern, with the attributes that
// are wanted; none is all.
func (s *session) inventory(ctx context.Context, want []client.AttributeType, pattern ...client.Attribute) (inventory, error) {
	var inv inventory
	for found, err := range s.Objects(ctx, client.NewTemplate(pattern...), want...) {
		if err != nil {
			return nil, fmt.Errorf("listing the partition's objects: %w", err)
		}
		inv = append(inv, newEntry(found))
	}
	return inv, nil
}

func newEntry(found client.Found) *entry {
	e := &entry{Found: found}
	e.handle, _ = found.Attributes.Number(client.AttrHandle)
	if e.class() == client.ClassCertificate {
		der, _ := found.Attributes.Get(client.AttrValue)
		if cert, err := x509.ParseCertificate(der); err == nil {
			e.cert = cert
		}
	}
	return e
}

// object reads one object.
func (s *session) object(ctx context.Context, id client.ID) (*entry, error) {
	attributes, err := s.Attributes(ctx, id)
	if err != nil {
		return nil, err
	}
	return newEntry(client.Found{ID: id, Attributes: attributes}), nil
}

func (inv inventory) byHandle(handle uint64) (*entry, error) {
	i, found := slices.BinarySearchFunc(inv, handle, func(e *entry, h uint64) int { return cmp.Compare(e.handle, h) })
	if !found {
		return nil, &fixError{fmt.Errorf("the partition has no object with handle %d", handle), "`cmu list` shows those that are"}
	}
	return inv[i], nil
}

func (inv inventory) ofClass(class client.Class) inventory {
	var list inventory
	for _, e := range inv {
		if e.class() == class {
			list = append(list, e)
		}
	}
	return list
}

// pair is a private key with what belongs to it.
type pair struct {
	private      *entry
	public       *entry // nil where it was deleted
	certificates inventory
}

// pairs lists the key pairs, the newest first.
func (inv inventory) pairs() []*pair {
	var list []*pair
	for _, e := range inv.ofClass(client.ClassPrivateKey) {
		p := &pair{private: e}
		for _, other := range inv {
			if other == e || !bytes.Equal(other.publicInfo(), e.publicInfo()) {
				continue
			}
			switch other.class() {
			case client.ClassPublicKey:
				p.public = other
			case client.ClassCertificate:
				p.certificates = append(p.certificates, other)
			}
		}
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *pair) int {
		return cmp.Or(cmp.Compare(b.private.created(), a.private.created()), cmp.Compare(b.private.handle, a.private.handle))
	})
	return list
}

// attributeValues are an object's attributes as JSON shows them: numbers,
// truth values and texts as such, other bytes in hexadecimal.
func attributeValues(t client.Template) map[string]any {
	values := map[string]any{}
	for _, a := range t {
		kind, _ := a.Type.Kind()
		switch kind {
		case object.KindBool:
			values[a.Type.String()] = t.Bool(a.Type)
		case object.KindNumber:
			n, _ := t.Number(a.Type)
			values[a.Type.String()] = n
		case object.KindText, object.KindDate:
			values[a.Type.String()] = t.Text(a.Type)
		default:
			values[a.Type.String()] = fmt.Sprintf("%x", a.Value)
		}
	}
	return values
}
