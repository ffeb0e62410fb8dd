package wire

import (
	"encoding/binary"
	"fmt"

	"moongate/internal/hsm/object"
)

// Messages about the connection and its sessions.

// HelloRequest opens a connection.
type HelloRequest struct {
	Min, Max uint16 // versions that the client speaks
	Software string // for the HSM's log
}

func (m *HelloRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, m.Min)
	b = binary.BigEndian.AppendUint16(b, m.Max)
	return appendText(b, m.Software)
}

func (m *HelloRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = HelloRequest{Min: d.uint16(), Max: d.uint16(), Software: d.text("software", MaxSoftware)}
	if m.Min > m.Max {
		d.fail(fmt.Errorf("versions %d to %d", m.Min, m.Max))
	}
	return d.end("Hello request")
}

// HelloAnswer admits the client.
type HelloAnswer struct {
	Version     uint16 // the one that both use from here on
	Software    string
	Serial      string // the HSM's
	MaxFrame    uint32 // longest frame that the HSM takes
	MaxInFlight uint32 // requests that the HSM reads ahead of its answers
}

func (m *HelloAnswer) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, m.Version)
	b = appendText(b, m.Software)
	b = appendText(b, m.Serial)
	b = binary.BigEndian.AppendUint32(b, m.MaxFrame)
	return binary.BigEndian.AppendUint32(b, m.MaxInFlight)
}

func (m *HelloAnswer) Decode(body []byte) error {
	d := decoder{b: body}
	*m = HelloAnswer{
		Version:     d.uint16(),
		Software:    d.text("software", MaxSoftware),
		Serial:      d.text("serial number", MaxSerial),
		MaxFrame:    d.uint32(),
		MaxInFlight: d.uint32(),
	}
	return d.end("Hello answer")
}

// Empty is a message without a body: Ping, ListPartitions and AuditCheckpoint
// requests, and the answers of whatever has nothing to say but that it was done.
type Empty struct{}

func (*Empty) Append(b []byte) []byte { return b }

func (*Empty) Decode(body []byte) error {
	d := decoder{b: body}
	return d.end("empty message")
}

// PartitionsAnswer lists what is assigned to the client.
type PartitionsAnswer struct {
	Partitions []object.PartitionInfo
}

func (m *PartitionsAnswer) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.Partitions)))
	for _, p := range m.Partitions {
		b = appendText(b, p.Label)
		b = appendText(b, p.Serial)
	}
	return b
}

func (m *PartitionsAnswer) Decode(body []byte) error {
	d := decoder{b: body}
	*m = PartitionsAnswer{}
	for range d.count("partitions", MaxPartitions) {
		m.Partitions = append(m.Partitions, object.PartitionInfo{
			Label:  d.text("label", MaxName),
			Serial: d.text("serial number", MaxSerial),
		})
	}
	return d.end("ListPartitions answer")
}

// OpenSessionRequest opens a session. An empty partition is the only one that
// is assigned to the client.
type OpenSessionRequest struct {
	Partition string
}

func (m *OpenSessionRequest) Append(b []byte) []byte { return appendText(b, m.Partition) }

func (m *OpenSessionRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = OpenSessionRequest{Partition: d.text("partition", MaxName)}
	return d.end("OpenSession request")
}

type OpenSessionAnswer struct {
	Session   uint32 // names it on this connection
	Partition object.PartitionInfo
}

func (m *OpenSessionAnswer) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.Session)
	b = appendText(b, m.Partition.Label)
	return appendText(b, m.Partition.Serial)
}

func (m *OpenSessionAnswer) Decode(body []byte) error {
	d := decoder{b: body}
	*m = OpenSessionAnswer{
		Session: d.uint32(),
		Partition: object.PartitionInfo{
			Label:  d.text("label", MaxName),
			Serial: d.text("serial number", MaxSerial),
		},
	}
	return d.end("OpenSession answer")
}

// SessionRequest is CloseSession, Logout, Status, Deactivate, Replica, Group
// and Digest.
type SessionRequest struct {
	Session uint32
}

func (m *SessionRequest) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, m.Session)
}

func (m *SessionRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = SessionRequest{Session: d.uint32()}
	return d.end("session request")
}

// PasswordRequest is Login, InitRole and ResetRole. It holds a password: its
// sender and its receiver wipe the frame.
type PasswordRequest struct {
	Session  uint32
	Role     object.Role
	Password []byte
}

func (m *PasswordRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.Session)
	b = append(b, byte(m.Role))
	return appendBytes(b, m.Password)
}

func (m *PasswordRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = PasswordRequest{
		Session:  d.uint32(),
		Role:     object.Role(d.uint8()),
		Password: d.bytes("password", MaxPassword),
	}
	return d.end("password request")
}
