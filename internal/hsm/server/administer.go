package server

import (
	"context"
	"errors"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// administer is what a client may do to a partition as a whole. Passwords lie
// in the request's body, which perform wipes.
func (c *conn) administer(ctx context.Context, r *request) (answer, error) {
	op := r.head.Operation
	switch r.head.Op {
	case wire.OpStatus:
		var m wire.SessionRequest
		if err := decode(&m, r.body); err != nil {
			return nil, err
		}
		return c.with(m.Session, func(s Session) (answer, error) {
			status, err := s.Status(ctx, op)
			return &wire.StatusAnswer{Status: status}, err
		})
	case wire.OpInitPartition:
		var m wire.InitPartitionRequest
		if err := decode(&m, r.body); err != nil {
			return nil, err
		}
		return c.do(m.Session, func(s Session) error { return s.InitPartition(ctx, op, m.Password) })
	case wire.OpInitRole, wire.OpResetRole:
		var m wire.PasswordRequest
		if err := decode(&m, r.body); err != nil {
			return nil, err
		}
		return c.do(m.Session, func(s Session) error {
			if r.head.Op == wire.OpInitRole {
				return s.InitRole(ctx, op, m.Role, m.Password)
			}
			return s.ResetRole(ctx, op, m.Role, m.Password)
		})
	case wire.OpUnlockRole:
		var m wire.UnlockRoleRequest
		if err := decode(&m, r.body); err != nil {
			return nil, err
		}
		return c.do(m.Session, func(s Session) error { return s.UnlockRole(ctx, op, m.Role) })
	case wire.OpChangePassword:
		var m wire.ChangePasswordRequest
		if err := decode(&m, r.body); err != nil {
			return nil, err
		}
		return c.do(m.Session, func(s Session) error { return s.ChangePassword(ctx, op, m.Role, m.Old, m.New) })
	case wire.OpSetPolicy:
		var m wire.SetPolicyRequest
		if err := decode(&m, r.body); err != nil {
			return nil, err
		}
		return c.do(m.Session, func(s Session) error { return s.SetPolicy(ctx, op, m.Policy) })
	case wire.OpDeactivate:
		var m wire.SessionRequest
		if err := decode(&m, r.body); err != nil {
			return nil, err
		}
		return c.do(m.Session, func(s Session) error { return s.Deactivate(ctx, op) })
	}
	return nil, errors.New("no act of administration") // perform names them all
}

// audit is what a client asks of the HSM's audit log, without a session.
func (c *conn) audit(ctx context.Context, r *request) (answer, error) {
	if r.head.Op == wire.OpAuditCheckpoint {
		if err := decode(done, r.body); err != nil {
			return nil, err
		}
		checkpoint, err := c.client.AuditCheckpoint(ctx)
		return &wire.CheckpointAnswer{Checkpoint: checkpoint}, err
	}
	var m wire.ProofRequest
	if err := decode(&m, r.body); err != nil {
		return nil, err
	}
	proof, err := c.client.AuditProof(ctx, m.Size)
	if err == nil && len(proof.Hashes) > wire.MaxProof {
		return nil, object.Errorf(object.ErrGeneral, "a proof of %d hashes, at most %d", len(proof.Hashes), wire.MaxProof)
	}
	return &wire.ProofAnswer{Proof: proof}, err
}
