package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"moongate/internal/hsm/object"
)

// Messages by which objects go from a partition of one HSM to one of another.
// Offers and packages are sealed and signed between the HSMs; to this protocol
// and to the client that carries them they are bytes.

// OfferRequest asks for an offer that the partition with
// Serial on HSM may answer.
type OfferRequest struct {
	Session uint32
	HSM     object.HSMID
	Serial  string
}

func (m *OfferRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.Session)
	b = append(b, m.HSM[:]...)
	return appendText(b, m.Serial)
}

func (m *OfferRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = OfferRequest{Session: d.uint32(), HSM: d.hsm(), Serial: d.text("serial number", MaxSerial)}
	return d.end("OfferClone request")
}

// OfferAnswer is a target's offer to take a clone.
type OfferAnswer struct {
	Offer []byte
}

func (m *OfferAnswer) Append(b []byte) []byte { return appendBytes(b, m.Offer) }

func (m *OfferAnswer) Decode(body []byte) error {
	d := decoder{b: body}
	*m = OfferAnswer{Offer: d.bytes("offer", object.MaxOffer)}
	return d.end("OfferClone answer")
}

// CloneOutRequest asks a source for a package that answers an offer. IDs are
// ascending, one at least.
type CloneOutRequest struct {
	Session uint32
	Offer   []byte
	IDs     []object.ID
}

func (m *CloneOutRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.Session)
	b = appendBytes(b, m.Offer)
	return appendIDs(b, m.IDs)
}

func (m *CloneOutRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = CloneOutRequest{Session: d.uint32(), Offer: d.bytes("offer", object.MaxOffer), IDs: d.ids()}
	if d.err == nil && len(m.IDs) == 0 {
		d.fail(fmt.Errorf("no objects to clone, expected 1 to %d", object.MaxClone))
	}
	return d.end("CloneOut request")
}

// CloneOutAnswer names the objects that are in the package, ascending: those
// that were asked for, or as many of them as fit.
type CloneOutAnswer struct {
	Package []byte
	IDs     []object.ID
}

func (m *CloneOutAnswer) Append(b []byte) []byte {
	b = appendBytes(b, m.Package)
	return appendIDs(b, m.IDs)
}

func (m *CloneOutAnswer) Decode(body []byte) error {
	d := decoder{b: body}
	*m = CloneOutAnswer{Package: d.bytes("package", object.MaxPackage), IDs: d.ids()}
	return d.end("CloneOut answer")
}

func appendIDs(b []byte, ids []object.ID) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(ids)))
	for _, id := range ids {
		b = append(b, id[:]...)
	}
	return b
}

// ids reads a list of objects, which has one order: ascending.
func (d *decoder) ids() []object.ID {
	var ids []object.ID
	for i := range d.count("objects", object.MaxClone) {
		id := d.id()
		if d.err == nil && i > 0 && bytes.Compare(id[:], ids[i-1][:]) <= 0 {
			d.fail(fmt.Errorf("object %v is out of order or doubled", id))
		}
		ids = append(ids, id)
	}
	return ids
}

// CloneInRequest hands a package to its target.
type CloneInRequest struct {
	Session uint32
	Package []byte
}

func (m *CloneInRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.Session)
	return appendBytes(b, m.Package)
}

func (m *CloneInRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = CloneInRequest{Session: d.uint32(), Package: d.bytes("package", object.MaxPackage)}
	return d.end("CloneIn request")
}

// CloneInAnswer says what became of each object, ascending by ID. A refused one
// has a code, and no other has.
type CloneInAnswer struct {
	Results []object.CloneResult
}

// Append cuts details to MaxCloneDetail bytes.
func (m *CloneInAnswer) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.Results)))
	for _, r := range m.Results {
		b = append(b, r.ID[:]...)
		b = append(b, byte(r.Outcome))
		b = binary.BigEndian.AppendUint32(b, uint32(r.Code))
		b = appendText(b, cut(r.Detail, MaxCloneDetail))
	}
	return b
}

func (m *CloneInAnswer) Decode(body []byte) error {
	d := decoder{b: body}
	*m = CloneInAnswer{}
	for i := range d.count("results", object.MaxClone) {
		r := object.CloneResult{
			ID: d.id(), Outcome: object.CloneOutcome(d.uint8()), Code: object.Code(d.uint32()), Detail: d.text("detail", MaxCloneDetail),
		}
		switch {
		case d.err != nil:
		case i > 0 && bytes.Compare(r.ID[:], m.Results[i-1].ID[:]) <= 0:
			d.fail(fmt.Errorf("object %v is out of order or doubled", r.ID))
		case r.Outcome < object.CloneAdded || r.Outcome > object.CloneRefused:
			d.fail(fmt.Errorf("object %v has outcome %d, expected %d to %d", r.ID, r.Outcome, object.CloneAdded, object.CloneRefused))
		case (r.Outcome == object.CloneRefused) != (r.Code != object.OK):
			d.fail(fmt.Errorf("object %v has outcome %d with code 0x%08x", r.ID, r.Outcome, uint32(r.Code)))
		}
		m.Results = append(m.Results, r)
	}
	return d.end("CloneIn answer")
}

// SetPeerRequest lists a partition of another HSM as one to clone with, or
// takes it off the list.
type SetPeerRequest struct {
	Session uint32
	HSM     object.HSMID
	Serial  string
	Listed  bool
}

func (m *SetPeerRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.Session)
	b = append(b, m.HSM[:]...)
	b = appendText(b, m.Serial)
	return appendBool(b, m.Listed)
}

func (m *SetPeerRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = SetPeerRequest{Session: d.uint32(), HSM: d.hsm(), Serial: d.text("serial number", MaxSerial), Listed: d.bool()}
	return d.end("SetPeer request")
}
