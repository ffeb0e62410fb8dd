package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"moongate/internal/hsm/object"
)

// Messages by which a partition says what it holds to those that would
// replicate it. SessionRequest is Replica, Group and Digest.

// ReplicaAnswer describes a partition as a replica: peers ascending by HSM and
// serial number.
type ReplicaAnswer struct {
	Replica object.Replica
}

func (m *ReplicaAnswer) Append(b []byte) []byte {
	r := &m.Replica
	b = appendText(b, r.Label)
	b = appendText(b, r.Serial)
	b = append(b, r.ID[:]...)
	b = append(b, r.HSM[:]...)
	b = appendBytes(b, r.Certificate)
	b = appendText(b, r.Domain)
	b = appendText(b, r.Software)
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Peers)))
	for _, p := range r.Peers {
		b = append(b, p.HSM[:]...)
		b = appendText(b, p.Serial)
		b = appendText(b, p.Name)
	}
	return b
}

func (m *ReplicaAnswer) Decode(body []byte) error {
	d := decoder{b: body}
	*m = ReplicaAnswer{}
	r := &m.Replica
	r.Label, r.Serial = d.text("label", MaxName), d.text("serial number", MaxSerial)
	copy(r.ID[:], d.take(len(r.ID)))
	r.HSM = d.hsm()
	r.Certificate = d.bytes("certificate", MaxCertificate)
	r.Domain, r.Software = d.text("domain", MaxDomain), d.text("software", MaxSoftware)
	for i := range d.count("peers", object.MaxPeers) {
		p := object.Peer{HSM: d.hsm(), Serial: d.text("peer's serial number", MaxSerial), Name: d.text("peer's name", object.MaxMemberName)}
		if d.err == nil && i > 0 && p.Compare(r.Peers[i-1]) <= 0 {
			d.fail(fmt.Errorf("peer %v, partition %s is out of order or doubled", p.HSM, p.Serial))
		}
		r.Peers = append(r.Peers, p)
	}
	return d.end("Replica answer")
}

func (d *decoder) hsm() (h object.HSMID) {
	copy(h[:], d.take(len(h)))
	return h
}

// GroupAnswer is the record of the group that the partition is in; the zero
// Group where it is in none.
type GroupAnswer struct {
	Group object.Group
}

func (m *GroupAnswer) Append(b []byte) []byte { return m.Group.Append(b) }

func (m *GroupAnswer) Decode(body []byte) error {
	d := decoder{b: body}
	*m = GroupAnswer{Group: d.group()}
	return d.end("Group answer")
}

func (d *decoder) group() object.Group {
	if d.err != nil {
		return object.Group{}
	}
	g, rest, err := object.DecodeGroup(d.b)
	if err != nil {
		d.fail(err)
		return object.Group{}
	}
	d.b = rest
	return g
}

// SetGroupRequest puts a record in the place of the one with the epoch Expect,
// 0 for none; the zero Group removes it.
type SetGroupRequest struct {
	Session uint32
	Expect  uint64
	Group   object.Group
}

func (m *SetGroupRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.Session)
	b = binary.BigEndian.AppendUint64(b, m.Expect)
	return m.Group.Append(b)
}

func (m *SetGroupRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = SetGroupRequest{Session: d.uint32(), Expect: d.uint64(), Group: d.group()}
	return d.end("SetGroup request")
}

// DigestAnswer says what a partition holds, in few bytes.
type DigestAnswer struct {
	Digest object.ReplicaDigest
}

func (m *DigestAnswer) Append(b []byte) []byte {
	g := &m.Digest
	b = binary.BigEndian.AppendUint64(b, g.Sequence)
	b = binary.BigEndian.AppendUint64(b, g.Objects)
	b = binary.BigEndian.AppendUint64(b, g.Tombstones)
	b = append(b, g.Sum[:]...)
	return binary.BigEndian.AppendUint64(b, g.Epoch)
}

func (m *DigestAnswer) Decode(body []byte) error {
	d := decoder{b: body}
	g := object.ReplicaDigest{Sequence: d.uint64(), Objects: d.uint64(), Tombstones: d.uint64()}
	copy(g.Sum[:], d.take(len(g.Sum)))
	g.Epoch = d.uint64()
	*m = DigestAnswer{Digest: g}
	return d.end("Digest answer")
}

// ChangesRequest asks for the states of objects and tombstones in the order of
// their last changes, beginning after the change After.
type ChangesRequest struct {
	Session uint32
	After   uint64
	Limit   uint32 // 1 to object.MaxChanges
}

func (m *ChangesRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.Session)
	b = binary.BigEndian.AppendUint64(b, m.After)
	return binary.BigEndian.AppendUint32(b, m.Limit)
}

func (m *ChangesRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = ChangesRequest{Session: d.uint32(), After: d.uint64(), Limit: d.uint32()}
	if m.Limit == 0 || m.Limit > object.MaxChanges {
		d.fail(fmt.Errorf("limit is %d, expected 1 to %d", m.Limit, object.MaxChanges))
	}
	return d.end("Changes request")
}

// ChangesAnswer may hold fewer states than the request's limit and still say
// More, as FindAnswer may. States ascend by Sequence.
type ChangesAnswer struct {
	States []object.ObjectState
	More   bool
}

func (m *ChangesAnswer) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.States)))
	for i := range m.States {
		b = appendState(b, &m.States[i])
	}
	return appendBool(b, m.More)
}

func (m *ChangesAnswer) Decode(body []byte) error {
	d := decoder{b: body}
	*m = ChangesAnswer{}
	for i := range d.count("states", object.MaxChanges) {
		s := d.state()
		if d.err == nil && i > 0 && s.Sequence <= m.States[i-1].Sequence {
			d.fail(fmt.Errorf("change %d is out of order or doubled", s.Sequence))
		}
		m.States = append(m.States, s)
	}
	m.More = d.bool()
	if d.err == nil && m.More && len(m.States) == 0 {
		d.fail(errors.New("no states, and more of them"))
	}
	return d.end("Changes answer")
}

// Fit drops states off the end until the answer's frame is within MaxFrame,
// and says More then.
func (m *ChangesAnswer) Fit() {
	size := AnswerHeaderSize + 2 + 1
	for i := range m.States {
		size += stateSize(&m.States[i])
		if size > MaxFrame || i == object.MaxChanges {
			m.States, m.More = m.States[:i], true
			return
		}
	}
}

// A state is an id, a sequence (uint64) and whether it is a tombstone. Then a
// tombstone has its time; an object its stamp, vector and content.

func appendState(b []byte, s *object.ObjectState) []byte {
	b = append(b, s.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, s.Sequence)
	b = appendBool(b, s.Deleted)
	if s.Deleted {
		return appendTime(b, s.At)
	}
	b = s.Stamp.Append(b)
	b = s.Vector.Append(b)
	return append(b, s.Content[:]...)
}

func stateSize(s *object.ObjectState) int {
	const head = 16 + 8 + 1
	if s.Deleted {
		return head + 8
	}
	return head + 16 + 2 + 16*len(s.Vector) + len(s.Content)
}

func (d *decoder) state() object.ObjectState {
	s := object.ObjectState{ID: d.id(), Sequence: d.uint64(), Deleted: d.bool()}
	if s.Deleted {
		s.At = d.time()
		return s
	}
	if d.err != nil {
		return s
	}
	var err error
	if s.Stamp, d.b, err = object.DecodeStamp(d.b); err != nil {
		d.fail(err)
		return s
	}
	if s.Vector, d.b, err = object.DecodeVector(d.b); err != nil {
		d.fail(err)
		return s
	}
	copy(s.Content[:], d.take(len(s.Content)))
	return s
}
