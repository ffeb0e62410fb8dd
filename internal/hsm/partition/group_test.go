package partition

import (
	"sync"
	"sync/atomic"
	"testing"

	"moongate/internal/hsm/object"

	"github.com/google/go-cmp/cmp"
)

// TestGroupRecord: it is written where nobody wrote it meanwhile, and goes
// forward.
func TestGroupRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, s := t.Context(), w.session(object.RoleCryptoOfficer)
	is := func(want object.Group) {
		t.Helper()
		for _, role := range []object.Role{object.RoleCryptoOfficer, object.RoleCryptoUser} {
			got, err := w.session(role).Group(ctx, newOp())
			must(t, err)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("group, as %v (-want +got):\n%s", role, diff)
			}
		}
		if d := digestOf(t, s); d.Epoch != want.Epoch {
			t.Errorf("the digest says epoch %d, want %d", d.Epoch, want.Epoch)
		}
		if r, err := w.Replication("p"); err != nil || cmp.Diff(want, r.Group) != "" {
			t.Errorf("administrators are shown %+v, %v", r.Group, err)
		}
	}
	refused := func(what string, expect uint64, g object.Group, code object.Code, reason string) {
		t.Helper()
		w.refused(what, s.SetGroup(ctx, newOp(), expect, g), code, reason, actSetGroup)
	}
	is(object.Group{})
	refused("none is there", 1, aGroup(2), object.ErrExists, "has epoch 0, and not 1")
	refused("no members", 0, object.Group{ID: object.NewID(), Label: "l", Serial: "1", Epoch: 1}, object.ErrArgumentsBad, "members")
	must(t, s.SetGroup(ctx, newOp(), 0, aGroup(1)))
	is(aGroup(1))
	refused("another was faster", 0, aGroup(1), object.ErrExists, "has epoch 1, and not 0")
	other := aGroup(2)
	other.ID = object.NewID()
	refused("of another group", 1, other, object.ErrExists, "remove it from that one first")
	must(t, s.SetGroup(ctx, newOp(), 1, aGroup(5)))
	refused("backwards", 5, aGroup(4), object.ErrArgumentsBad, "does not come after 5")
	greater, smaller := aGroup(5), aGroup(5)
	greater.Label, smaller.Label = "groups", "a"
	refused("the same epoch, the smaller encoding", 5, smaller, object.ErrArgumentsBad, "does not come after 5")
	must(t, s.SetGroup(ctx, newOp(), 5, greater))
	s.Close()
	w.restart()
	s = w.session(object.RoleCryptoOfficer)
	is(greater)
	must(t, s.SetGroup(ctx, newOp(), 5, object.Group{}))
	is(object.Group{})
}

// TestGroupRecordIsSwapped: of many who change the record at once, one does.
func TestGroupRecordIsSwapped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(object.RoleCryptoOfficer)
	var all sync.WaitGroup
	var won atomic.Int32
	for range 8 {
		all.Go(func() {
			switch err := s.SetGroup(t.Context(), newOp(), 0, aGroup(1)); object.CodeOf(err) {
			case object.OK:
				won.Add(1)
			case object.ErrExists:
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 {
		t.Errorf("%d of 8 changed the record, want 1", won.Load())
	}
}

// TestRecreatedPartitionKnowsNobody: a partition that is made anew, or deleted
// and restored, clones with nobody and is in no group.
func TestRecreatedPartitionKnowsNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, r := t.Context(), newRogue(t)
	must(t, w.officer().AddPeer(ctx, "peer", r.certificate))
	set := func() object.ReplicaID {
		t.Helper()
		s := w.session(object.RoleCryptoOfficer)
		defer s.Close()
		must(t, s.SetPeer(ctx, newOp(), r.id, "1", true))
		must(t, s.SetGroup(ctx, newOp(), 0, aGroup(1)))
		info, err := w.Replication("p")
		must(t, err)
		return info.Replica
	}
	check := func(what string, before object.ReplicaID, known bool) {
		t.Helper()
		info, err := w.Replication("p")
		must(t, err)
		if (len(info.Peers) == 1) != known || (info.Group.Epoch == 1) != known || info.Replica == before {
			t.Errorf("%s: %+v, was replica %v", what, info, before)
		}
	}
	before := set()
	po, err := w.officer().Partition("p")
	must(t, err)
	must(t, po.Recreate(ctx, coPassword))
	check("recreated", before, false)
	before = set()
	backup := w.backup("p")
	_, err = w.restore(backup, true)
	must(t, err)
	check("restored in place", before, true)
	info, err := w.Replication("p")
	must(t, err)
	must(t, w.officer().DeletePartition(ctx, "p"))
	_, err = w.restore(backup, false)
	must(t, err)
	check("deleted and restored", info.Replica, false)
}
