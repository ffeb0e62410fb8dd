package partition

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/semaphore"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// Bounds of a password and of guessing it.
const (
	MinPassword = 8
	MaxPassword = 256
	// maxFailures wrong passwords in a row lock a role of a partition, or the
	// Auditor; who unlocks it learns nothing.
	maxFailures = 10
	// officerAttempts wrong passwords of the Security Officer in a row zeroize
	// the HSM.
	officerAttempts = 3
)

var errPassword = object.Errorf(object.ErrPINIncorrect, "the password is wrong")

func checkPassword(pw []byte) error {
	if len(pw) < MinPassword || len(pw) > MaxPassword {
		return object.Errorf(object.ErrPINLength, "the password has %d bytes; expected %d to %d", len(pw), MinPassword, MaxPassword)
	}
	return nil
}

// Operator is the person or program on whose behalf an administrative act is
// done, for the audit: a user of the machine or of the shell.
type Operator struct {
	Name string
	From string
}

// What an HSM's own role derives from its password, apart from the other's.
const (
	officerInfo = "moongate hsm so verifier"
	auditorInfo = "moongate hsm auditor verifier"
)

// verifier is what a right password derives. An HSM's own role opens no key.
func verifier(kdf mech.KDF, info string, pw []byte) ([]byte, error) {
	derived, err := kdf.Derive(pw)
	if err != nil {
		return nil, fmt.Errorf("deriving from the password: %w", err)
	}
	defer clear(derived[:])
	return hkdf.Expand(sha256.New, derived[:], info, sha256.Size)
}

// freshVerifier derives a new password as passwords are derived today.
func (h *HSM) freshVerifier(info string, pw []byte) (password, []byte, error) {
	if err := checkPassword(pw); err != nil {
		return password{}, nil, err
	}
	kdf := h.newKDF(h.policy)
	v, err := verifier(kdf, info, pw)
	return password{KDF: kdf}, v, err
}

// outdated reports whether a password is derived otherwise than passwords are
// today; it is then derived anew at the next right login.
func (h *HSM) outdated(kdf mech.KDF) bool {
	today := h.newKDF(h.policy)
	today.Salt = kdf.Salt
	return !sameKDF(today, kdf)
}

// ownRole is a role of the HSM itself: where its password is in the record, and
// what the count of wrong ones does.
type ownRole struct {
	role object.Role
	info string
	gate *semaphore.Weighted
	// fields returns nil where the role has no password.
	fields func(*hsmRecord) (*password, *[]byte)
	// count returns the role's counter of wrong passwords in a row.
	count func(*hsmRecord) *int
	// exhausted refuses a check where no attempt is left.
	exhausted func(failures int) error
}

// checkOwn checks the password of a role of the HSM itself. The attempt is
// counted on disk before the password is looked at, and counted back when it
// was right: what a crash or a kill swallows was wrong.
func (h *HSM) checkOwn(ctx context.Context, who Operator, own ownRole, pw []byte) error {
	return h.attempt(ctx, attemptKey{who: operatorPrefix + who.Name, role: own.role}, own.gate, func() error {
		var record hsmRecord
		err := h.store.Update(func(tx *store.Tx) error {
			if err := loadHSM(tx, &record); err != nil {
				return err
			}
			if _, v := own.fields(&record); v == nil {
				return object.Errorf(object.ErrPINNotInitialized, "the HSM has no %s", own.role.Title())
			}
			failures := own.count(&record)
			if err := own.exhausted(*failures); err != nil {
				return err
			}
			*failures++
			return save(tx, kindHSM, kindHSM, &record)
		})
		if err != nil {
			return err
		}
		p, v := own.fields(&record)
		seen, err := verifier(p.KDF, own.info, pw)
		if err != nil {
			return err
		}
		if subtle.ConstantTimeCompare(seen, *v) != 1 {
			return errPassword
		}
		salt := p.KDF.Salt
		var renewed password
		var anew []byte
		if h.outdated(p.KDF) {
			if renewed, anew, err = h.freshVerifier(own.info, pw); err != nil {
				return err
			}
		}
		return h.store.Update(func(tx *store.Tx) error {
			if err := loadHSM(tx, &record); err != nil {
				return err
			}
			p, v := own.fields(&record)
			if p == nil || !bytes.Equal(p.KDF.Salt, salt) {
				return nil // it has another password by now, and a count of its own
			}
			*own.count(&record) = 0
			if anew != nil {
				*p, *v = renewed, anew
			}
			return save(tx, kindHSM, kindHSM, &record)
		})
	})
}

// opened is what a partition role's right password opened.
type opened struct {
	// key is the partition's, or the Partition Security Officer's own; whoever
	// gets it clears it.
	key *store.PartitionKey
	// salt tells the role's password from a later one.
	salt []byte
}

// openRole checks a role's password and returns what it opens. The attempt is
// counted on disk first; a right password sets the count back, and derives the
// role's seal anew where it is not as seals are made today.
func (h *HSM) openRole(ctx context.Context, who string, p *partition, role object.Role, pw []byte) (*opened, error) {
	if err := checkRole(role); err != nil {
		return nil, err
	}
	var out *opened
	err := h.attempt(ctx, attemptKey{who, p.id, role}, p.gates[role], func() error {
		var found roleRecord
		err := h.store.Update(func(tx *store.Tx) error {
			record, r, err := loadRole(tx, p.id, role)
			if err != nil {
				return err
			}
			if r.locked() {
				return lockedError(record, role)
			}
			r.Password.Failures++
			r.Password.Last = h.now().UTC()
			found = *r
			return save(tx, kindPartition, partitionKey(p.id), record)
		})
		if err != nil {
			return err
		}
		key, err := h.unseal(p.id, role, &found, pw)
		if err != nil {
			return err
		}
		fresh, err := h.renew(p.id, role, &found, key, pw)
		if err != nil {
			clear(key[:])
			return err
		}
		salt := found.Password.KDF.Salt
		err = h.store.Update(func(tx *store.Tx) error {
			record, r, err := loadRole(tx, p.id, role)
			if err != nil {
				return err
			}
			if !bytes.Equal(r.Password.KDF.Salt, salt) {
				return nil // it has another password by now, and a count of its own
			}
			r.Password.Failures, r.Password.Last = 0, time.Time{}
			if fresh != nil {
				record.Roles[role.String()] = fresh
			}
			return save(tx, kindPartition, partitionKey(p.id), record)
		})
		if err != nil {
			clear(key[:])
			return err
		}
		if fresh != nil {
			salt = fresh.Password.KDF.Salt
		}
		out = &opened{key, salt}
		return nil
	})
	return out, err
}

func (r *roleRecord) locked() bool { return r.Password.Failures >= maxFailures }

func lockedError(record *partitionRecord, role object.Role) error {
	by := object.RolePartitionOfficer
	if role == by || record.Roles[by.String()] == nil {
		by = object.RoleSecurityOfficer
	}
	return object.Errorf(object.ErrPINLocked, "%d wrong passwords in a row; the %s unlocks it with `role unlock -partition %s -role %v`",
		record.Roles[role.String()].Password.Failures, by.Title(), record.Label, role)
}

func loadRole(tx *store.Tx, id object.ID, role object.Role) (*partitionRecord, *roleRecord, error) {
	record, err := loadPartition(tx, id)
	if err != nil {
		return nil, nil, err
	}
	r := record.Roles[role.String()]
	if r == nil {
		return nil, nil, errNoRole(record, role)
	}
	return record, r, nil
}

func errNoRole(record *partitionRecord, role object.Role) error {
	by := fmt.Sprintf("role init -partition %s -role %v", record.Label, role)
	if role == object.RolePartitionOfficer {
		by = "partition init -partition " + record.Label
	}
	return object.Errorf(object.ErrPINNotInitialized, "partition %s has no %s; run `%s`", record.Label, role.Title(), by)
}

// checkRole refuses a role that does not belong to a partition.
func checkRole(role object.Role) error {
	switch role {
	case object.RoleCryptoOfficer, object.RoleCryptoUser, object.RolePartitionOfficer:
		return nil
	}
	return object.Errorf(object.ErrUserType, "role %v does not belong to a partition; expected co, cu or po", role)
}

// usesKeys reports whether a role's password opens the partition's key.
func usesKeys(role object.Role) bool {
	return role == object.RoleCryptoOfficer || role == object.RoleCryptoUser
}

// errMeanwhile is the refusal of a change whose ground was changed under it.
var errMeanwhile = object.Errorf(object.ErrBusy, "the role's password was changed by somebody else meanwhile; look, and try again")

// put sets a role's record, in place of the one whose password has the salt old,
// or where old is nil, of none.
func (r *partitionRecord) put(role object.Role, fresh *roleRecord, old []byte) error {
	there := r.Roles[role.String()]
	switch {
	case there != nil && old == nil:
		return object.Errorf(object.ErrExists, "the %s of partition %s has a password; it is changed with the old one, by `role changePw -partition %s -role %v`",
			role.Title(), r.Label, r.Label, role)
	case old != nil && (there == nil || !bytes.Equal(there.Password.KDF.Salt, old)):
		return errMeanwhile
	}
	if r.Roles == nil {
		r.Roles = map[string]*roleRecord{}
	}
	r.Roles[role.String()] = fresh
	return nil
}

// sealRole makes a role's record when it is a derivation's turn.
func (h *HSM) sealRole(ctx context.Context, p *partition, role object.Role, key *store.PartitionKey, pw []byte) (*roleRecord, error) {
	if err := checkPassword(pw); err != nil {
		return nil, err
	}
	var r *roleRecord
	err := h.derive(ctx, func() (err error) {
		r, err = h.seal(p.id, role, key, pw)
		return err
	})
	return r, err
}

// refusalOf returns what a caller is told, and whether that is recorded: of a
// delayed caller's refusals the first.
func refusalOf(err error) (_ error, recorded bool) {
	if d, delayed := errors.AsType[*delayedError](err); delayed {
		return d.err, d.refused == 1
	}
	return err, true
}
