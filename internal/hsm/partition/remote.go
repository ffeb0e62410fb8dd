package partition

import (
	"context"

	"moongate/internal/hsm/object"
)

// What a client may administer of a partition that is assigned to it. Who may
// do which of it is asked of permit, like everything else.

// Status describes the partition; it needs no login.
func (s *Session) Status(_ context.Context, op object.OperationID) (object.PartitionStatus, error) {
	return object.PartitionStatus{}, errNotYet
}

// InitPartition gives a partition that has none its Partition Security Officer.
func (s *Session) InitPartition(ctx context.Context, op object.OperationID, pw []byte) error {
	return errNotYet
}

// InitRole makes the Crypto Officer, by the Partition Security Officer, or the
// Crypto User, by the Crypto Officer.
func (s *Session) InitRole(ctx context.Context, op object.OperationID, role object.Role, pw []byte) error {
	return errNotYet
}

// ResetRole is PartitionOfficer.ResetRole.
func (s *Session) ResetRole(ctx context.Context, op object.OperationID, role object.Role, pw []byte) error {
	return errNotYet
}

// UnlockRole is PartitionOfficer.UnlockRole.
func (s *Session) UnlockRole(ctx context.Context, op object.OperationID, role object.Role) error {
	return errNotYet
}

// ChangePassword changes a role's password by its old one.
func (s *Session) ChangePassword(ctx context.Context, op object.OperationID, role object.Role, old, fresh []byte) error {
	return errNotYet
}

// SetPolicy is PartitionOfficer.SetPolicy.
func (s *Session) SetPolicy(ctx context.Context, op object.OperationID, v object.PolicyValue) error {
	return errNotYet
}

// Deactivate wipes what an activated partition keeps in memory once the last
// session has logged out.
func (s *Session) Deactivate(ctx context.Context, op object.OperationID) error { return errNotYet }
