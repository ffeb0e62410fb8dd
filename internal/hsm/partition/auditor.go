package partition

import (
	"context"
	"errors"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// Auditor decides how the audit log is kept.
type Auditor struct {
	h     *HSM
	who   Operator
	epoch uint64
	id    object.ID // of the password that was right, see auditorRecord
}

func (h *HSM) auditorRole() ownRole {
	return ownRole{
		role: object.RoleAuditor, info: auditorInfo, gate: h.auditorGate,
		fields: func(r *hsmRecord) (*password, *[]byte) {
			if r.Auditor == nil {
				return nil, nil
			}
			return &r.Auditor.Password, &r.Auditor.Verifier
		},
		count: func(r *hsmRecord) *int { return &r.Auditor.Password.Failures },
		exhausted: func(failures int) error {
			if failures < maxFailures {
				return nil
			}
			return object.Errorf(object.ErrPINLocked, "%d wrong passwords in a row; the Security Officer gives the Auditor a new one with `audit init`", failures)
		},
	}
}

// AuthenticateAuditor checks the Auditor's password. Ten wrong ones in a row
// lock the role, until the Security Officer makes the Auditor anew.
func (h *HSM) AuthenticateAuditor(ctx context.Context, who Operator, pw []byte) (*Auditor, error) {
	a := &Auditor{h: h, who: who}
	var err error
	if a.epoch, err = h.current(); err == nil {
		// Before the check, so that it is not that of a later password.
		a.id, err = h.auditorID()
	}
	if err == nil {
		err = h.checkOwn(ctx, who, h.auditorRole(), pw)
	}
	err, recorded := refusalOf(err)
	if recorded {
		if jerr := h.recordLogin(ctx, who, object.RoleAuditor, "", err); jerr != nil {
			return nil, jerr
		}
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// auditorID names the Auditor that there is; the zero ID is none.
func (h *HSM) auditorID() (object.ID, error) {
	var record hsmRecord
	err := h.store.View(func(tx *store.Tx) error { return loadHSM(tx, &record) })
	if err != nil || record.Auditor == nil {
		return object.ID{}, err
	}
	return record.Auditor.ID, nil
}

var errNoAuditor = object.Errorf(object.ErrNotLoggedIn, "the Security Officer made the Auditor anew; log in again")

// Act records an act of the Auditor's on the audit log, and does it between
// the record of its intent and that of its outcome.
func (a *Auditor) Act(ctx context.Context, action, about string, do func() error) error {
	return a.h.administer(ctx, a.who, action, about, func() error {
		if err := a.h.still(a.epoch); err != nil {
			return err
		}
		if id, err := a.h.auditorID(); err != nil {
			return err
		} else if id != a.id {
			return errNoAuditor
		}
		return do()
	})
}

// ChangePassword gives the Auditor a new password.
func (a *Auditor) ChangePassword(ctx context.Context, fresh []byte) error {
	return a.Act(ctx, "role.password", object.RoleAuditor.String(), func() error {
		return a.h.putOwn(ctx, auditorInfo, fresh, func(r *hsmRecord, p password, v []byte) error {
			if r.Auditor == nil || r.Auditor.ID != a.id {
				return errNoAuditor
			}
			r.Auditor.Password, r.Auditor.Verifier = p, v
			return nil
		}, func() error { return a.h.stillLocked(a.epoch) })
	})
}

// Act records an act of an appliance's administrator, whose acts are not the
// HSM's but are recorded with them (users, network, services), and does it
// between the record of its intent and that of its outcome. There need be no
// HSM.
func (h *HSM) Act(ctx context.Context, who Operator, action, about string, do func() error) error {
	if action == "" || do == nil {
		return errors.New("recording an act: it has no name, or nothing is to be done")
	}
	return h.administer(ctx, who, action, about, do)
}
