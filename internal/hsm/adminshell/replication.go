package adminshell

import (
	"fmt"
	"io"

	"moongate/internal/hsm/partition"
)

// partitionView is what `partition show` shows.
type partitionView struct {
	partition.PartitionStatus
	Replication replicationView `json:"replication"`
}

// replicationView is with whom a partition clones, and the group that it is in.
type replicationView struct {
	Replica string            `json:"replica"`
	Domain  string            `json:"domain"`
	Peers   []replicaPeerView `json:"peers"`
	Group   *groupView        `json:"group,omitempty"`
}

// replicaPeerView is a partition of another HSM.
type replicaPeerView struct {
	HSM      string `json:"hsm"` // that HSM's name here
	Identity string `json:"identity"`
	Serial   string `json:"serial"`
}

// groupView is the record of a group.
type groupView struct {
	Label   string            `json:"label"`
	Serial  string            `json:"serial"`
	Epoch   uint64            `json:"epoch"`
	Members []groupMemberView `json:"members"`
}

type groupMemberView struct {
	Name     string `json:"name"`
	Address  string `json:"address"`
	Serial   string `json:"serial"`
	Identity string `json:"identity"`
}

func newReplicationView(r partition.Replication) replicationView {
	v := replicationView{Replica: r.Replica.String(), Domain: r.Domain, Peers: []replicaPeerView{}}
	for _, p := range r.Peers {
		v.Peers = append(v.Peers, replicaPeerView{p.Name, p.HSM.String(), p.Serial})
	}
	if r.Group.Epoch == 0 {
		return v
	}
	v.Group = &groupView{Label: r.Group.Label, Serial: r.Group.Serial, Epoch: r.Group.Epoch, Members: []groupMemberView{}}
	for _, m := range r.Group.Members {
		v.Group.Members = append(v.Group.Members, groupMemberView{m.Name, m.Address, m.Serial, m.HSM.String()})
	}
	return v
}

// print adds rows to a partition's table.
func (v replicationView) print(t io.Writer) {
	for _, p := range v.Peers {
		fmt.Fprintf(t, "Clones with:\t%s, partition %s\n", p.HSM, p.Serial)
	}
	if v.Group == nil {
		return
	}
	fmt.Fprintf(t, "HA group:\t%s, serial number %s, epoch %d\n", oneLine(v.Group.Label), v.Group.Serial, v.Group.Epoch)
	for _, m := range v.Group.Members {
		fmt.Fprintf(t, "HA member:\t%s, %s, partition %s\n", oneLine(m.Name), oneLine(m.Address), m.Serial)
	}
}
