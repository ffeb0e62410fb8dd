package wire

import (
	"encoding/binary"
	"fmt"

	"moongate/internal/hsm/object"
)

// Messages by which a client administers a partition. Login's layout, in
// PasswordRequest, is that of InitRole and ResetRole too.

// StatusAnswer describes a partition: roles ascending, policies ascending.
type StatusAnswer struct {
	Status object.PartitionStatus
}

func (m *StatusAnswer) Append(b []byte) []byte {
	s := &m.Status
	b = appendText(b, s.Label)
	b = appendText(b, s.Serial)
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.Roles)))
	for _, r := range s.Roles {
		b = append(b, byte(r.Role))
		b = appendBool(b, r.Initialized)
		b = binary.BigEndian.AppendUint32(b, uint32(r.Failures))
		b = appendBool(b, r.Locked)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.Policies)))
	for _, p := range s.Policies {
		b = binary.BigEndian.AppendUint32(b, uint32(p.ID))
		b = binary.BigEndian.AppendUint64(b, p.Value)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(s.Objects))
	return appendBool(b, s.Active)
}

func (m *StatusAnswer) Decode(body []byte) error {
	d := decoder{b: body}
	*m = StatusAnswer{}
	s := &m.Status
	s.Label, s.Serial = d.text("label", MaxName), d.text("serial number", MaxSerial)
	for i := range d.count("roles", MaxRoles) {
		r := object.RoleStatus{
			Role: object.Role(d.uint8()), Initialized: d.bool(), Failures: int(d.uint32()), Locked: d.bool(),
		}
		if d.err == nil && i > 0 && r.Role <= s.Roles[i-1].Role {
			d.fail(fmt.Errorf("role %d is out of order or doubled", r.Role))
		}
		s.Roles = append(s.Roles, r)
	}
	for i := range d.count("policies", MaxPolicies) {
		p := object.PolicyValue{ID: object.PolicyID(d.uint32()), Value: d.uint64()}
		if d.err == nil && i > 0 && p.ID <= s.Policies[i-1].ID {
			d.fail(fmt.Errorf("policy %d is out of order or doubled", p.ID))
		}
		s.Policies = append(s.Policies, p)
	}
	s.Objects, s.Active = int(d.uint32()), d.bool()
	return d.end("Status answer")
}

// InitPartitionRequest holds a password: its sender and its receiver wipe the
// frame.
type InitPartitionRequest struct {
	Session  uint32
	Password []byte // the Partition Security Officer's
}

func (m *InitPartitionRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.Session)
	return appendBytes(b, m.Password)
}

func (m *InitPartitionRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = InitPartitionRequest{Session: d.uint32(), Password: d.bytes("password", MaxPassword)}
	return d.end("InitPartition request")
}

type UnlockRoleRequest struct {
	Session uint32
	Role    object.Role
}

func (m *UnlockRoleRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.Session)
	return append(b, byte(m.Role))
}

func (m *UnlockRoleRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = UnlockRoleRequest{Session: d.uint32(), Role: object.Role(d.uint8())}
	return d.end("UnlockRole request")
}

// ChangePasswordRequest holds passwords: its sender and its receiver wipe the
// frame.
type ChangePasswordRequest struct {
	Session  uint32
	Role     object.Role
	Old, New []byte
}

func (m *ChangePasswordRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.Session)
	b = append(b, byte(m.Role))
	b = appendBytes(b, m.Old)
	return appendBytes(b, m.New)
}

func (m *ChangePasswordRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = ChangePasswordRequest{
		Session: d.uint32(),
		Role:    object.Role(d.uint8()),
		Old:     d.bytes("old password", MaxPassword),
		New:     d.bytes("new password", MaxPassword),
	}
	return d.end("ChangePassword request")
}

type SetPolicyRequest struct {
	Session uint32
	Policy  object.PolicyValue
}

func (m *SetPolicyRequest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.Session)
	b = binary.BigEndian.AppendUint32(b, uint32(m.Policy.ID))
	return binary.BigEndian.AppendUint64(b, m.Policy.Value)
}

func (m *SetPolicyRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = SetPolicyRequest{
		Session: d.uint32(),
		Policy:  object.PolicyValue{ID: object.PolicyID(d.uint32()), Value: d.uint64()},
	}
	return d.end("SetPolicy request")
}
