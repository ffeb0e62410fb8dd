package partition

import (
	"context"

	"moongate/internal/hsm/object"
)

// PartitionOfficer is who administers one partition: its Partition Security
// Officer whose password was right, or the HSM's Security Officer while the
// partition has none. It can use no key.
type PartitionOfficer struct {
	h   *HSM
	id  object.ID
	who Operator
}

// InitPartition gives a partition its Partition Security Officer. From then on
// the HSM's Security Officer can delete the partition and assign it, and
// nothing else. ErrExists where it has one.
func (o *Officer) InitPartition(ctx context.Context, name string, pw []byte) error {
	return errNotYet
}

// Partition returns the Security Officer as officer of a partition;
// ErrUserType where the partition has a Partition Security Officer.
func (o *Officer) Partition(name string) (*PartitionOfficer, error) {
	return nil, errNotYet
}

// AuthenticatePartitionOfficer checks a Partition Security Officer's password.
func (h *HSM) AuthenticatePartitionOfficer(ctx context.Context, who Operator, name string, pw []byte) (*PartitionOfficer, error) {
	return nil, errNotYet
}

// InitCryptoOfficer gives the partition its Crypto Officer, and with the role
// the key that its objects will be sealed under.
func (p *PartitionOfficer) InitCryptoOfficer(ctx context.Context, pw []byte) error { return errNotYet }

// ResetRole gives the Crypto Officer or Crypto User whose password is lost a
// new one and keeps the keys: ErrPolicy where PolicyOfficerReset is off.
func (p *PartitionOfficer) ResetRole(ctx context.Context, role object.Role, pw []byte) error {
	return errNotYet
}

// Recreate destroys every object of the partition and gives it a Crypto
// Officer anew: what is left where a password is lost and cannot be reset.
func (p *PartitionOfficer) Recreate(ctx context.Context, pw []byte) error { return errNotYet }

// UnlockRole sets a role's count of wrong passwords back to zero.
func (p *PartitionOfficer) UnlockRole(ctx context.Context, role object.Role) error { return errNotYet }

// SetPolicy sets a policy of the partition.
func (p *PartitionOfficer) SetPolicy(ctx context.Context, v object.PolicyValue) error {
	return errNotYet
}

// ChangePassword gives the Partition Security Officer a new password;
// ErrUserType where this is the HSM's Security Officer standing in.
func (p *PartitionOfficer) ChangePassword(ctx context.Context, fresh []byte) error { return errNotYet }

// Deactivate wipes what an activated partition keeps in memory once nobody is
// logged in to it. Anybody who administers the appliance may.
func (h *HSM) Deactivate(ctx context.Context, who Operator, name string) error { return errNotYet }

// Auditor decides how the audit log is kept.
type Auditor struct {
	h   *HSM
	who Operator
}

// InitAuditor gives the HSM an Auditor, or an Auditor whose password is lost a
// new one; either is recorded.
func (o *Officer) InitAuditor(ctx context.Context, pw []byte) error { return errNotYet }

// AuthenticateAuditor checks the Auditor's password.
func (h *HSM) AuthenticateAuditor(ctx context.Context, who Operator, pw []byte) (*Auditor, error) {
	return nil, errNotYet
}

// ChangePassword gives the Auditor a new password.
func (a *Auditor) ChangePassword(ctx context.Context, fresh []byte) error { return errNotYet }

// Act records an act of the Auditor's on the audit log, and does it between
// the record of its intent and that of its outcome.
func (a *Auditor) Act(ctx context.Context, action, about string, do func() error) error {
	return errNotYet
}

// Act does the same for an appliance's administrator, whose acts are not the
// HSM's but are recorded with them: users, network, services.
func (h *HSM) Act(ctx context.Context, who Operator, action, about string, do func() error) error {
	return errNotYet
}

var errNotYet = object.Errorf(object.ErrNotSupported, "not built yet")
