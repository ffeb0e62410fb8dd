package partition

import (
	"context"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// Registrar registers clients and assigns partitions to them. It is the
// Security Officer, or, unless the Security Officer must be there for each
// (Officer.SetForceLogin), an administrator of the appliance: whoever is
// registered still needs a partition's password to use a key.
type Registrar struct {
	h   *HSM
	who Operator
	// still refuses who may not by now; it is asked under mu.
	still func() error
}

// Registrar returns an administrator of the appliance as registrar of clients.
func (h *HSM) Registrar(who Operator) *Registrar {
	return &Registrar{h, who, func() error {
		if err := h.ready(); err != nil {
			return err
		}
		if h.forceLogin {
			return object.Errorf(object.ErrNotLoggedIn, "clients are registered by the Security Officer alone here; `hsm login` first, or have the Security Officer run `sysconf forceSOLogin disable`")
		}
		return nil
	}}
}

// exclusively records the intent of an act, does it under HSM.mu, and records
// what became of it.
func (r *Registrar) exclusively(ctx context.Context, action, about string, do func() error) error {
	return r.h.administer(ctx, r.who, action, about, func() error {
		r.h.mu.Lock()
		defer r.h.mu.Unlock()
		if err := r.still(); err != nil {
			return err
		}
		return do()
	})
}

// SetForceLogin says whether clients are registered by the Security Officer
// alone. It is off unless it was turned on.
func (o *Officer) SetForceLogin(ctx context.Context, on bool) error {
	h := o.h
	return o.exclusively(ctx, "sysconf.forceSOLogin", onOff(on), func() error {
		err := h.updateHSM(func(record *hsmRecord) { record.ForceLogin = on })
		if err == nil {
			h.forceLogin = on
		}
		return err
	})
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// updateHSM changes the HSM's own record.
func (h *HSM) updateHSM(change func(*hsmRecord)) error {
	return h.store.Update(func(tx *store.Tx) error {
		var record hsmRecord
		if err := loadHSM(tx, &record); err != nil {
			return err
		}
		change(&record)
		return save(tx, kindHSM, kindHSM, &record)
	})
}
