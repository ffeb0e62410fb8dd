package replica

import (
	"crypto/ecdsa"
	"errors"

	"moongate/internal/hsm/object"
)

const (
	packageMagic   = "mgcp\x01" // moongate clone package, version 1
	packageContext = "moongate hsm replica: package of a clone, version 1"
	packageInfo    = "moongate hsm replica: seal of a clone, version 1\x00"

	// packageHead is what a package has beside its batch at most: the fields,
	// and two seals, the domain's inside.
	packageHead = len(packageMagic) + 2*(32+1+maxSerial) + 32 + 16 + encSize + 4 + 2*sealSize + 1 + maxSign
)

// Package is a source's answer to an offer: a batch, which the domain's key
// sealed, sealed once more to the offer's public key.
type Package struct {
	Way
	Enc, Sealed []byte

	body, signature []byte
}

// Bound is what the domain's seal of a package on this way is bound to.
func (w *Way) Bound() []byte { return w.append([]byte(packageInfo)) }

// Answer makes a package of what the domain's key sealed, for the offer.
func (o *Offer) Answer(sealed []byte) (*Package, error) {
	enc, outer, err := sealTo(o.Public, o.Bound(), sealed)
	if err != nil {
		return nil, err
	}
	return &Package{Way: o.Way, Enc: enc, Sealed: outer}, nil
}

// Sign returns the package's encoding: magic, source, target, nonce, domain,
// the encapsulated key (1153 bytes), the sealed batch with its length (uint32)
// in front, and the source's signature over all of that.
func (p *Package) Sign(key *ecdsa.PrivateKey) ([]byte, error) {
	b := make([]byte, 0, packageHead+len(p.Sealed))
	b = p.Way.append(append(b, packageMagic...))
	b = append(b, p.Enc...)
	return sign(key, packageContext, appendSized32(b, p.Sealed))
}

var errPackage = errors.New("the package is malformed")

// DecodePackage reads a package, whose signature is still to be verified.
func DecodePackage(b []byte) (*Package, error) {
	if len(b) > object.MaxPackage {
		return nil, errPackage
	}
	r := &reader{b: b}
	p := new(Package)
	r.magic(packageMagic)
	p.Way.decode(r)
	p.Enc = r.take(encSize)
	p.Sealed = r.sized(4, MaxBatch+2*sealSize)
	p.body = b[:len(b)-len(r.b)]
	p.signature = r.sized(1, maxSign)
	if r.bad || len(r.b) > 0 {
		return nil, errPackage
	}
	return p, nil
}

// Verify reports whether the package was signed with the key.
func (p *Package) Verify(key *ecdsa.PublicKey) bool {
	return verify(key, packageContext, p.body, p.signature)
}

// Open returns what the domain's key sealed, by the key pair of the offer;
// not ok where it was sealed for another.
func (p *Package) Open(r *Recipient) ([]byte, bool) { return r.open(p.Enc, p.Bound(), p.Sealed) }
