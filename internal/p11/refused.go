package p11

import (
	"context"

	"moongate/internal/hsm/object"
)

// What a token is not asked to do through this door.

func elsewhere(what string) error {
	return object.Errorf(object.ErrNotSupported, "%s is not done through moongate-p11; use the token's own tools", what)
}

func (a *attached) AuditCheckpoint(context.Context) (object.AuditCheckpoint, error) {
	return object.AuditCheckpoint{}, noAudit()
}

func (a *attached) AuditProof(context.Context, uint64) (object.AuditProof, error) {
	return object.AuditProof{}, noAudit()
}

func noAudit() error {
	return object.Errorf(object.ErrNotSupported, "a PKCS#11 token has no audit log that can be read through its module")
}

func (s *session) SetAttributes(context.Context, object.OperationID, object.ID, object.Template) error {
	return elsewhere("changing objects")
}

func (s *session) Destroy(context.Context, object.OperationID, object.ID) error {
	return elsewhere("destroying objects")
}

func (s *session) InitPartition(context.Context, object.OperationID, []byte) error {
	return elsewhere("initializing a token")
}

func (s *session) InitRole(context.Context, object.OperationID, object.Role, []byte) error {
	return elsewhere("setting PINs")
}

func (s *session) ResetRole(context.Context, object.OperationID, object.Role, []byte) error {
	return elsewhere("setting PINs")
}

func (s *session) UnlockRole(context.Context, object.OperationID, object.Role) error {
	return elsewhere("unlocking PINs")
}

func (s *session) ChangePassword(context.Context, object.OperationID, object.Role, []byte, []byte) error {
	return elsewhere("changing PINs")
}

func (s *session) SetPolicy(context.Context, object.OperationID, object.PolicyValue) error {
	return elsewhere("setting policies")
}

func (s *session) Deactivate(context.Context, object.OperationID) error {
	return elsewhere("deactivation")
}

func (s *session) Verify(context.Context, object.OperationID, object.ID, object.Mechanism, []byte, []byte) error {
	return object.Errorf(object.ErrNotSupported, "verifying is not done through moongate-p11; read the public key and verify with that")
}

func (s *session) Derive(context.Context, object.OperationID, object.ID, object.Mechanism, object.Template) (object.ID, error) {
	return object.ID{}, elsewhere("deriving keys")
}

func (s *session) Wrap(context.Context, object.OperationID, object.ID, object.ID, object.Mechanism) ([]byte, error) {
	return nil, elsewhere("wrapping keys")
}

func (s *session) Unwrap(context.Context, object.OperationID, object.ID, object.Mechanism, []byte, object.Template) (object.ID, error) {
	return object.ID{}, elsewhere("unwrapping keys")
}

// A token is cloned by its vendor's means; its group, if it is in one, is one
// token to us.

func noReplica() error {
	return object.Errorf(object.ErrNotSupported, "a PKCS#11 token is no replica; groups of tokens are made with the vendor's own tools, and are one token here")
}

func (s *session) Replica(context.Context, object.OperationID) (object.Replica, error) {
	return object.Replica{}, noReplica()
}

func (s *session) Group(context.Context, object.OperationID) (object.Group, error) {
	return object.Group{}, noReplica()
}

func (s *session) SetGroup(context.Context, object.OperationID, uint64, object.Group) error {
	return noReplica()
}

func (s *session) Digest(context.Context, object.OperationID) (object.ReplicaDigest, error) {
	return object.ReplicaDigest{}, noReplica()
}

func (s *session) Changes(context.Context, object.OperationID, uint64, int) ([]object.ObjectState, bool, error) {
	return nil, false, noReplica()
}

func (s *session) OfferClone(context.Context, object.OperationID, object.HSMID, string) ([]byte, error) {
	return nil, noReplica()
}

func (s *session) CloneOut(context.Context, object.OperationID, []byte, []object.ID) ([]byte, []object.ID, error) {
	return nil, nil, noReplica()
}

func (s *session) CloneIn(context.Context, object.OperationID, []byte) ([]object.CloneResult, error) {
	return nil, noReplica()
}

func (s *session) SetPeer(context.Context, object.OperationID, object.HSMID, string, bool) error {
	return noReplica()
}
