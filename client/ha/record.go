package ha

import (
	"fmt"
	"strings"

	"moongate/client"
	"moongate/internal/hsm/object"
)

// verdict is what a partition is to the group.
type verdict struct {
	state       State // Behind: one of its members, whose contents are compared next
	reason, fix string
}

// identify judges a partition by what it says of itself and by the record that
// it has. A newer record than ours becomes ours.
func (g *Group) identify(m *member, self object.Replica, record object.Group, status client.Status) verdict {
	g.adopt(record)
	g.mu.Lock()
	ours := g.record
	place := g.placeOf(self)
	var twin string
	for _, other := range g.members {
		if other != m {
			if there, known := other.self(); known && there.HSM == self.HSM && there.Serial == self.Serial {
				twin = other.name
			}
		}
	}
	g.mu.Unlock()
	switch {
	case ours.Epoch == 0 && record.Epoch == 0:
		return verdict{Refused, ErrNoRecord.Error(), "make the group with `cmu ha create`"}
	case ours.Epoch == 0:
		return verdict{Refused, fmt.Sprintf("its partition is of group %q, not %q", record.Label, g.config.Label),
			"give the group its right label in the client configuration, or remove the partition from that other group"}
	case place < 0:
		return verdict{Removed, fmt.Sprintf("the record of epoch %d does not name it", ours.Epoch),
			"take it out of the client configuration, or add it again with `cmu ha add`"}
	case twin != "":
		return verdict{Refused, fmt.Sprintf("it is the same partition as member %q", twin), "give each member another HSM"}
	case record.Epoch == 0:
		return verdict{Refused, ErrNoRecord.Error(), fmt.Sprintf("it was restored or left the group: take it in again with `cmu ha replace -member=%s -by=%[1]s`", m.name)}
	case record.ID != ours.ID:
		fix := "remove it from that group, or take it out of this one with `cmu ha remove`"
		if record.Label == g.config.Label {
			fix = "where the group was made anew, use it anew"
			if g.config.StateFile != "" {
				fix += ", without " + g.config.StateFile
			}
		}
		return verdict{Refused, fmt.Sprintf("its partition is of another group, %q (%v)", record.Label, record.ID), fix}
	}
	return verdict{state: Behind}
}

// adopt takes over a record that counts more than ours.
func (g *Group) adopt(record object.Group) {
	if record.Epoch == 0 || record.Label != g.config.Label {
		return
	}
	g.mu.Lock()
	if g.record.Epoch > 0 && (record.ID != g.record.ID || !record.Supersedes(g.record)) {
		g.mu.Unlock()
		return
	}
	g.record = record
	g.mu.Unlock()
	g.log.Info("HA group record", "group", record.Label, "id", record.ID, "epoch", record.Epoch, "members", memberNames(record))
	if g.config.StateFile != "" {
		if err := writeState(g.config.StateFile, record); err != nil {
			g.log.Warn("the HA group's record is not remembered", "group", record.Label, "error", err)
		}
	}
	g.route()
	g.expel()
}

// expel marks members that a new record does not name.
func (g *Group) expel() {
	for _, m := range g.all() {
		self, known := m.self()
		if !known {
			continue
		}
		g.mu.Lock()
		place, epoch := g.placeOf(self), g.record.Epoch
		g.mu.Unlock()
		if place < 0 {
			m.set(Removed, fmt.Sprintf("the record of epoch %d does not name it", epoch),
				"take it out of the client configuration, or add it again with `cmu ha add`")
		}
	}
}

func memberNames(record object.Group) string {
	var names []string
	for _, m := range record.Members {
		names = append(names, m.Name)
	}
	return strings.Join(names, ", ")
}
