package wire

import (
	"encoding/binary"
	"fmt"

	"moongate/internal/hsm/object"
)

// Messages that use keys.

// UseRequest is Sign, Encrypt and Decrypt: a key, a mechanism and the bytes
// that it acts on. For Sign these are a digest, or the whole message where the
// mechanism takes one (EdDSA, HMAC, CMAC): which, the partition knows.
type UseRequest struct {
	Session   uint32
	ID        object.ID
	Mechanism object.Mechanism
	Data      []byte
}

func (m *UseRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.Session)
	b = append(b, m.ID[:]...)
	b = appendMechanism(b, m.Mechanism)
	return appendBytes(b, m.Data)
}

// Decode reads the body of a request with one of the three ops, whose limits
// differ.
func (m *UseRequest) Decode(op Op, body []byte) error {
	what, limit := "message", MaxMessage
	switch op {
	case OpEncrypt:
		what, limit = "plaintext", MaxPlaintext
	case OpDecrypt:
		what, limit = "ciphertext", MaxData
	}
	d := decoder{b: body}
	*m = UseRequest{Session: d.uint32(), ID: d.id(), Mechanism: d.mechanism(), Data: d.bytes(what, limit)}
	return d.end(op.String() + " request")
}

// VerifyRequest has a signature or a MAC checked, by a public key or a secret
// one. Data is as for Sign.
type VerifyRequest struct {
	Session   uint32
	ID        object.ID
	Mechanism object.Mechanism
	Data      []byte
	Signature []byte
}

func (m *VerifyRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.Session)
	b = append(b, m.ID[:]...)
	b = appendMechanism(b, m.Mechanism)
	b = appendBytes(b, m.Data)
	return appendBytes(b, m.Signature)
}

func (m *VerifyRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = VerifyRequest{
		Session:   d.uint32(),
		ID:        d.id(),
		Mechanism: d.mechanism(),
		Data:      d.bytes("message", MaxMessage),
		Signature: d.bytes("signature", MaxSignature),
	}
	return d.end("Verify request")
}

// DeriveRequest makes a secret key of the key Base.
type DeriveRequest struct {
	Session   uint32
	Base      object.ID
	Mechanism object.Mechanism
	Template  object.Template // of the new key
}

func (m *DeriveRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.Session)
	b = append(b, m.Base[:]...)
	b = appendMechanism(b, m.Mechanism)
	return m.Template.Append(b)
}

func (m *DeriveRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = DeriveRequest{Session: d.uint32(), Base: d.id(), Mechanism: d.mechanism(), Template: d.template()}
	return d.end("Derive request")
}

// WrapRequest asks for the key Target encrypted under the key Wrapping.
type WrapRequest struct {
	Session          uint32
	Wrapping, Target object.ID
	Mechanism        object.Mechanism
}

func (m *WrapRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.Session)
	b = append(b, m.Wrapping[:]...)
	b = append(b, m.Target[:]...)
	return appendMechanism(b, m.Mechanism)
}

func (m *WrapRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = WrapRequest{Session: d.uint32(), Wrapping: d.id(), Target: d.id(), Mechanism: d.mechanism()}
	return d.end("Wrap request")
}

type UnwrapRequest struct {
	Session   uint32
	ID        object.ID // the key that unwraps
	Mechanism object.Mechanism
	Wrapped   []byte
	Template  object.Template // of the new key
}

func (m *UnwrapRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.Session)
	b = append(b, m.ID[:]...)
	b = appendMechanism(b, m.Mechanism)
	b = appendBytes(b, m.Wrapped)
	return m.Template.Append(b)
}

func (m *UnwrapRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = UnwrapRequest{
		Session:   d.uint32(),
		ID:        d.id(),
		Mechanism: d.mechanism(),
		Wrapped:   d.bytes("wrapped key", MaxWrapped),
		Template:  d.template(),
	}
	return d.end("Unwrap request")
}

type RandomRequest struct {
	Session uint32
	N       uint32 // bytes, 1 to MaxRandom
}

func (m *RandomRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.Session)
	return binary.BigEndian.AppendUint32(b, m.N)
}

func (m *RandomRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = RandomRequest{Session: d.uint32(), N: d.uint32()}
	if m.N == 0 || m.N > MaxRandom {
		d.fail(fmt.Errorf("%d random bytes, expected 1 to %d", m.N, MaxRandom))
	}
	return d.end("Random request")
}

// DataAnswer is the answer of Sign, Encrypt, Decrypt, Wrap and Random.
type DataAnswer struct {
	Data []byte
}

func (m *DataAnswer) Append(b []byte) []byte { return appendBytes(b, m.Data) }

func (m *DataAnswer) Decode(body []byte) error {
	d := decoder{b: body}
	*m = DataAnswer{Data: d.bytes("data", MaxData)}
	return d.end("data answer")
}
