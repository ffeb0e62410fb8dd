package server

import (
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// buffer is memory for answers, which an idle connection does not keep.
type buffer struct {
	b    []byte
	held []heldAnswer // in the order in which they are in b
}

// heldAnswer is one that must not be sent before its request's receipt says
// that the key's use is on record.
type heldAnswer struct {
	request    *request
	start, end int // in the buffer
}

// keepBuffer is the largest buffer that is kept for other answers, and
// keepHeld the most room for those that are held.
const (
	keepBuffer = 256 << 10
	keepHeld   = 1024
)

// settle waits until the uses are on record whose answers a buffer holds: they
// are written together. What could not be recorded is refused instead.
func (c *conn) settle(out *buffer) {
	var rest []byte // what takes the buffer's place, where something is refused
	sent := 0       // bytes of the buffer that are in it
	for i := range out.held {
		h := &out.held[i]
		code, detail := object.OK, ""
		if err := h.request.receipt.Written(); err != nil {
			code, detail = c.outcome(err, h.request.head)
			rest = append(rest, out.b[sent:h.start]...)
			rest = wire.AppendRefusal(rest, h.request.head.ID, code, detail)
			sent = h.end
		}
		c.server.metrics.ended(h.request, code, time.Since(h.request.began))
	}
	clear(out.held)
	out.held = out.held[:0]
	if sent > 0 {
		rest = append(rest, out.b[sent:]...)
		clear(out.b)
		out.b = rest
	}
}

// drop wipes a buffer and gives it back.
func (c *conn) drop(out *buffer) {
	clear(out.b) // it may hold plaintext
	if cap(out.b) <= keepBuffer && cap(out.held) <= keepHeld {
		out.b = out.b[:0]
		c.server.buffers.Put(out)
	}
}
