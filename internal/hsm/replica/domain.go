package replica

import (
	"crypto/ecdsa"
	"errors"

	"moongate/internal/hsm/object"
)

// The domain's secret goes from one HSM to another in two messages: the one
// that is to have it asks, and the one that has it answers.

const (
	requestMagic   = "mgdr\x01" // moongate domain request, version 1
	requestContext = "moongate hsm replica: request of a domain, version 1"
	shareMagic     = "mgds\x01" // moongate domain share, version 1
	shareContext   = "moongate hsm replica: share of a domain, version 1"
	shareInfo      = "moongate hsm replica: seal of a domain, version 1\x00"

	domainSecret = 32 // bytes

	// MaxDomainMessage is the longest request or share in bytes.
	MaxDomainMessage = 4 << 10
)

// Request is an HSM's, to be given another's domain, sealed to Public.
type Request struct {
	From, To object.HSMID // who asks, and whom
	Nonce    [32]byte
	Public   []byte

	body, signature []byte
}

// Sign returns the request's encoding: magic, who asks (32 bytes), who is
// asked (32), nonce (32), public key (1249), and the signature of who asks.
func (q *Request) Sign(key *ecdsa.PrivateKey) ([]byte, error) {
	b := append([]byte(requestMagic), q.From[:]...)
	b = append(b, q.To[:]...)
	b = append(b, q.Nonce[:]...)
	return sign(key, requestContext, append(b, q.Public...))
}

var errRequest = errors.New("the request is malformed")

// DecodeRequest reads a request, whose signature is still to be verified.
func DecodeRequest(b []byte) (*Request, error) {
	if len(b) > MaxDomainMessage {
		return nil, errRequest
	}
	r := &reader{b: b}
	q := new(Request)
	r.magic(requestMagic)
	r.into(q.From[:])
	r.into(q.To[:])
	r.into(q.Nonce[:])
	q.Public = r.take(publicSize)
	q.body = b[:len(b)-len(r.b)]
	q.signature = r.sized(1, maxSign)
	if r.bad || len(r.b) > 0 {
		return nil, errRequest
	}
	return q, nil
}

// Verify reports whether the request was signed with the key.
func (q *Request) Verify(key *ecdsa.PublicKey) bool {
	return verify(key, requestContext, q.body, q.signature)
}

// Share answers a request with the domain's secret.
type Share struct {
	From, To object.HSMID // who has it, and who asked
	Nonce    [32]byte     // of the request
	Domain   [16]byte     // the domain's identity
	Enc      []byte
	Sealed   []byte

	body, signature []byte
}

func (s *Share) bound() []byte { return s.head([]byte(shareInfo)) }

func (s *Share) head(b []byte) []byte {
	b = append(append(b, s.From[:]...), s.To[:]...)
	return append(append(b, s.Nonce[:]...), s.Domain[:]...)
}

// Answer makes a share for the request.
func (q *Request) Answer(domain [16]byte, secret []byte) (*Share, error) {
	s := &Share{From: q.To, To: q.From, Nonce: q.Nonce, Domain: domain}
	var err error
	s.Enc, s.Sealed, err = sealTo(q.Public, s.bound(), secret)
	return s, err
}

// Sign returns the share's encoding: magic, who has the domain (32 bytes), who
// asked (32), nonce (32), domain (16), the encapsulated key (1153), the sealed
// secret (60), and the signature of who has it.
func (s *Share) Sign(key *ecdsa.PrivateKey) ([]byte, error) {
	b := s.head([]byte(shareMagic))
	return sign(key, shareContext, append(append(b, s.Enc...), s.Sealed...))
}

var errShare = errors.New("the share is malformed")

// DecodeShare reads a share, whose signature is still to be verified.
func DecodeShare(b []byte) (*Share, error) {
	if len(b) > MaxDomainMessage {
		return nil, errShare
	}
	r := &reader{b: b}
	s := new(Share)
	r.magic(shareMagic)
	r.into(s.From[:])
	r.into(s.To[:])
	r.into(s.Nonce[:])
	r.into(s.Domain[:])
	s.Enc, s.Sealed = r.take(encSize), r.take(domainSecret+sealSize)
	s.body = b[:len(b)-len(r.b)]
	s.signature = r.sized(1, maxSign)
	if r.bad || len(r.b) > 0 {
		return nil, errShare
	}
	return s, nil
}

// Verify reports whether the share was signed with the key.
func (s *Share) Verify(key *ecdsa.PublicKey) bool {
	return verify(key, shareContext, s.body, s.signature)
}

// Open returns the domain's secret, by the key pair of the request.
func (s *Share) Open(r *Recipient) ([]byte, bool) { return r.open(s.Enc, s.bound(), s.Sealed) }
