package partition

import (
	"context"

	"moongate/internal/audit"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// What a client may administer of a partition that is assigned to it. Who may
// do which of it is asked of permit, like everything else.

// administer records the intent of an act that the session's role may do, does
// it, and records what became of it, each durably. refusal, where it is not nil,
// is permit's.
func (s *Session) administer(ctx context.Context, op object.OperationID, act action, about string, refusal error, do func() error) error {
	event := s.event(act, op)
	event.Detail = about
	if refusal != nil {
		return s.refuse(event, refusal)
	}
	event.Kind, event.Outcome = audit.Admin, intent
	if err := s.h.begin(ctx, event); err != nil {
		return err
	}
	err := do()
	if event.Outcome = outcome(err); err != nil {
		event.Kind, event.Detail = audit.Denied, join(about, detail(err))
	}
	return s.h.conclude(ctx, event, err)
}

// authority is by what right a Partition Security Officer's session acts; the
// caller wipes it.
func (s *Session) authority() authority {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.by.clone()
}

// Status describes the partition; it needs no login.
func (s *Session) Status(_ context.Context, op object.OperationID) (object.PartitionStatus, error) {
	if err := permit(s.as(), actStatus, nil); err != nil {
		return object.PartitionStatus{}, s.refuse(s.event(actStatus, op), err)
	}
	status := object.PartitionStatus{PartitionInfo: s.Info()}
	err := s.h.store.View(func(tx *store.Tx) error {
		record, err := loadPartition(tx, s.p.id)
		if err != nil {
			return err
		}
		for _, role := range partitionRoles {
			status.Roles = append(status.Roles, record.status(role))
		}
		return nil
	})
	if err != nil {
		return object.PartitionStatus{}, err
	}
	status.Policies = s.p.policyValues()
	s.p.mu.RLock()
	defer s.p.mu.RUnlock()
	status.Objects, status.Active = len(s.p.objects), s.p.key != nil
	return status, nil
}

// InitPartition gives a partition that has neither a Partition Security Officer
// nor a Crypto Officer its Partition Security Officer. It needs no login: the
// partition is nobody's yet but the client's that it is assigned to.
func (s *Session) InitPartition(ctx context.Context, op object.OperationID, pw []byte) error {
	// Asked before the act's intent is recorded, which nobody counts.
	if err := s.h.checkTaken(s.p); err != nil {
		return s.refuse(s.event(actInitPartition, op), err)
	}
	return s.administer(ctx, op, actInitPartition, "", permit(s.as(), actInitPartition, nil), func() error {
		return s.h.initPartitionOfficer(ctx, s.p, pw, func(record *partitionRecord) error {
			if record.Roles[object.RoleCryptoOfficer.String()] == nil {
				return nil
			}
			return object.Errorf(object.ErrExists, "partition %s is initialised: it has a Crypto Officer", record.Label)
		})
	})
}

// InitRole makes the Crypto Officer, by the Partition Security Officer, or the
// Crypto User, by the Crypto Officer.
func (s *Session) InitRole(ctx context.Context, op object.OperationID, role object.Role, pw []byte) error {
	return s.administer(ctx, op, actInitRole, role.String(), permitOn(s.as(), actInitRole, role), func() error {
		if role == object.RoleCryptoUser {
			return s.sealUser(ctx, pw, false)
		}
		by := s.authority()
		defer by.wipe()
		return s.h.initCryptoOfficer(ctx, s.p, by, pw)
	})
}

// ResetRole gives a role whose password is lost a new one: the Crypto User by
// the Crypto Officer, either by the Partition Security Officer where
// PolicyOfficerReset is on.
func (s *Session) ResetRole(ctx context.Context, op object.OperationID, role object.Role, pw []byte) error {
	as := s.as()
	return s.administer(ctx, op, actResetRole, role.String(), permitOn(as, actResetRole, role), func() error {
		if as == object.RoleCryptoOfficer {
			return s.sealUser(ctx, pw, true)
		}
		by := s.authority()
		defer by.wipe()
		return s.h.resetRole(ctx, s.p, by, role, pw)
	})
}

// sealUser gives the Crypto User a password by the key that the Crypto
// Officer's login holds; there says whether it must have one or must have none.
func (s *Session) sealUser(ctx context.Context, pw []byte, there bool) error {
	p := s.p
	if err := checkPassword(pw); err != nil {
		return err
	}
	key, seen, err := p.held(s.h)
	if err != nil {
		return err
	}
	defer clear(key[:])
	user := seen.Roles[object.RoleCryptoUser.String()]
	var old []byte
	if there {
		if user == nil {
			return errNoRole(seen, object.RoleCryptoUser)
		}
		old = user.Password.KDF.Salt
	}
	return s.h.sealAgain(ctx, p, object.RoleCryptoUser, key, old, pw, func(record *partitionRecord) error {
		// A key that was replaced meanwhile must not be sealed for anybody.
		was, is := seen.Roles[object.RoleCryptoOfficer.String()], record.Roles[object.RoleCryptoOfficer.String()]
		if is == nil || string(was.Password.KDF.Salt) != string(is.Password.KDF.Salt) {
			return errMeanwhile
		}
		return nil
	})
}

// held returns a copy of the unlocked partition's key with the record that it
// belongs to.
func (p *partition) held(h *HSM) (*store.PartitionKey, *partitionRecord, error) {
	p.changes.Lock() // who makes the partition anew holds it
	defer p.changes.Unlock()
	var record *partitionRecord
	err := h.store.View(func(tx *store.Tx) (err error) {
		record, err = loadPartition(tx, p.id)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.deleted.Load() || p.key == nil || record.Roles[object.RoleCryptoOfficer.String()] == nil {
		return nil, nil, object.Errorf(object.ErrNotLoggedIn, "nobody is logged in to partition %s", p.label)
	}
	key := *p.key
	return &key, record, nil
}

// UnlockRole is PartitionOfficer.UnlockRole.
func (s *Session) UnlockRole(ctx context.Context, op object.OperationID, role object.Role) error {
	return s.administer(ctx, op, actUnlockRole, role.String(), permitOn(s.as(), actUnlockRole, role), func() error {
		by := s.authority()
		defer by.wipe()
		return s.h.unlockRole(s.p, by, role)
	})
}

// ChangePassword changes a role's password by its old one, which is counted as
// a login is.
func (s *Session) ChangePassword(ctx context.Context, op object.OperationID, role object.Role, old, fresh []byte) error {
	as := s.as()
	if err, recorded := refusalOf(s.h.waiting(attemptKey{s.client, s.p.id, role})); err != nil && !recorded {
		return err
	}
	return s.administer(ctx, op, actChangePassword, role.String(), permitOn(as, actChangePassword, role), func() error {
		if as != object.RolePartitionOfficer {
			return s.h.reseal(ctx, s.client, s.p, role, old, role, fresh)
		}
		by, err := s.h.openOfficer(ctx, s.client, s.p, old)
		if err != nil {
			return err
		}
		if by.salt, err = s.h.sealOfficer(ctx, s.p, by, fresh); err != nil {
			by.wipe()
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.role == as {
			s.by.wipe()
			s.by = by
		} else {
			by.wipe()
		}
		return nil
	})
}

// SetPolicy is PartitionOfficer.SetPolicy.
func (s *Session) SetPolicy(ctx context.Context, op object.OperationID, v object.PolicyValue) error {
	refusal := permit(s.as(), actSetPolicy, nil)
	by := s.authority()
	defer by.wipe()
	return s.h.setPolicy(s.p, by, v, func(about string, do func() error) error {
		return s.administer(ctx, op, actSetPolicy, about, refusal, do)
	})
}

// Deactivate wipes what an activated partition keeps in memory once the last
// session has logged out.
func (s *Session) Deactivate(ctx context.Context, op object.OperationID) error {
	return s.administer(ctx, op, actDeactivate, "", permit(s.as(), actDeactivate, nil), func() error {
		s.p.dismiss()
		return nil
	})
}

// checkTaken refuses a partition that has somebody to administer it.
func (h *HSM) checkTaken(p *partition) error {
	var record *partitionRecord
	err := h.store.View(func(tx *store.Tx) error {
		var err error
		record, err = loadPartition(tx, p.id)
		return err
	})
	switch {
	case err != nil:
		return err
	case record.Roles[object.RolePartitionOfficer.String()] != nil, record.Roles[object.RoleCryptoOfficer.String()] != nil:
		return object.Errorf(object.ErrExists, "partition %s is initialised already", record.Label)
	}
	return nil
}
