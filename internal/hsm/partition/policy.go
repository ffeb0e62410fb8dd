package partition

import "moongate/internal/hsm/object"

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
