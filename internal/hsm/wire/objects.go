package wire

import (
	"encoding/binary"
	"fmt"

	"moongate/internal/hsm/object"
)

// Messages that make, find, change and destroy objects.

// GenerateRequest makes a key pair; for a secret key Public is empty.
type GenerateRequest struct {
	Session         uint32
	Mechanism       object.Mechanism
	Public, Private object.Template
}

func (m *GenerateRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.Session)
	b = appendMechanism(b, m.Mechanism)
	b = m.Public.Append(b)
	return m.Private.Append(b)
}

func (m *GenerateRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = GenerateRequest{Session: d.uint32(), Mechanism: d.mechanism(), Public: d.template(), Private: d.template()}
	return d.end("Generate request")
}

// GenerateAnswer names the new objects; Public is zero for a secret key.
type GenerateAnswer struct {
	Public, Private object.ID
}

func (m *GenerateAnswer) Append(b []byte) []byte {
	b = append(b, m.Public[:]...)
	return append(b, m.Private[:]...)
}

func (m *GenerateAnswer) Decode(body []byte) error {
	d := decoder{b: body}
	*m = GenerateAnswer{Public: d.id(), Private: d.id()}
	return d.end("Generate answer")
}

type StoreRequest struct {
	Session  uint32
	Template object.Template
}

func (m *StoreRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.Session)
	return m.Template.Append(b)
}

func (m *StoreRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = StoreRequest{Session: d.uint32(), Template: d.template()}
	return d.end("Store request")
}

// IDAnswer names the new object of Store, Unwrap and Derive.
type IDAnswer struct {
	ID object.ID
}

func (m *IDAnswer) Append(b []byte) []byte { return append(b, m.ID[:]...) }

func (m *IDAnswer) Decode(body []byte) error {
	d := decoder{b: body}
	*m = IDAnswer{ID: d.id()}
	return d.end("id answer")
}

// FindRequest asks for objects in the order of their handles, beginning after
// the handle After. Want is ascending; empty wants every attribute.
type FindRequest struct {
	Session uint32
	Pattern object.Template
	Want    []object.AttributeType
	After   uint64
	Limit   uint32 // 1 to MaxFind
}

func (m *FindRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.Session)
	b = m.Pattern.Append(b)
	b = appendTypes(b, m.Want)
	b = binary.BigEndian.AppendUint64(b, m.After)
	return binary.BigEndian.AppendUint32(b, m.Limit)
}

func (m *FindRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = FindRequest{
		Session: d.uint32(),
		Pattern: d.template(),
		Want:    d.types(),
		After:   d.uint64(),
		Limit:   d.uint32(),
	}
	if m.Limit == 0 || m.Limit > MaxFind {
		d.fail(fmt.Errorf("limit is %d, expected 1 to %d", m.Limit, MaxFind))
	}
	return d.end("Find request")
}

// FindAnswer may hold fewer objects than the request's limit and still say
// More: a frame has its limit too.
type FindAnswer struct {
	Objects []object.Found
	More    bool
}

func (m *FindAnswer) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.Objects)))
	for _, f := range m.Objects {
		b = append(b, f.ID[:]...)
		b = f.Attributes.Append(b)
	}
	return appendBool(b, m.More)
}

func (m *FindAnswer) Decode(body []byte) error {
	d := decoder{b: body}
	*m = FindAnswer{}
	for range d.count("objects", MaxFind) {
		m.Objects = append(m.Objects, object.Found{ID: d.id(), Attributes: d.template()})
	}
	m.More = d.bool()
	return d.end("Find answer")
}

// Fit drops objects off the end until the answer's frame is within MaxFrame,
// and says More then. It reports whether anything is left of what there was.
func (m *FindAnswer) Fit() bool {
	size := AnswerHeaderSize + 2 + 1
	for i, f := range m.Objects {
		size += len(f.ID) + 2
		for _, a := range f.Attributes {
			size += 8 + len(a.Value)
		}
		if size > MaxFrame || i == MaxFind {
			m.Objects, m.More = m.Objects[:i], true
			return i > 0
		}
	}
	return true
}

// GetRequest reads attributes. Want is ascending; empty wants all.
type GetRequest struct {
	Session uint32
	ID      object.ID
	Want    []object.AttributeType
}

func (m *GetRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.Session)
	b = append(b, m.ID[:]...)
	return appendTypes(b, m.Want)
}

func (m *GetRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = GetRequest{Session: d.uint32(), ID: d.id(), Want: d.types()}
	return d.end("Get request")
}

type GetAnswer struct {
	Template object.Template
}

func (m *GetAnswer) Append(b []byte) []byte { return m.Template.Append(b) }

func (m *GetAnswer) Decode(body []byte) error {
	d := decoder{b: body}
	*m = GetAnswer{Template: d.template()}
	return d.end("Get answer")
}

type SetRequest struct {
	Session  uint32
	ID       object.ID
	Template object.Template
}

func (m *SetRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.Session)
	b = append(b, m.ID[:]...)
	return m.Template.Append(b)
}

func (m *SetRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = SetRequest{Session: d.uint32(), ID: d.id(), Template: d.template()}
	return d.end("Set request")
}

type DestroyRequest struct {
	Session uint32
	ID      object.ID
}

func (m *DestroyRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.Session)
	return append(b, m.ID[:]...)
}

func (m *DestroyRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = DestroyRequest{Session: d.uint32(), ID: d.id()}
	return d.end("Destroy request")
}
