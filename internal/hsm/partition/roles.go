package partition

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"time"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// Bounds of a password and of guessing it.
const (
	MinPassword = 8
	MaxPassword = 256
	// maxFailures wrong passwords in a row lock a Crypto Officer or Crypto
	// User; the Security Officer unlocks the role, without learning anything.
	maxFailures = 10
	// officerFreeAttempts wrong Security Officer passwords cost nothing; each
	// further one has to wait twice as long as the one before.
	officerFreeAttempts = 3
	officerMaxDelay     = 15 * time.Minute
)

var errPassword = object.Errorf(object.ErrPINIncorrect, "the password is wrong")

func checkPassword(pw []byte) error {
	if len(pw) < MinPassword || len(pw) > MaxPassword {
		return object.Errorf(object.ErrPINLength, "the password has %d bytes; expected %d to %d", len(pw), MinPassword, MaxPassword)
	}
	return nil
}

func officerVerifier(kdf mech.KDF, pw []byte) ([]byte, error) {
	derived, err := kdf.Derive(pw)
	if err != nil {
		return nil, fmt.Errorf("deriving from the password: %w", err)
	}
	defer clear(derived[:])
	return hkdf.Expand(sha256.New, derived[:], "moongate hsm so verifier", sha256.Size)
}

// Officer is a Security Officer whose password was right. Holding one is the
// permission to administer.
type Officer struct {
	h   *HSM
	who Operator
}

// Operator is the person or program on whose behalf an administrative act is
// done, for the audit: a user of the machine or of the shell.
type Operator struct {
	Name string
	From string
}

// AuthenticateOfficer checks the Security Officer's password. The attempt is
// counted on disk before the password is looked at, so that neither a crash
// nor a kill gives a guess for free.
func (h *HSM) AuthenticateOfficer(ctx context.Context, who Operator, pw []byte) (*Officer, error) {
	err := h.authenticateOfficer(ctx, pw)
	if jerr := h.recordLogin(ctx, who, object.RoleSecurityOfficer, "", err); jerr != nil {
		return nil, jerr
	}
	if err != nil {
		return nil, err
	}
	return &Officer{h, who}, nil
}

func (h *HSM) authenticateOfficer(ctx context.Context, pw []byte) error {
	h.login.Lock()
	defer h.login.Unlock()
	// Who gave up while others' passwords were checked has not guessed.
	if err := ctx.Err(); err != nil {
		return err
	}
	var record hsmRecord
	err := h.store.Update(func(tx *store.Tx) error {
		record = hsmRecord{}
		if err := load(tx, kindHSM, kindHSM, &record); err != nil {
			return err
		}
		elapsed := h.now().Sub(record.Officer.Last)
		// A clock that was set back must not make the wait longer; setting it
		// takes root, who needs no password.
		if wait := officerDelay(record.Officer.Failures) - elapsed; wait > 0 && elapsed >= 0 {
			return object.Errorf(object.ErrPINLocked, "%d wrong Security Officer passwords in a row; try again in %v",
				record.Officer.Failures, wait.Round(time.Second))
		}
		record.Officer.Failures++
		record.Officer.Last = h.now().UTC()
		return save(tx, kindHSM, kindHSM, &record)
	})
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	seen, err := officerVerifier(record.Officer.KDF, pw)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(seen, record.Verifier) != 1 {
		return errPassword
	}
	return h.store.Update(func(tx *store.Tx) error {
		if err := load(tx, kindHSM, kindHSM, &record); err != nil {
			return err
		}
		record.Officer.Failures, record.Officer.Last = 0, time.Time{}
		return save(tx, kindHSM, kindHSM, &record)
	})
}

// ChangePassword gives the Security Officer a new password. It wraps no key:
// nothing but logins depends on it.
func (o *Officer) ChangePassword(ctx context.Context, fresh []byte) error {
	h := o.h
	return h.administer(ctx, o.who, "hsm.password", "so", func() error {
		if err := checkPassword(fresh); err != nil {
			return err
		}
		kdf := h.newKDF(h.policy)
		verifier, err := officerVerifier(kdf, fresh)
		if err != nil {
			return err
		}
		// A check that is under way must not set an old record back.
		h.login.Lock()
		defer h.login.Unlock()
		return h.store.Update(func(tx *store.Tx) error {
			var record hsmRecord
			if err := load(tx, kindHSM, kindHSM, &record); err != nil {
				return err
			}
			record.Officer, record.Verifier = password{KDF: kdf}, verifier
			return save(tx, kindHSM, kindHSM, &record)
		})
	})
}

func officerDelay(failures int) time.Duration {
	if failures < officerFreeAttempts {
		return 0
	}
	return min(time.Second<<min(failures-officerFreeAttempts, 20), officerMaxDelay)
}

// openRole checks a role's password and returns the partition's key. The
// attempt is counted on disk first; a right password sets the count back.
func (h *HSM) openRole(ctx context.Context, id object.ID, role object.Role, pw []byte) (*store.PartitionKey, error) {
	h.login.Lock()
	defer h.login.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err // as in authenticateOfficer
	}
	var found roleRecord
	err := h.store.Update(func(tx *store.Tx) error {
		record, r, err := loadRole(tx, id, role)
		if err != nil {
			return err
		}
		if r.Password.Failures >= maxFailures {
			return object.Errorf(object.ErrPINLocked, "%d wrong passwords in a row; the Security Officer unlocks it with `role unlock -partition %s -role %v`",
				r.Password.Failures, record.Label, role)
		}
		r.Password.Failures++
		r.Password.Last = h.now().UTC()
		found = *r
		return save(tx, kindPartition, partitionKey(id), record)
	})
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	key, err := h.unseal(id, role, &found, pw)
	if err != nil {
		return nil, err
	}
	err = h.store.Update(func(tx *store.Tx) error {
		record, r, err := loadRole(tx, id, role)
		if err != nil {
			return err
		}
		r.Password.Failures, r.Password.Last = 0, time.Time{}
		return save(tx, kindPartition, partitionKey(id), record)
	})
	if err != nil {
		return nil, err
	}
	return key, nil
}

func loadRole(tx *store.Tx, id object.ID, role object.Role) (*partitionRecord, *roleRecord, error) {
	record, err := loadPartition(tx, id)
	if err != nil {
		return nil, nil, err
	}
	r := record.Roles[role.String()]
	if r == nil {
		return nil, nil, object.Errorf(object.ErrPINNotInitialized, "%v of partition %s; run `role init -partition %s -role %v`",
			role, record.Label, record.Label, role)
	}
	return record, r, nil
}

func checkRole(role object.Role) error {
	if role != object.RoleCryptoOfficer && role != object.RoleCryptoUser {
		return object.Errorf(object.ErrUserType, "role %v does not belong to a partition; expected co or cu", role)
	}
	return nil
}
