package client

import (
	"slices"

	"moongate/internal/hsm/wire"
)

// An HSM reads a connection no further than wire.MaxCharge ahead of its
// answers, and what comes behind waits unread, a Ping too. Hence a link keeps
// within that itself: small requests always have room, and large ones share
// what is left and take turns, so that no signature waits behind a search.

// largeRoom is what the large requests of a link may be charged together; one
// that is charged more is taken alone.
const largeRoom = wire.MaxCharge - 128*wire.SmallCharge

// room is what of largeRoom is free. link.mu guards it.
type room struct {
	free  int
	turns []*turn // of those that wait, in their order
}

// turn is a large request's.
type turn struct {
	size  int
	ready chan struct{} // closed when it has its room
}

// take returns a turn, and whether it has come already.
func (r *room) take(size int) (*turn, bool) {
	t := &turn{size: min(size, largeRoom)}
	if len(r.turns) == 0 && r.free >= t.size {
		r.free -= t.size
		return t, true
	}
	t.ready = make(chan struct{})
	r.turns = append(r.turns, t)
	return t, false
}

// give frees room for those that wait.
func (r *room) give(size int) {
	r.free += size
	for len(r.turns) > 0 && r.free >= r.turns[0].size {
		r.free -= r.turns[0].size
		close(r.turns[0].ready)
		r.turns = slices.Delete(r.turns, 0, 1)
	}
}

// withdraw ends a turn, whether it has come or not.
func (r *room) withdraw(t *turn) {
	if i := slices.Index(r.turns, t); i >= 0 {
		r.turns = slices.Delete(r.turns, i, i+1)
		r.give(0) // whoever was behind may fit
		return
	}
	r.give(t.size)
}
