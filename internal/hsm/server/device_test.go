package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"fmt"

	"moongate/internal/hsm/object"
)

// What a device answers to the acts of administration, and what it keeps of
// them: the role or policy in text, and the passwords' slices themselves.

var deviceStatus = object.PartitionStatus{
	PartitionInfo: object.PartitionInfo{Label: "p1", Serial: "11"},
	Roles: []object.RoleStatus{
		{Role: object.RoleCryptoOfficer, Initialized: true, Failures: 3, Locked: true},
		{Role: object.RolePartitionOfficer, Initialized: true},
	},
	Policies: []object.PolicyValue{{ID: object.PolicyMinRSA, Value: 3072}, {ID: object.PolicyImport, Value: 1}},
	Objects:  42,
	Active:   true,
}

var deviceProof = object.AuditProof{
	Checkpoint: object.AuditCheckpoint{Note: []byte("note"), Verifier: "key"},
	Hashes:     [][32]byte{{1}, {2}},
}

func (c *deviceClient) AuditCheckpoint(context.Context) (object.AuditCheckpoint, error) {
	return deviceProof.Checkpoint, nil
}

func (c *deviceClient) AuditProof(_ context.Context, size uint64) (object.AuditProof, error) {
	if size > 100 {
		return object.AuditProof{}, object.Errorf(object.ErrArgumentsBad, "the log has 100 records")
	}
	return deviceProof, nil
}

func (s *deviceSession) Status(context.Context, object.OperationID) (object.PartitionStatus, error) {
	defer s.enter()()
	return deviceStatus, nil
}

// did notes an act and its passwords, whose contents a test sees by then.
func (s *deviceSession) did(act string, passwords ...[]byte) error {
	defer s.enter()()
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	s.d.acts = append(s.d.acts, fmt.Sprintf("%s %s", act, bytes.Join(passwords, []byte(" "))))
	s.d.logins = append(s.d.logins, passwords...)
	return nil
}

func (s *deviceSession) InitPartition(_ context.Context, _ object.OperationID, password []byte) error {
	return s.did("init", password)
}

func (s *deviceSession) InitRole(_ context.Context, _ object.OperationID, role object.Role, password []byte) error {
	return s.did("init "+role.String(), password)
}

func (s *deviceSession) ResetRole(_ context.Context, _ object.OperationID, role object.Role, password []byte) error {
	return s.did("reset "+role.String(), password)
}

func (s *deviceSession) UnlockRole(_ context.Context, _ object.OperationID, role object.Role) error {
	return s.did("unlock " + role.String())
}

func (s *deviceSession) ChangePassword(_ context.Context, _ object.OperationID, role object.Role, old, fresh []byte) error {
	return s.did("change "+role.String(), old, fresh)
}

func (s *deviceSession) SetPolicy(_ context.Context, _ object.OperationID, policy object.PolicyValue) error {
	return s.did(fmt.Sprintf("%v %d", policy.ID, policy.Value))
}

func (s *deviceSession) Deactivate(context.Context, object.OperationID) error {
	return s.did("deactivate")
}

func (s *deviceSession) Verify(_ context.Context, _ object.OperationID, _ object.ID, _ object.Mechanism, data, signature []byte) error {
	defer s.enter()()
	if !ecdsa.VerifyASN1(&s.d.key.PublicKey, data, signature) {
		return object.Errorf(object.ErrSignatureInvalid, "")
	}
	return nil
}

func (s *deviceSession) Derive(_ context.Context, _ object.OperationID, base object.ID, m object.Mechanism, t object.Template) (object.ID, error) {
	return object.ID{0xde}, s.did(fmt.Sprintf("derive %x %v %q %q %q %d", base[:1], m.Type, m.Salt, m.Info, m.Peer, len(t)))
}
