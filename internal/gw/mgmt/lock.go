package mgmt

import (
	"context"
	"fmt"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/revision"
)

// Lock keeps other administrators from changing the candidate, or from
// committing, until Unlock.
func (m *Manager) Lock(ctx context.Context, c Caller, kind revision.LockKind, comment string) error {
	err := m.allow(c, admin.OpLock, string(kind))
	if err == nil && len(comment) > maxDescription {
		err = refuse(CodeBadParameter, "the lock's comment has %d bytes, expected at most %d", len(comment), maxDescription)
	}
	if err == nil {
		err = m.free(kind, c)
	}
	if err == nil {
		err = coded(m.parts.Revisions.Lock(ctx, kind, c.Name, comment))
	}
	m.record(c, "lock", string(kind), "", bounded(comment), resultOf(err))
	return err
}

// Unlock ends the lock that owner has: the caller's own where it is "", or
// another's, which needs a superuser.
func (m *Manager) Unlock(ctx context.Context, c Caller, kind revision.LockKind, owner string) error {
	if owner == "" {
		owner = c.Name
	}
	err := m.allow(c, admin.OpLock, string(kind))
	if err == nil && owner != c.Name {
		err = m.allow(c, admin.OpBreakLock, fmt.Sprintf("%s lock of %s", kind, owner))
	}
	if err == nil {
		err = coded(m.parts.Revisions.Unlock(ctx, kind, owner))
	}
	m.record(c, "unlock", string(kind), owner, "", resultOf(err))
	return err
}

// Locks lists the locks that are held.
func (m *Manager) Locks(ctx context.Context, c Caller) ([]revision.Lock, error) {
	if err := m.allow(c, admin.OpReadConfig, "locks"); err != nil {
		return nil, err
	}
	return m.parts.Revisions.Locks(), nil
}
