package partition

import (
	"bytes"
	"context"
	"errors"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// What is done to the roles of one partition, by whichever way it was asked
// for. Who may is asked before; authority is asked again in the transaction.

// authority is by what right a partition's roles are administered: the HSM's
// Security Officer's, who stands in while there is no Partition Security
// Officer, or that one's own.
type authority struct {
	standIn bool
	// key is the Partition Security Officer's own, see escrow; salt tells its
	// password from a later one.
	key  *store.PartitionKey
	salt []byte
}

// check refuses where the partition's officer is another one by now.
func (a authority) check(record *partitionRecord) error {
	officer := record.Roles[object.RolePartitionOfficer.String()]
	switch {
	case a.standIn && officer != nil:
		return object.Errorf(object.ErrUserType, "partition %s has a Partition Security Officer, who administers it; the Security Officer may delete it, assign it, and unlock its Partition Security Officer", record.Label)
	case !a.standIn && (officer == nil || a.key == nil || !bytes.Equal(officer.Password.KDF.Salt, a.salt)):
		return object.Errorf(object.ErrNotLoggedIn, "the Partition Security Officer of partition %s logged out, or has another password by now; log in again", record.Label)
	}
	return nil
}

// clone returns an authority of its own, which its holder wipes: a logout wipes
// the one that it was taken from.
func (a authority) clone() authority {
	if a.key != nil {
		key := *a.key
		a.key = &key
	}
	return a
}

func (a *authority) wipe() {
	if a.key != nil {
		clear(a.key[:])
	}
	a.key = nil
}

// openOfficer checks a Partition Security Officer's password.
func (h *HSM) openOfficer(ctx context.Context, who string, p *partition, pw []byte) (authority, error) {
	o, err := h.openRole(ctx, who, p, object.RolePartitionOfficer, pw)
	if err != nil {
		return authority{}, err
	}
	return authority{key: o.key, salt: o.salt}, nil
}

// updatePartition changes a partition's record in one transaction.
func (h *HSM) updatePartition(p *partition, change func(*store.Tx, *partitionRecord) error) error {
	return h.store.Update(func(tx *store.Tx) error {
		record, err := loadPartition(tx, p.id)
		if err != nil {
			return err
		}
		if err := change(tx, record); err != nil {
			return err
		}
		return save(tx, kindPartition, partitionKey(p.id), record)
	})
}

// initPartitionOfficer gives a partition that has none its Partition Security
// Officer; may, which may be nil, refuses more.
func (h *HSM) initPartitionOfficer(ctx context.Context, p *partition, pw []byte, may func(*partitionRecord) error) error {
	own := store.NewPartitionKey()
	defer clear(own[:])
	role, err := h.sealRole(ctx, p, object.RolePartitionOfficer, own, pw)
	if err != nil {
		return err
	}
	return h.updatePartition(p, func(_ *store.Tx, record *partitionRecord) error {
		if may != nil {
			if err := may(record); err != nil {
				return err
			}
		}
		if record.Roles[object.RolePartitionOfficer.String()] != nil {
			return object.Errorf(object.ErrExists, "partition %s has a Partition Security Officer already", record.Label)
		}
		return record.put(object.RolePartitionOfficer, role, nil)
	})
}

// sealOfficer gives the Partition Security Officer a new password, and returns
// its salt. The officer's own key stays, and by that the escrow.
func (h *HSM) sealOfficer(ctx context.Context, p *partition, by authority, pw []byte) ([]byte, error) {
	if by.key == nil {
		return nil, object.Errorf(object.ErrNotLoggedIn, "the Partition Security Officer logged out")
	}
	role, err := h.sealRole(ctx, p, object.RolePartitionOfficer, by.key, pw)
	if err != nil {
		return nil, err
	}
	err = h.updatePartition(p, func(_ *store.Tx, record *partitionRecord) error {
		if err := by.check(record); err != nil {
			return err
		}
		return record.put(object.RolePartitionOfficer, role, by.salt)
	})
	return role.Password.KDF.Salt, err
}

// firstOfficer makes a partition's key, its Crypto Officer, and the escrow
// where the partition has somebody to keep it for.
func (h *HSM) firstOfficer(ctx context.Context, p *partition, by authority, pw []byte) (*roleRecord, *escrow, error) {
	key := store.NewPartitionKey()
	defer clear(key[:])
	role, err := h.sealRole(ctx, p, object.RoleCryptoOfficer, key, pw)
	if err != nil || by.key == nil {
		return role, nil, err
	}
	kept, err := h.newEscrow(p.id, by.key, key)
	return role, kept, err
}

// keep sets the escrow where the policy asks for it.
func (r *partitionRecord) keep(e *escrow) {
	if r.Escrow = nil; r.Policies[object.PolicyOfficerReset] != 0 {
		r.Escrow = e
	}
}

func (h *HSM) initCryptoOfficer(ctx context.Context, p *partition, by authority, pw []byte) error {
	role, kept, err := h.firstOfficer(ctx, p, by, pw)
	if err != nil {
		return err
	}
	return h.updatePartition(p, func(_ *store.Tx, record *partitionRecord) error {
		if err := by.check(record); err != nil {
			return err
		}
		if err := record.put(object.RoleCryptoOfficer, role, nil); err != nil {
			return err
		}
		record.keep(kept)
		return nil
	})
}

// recreate destroys a partition's objects and seals and makes its Crypto
// Officer anew. Who is logged in is thrown out, and what was unlocked is wiped.
func (h *HSM) recreate(ctx context.Context, p *partition, by authority, pw []byte) error {
	role, kept, err := h.firstOfficer(ctx, p, by, pw)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	// No change that is under way may end up in what replaces it.
	p.changes.Lock()
	defer p.changes.Unlock()
	if h.partitions[p.id] != p {
		return errGone
	}
	var made *partitionRecord
	err = h.updatePartition(p, func(tx *store.Tx, record *partitionRecord) error {
		if err := by.check(record); err != nil {
			return err
		}
		if err := tx.DeletePartition(p.id); err != nil {
			return err
		}
		if err := tx.CreatePartition(p.id); err != nil {
			return err
		}
		// Whom it clones with from now on is its new officer's to say.
		if err := errors.Join(deleteUses(tx, p.id), deleteReplication(tx, p.id)); err != nil {
			return err
		}
		officer := record.Roles[object.RolePartitionOfficer.String()]
		record.Roles = map[string]*roleRecord{object.RoleCryptoOfficer.String(): role}
		if officer != nil {
			record.Roles[object.RolePartitionOfficer.String()] = officer
		}
		record.keep(kept)
		made = record
		return nil
	})
	if err != nil {
		return err
	}
	h.partitions[p.id] = newPartition(made)
	p.deactivate(true)
	for _, c := range h.clientsOf(p.id) {
		h.disconnect(c.Fingerprint)
	}
	h.attempts.forget(p.id, object.RoleCryptoOfficer)
	h.attempts.forget(p.id, object.RoleCryptoUser)
	return nil
}

var errGone = object.Errorf(object.ErrObjectNotFound, "the partition was deleted or made anew, or its HSM zeroized")

// resetRole gives a role whose password is lost a new one, by the escrow.
func (h *HSM) resetRole(ctx context.Context, p *partition, by authority, role object.Role, pw []byte) error {
	if !usesKeys(role) {
		return object.Errorf(object.ErrUserType, "role %v cannot be reset; expected co or cu", role)
	}
	if err := checkPassword(pw); err != nil {
		return err
	}
	var record *partitionRecord
	var there *roleRecord
	err := h.store.View(func(tx *store.Tx) (err error) {
		if record, err = loadPartition(tx, p.id); err != nil {
			return err
		}
		if err := by.check(record); err != nil {
			return err
		}
		if record.Policies[object.PolicyOfficerReset] == 0 {
			return object.Errorf(object.ErrPolicy, "policy %v of partition %s is off, so nothing but a Crypto Officer's password opens its keys; what is left is `role recreate`, which destroys every object in it",
				object.PolicyOfficerReset, record.Label)
		}
		if there = record.Roles[role.String()]; there == nil || record.Escrow == nil {
			return errNoRole(record, role)
		}
		return nil
	})
	if err != nil {
		return err
	}
	key, err := h.openEscrow(p.id, by.key, record.Escrow)
	if err != nil {
		return err
	}
	defer clear(key[:])
	return h.sealAgain(ctx, p, role, key, there.Password.KDF.Salt, pw, by.check)
}

// sealAgain gives a role, whose password has the salt old, a new one. may is
// asked in the transaction.
func (h *HSM) sealAgain(ctx context.Context, p *partition, role object.Role, key *store.PartitionKey, old, pw []byte, may func(*partitionRecord) error) error {
	fresh, err := h.sealRole(ctx, p, role, key, pw)
	if err != nil {
		return err
	}
	err = h.updatePartition(p, func(_ *store.Tx, record *partitionRecord) error {
		if err := may(record); err != nil {
			return err
		}
		return record.put(role, fresh, old)
	})
	if err == nil {
		h.attempts.forget(p.id, role)
	}
	return err
}

// unlockRole sets a count of wrong passwords back, and lets everybody try again.
// A Partition Security Officer is unlocked by the HSM's Security Officer alone.
func (h *HSM) unlockRole(p *partition, by authority, role object.Role) error {
	if err := checkRole(role); err != nil {
		return err
	}
	own := role == object.RolePartitionOfficer
	if own && !by.standIn {
		return object.Errorf(object.ErrUserType, "the Partition Security Officer is unlocked by the Security Officer")
	}
	err := h.updatePartition(p, func(_ *store.Tx, record *partitionRecord) error {
		if !own {
			if err := by.check(record); err != nil {
				return err
			}
		}
		r := record.Roles[role.String()]
		if r == nil {
			return errNoRole(record, role)
		}
		r.Password.Failures, r.Password.Last = 0, time.Time{}
		return nil
	})
	if err == nil {
		h.attempts.forget(p.id, role)
	}
	return err
}

// reseal gives a role a new password by an old one: its own, or that of the
// Crypto Officer for the Crypto User, who may have none yet.
func (h *HSM) reseal(ctx context.Context, who string, p *partition, opener object.Role, opening []byte, role object.Role, pw []byte) error {
	if err := checkPassword(pw); err != nil {
		return err
	}
	o, err := h.openRole(ctx, who, p, opener, opening)
	if err != nil {
		return err
	}
	defer clear(o.key[:])
	fresh, err := h.sealRole(ctx, p, role, o.key, pw)
	if err != nil {
		return err
	}
	err = h.updatePartition(p, func(_ *store.Tx, record *partitionRecord) error {
		// A key that was replaced meanwhile must not be sealed for anybody.
		by := record.Roles[opener.String()]
		if by == nil || !bytes.Equal(by.Password.KDF.Salt, o.salt) {
			return errMeanwhile
		}
		var old []byte
		if there := record.Roles[role.String()]; there != nil {
			old = there.Password.KDF.Salt
		}
		return record.put(role, fresh, old)
	})
	if err == nil {
		h.attempts.forget(p.id, role)
	}
	return err
}
