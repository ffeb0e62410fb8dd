package client

import (
	"context"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// What a client may do to its partition as a whole. None of it but
// PartitionStatus is repeatable. Passwords are the caller's to wipe.

// PartitionStatus describes the partition: its roles and policies. It needs no
// login.
func (c *Client) PartitionStatus(ctx context.Context) (PartitionStatus, error) {
	body, err := c.call(ctx, wire.OpStatus, sessionBody)
	if err != nil {
		return PartitionStatus{}, err
	}
	var a wire.StatusAnswer
	if err := a.Decode(body); err != nil {
		return PartitionStatus{}, stageError(StageRequest, err)
	}
	return a.Status, nil
}

func sessionBody(b []byte, session uint32) []byte {
	return (&wire.SessionRequest{Session: session}).Append(b)
}

// InitPartition gives a partition that has none its Partition Security Officer.
// It needs no login (RoleNone); ErrExists where there is one.
func (c *Client) InitPartition(ctx context.Context, password []byte) error {
	if err := checkPassword(password); err != nil {
		return err
	}
	return c.act(ctx, wire.OpInitPartition, func(b []byte, session uint32) []byte {
		return (&wire.InitPartitionRequest{Session: session, Password: password}).Append(b)
	})
}

// InitRole gives the partition its Crypto Officer (as the Partition Security
// Officer) or its Crypto User (as the Crypto Officer).
func (c *Client) InitRole(ctx context.Context, role Role, password []byte) error {
	return c.actWithPassword(ctx, wire.OpInitRole, role, password)
}

// ResetRole gives a role whose password is lost a new one and keeps the keys,
// or fails.
func (c *Client) ResetRole(ctx context.Context, role Role, password []byte) error {
	return c.actWithPassword(ctx, wire.OpResetRole, role, password)
}

func (c *Client) actWithPassword(ctx context.Context, op wire.Op, role Role, password []byte) error {
	if err := checkPassword(password); err != nil {
		return err
	}
	return c.act(ctx, op, func(b []byte, session uint32) []byte {
		return (&wire.PasswordRequest{Session: session, Role: role, Password: password}).Append(b)
	})
}

// UnlockRole sets a role's count of wrong passwords back.
func (c *Client) UnlockRole(ctx context.Context, role Role) error {
	return c.act(ctx, wire.OpUnlockRole, func(b []byte, session uint32) []byte {
		return (&wire.UnlockRoleRequest{Session: session, Role: role}).Append(b)
	})
}

// ChangePassword changes a role's password by its old one. Where it is the role
// that this Client logs in as, Relogin tells it the new one.
func (c *Client) ChangePassword(ctx context.Context, role Role, old, fresh []byte) error {
	if err := checkPassword(old); err != nil {
		return err
	}
	if err := checkPassword(fresh); err != nil {
		return err
	}
	return c.act(ctx, wire.OpChangePassword, func(b []byte, session uint32) []byte {
		return (&wire.ChangePasswordRequest{Session: session, Role: role, Old: old, New: fresh}).Append(b)
	})
}

// SetPolicy sets a policy of the partition. ParsePolicy finds one by its name.
func (c *Client) SetPolicy(ctx context.Context, policy PolicyValue) error {
	return c.act(ctx, wire.OpSetPolicy, func(b []byte, session uint32) []byte {
		return (&wire.SetPolicyRequest{Session: session, Policy: policy}).Append(b)
	})
}

// Deactivate wipes what an activated partition keeps in memory once the last
// session has logged out.
func (c *Client) Deactivate(ctx context.Context) error {
	return c.act(ctx, wire.OpDeactivate, sessionBody)
}

func (c *Client) act(ctx context.Context, op wire.Op, fill body) error {
	_, err := c.call(ctx, op, fill)
	return err
}

func checkPassword(password []byte) error {
	if len(password) == 0 || len(password) > wire.MaxPassword {
		return stageError(StageRequest, object.Errorf(ErrPINLength, "the password should have 1 to %d bytes", wire.MaxPassword))
	}
	return nil
}
