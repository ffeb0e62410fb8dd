package partition

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// replicationRecord is what a partition knows of those that it clones with. It
// is no part of the partition's own record, which backups hold: a partition that
// is restored elsewhere has no peers and is in no group until its owner says so
// there; one that is put back where it was keeps both.
type replicationRecord struct {
	Peers []listedPeer `json:"peers,omitempty"`
	// Group is object.Group.Append's.
	Group []byte `json:"group,omitempty"`
}

// listedPeer is a partition of another HSM.
type listedPeer struct {
	HSM    []byte `json:"hsm"`
	Serial string `json:"serial"`
}

func (l listedPeer) hsm() (id object.HSMID) {
	copy(id[:], l.HSM)
	return id
}

// loadReplication reads a partition's record; an empty one where there is none.
func loadReplication(tx *store.Tx, id object.ID) (*replicationRecord, error) {
	record := new(replicationRecord)
	if err := load(tx, kindReplication, partitionKey(id), record); err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	return record, nil
}

// changeReplication changes a partition's record; one that is empty then is
// removed.
func changeReplication(tx *store.Tx, id object.ID, change func(*replicationRecord) error) error {
	record, err := loadReplication(tx, id)
	if err != nil {
		return err
	}
	if err := change(record); err != nil {
		return err
	}
	if len(record.Peers) == 0 && len(record.Group) == 0 {
		return deleteReplication(tx, id)
	}
	return save(tx, kindReplication, partitionKey(id), record)
}

func deleteReplication(tx *store.Tx, id object.ID) error {
	if err := tx.DeleteRecord(kindReplication, partitionKey(id)); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}

// updateReplication is changeReplication for a partition that is there: not for
// one that was deleted or made anew under whoever asks.
func (h *HSM) updateReplication(p *partition, change func(*store.Tx, *replicationRecord) error) error {
	p.changes.Lock() // who makes the partition anew holds it
	defer p.changes.Unlock()
	if p.deleted.Load() {
		return errGone
	}
	return h.store.Update(func(tx *store.Tx) error {
		if _, err := loadPartition(tx, p.id); err != nil {
			return err
		}
		return changeReplication(tx, p.id, func(r *replicationRecord) error { return change(tx, r) })
	})
}

// peers are a partition's peers in the order of the wire, with the names of
// their HSMs here.
func (r *replicationRecord) peers(pinned []PinnedPeer) []object.Peer {
	var list []object.Peer
	for _, l := range r.Peers {
		p := object.Peer{HSM: l.hsm(), Serial: l.Serial}
		if i := slices.IndexFunc(pinned, func(q PinnedPeer) bool { return q.ID == p.HSM }); i >= 0 {
			p.Name = pinned[i].Name
		}
		list = append(list, p)
	}
	slices.SortFunc(list, object.Peer.Compare)
	return list
}

func (r *replicationRecord) group() (object.Group, error) {
	if len(r.Group) == 0 {
		return object.Group{}, nil
	}
	g, rest, err := object.DecodeGroup(r.Group)
	if err != nil || len(rest) > 0 {
		return object.Group{}, errors.New("the partition's record of its group is malformed; restore the store from a backup")
	}
	return g, nil
}

// Replica says who the partition is to those that would replicate it. It needs
// no login.
func (s *Session) Replica(_ context.Context, op object.OperationID) (object.Replica, error) {
	if err := permit(s.as(), actReplica, nil); err != nil {
		return object.Replica{}, s.refuse(s.event(actReplica, op), err)
	}
	r := object.Replica{PartitionInfo: s.Info(), Software: s.h.software}
	var err error
	if r.Certificate, r.HSM, err = s.h.HSMIdentity(); err != nil {
		return object.Replica{}, err
	}
	if r.Domain, err = s.h.DomainIdentity(); err != nil {
		return object.Replica{}, err
	}
	if r.ID, err = s.h.replicaID(s.p); err != nil {
		return object.Replica{}, err
	}
	err = s.h.store.View(func(tx *store.Tx) error {
		record, err := loadReplication(tx, s.p.id)
		if err != nil {
			return err
		}
		pinned, err := pinnedPeers(tx)
		r.Peers = record.peers(pinned)
		return err
	})
	return r, err
}

// replicaID returns the name of the partition's changes, and gives one to a
// partition of before there were any.
func (h *HSM) replicaID(p *partition) (id object.ReplicaID, err error) {
	read := func(ask func(*store.Tx, object.ID) (object.ReplicaID, error)) func(tx *store.Tx) error {
		return func(tx *store.Tx) (err error) {
			if id, err = ask(tx, p.id); errors.Is(err, store.ErrNotFound) {
				return errGone
			}
			return err
		}
	}
	if err = h.store.View(read((*store.Tx).Replica)); err == nil && id == (object.ReplicaID{}) {
		err = h.store.Update(read((*store.Tx).NameReplica))
	}
	return id, err
}

// SetPeer puts a partition of another HSM on the list of those that this one
// clones with, both ways, or takes it off. The HSM must be pinned. It is done by
// who answers for the partition's keys: its Crypto Officer, or its Partition
// Security Officer; the HSM's Security Officer does not stand in.
func (s *Session) SetPeer(ctx context.Context, op object.OperationID, hsm object.HSMID, serial string, listed bool) error {
	about := fmt.Sprintf("partition %s of HSM %v is taken off", printed(serial), hsm)
	if listed {
		about = fmt.Sprintf("partition %s of HSM %v is listed", printed(serial), hsm)
	}
	as := s.as()
	return s.administer(ctx, op, actSetPeer, about, permit(as, actSetPeer, nil), func() error {
		if checkName("serial number", serial) != nil {
			return object.Errorf(object.ErrArgumentsBad, "serial number %q is no partition's; take it from `partition show` there", serial)
		}
		by := s.authority()
		defer by.wipe()
		return s.h.updateReplication(s.p, func(tx *store.Tx, r *replicationRecord) error {
			if as == object.RolePartitionOfficer {
				record, err := loadPartition(tx, s.p.id)
				if err != nil {
					return err
				}
				if err := by.check(record); err != nil {
					return err
				}
			}
			return r.setPeer(tx, listedPeer{hsm[:], serial}, listed)
		})
	})
}

func (r *replicationRecord) setPeer(tx *store.Tx, l listedPeer, listed bool) error {
	i := slices.IndexFunc(r.Peers, func(there listedPeer) bool { return there.hsm() == l.hsm() && there.Serial == l.Serial })
	switch {
	case !listed && i >= 0:
		r.Peers = slices.Delete(r.Peers, i, i+1)
		return nil
	case !listed || i >= 0:
		return nil
	}
	pinned, err := pinnedPeers(tx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(pinned, func(p PinnedPeer) bool { return p.ID == l.hsm() }) {
		return object.Errorf(object.ErrPolicy, "HSM %v is not pinned on this one; its Security Officer pins it with `hsm peer add`, then its partitions can be listed", l.hsm())
	}
	if len(r.Peers) >= object.MaxPeers {
		return object.Errorf(object.ErrBusy, "the partition has %d peers, and no more fit; take one off first", len(r.Peers))
	}
	r.Peers = append(r.Peers, l)
	return nil
}

// printed shortens what somebody else says, for a record.
func printed(text string) string {
	return fmt.Sprintf("%.64q", text)
}

// Replication is what an administrator may know of a partition's replication.
type Replication struct {
	Replica             object.ReplicaID
	Domain              string
	Peers               []object.Peer
	Group               object.Group // zero where it is in none
	Objects, Tombstones int
}

// Replication describes a partition's replication, by label or serial number.
func (h *HSM) Replication(name string) (Replication, error) {
	p, err := h.find(name)
	if err != nil {
		return Replication{}, err
	}
	var r Replication
	if r.Domain, err = h.DomainIdentity(); err != nil {
		return Replication{}, err
	}
	if r.Replica, err = h.replicaID(p); err != nil {
		return Replication{}, err
	}
	err = h.store.View(func(tx *store.Tx) error {
		record, err := loadReplication(tx, p.id)
		if err != nil {
			return err
		}
		pinned, err := pinnedPeers(tx)
		if err != nil {
			return err
		}
		r.Peers, r.Objects, r.Tombstones = record.peers(pinned), 0, 0
		if r.Group, err = record.group(); err != nil {
			return err
		}
		for change, err := range tx.ChangesSince(p.id, 0) {
			if err != nil {
				return err
			}
			if change.Deleted {
				r.Tombstones++
			} else {
				r.Objects++
			}
		}
		return nil
	})
	return r, err
}

// RenameReplicas is for a store whose file was put back to an older state, before
// it is opened as an HSM: each partition's changes from now on are others than
// those which the file lost, and get another name.
func RenameReplicas(st *store.Store) error {
	return st.Update(func(tx *store.Tx) error {
		for id, err := range tx.Records(kindPartition) {
			if err != nil {
				return fmt.Errorf("reading partitions: %w", err)
			}
			var record partitionRecord
			if err := load(tx, kindPartition, id, &record); err != nil {
				return err
			}
			// One that is damaged stays as it is, and is good for nothing.
			if err := tx.RenameReplica(record.ID); err != nil && !errors.Is(err, store.ErrTampered) {
				return err
			}
		}
		return nil
	})
}
