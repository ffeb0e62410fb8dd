package partition

import (
	"fmt"
	"maps"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// policy returns what a policy of the partition is set to, or its default.
func (p *partition) policy(id object.PolicyID) uint64 {
	if v, set := (*p.policies.Load())[id]; set {
		return v
	}
	info, known := id.Info()
	if !known {
		panic("partition: no such policy: " + id.String()) // a constant of this program
	}
	return info.Default
}

// allows reports whether a policy that is on or off is on.
func (p *partition) allows(id object.PolicyID) bool { return p.policy(id) != 0 }

// setPolicy sets a policy between the two records that record makes: what it
// was and what it becomes is in both. It holds for what begins after it.
func (h *HSM) setPolicy(p *partition, by authority, v object.PolicyValue, record func(about string, do func() error) error) error {
	info, known := v.ID.Info()
	if !known {
		return record(v.ID.String(), func() error {
			return object.Errorf(object.ErrArgumentsBad, "there is no %v; `partition showPolicies` lists them", v.ID)
		})
	}
	p.deciding.Lock()
	defer p.deciding.Unlock()
	about := fmt.Sprintf("%s: %s to %s", info.Name, info.Format(p.policy(v.ID)), info.Format(v.Value))
	return record(about, func() error {
		if err := info.Check(v.Value); err != nil {
			return err
		}
		var fresh map[object.PolicyID]uint64
		err := h.updatePartition(p, func(_ *store.Tx, r *partitionRecord) error {
			if err := by.check(r); err != nil {
				return err
			}
			if v.ID == object.PolicyOfficerReset {
				if err := r.setOfficerReset(v.Value != 0); err != nil {
					return err
				}
			}
			if fresh = maps.Clone(r.Policies); fresh == nil {
				fresh = map[object.PolicyID]uint64{}
			}
			fresh[v.ID] = v.Value
			r.Policies = fresh
			return nil
		})
		if err != nil {
			return err
		}
		p.policies.Store(&fresh)
		if v.ID == object.PolicyActivation && v.Value == 0 {
			p.dismiss()
		}
		return nil
	})
}

// setOfficerReset refuses what PolicyOfficerReset cannot be, and deletes the
// escrow where it is turned off. It is turned on before there are keys, so that
// nobody's keys become another's to open.
func (r *partitionRecord) setOfficerReset(on bool) error {
	switch {
	case !on:
		r.Escrow = nil
	case r.Policies[object.PolicyOfficerReset] != 0:
	case r.Roles[object.RolePartitionOfficer.String()] == nil:
		return object.Errorf(object.ErrPolicy, "%v needs a Partition Security Officer, and partition %s has none", object.PolicyOfficerReset, r.Label)
	case r.Roles[object.RoleCryptoOfficer.String()] != nil:
		return object.Errorf(object.ErrPolicy, "%v can be turned on only before there is a Crypto Officer, and partition %s has one", object.PolicyOfficerReset, r.Label)
	}
	return nil
}
