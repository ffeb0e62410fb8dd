package partition

import (
	"testing"

	"moongate/internal/hsm/object"
)

// members are HSMs of one domain, each with a partition "p" that lists all of
// the others.
type members []*world

// newMembers makes n of them. The first one's domain is handed to the others.
func newMembers(t testing.TB, n int) members {
	t.Helper()
	m := make(members, n)
	for i := range m {
		m[i] = newEmptyWorld(t)
	}
	for i, a := range m {
		for j, b := range m {
			if i != j {
				a.pin(b)
			}
		}
	}
	for _, w := range m[1:] {
		w.joinOver(m[0])
	}
	for _, w := range m {
		w.fill()
	}
	for i, a := range m {
		for j, b := range m {
			if i != j {
				must(t, a.session(object.RoleCryptoOfficer).SetPeer(t.Context(), newOp(), b.hsmID(), b.partitionSerial(), true))
			}
		}
	}
	return m
}

func (w *world) hsmID() object.HSMID {
	w.t.Helper()
	_, id, err := w.HSMIdentity()
	must(w.t, err)
	return id
}

// peerName is how other HSMs call this one.
func (w *world) peerName() string { return "hsm-" + w.Serial() }

// partitionSerial is that of the partition.
func (w *world) partitionSerial() string {
	w.t.Helper()
	p, err := w.Partition("p")
	must(w.t, err)
	return p.Serial
}

// pin pins another HSM.
func (w *world) pin(other *world) {
	w.t.Helper()
	cert, _, err := other.HSMIdentity()
	must(w.t, err)
	must(w.t, w.officer().AddPeer(w.t.Context(), other.peerName(), cert))
}

// joinOver takes over another HSM's domain.
func (w *world) joinOver(other *world) {
	w.t.Helper()
	request, err := w.officer().RequestDomain(w.t.Context(), other.peerName())
	must(w.t, err)
	share, err := other.officer().ShareDomain(w.t.Context(), w.peerName(), request)
	must(w.t, err)
	must(w.t, w.officer().JoinDomain(w.t.Context(), other.peerName(), share))
}

// clone carries objects from one session's partition to another's, all of them
// where none is named.
func clone(t testing.TB, from, to *Session, ids ...object.ID) ([]object.CloneResult, error) {
	t.Helper()
	if len(ids) == 0 {
		for _, state := range changesOf(t, from) {
			ids = append(ids, state.ID)
		}
	}
	var results []object.CloneResult
	for len(ids) > 0 {
		offer, err := to.OfferClone(t.Context(), newOp(), from.h.mustID(t), from.p.serial)
		if err != nil {
			return results, err
		}
		pkg, included, err := from.CloneOut(t.Context(), newOp(), offer, ids[:min(len(ids), object.MaxClone)])
		if err != nil {
			return results, err
		}
		some, err := to.CloneIn(t.Context(), newOp(), pkg)
		if err != nil {
			return results, err
		}
		results = append(results, some...)
		sent := map[object.ID]bool{}
		for _, id := range included {
			sent[id] = true
		}
		var rest []object.ID
		for _, id := range ids {
			if !sent[id] {
				rest = append(rest, id)
			}
		}
		ids = rest
	}
	return results, nil
}

func (h *HSM) mustID(t testing.TB) object.HSMID {
	t.Helper()
	_, id, err := h.HSMIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// changesOf lists the states of everything in a session's partition.
func changesOf(t testing.TB, s *Session) []object.ObjectState {
	t.Helper()
	var list []object.ObjectState
	for after := uint64(0); ; {
		some, more, err := s.Changes(t.Context(), newOp(), after, object.MaxChanges)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, some...)
		if !more {
			return list
		}
		after = list[len(list)-1].Sequence
	}
}

func digestOf(t testing.TB, s *Session) object.ReplicaDigest {
	t.Helper()
	d, err := s.Digest(t.Context(), newOp())
	if err != nil {
		t.Fatal(err)
	}
	return d
}
