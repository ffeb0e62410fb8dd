package client

import (
	"context"
	"slices"

	"moongate/internal/hsm/object"
)

// What a token does of administration: one partition whose Crypto Officer there
// is already, and passwords in the clear.

func (c tokenClient) AuditCheckpoint(context.Context) (object.AuditCheckpoint, error) {
	c.k.mu.Lock()
	defer c.k.mu.Unlock()
	if c.k.log == nil {
		return object.AuditCheckpoint{}, object.Errorf(object.ErrNotSupported, "a token has no audit log")
	}
	return c.k.log.checkpoint(), nil
}

func (c tokenClient) AuditProof(_ context.Context, size uint64) (object.AuditProof, error) {
	c.k.mu.Lock()
	defer c.k.mu.Unlock()
	return c.k.log.prove(size)
}

func (s *tokenSession) Status(context.Context, object.OperationID) (object.PartitionStatus, error) {
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	return object.PartitionStatus{
		PartitionInfo: s.Info(),
		Roles:         []object.RoleStatus{{Role: object.RoleCryptoOfficer, Initialized: true, Locked: s.k.locked}},
		Policies:      slices.Clone(s.k.policies),
		Objects:       len(s.k.objects),
	}, nil
}

// administer admits an act to a session that is logged in as one of the roles.
func (s *tokenSession) administer(act string, roles ...object.Role) error {
	if err := s.enter(act); err != nil {
		return err
	}
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	if !slices.Contains(roles, s.role) {
		return object.Errorf(object.ErrUserType, "%s is not for %v", act, s.role)
	}
	return nil
}

func (s *tokenSession) InitPartition(_ context.Context, _ object.OperationID, password []byte) error {
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	if s.k.officer != "" {
		return object.Errorf(object.ErrExists, "the partition has a Partition Security Officer")
	}
	s.k.officer = string(password)
	return nil
}

func (s *tokenSession) InitRole(_ context.Context, _ object.OperationID, role object.Role, password []byte) error {
	return s.setPassword("InitRole", role, password)
}

func (s *tokenSession) ResetRole(_ context.Context, _ object.OperationID, role object.Role, password []byte) error {
	return s.setPassword("ResetRole", role, password)
}

func (s *tokenSession) setPassword(act string, role object.Role, password []byte) error {
	if err := s.administer(act, object.RolePartitionOfficer); err != nil {
		return err
	}
	if role != object.RoleCryptoOfficer {
		return object.Errorf(object.ErrArgumentsBad, "role %v", role)
	}
	s.k.set(func() { s.k.password = string(password) })
	return nil
}

func (s *tokenSession) UnlockRole(context.Context, object.OperationID, object.Role) error {
	if err := s.administer("UnlockRole", object.RolePartitionOfficer); err != nil {
		return err
	}
	s.k.set(func() { s.k.locked = false })
	return nil
}

func (s *tokenSession) ChangePassword(_ context.Context, _ object.OperationID, role object.Role, old, fresh []byte) error {
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	if role != object.RoleCryptoOfficer || string(old) != s.k.password {
		return object.Errorf(object.ErrPINIncorrect, "")
	}
	s.k.password = string(fresh)
	return nil
}

func (s *tokenSession) SetPolicy(_ context.Context, _ object.OperationID, policy object.PolicyValue) error {
	if err := s.administer("SetPolicy", object.RolePartitionOfficer); err != nil {
		return err
	}
	s.k.set(func() { s.k.policies = []object.PolicyValue{policy} })
	return nil
}

func (s *tokenSession) Deactivate(context.Context, object.OperationID) error {
	return s.administer("Deactivate", object.RolePartitionOfficer, object.RoleCryptoOfficer)
}

func (s *tokenSession) Verify(_ context.Context, _ object.OperationID, id object.ID, m object.Mechanism, data, signature []byte) error {
	key, err := s.key("Verify", id)
	if err != nil {
		return err
	}
	return key.Verify(m, data, signature)
}

func (s *tokenSession) Derive(_ context.Context, _ object.OperationID, base object.ID, m object.Mechanism, t object.Template) (object.ID, error) {
	key, err := s.key("Derive", base)
	if err != nil {
		return object.ID{}, err
	}
	material, err := key.Derive(m, t)
	if err != nil {
		return object.ID{}, err
	}
	return s.k.add(material)
}
