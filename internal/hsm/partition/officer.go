package partition

import (
	"context"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// Officer is a Security Officer whose password was right. Holding one is the
// permission to administer the HSM that it was right for: not one that is
// initialised after that was zeroized.
type Officer struct {
	Registrar
	epoch uint64
}

func (h *HSM) officerRole() ownRole {
	return ownRole{
		role: object.RoleSecurityOfficer, info: officerInfo, gate: h.officerGate,
		fields: func(r *hsmRecord) (*password, *[]byte) { return &r.Officer, &r.Verifier },
		count:  func(r *hsmRecord) *int { return &r.Attempts },
		exhausted: func(failures int) error {
			if failures < officerAttempts {
				return nil
			}
			return errExhausted
		},
	}
}

// errExhausted: no attempt is left, and the zeroization that follows has not
// happened yet.
var errExhausted = object.Errorf(object.ErrPINLocked, "%d wrong Security Officer passwords in a row; the HSM is zeroized", officerAttempts)

// AuthenticateOfficer checks the Security Officer's password.
//
// THREE WRONG PASSWORDS IN A ROW ZEROIZE THE HSM: every key is destroyed. Each
// attempt is counted on disk before the password is looked at and counted back
// when it was right, so an attempt that a crash, a kill or a power cut swallows
// is a wrong one; and where three are counted when the HSM is opened, it is
// zeroized then, whatever the third password was. Info says how many are left.
func (h *HSM) AuthenticateOfficer(ctx context.Context, who Operator, pw []byte) (*Officer, error) {
	epoch, err := h.current()
	if err == nil {
		err = h.checkOwn(ctx, who, h.officerRole(), pw)
	}
	err, recorded := refusalOf(err)
	if recorded {
		if jerr := h.recordLogin(ctx, who, object.RoleSecurityOfficer, "", err); jerr != nil {
			err = jerr
		}
	}
	switch object.CodeOf(err) {
	case object.ErrPINIncorrect, object.ErrPINLocked:
		if left, lerr := h.officerAttemptsLeft(); lerr == nil && left == 0 {
			return nil, h.exhaust(ctx, who, epoch)
		}
	}
	if err != nil {
		return nil, err
	}
	return &Officer{Registrar{h, who, func() error { return h.stillLocked(epoch) }}, epoch}, nil
}

// exhaust zeroizes after the last wrong password. Where that fails, it is done
// at the next attempt or when the HSM is opened next; no password is looked at
// before.
func (h *HSM) exhaust(ctx context.Context, who Operator, epoch uint64) error {
	err := h.zeroize(context.WithoutCancel(ctx), who, errExhausted.Detail, func() error { return h.still(epoch) })
	if err != nil && object.CodeOf(err) != object.ErrNotInitialized {
		h.log.Error("zeroizing after wrong passwords", "err", err)
		return object.Errorf(object.ErrPINLocked, "%d wrong Security Officer passwords in a row; zeroizing the HSM failed, and is tried again: %s", officerAttempts, detail(err))
	}
	return object.Errorf(object.ErrPINIncorrect, "the password is wrong, %d times in a row: the HSM was zeroized, and nothing is left of its keys", officerAttempts)
}

func (h *HSM) officerAttemptsLeft() (int, error) {
	var record hsmRecord
	err := h.store.View(func(tx *store.Tx) error { return loadHSM(tx, &record) })
	return max(0, officerAttempts-record.Attempts), err
}

// act records the intent of an act of the officer's, does it, and records what
// became of it.
func (o *Officer) act(ctx context.Context, action, about string, do func() error) error {
	return o.h.administer(ctx, o.who, action, about, func() error {
		if err := o.h.still(o.epoch); err != nil {
			return err
		}
		return do()
	})
}

// ChangePassword gives the Security Officer a new password. It wraps no key:
// nothing but logins depends on it.
func (o *Officer) ChangePassword(ctx context.Context, fresh []byte) error {
	return o.changeOwn(ctx, "hsm.password", object.RoleSecurityOfficer, officerInfo, fresh, func(r *hsmRecord, p password, v []byte) {
		r.Officer, r.Verifier, r.Attempts = p, v, 0
	})
}

// InitAuditor gives the HSM an Auditor, or an Auditor whose password is lost or
// locked a new one; either is recorded, and ends what the old one held.
func (o *Officer) InitAuditor(ctx context.Context, pw []byte) error {
	err := o.changeOwn(ctx, "role.init", object.RoleAuditor, auditorInfo, pw, func(r *hsmRecord, p password, v []byte) {
		r.Auditor = &auditorRecord{ID: object.NewID(), Password: p, Verifier: v}
	})
	if err == nil {
		o.h.attempts.forget(object.ID{}, object.RoleAuditor)
	}
	return err
}

// changeOwn gives a role of the HSM itself a new password.
func (o *Officer) changeOwn(ctx context.Context, action string, role object.Role, info string, pw []byte, put func(*hsmRecord, password, []byte)) error {
	return o.act(ctx, action, role.String(), func() error {
		return o.h.putOwn(ctx, info, pw, func(r *hsmRecord, p password, v []byte) error {
			put(r, p, v)
			return nil
		}, func() error { return o.h.stillLocked(o.epoch) })
	})
}

// putOwn derives a new password and writes the HSM's record with it, where
// still, which is asked under mu, does not refuse.
func (h *HSM) putOwn(ctx context.Context, info string, pw []byte, put func(*hsmRecord, password, []byte) error, still func() error) error {
	var p password
	var v []byte
	err := h.derive(ctx, func() (err error) {
		p, v, err = h.freshVerifier(info, pw)
		return err
	})
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := still(); err != nil {
		return err
	}
	return h.store.Update(func(tx *store.Tx) error {
		var record hsmRecord
		if err := loadHSM(tx, &record); err != nil {
			return err
		}
		if err := put(&record, p, v); err != nil {
			return err
		}
		return save(tx, kindHSM, kindHSM, &record)
	})
}
