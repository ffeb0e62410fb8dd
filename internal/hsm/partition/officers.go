package partition

import (
	"context"
	"strings"
	"sync"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// PartitionOfficer is who administers one partition: its Partition Security
// Officer whose password was right, or the HSM's Security Officer while the
// partition has none. It can use no key. When the Partition Security Officer's
// password is changed, those who logged in with the old one are refused.
type PartitionOfficer struct {
	h     *HSM
	id    object.ID
	label string
	who   Operator

	mu sync.Mutex // guards by
	by authority
}

// InitPartition gives a partition its Partition Security Officer. From then on
// the HSM's Security Officer can delete the partition and assign it, unlock its
// Partition Security Officer, and nothing else. ErrExists where it has one.
func (o *Officer) InitPartition(ctx context.Context, name string, pw []byte) error {
	return o.act(ctx, "partition.init", name, func() error {
		p, err := o.h.find(name)
		if err != nil {
			return err
		}
		return o.h.initPartitionOfficer(ctx, p, pw, nil)
	})
}

// Partition returns the Security Officer as officer of a partition;
// ErrUserType where the partition has a Partition Security Officer.
func (o *Officer) Partition(name string) (*PartitionOfficer, error) {
	if err := o.h.still(o.epoch); err != nil {
		return nil, err
	}
	p, err := o.h.find(name)
	if err != nil {
		return nil, err
	}
	po := &PartitionOfficer{h: o.h, id: p.id, label: p.label, who: o.who, by: authority{standIn: true}}
	err = o.h.store.View(func(tx *store.Tx) error {
		record, err := loadPartition(tx, p.id)
		if err != nil {
			return err
		}
		return po.by.check(record)
	})
	if err != nil {
		return nil, err
	}
	return po, nil
}

// InitCryptoOfficer and UnlockRole are those of Partition; UnlockRole also
// unlocks a Partition Security Officer, which its holder cannot.
func (o *Officer) InitCryptoOfficer(ctx context.Context, name string, pw []byte) error {
	return o.act(ctx, "role.init", name+" co", func() error {
		p, err := o.h.find(name)
		if err != nil {
			return err
		}
		return o.h.initCryptoOfficer(ctx, p, authority{standIn: true}, pw)
	})
}

func (o *Officer) UnlockRole(ctx context.Context, name string, role object.Role) error {
	return o.act(ctx, "role.unlock", name+" "+role.String(), func() error {
		p, err := o.h.find(name)
		if err != nil {
			return err
		}
		return o.h.unlockRole(p, authority{standIn: true}, role)
	})
}

// AuthenticatePartitionOfficer checks a Partition Security Officer's password.
func (h *HSM) AuthenticatePartitionOfficer(ctx context.Context, who Operator, name string, pw []byte) (*PartitionOfficer, error) {
	po := &PartitionOfficer{h: h, who: who}
	p, err := h.find(name)
	if err == nil {
		po.id, po.label = p.id, p.label
		po.by, err = h.openOfficer(ctx, operatorPrefix+who.Name, p, pw)
	}
	err, recorded := refusalOf(err)
	if recorded {
		if jerr := h.recordLogin(ctx, who, object.RolePartitionOfficer, name, err); jerr != nil {
			po.Close()
			return nil, jerr
		}
	}
	if err != nil {
		return nil, err
	}
	return po, nil
}

// Close wipes what the officer's password opened. It is called when the officer
// logs out; later acts are refused.
func (o *PartitionOfficer) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.by.wipe()
}

// act records the intent of an act of the officer's on its partition, does it,
// and records what became of it.
func (o *PartitionOfficer) act(ctx context.Context, action, about string, do func(*partition, authority) error) error {
	return o.h.administer(ctx, o.who, action, strings.TrimSpace(o.label+" "+about), func() error {
		p, by, err := o.partition()
		if err != nil {
			return err
		}
		defer by.wipe()
		return do(p, by)
	})
}

// partition returns the officer's partition, which Recreate makes another one,
// and by what right it is administered, which the caller wipes.
func (o *PartitionOfficer) partition() (*partition, authority, error) {
	p, err := o.h.byID(o.id)
	if err != nil {
		return nil, authority{}, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return p, o.by.clone(), nil
}

// InitCryptoOfficer gives the partition its Crypto Officer, and with the role
// the key that its objects will be sealed under.
func (o *PartitionOfficer) InitCryptoOfficer(ctx context.Context, pw []byte) error {
	return o.act(ctx, "role.init", "co", func(p *partition, by authority) error { return o.h.initCryptoOfficer(ctx, p, by, pw) })
}

// ResetRole gives the Crypto Officer or Crypto User whose password is lost a
// new one and keeps the keys: ErrPolicy where PolicyOfficerReset is off.
func (o *PartitionOfficer) ResetRole(ctx context.Context, role object.Role, pw []byte) error {
	return o.act(ctx, "role.reset", role.String(), func(p *partition, by authority) error { return o.h.resetRole(ctx, p, by, role, pw) })
}

// Recreate destroys every object of the partition and gives it a Crypto
// Officer anew: what is left where a password is lost and cannot be reset. Its
// label, clients, policies and Partition Security Officer stay.
func (o *PartitionOfficer) Recreate(ctx context.Context, pw []byte) error {
	return o.act(ctx, "partition.recreate", "", func(p *partition, by authority) error { return o.h.recreate(ctx, p, by, pw) })
}

// UnlockRole sets the Crypto Officer's or the Crypto User's count of wrong
// passwords back to zero.
func (o *PartitionOfficer) UnlockRole(ctx context.Context, role object.Role) error {
	return o.act(ctx, "role.unlock", role.String(), func(p *partition, by authority) error { return o.h.unlockRole(p, by, role) })
}

// SetPolicy sets a policy of the partition.
func (o *PartitionOfficer) SetPolicy(ctx context.Context, v object.PolicyValue) error {
	p, by, err := o.partition()
	if err != nil {
		return err
	}
	defer by.wipe()
	return o.h.setPolicy(p, by, v, func(about string, do func() error) error {
		return o.h.administer(ctx, o.who, "partition.policy", o.label+" "+about, do)
	})
}

// ChangePassword gives the Partition Security Officer a new password;
// ErrUserType where this is the HSM's Security Officer standing in.
func (o *PartitionOfficer) ChangePassword(ctx context.Context, fresh []byte) error {
	return o.act(ctx, "role.password", "po", func(p *partition, by authority) error {
		if by.standIn {
			return object.Errorf(object.ErrUserType, "partition %s has no Partition Security Officer; the Security Officer's own password is changed with `hsm changePw`", p.label)
		}
		salt, err := o.h.sealOfficer(ctx, p, by, fresh)
		if err != nil {
			return err
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.by.salt = salt
		return nil
	})
}

// Deactivate wipes what an activated partition keeps in memory once nobody is
// logged in to it. Anybody who administers the appliance may.
func (h *HSM) Deactivate(ctx context.Context, who Operator, name string) error {
	return h.administer(ctx, who, "partition.deactivate", name, func() error {
		p, err := h.find(name)
		if err != nil {
			return err
		}
		p.dismiss()
		return nil
	})
}
