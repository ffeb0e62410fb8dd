package partition

import (
	"testing"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/replica"
)

// TestHistoryDoesNotRunOver: what a member of the domain says of how often an
// object was changed keeps nobody from reading the partition, however the object
// is changed here afterwards.
func TestHistoryDoesNotRunOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, s := t.Context(), w.session(object.RoleCryptoOfficer)
	r := newRogue(t)
	domain, err := w.cloneKey()
	must(t, err)
	must(t, w.officer().AddPeer(ctx, "peer", r.certificate))
	must(t, s.SetPeer(ctx, newOp(), r.id, "1234", true))
	self, err := s.Replica(ctx, newOp())
	must(t, err)
	const most = 1 << 62
	var ids []object.ID
	for name, h := range map[string]replica.History{
		"stamp":                 {Stamp: object.Stamp{Count: most, Replica: object.ReplicaID{1}}, Vector: object.Vector{{Replica: object.ReplicaID{1}, Changes: 1}}},
		"changes of a stranger": {Stamp: object.Stamp{Count: most, Replica: object.ReplicaID{1}}, Vector: object.Vector{{Replica: object.ReplicaID{1}, Changes: most}}},
		"changes of our own":    {Stamp: object.Stamp{Count: 1, Replica: self.ID}, Vector: object.Vector{{Replica: self.ID, Changes: most}}},
	} {
		made, err := s.generate(ec, p256, nil)
		must(t, err)
		it := &replica.Item{ID: made[0].ID, Handle: 1, Attributes: made[0].Attributes, Secret: made[0].Secret, History: h}
		offer, err := s.OfferClone(ctx, newOp(), r.id, "1234")
		must(t, err)
		results, err := s.CloneIn(ctx, newOp(), r.pack(t, offer, domain, nil, it))
		must(t, err)
		if results[0].Outcome != object.CloneAdded {
			t.Errorf("%s: %+v", name, results)
		}
		if err := s.SetAttributes(ctx, newOp(), it.ID, object.Template{}.With(object.Text(object.AttrLabel, "x"))); object.CodeOf(err) != object.ErrBusy {
			t.Errorf("%s: a change of an object that counts no more: %v", name, err)
		}
		ids = append(ids, it.ID)
	}
	before := digestOf(t, s)
	s.Close()
	w.restart()
	s = w.session(object.RoleCryptoOfficer)
	if after := digestOf(t, s); after.Sum != before.Sum {
		t.Error("another digest after a restart")
	}
	for _, id := range ids {
		must(t, s.Destroy(ctx, newOp(), id))
	}
}
