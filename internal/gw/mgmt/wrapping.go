package mgmt

import (
	"context"
	"slices"
	"time"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/logstore"
	"moongate/internal/gw/vault"
)

// WrappingKeyRotation is what came of a rotation.
type WrappingKeyRotation struct {
	Key string // the new wrapping key
	// OnHSM: the master key is wrapped by it; otherwise it is for later.
	OnHSM bool
	// Missing are members of the HA group that lack it, or cannot be asked:
	// the master key stays wrapped by the older key, too, until they hold it.
	Missing []string
}

// RotateWrappingKey makes a new wrapping key on the HSM and, where the master key
// is there, wraps it by that one. The old key stays on the HSM. officer is as of
// ChangeMasterKey.
func (m *Manager) RotateWrappingKey(ctx context.Context, c Caller, officer []byte) (WrappingKeyRotation, error) {
	const command = "request hsm mkey-wrapping-key-rotation"
	err := m.allow(c, admin.OpMasterKey, "wrapping key")
	var done WrappingKeyRotation
	if err == nil {
		work, cancel := asOfficer(ctx, officer)
		defer cancel()
		if done, err = m.rotate(work); err != nil {
			m.event(logstore.High, "crypto", "wrapping-key-rotation-failed", "", "rotating the wrapping key by "+who(c)+" failed: "+oneLine(err.Error()))
			err = coded(err)
		}
	}
	m.record(c, command, "", "", done.Key, resultOf(err))
	if err != nil {
		return done, err
	}
	text := "a new wrapping key was made for later by " + who(c)
	if done.OnHSM {
		text = "the master key was wrapped by a new wrapping key by " + who(c)
	}
	m.event(logstore.High, "crypto", "wrapping-key-rotated", done.Key, text+": "+done.Key)
	return done, nil
}

// OfficerNeeded reports whether the caller, who may change the master key, must
// give the Crypto Officer's password for a wrapping key that is made: for every
// rotation, and for storing the master key on the HSM where there is none yet.
func (m *Manager) OfficerNeeded(c Caller, rotation bool) bool {
	return m.may(c, admin.OpMasterKey) && m.parts.Link != nil && m.parts.Link.OfficerNeeded() &&
		(rotation || len(m.parts.Vault.WrappingKeys()) == 0)
}

func (m *Manager) rotate(ctx context.Context) (WrappingKeyRotation, error) {
	ref, err := m.parts.Vault.RotateWrapping(ctx)
	if err != nil {
		return WrappingKeyRotation{}, err
	}
	done := WrappingKeyRotation{Key: ref, OnHSM: m.parts.Vault.Properties().OnHSM}
	// What this does not find out now is found out a little later.
	if done.Missing, err = m.parts.Vault.SettleWrapping(ctx); err != nil {
		m.log.Warn("whether every HSM holds the new wrapping key is not known", "err", err)
	}
	return done, nil
}

// WrappingKeyUse says what a wrapping key is for.
type WrappingKeyUse string

const (
	WrapsMasterKey  WrappingKeyUse = "wraps the master key"
	WrapsToo        WrappingKeyUse = "wraps it, too, until all members hold the new one"
	WrapsLater      WrappingKeyUse = "for later"
	WrappedBefore   WrappingKeyUse = "retired"
	WrapsForAnother WrappingKeyUse = "not used by this gateway"
)

// WrappingKeyState is a wrapping key of this gateway, or another one that is on
// the HSM.
type WrappingKeyState struct {
	Key              string
	Use              WrappingKeyUse
	Created, Retired time.Time // zero: not known; it is not
	OnHSM            string    // yes, no, unknown
	Members, Missing []string  // of an HA group
}

// WrappingKeys lists the wrapping keys, oldest first. Where the HSM cannot be
// asked, those of the gateway alone, and the cause.
func (m *Manager) WrappingKeys(ctx context.Context, c Caller) (list []WrappingKeyState, cause error, err error) {
	if err := m.allow(c, admin.OpReadSystem, "wrapping keys"); err != nil {
		return nil, nil, err
	}
	own := m.parts.Vault.WrappingKeys()
	onHSM, cause := m.wrappingKeysOnHSM(ctx)
	for i, k := range own {
		s := WrappingKeyState{Key: k.Ref, Use: useOf(k, i == len(own)-1), Created: k.Made, Retired: k.Retired, OnHSM: "unknown"}
		if cause == nil {
			s.OnHSM = "no"
		}
		if j := slices.IndexFunc(onHSM, func(o vault.WrappingKey) bool { return o.Ref == k.Ref }); j >= 0 {
			s.OnHSM, s.Members, s.Missing = "yes", onHSM[j].Members, onHSM[j].Missing
			onHSM = slices.Delete(onHSM, j, j+1)
		}
		list = append(list, s)
	}
	for _, o := range onHSM {
		list = append(list, WrappingKeyState{Key: o.Ref, Use: WrapsForAnother, Created: o.Created, OnHSM: "yes", Members: o.Members, Missing: o.Missing})
	}
	slices.SortStableFunc(list, func(a, b WrappingKeyState) int { return a.Created.Compare(b.Created) })
	return list, cause, nil
}

func useOf(k vault.OwnWrappingKey, last bool) WrappingKeyUse {
	switch {
	case k.Wraps && last:
		return WrapsMasterKey
	case k.Wraps:
		return WrapsToo
	case last:
		return WrapsLater
	}
	return WrappedBefore
}

// wrappingKeysOnHSM asks the HSM, unless it is known to be away.
func (m *Manager) wrappingKeysOnHSM(ctx context.Context) ([]vault.WrappingKey, error) {
	if s := m.parts.HSM.Status(); !s.Ready {
		return nil, refuse(CodeNotPossible, "the HSM cannot be asked: %s", s.Cause)
	}
	ctx, cancel := context.WithTimeout(ctx, stateWork)
	defer cancel()
	return m.parts.HSM.Keys(ctx)
}
