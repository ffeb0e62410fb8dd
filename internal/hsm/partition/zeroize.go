package partition

import (
	"context"
	"errors"
	"time"

	"moongate/internal/audit"
	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// InitOptions are what an HSM is initialised with.
type InitOptions struct {
	Label   string
	Officer []byte // the Security Officer's password
}

// Initialized reports whether there is an HSM: one that was zeroized, or never
// initialised, has no Security Officer, no partition and no client.
func (h *HSM) Initialized() bool {
	_, err := h.current()
	return err == nil
}

// current returns the number of the HSM that there is, which Zeroize makes
// another one; ErrNotInitialized where there is none.
func (h *HSM) current() (uint64, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.epoch, h.ready()
}

// ready needs mu.
func (h *HSM) ready() error {
	switch {
	case h.unfinished != nil:
		return object.Errorf(object.ErrNotInitialized, "the HSM was to be zeroized, and that did not end: restart it, which ends it (%v)", h.unfinished)
	case !h.initialized:
		return object.Errorf(object.ErrNotInitialized, "there is no HSM here; make one with `hsm init -label LABEL`")
	}
	return nil
}

// still refuses who was authenticated by an HSM that was zeroized since.
func (h *HSM) still(epoch uint64) error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.stillLocked(epoch)
}

// stillLocked needs mu.
func (h *HSM) stillLocked(epoch uint64) error {
	if err := h.ready(); err != nil {
		return err
	}
	if h.epoch != epoch {
		return object.Errorf(object.ErrNotLoggedIn, "the HSM was zeroized and initialised anew; log in again")
	}
	return nil
}

// Initialize makes an HSM in a store that holds none: its label, its Security
// Officer, a domain of its own. There is no audit log to record it in; Open
// does, before anything else.
func Initialize(st *store.Store, label string, officer []byte, policy mech.Policy, now time.Time) error {
	serial, _, err := Identity(st)
	if err != nil && object.CodeOf(err) != object.ErrNotInitialized {
		return err
	}
	if serial == "" {
		serial = NewSerial()
	}
	record := hsmRecord{Label: label, Serial: serial, Created: now, FIPS: policy.FIPS, Unrecorded: &Operator{Name: "moongate-hsm init", From: "console"}}
	return newHSM(st, record, officer, mech.NewKDF(policy))
}

// newHSM completes the record and writes it.
func newHSM(st *store.Store, record hsmRecord, officer []byte, kdf mech.KDF) error {
	if err := checkName("label", record.Label); err != nil {
		return err
	}
	if err := checkPassword(officer); err != nil {
		return err
	}
	v, err := verifier(kdf, officerInfo, officer)
	if err != nil {
		return err
	}
	record.Created, record.AddressCheck, record.Domain = record.Created.UTC(), true, newDomain()
	record.Officer, record.Verifier = password{KDF: kdf}, v
	return st.Update(func(tx *store.Tx) error {
		if _, err := tx.Record(kindHSM, kindHSM); err == nil {
			return object.Errorf(object.ErrExists, "there is an HSM already; zeroize it first, which destroys every key, or use another data directory")
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		return save(tx, kindHSM, kindHSM, &record)
	})
}

// recordInit records that an HSM was made before there was an audit log.
func (h *HSM) recordInit(record *hsmRecord) error {
	event := audit.Event{Kind: audit.Admin, Action: "hsm.init", Client: record.Unrecorded.Name, Remote: record.Unrecorded.From, Outcome: audit.OK, Detail: record.Label}
	if err := h.journal.AppendDurable(context.Background(), event); err != nil {
		return unrecorded(err)
	}
	return h.store.Update(func(tx *store.Tx) error {
		if err := loadHSM(tx, record); err != nil {
			return err
		}
		record.Unrecorded = nil
		return save(tx, kindHSM, kindHSM, record)
	})
}

// Initialize makes an HSM of one that is not initialised; ErrExists where it
// is. Its FIPS policy is the process's, for as long as the process runs.
func (h *HSM) Initialize(ctx context.Context, who Operator, opts InitOptions) error {
	return h.administer(ctx, who, "hsm.init", opts.Label, func() error {
		if h.Initialized() {
			return object.Errorf(object.ErrExists, "there is an HSM already; zeroize it first with `hsm zeroize`, which destroys every key")
		}
		h.zeroizing.Lock() // no HSM is made while one is destroyed
		defer h.zeroizing.Unlock()
		record := hsmRecord{Label: opts.Label, Serial: h.serial, Created: h.now(), FIPS: h.policy.FIPS}
		err := h.derive(ctx, func() error { return newHSM(h.store, record, opts.Officer, h.newKDF(h.policy)) })
		if err != nil {
			return err
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.initialized, h.addressCheck = true, true
		h.label, h.created = record.Label, record.Created.UTC()
		h.epoch++
		return nil
	})
}

// Zeroize destroys every key, partition, client and password of the HSM: the
// keys first. What is left is an HSM that is not initialised, its appliance
// users and its audit log.
func (o *Officer) Zeroize(ctx context.Context) error {
	return o.h.zeroize(ctx, o.who, "by the Security Officer", func() error { return o.h.still(o.epoch) })
}

// Zeroize does the same without a Security Officer, whose password may be lost.
// It is for who stands at the machine's own console.
func (h *HSM) Zeroize(ctx context.Context, who Operator) error {
	return h.zeroize(ctx, who, "from the console", func() error {
		h.mu.RLock()
		defer h.mu.RUnlock()
		if h.unfinished != nil {
			return nil // it is tried again
		}
		return h.ready()
	})
}

// zeroize destroys the HSM that may allows, in this order: the intent is
// recorded; that it is to be done is written, so that the next start ends what
// this process does not; keys in memory are wiped and clients disconnected; the
// store destroys the root key and itself; the outcome is recorded. What cannot
// be recorded is not done, here as elsewhere: until then no Security Officer's
// password is looked at once none is left to be wrong.
func (h *HSM) zeroize(ctx context.Context, who Operator, why string, may func() error) error {
	h.zeroizing.Lock()
	defer h.zeroizing.Unlock()
	event := audit.Event{Kind: audit.Admin, Action: "hsm.zeroize", Client: who.Name, Remote: who.From, Outcome: intent, Detail: why}
	if err := may(); err != nil {
		event.Kind, event.Outcome, event.Detail = audit.Denied, outcome(err), join(why, detail(err))
		return h.conclude(ctx, event, err)
	}
	if err := h.begin(ctx, event); err != nil {
		return err
	}
	h.log.Warn("zeroizing the HSM", "why", why, "by", who.Name)
	err := h.destroy()
	if event.Outcome = outcome(err); err != nil {
		event.Detail = join(why, detail(err))
		h.log.Error("zeroizing the HSM", "err", err)
	} else {
		h.log.Warn("the HSM is zeroized", "why", why, "by", who.Name)
	}
	return h.conclude(ctx, event, err)
}

// destroy is what zeroize does between its records.
func (h *HSM) destroy() error {
	// A store that takes no mark may be erased all the same.
	marked := h.store.Update(func(tx *store.Tx) error {
		var record hsmRecord
		if err := loadHSM(tx, &record); object.CodeOf(err) == object.ErrNotInitialized {
			return nil
		} else if err != nil {
			return err
		}
		record.Zeroizing = true
		return save(tx, kindHSM, kindHSM, &record)
	})
	if marked != nil {
		h.log.Error("marking the HSM to be zeroized", "err", marked)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.initialized, h.label, h.created, h.addressCheck, h.forceLogin = false, "", time.Time{}, true, false
	h.epoch++
	for id, p := range h.partitions {
		p.deactivate(true)
		delete(h.partitions, id)
	}
	for fingerprint := range h.clients {
		delete(h.clients, fingerprint)
		h.disconnect(fingerprint)
	}
	h.attempts.forget(object.ID{}, object.RoleNone)
	h.unfinished = h.store.Erase()
	if h.unfinished == nil {
		h.unfinished = h.keepSerial()
	}
	if h.unfinished != nil {
		return object.Errorf(object.ErrDeviceError, "keys in memory are wiped, and destroying those on disk did not end; restart the HSM, which ends it: %v", h.unfinished)
	}
	return nil
}

// keepSerial writes the appliance's serial number into a store that holds no
// HSM: the audit log, which outlives a zeroization, is named by it.
func (h *HSM) keepSerial() error {
	return h.store.Update(func(tx *store.Tx) error {
		return save(tx, kindAppliance, kindAppliance, &applianceRecord{Serial: h.serial})
	})
}

// finishZeroizing ends, when the HSM is opened, what an earlier process began or
// was due to: see AuthenticateOfficer.
func (h *HSM) finishZeroizing(record *hsmRecord) error {
	why := "begun before this start"
	if !record.Zeroizing {
		why = errExhausted.Detail
	}
	return h.zeroize(context.Background(), Operator{Name: "moongate-hsm", From: "start"}, why, func() error { return nil })
}
