package partition

import (
	"testing"

	"moongate/internal/hsm/object"
)

// newPair is two HSMs, the first of which holds n P-256 pairs.
func newPair(b *testing.B, n int) (from, to *Session) {
	b.Helper()
	m := newMembers(b, 2)
	from, to = m[0].session(object.RoleCryptoOfficer), m[1].session(object.RoleCryptoOfficer)
	m.fillPairs(from, n)
	return from, to
}

// fillPairs makes pairs in few transactions.
func (m members) fillPairs(s *Session, n int) {
	for n > 0 {
		var objects []*object.Object
		for range min(n, 1000) {
			made, err := s.generate(ec, p256, nil)
			must(m[0].t, err)
			objects = append(objects, made...)
			n--
		}
		must(m[0].t, s.p.add(s.h, objects...))
		wipe(objects)
	}
}

// BenchmarkDigest asks a partition of 10,000 objects what it holds: for the
// first time after it was unlocked, while nothing changes, and after a change.
func BenchmarkDigest(b *testing.B) {
	from, _ := newPair(b, 5000)
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			from.p.mu.Lock()
			from.p.states = newStates()
			from.p.mu.Unlock()
			digestOf(b, from)
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		digestOf(b, from)
		for b.Loop() {
			digestOf(b, from)
		}
	})
	b.Run("changed", func(b *testing.B) {
		id := changesOf(b, from)[0].ID
		for b.Loop() {
			b.StopTimer()
			must(b, from.p.alter(from.h, id, object.New(object.Text(object.AttrLabel, "changed"))))
			b.StartTimer()
			digestOf(b, from)
		}
	})
}

// BenchmarkSynchronize clones 10,000 objects to a partition that holds none.
func BenchmarkSynchronize(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		from, to := newPair(b, 5000)
		b.StartTimer()
		results, err := clone(b, from, to)
		must(b, err)
		if len(results) != 10_000 {
			b.Fatalf("%d objects", len(results))
		}
	}
}

// BenchmarkCloneOne carries a new key pair, as a group does after each that it
// makes, to a partition of 10,000 objects.
func BenchmarkCloneOne(b *testing.B) {
	from, to := newPair(b, 5000)
	if _, err := clone(b, from, to); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.StopTimer()
		made, err := from.generate(ec, p256, nil)
		must(b, err)
		must(b, from.p.add(from.h, made...))
		b.StartTimer()
		if _, err := clone(b, from, to, made[0].ID, made[1].ID); err != nil {
			b.Fatal(err)
		}
	}
}
