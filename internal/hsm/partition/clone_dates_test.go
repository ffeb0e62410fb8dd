package partition

import (
	"math"
	"testing"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/replica"
	"moongate/internal/hsm/wire"
)

// TestTombstonesOfAnyTime: whenever a member of the domain says that an object
// was destroyed, by a clock before 1970 or of years that nobody writes, clients
// can go on comparing the partition.
func TestTombstonesOfAnyTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, s := t.Context(), w.session(object.RoleCryptoOfficer)
	r := newRogue(t)
	domain, err := w.cloneKey()
	must(t, err)
	must(t, w.officer().AddPeer(ctx, "peer", r.certificate))
	must(t, s.SetPeer(ctx, newOp(), r.id, "1234", true))
	for _, at := range []int64{math.MaxInt64, math.MinInt64, 253402300800, -62135596801, 253402300799, -62135596800, -1, 0, 1} {
		offer, err := s.OfferClone(ctx, newOp(), r.id, "1234")
		must(t, err)
		it := &replica.Item{ID: object.NewID(), Deleted: true, At: time.Unix(at, 0)}
		if _, err := s.CloneIn(ctx, newOp(), r.pack(t, offer, domain, nil, it)); (object.CodeOf(err) == object.ErrDataInvalid) != (at < -62135596800 || at >= 253402300800) {
			t.Errorf("destroyed at %d: %v", at, err)
		}
	}
	states := changesOf(t, s)
	if len(states) != 5 {
		t.Errorf("%d states", len(states))
	}
	for _, st := range states {
		b := (&wire.ChangesAnswer{States: []object.ObjectState{st}}).Append(nil)
		var back wire.ChangesAnswer
		if err := back.Decode(b); err != nil {
			t.Errorf("destroyed at %d: %v", st.At.Unix(), err)
		}
	}
}
