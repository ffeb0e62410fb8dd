package replica

import (
	"crypto/ecdsa"
	"errors"

	"moongate/internal/hsm/object"
)

const (
	offerMagic   = "mgco\x01" // moongate clone offer, version 1
	offerContext = "moongate hsm replica: offer of a clone, version 1"

	maxSerial = object.MaxSerial
)

// Place is one partition of one HSM.
type Place struct {
	HSM    object.HSMID
	Serial string
}

func (p Place) append(b []byte) []byte { return appendSerial(append(b, p.HSM[:]...), p.Serial) }

func (p *Place) decode(r *reader) {
	r.into(p.HSM[:])
	p.Serial = r.serial()
}

// Way is whose objects go where, once: the nonce is the target's, and is good
// for one package. All of it is bound to whatever is sealed or signed.
type Way struct {
	Source, Target Place
	Nonce          [32]byte
	Domain         [16]byte // the domain's identity
}

func (w *Way) append(b []byte) []byte {
	b = w.Target.append(w.Source.append(b))
	b = append(b, w.Nonce[:]...)
	return append(b, w.Domain[:]...)
}

func (w *Way) decode(r *reader) {
	w.Source.decode(r)
	w.Target.decode(r)
	r.into(w.Nonce[:])
	r.into(w.Domain[:])
}

// Offer is a target's: to take one package from one source, sealed to Public.
type Offer struct {
	Way
	Public []byte

	body, signature []byte
}

// Sign returns the offer's encoding: magic, source, target, nonce, domain,
// public key (1249 bytes), and the target's signature over all of that.
func (o *Offer) Sign(key *ecdsa.PrivateKey) ([]byte, error) {
	b := o.Way.append([]byte(offerMagic))
	return sign(key, offerContext, append(b, o.Public...))
}

var errOffer = errors.New("the offer is malformed")

// DecodeOffer reads an offer, whose signature is still to be verified.
func DecodeOffer(b []byte) (*Offer, error) {
	if len(b) > object.MaxOffer {
		return nil, errOffer
	}
	r := &reader{b: b}
	o := new(Offer)
	r.magic(offerMagic)
	o.Way.decode(r)
	o.Public = r.take(publicSize)
	o.body = b[:len(b)-len(r.b)]
	o.signature = r.sized(1, maxSign)
	if r.bad || len(r.b) > 0 {
		return nil, errOffer
	}
	return o, nil
}

// Verify reports whether the offer was signed with the key.
func (o *Offer) Verify(key *ecdsa.PublicKey) bool {
	return verify(key, offerContext, o.body, o.signature)
}
