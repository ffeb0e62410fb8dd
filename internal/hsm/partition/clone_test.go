package partition

import (
	"testing"

	"moongate/internal/hsm/object"

	"github.com/google/go-cmp/cmp"
)

func TestCloneCarriesKeys(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 2)
	a, b := m[0].session(object.RoleCryptoOfficer), m[1].session(object.RoleCryptoOfficer)
	public, private := m[0].newKey(a)
	results, err := clone(t, a, b)
	must(t, err)
	for _, r := range results {
		if r.Outcome != object.CloneAdded {
			t.Errorf("%v: %v, want added", r.ID, r.Outcome)
		}
	}
	if len(results) != 2 {
		t.Errorf("%d results, want 2", len(results))
	}
	da, db := digestOf(t, a), digestOf(t, b)
	if da.Sum != db.Sum || da.Objects != 2 {
		t.Errorf("digests %+v and %+v", da, db)
	}
	for _, id := range []object.ID{public, private} {
		want, err := a.Attributes(t.Context(), newOp(), id, nil)
		must(t, err)
		got, err := b.Attributes(t.Context(), newOp(), id, nil)
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("attributes (-source +target):\n%s", diff)
		}
	}
	signature, err := recorded(b).Sign(t.Context(), newOp(), private, ecdsa256, make([]byte, 32))
	must(t, err)
	must(t, a.Verify(t.Context(), newOp(), public, ecdsa256, make([]byte, 32), signature))
}
