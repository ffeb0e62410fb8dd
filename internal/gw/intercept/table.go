package intercept

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"moongate/internal/gw/flow"
)

// Session is a flow under way, as somebody looks at it.
type Session struct {
	ID     uint64 // counts from 1 with each Table
	Flow   string // the record's ID
	Kind   flow.Kind
	Start  time.Time
	Client string // address:port
	Target string // what was asked for, host:port
	Server string // address:port; empty before the connection
	SNI    string

	Action string // empty before the decision
	Rule   string
	Reason string
	Bypass flow.Bypass
	// Decrypted: both handshakes are done, and what passes is seen.
	Decrypted bool
	// Version is what the client's leg negotiated; empty where not Decrypted.
	Version string

	// Bytes of the relay; of one that is not decrypted, what the kernel has
	// received from the client, and what the client has acknowledged.
	BytesUp, BytesDown int64
}

// shards is how many locks a Table has, so that flows on many processors
// seldom meet.
const shards = 16

// Table holds the flows under way of the listeners that share it, so that they
// can be looked at and ended. A flow costs it two map operations and what it
// publishes at its few turns; the bytes that pass cost nothing.
//
// It is also where handshakes wait while the HSM's sessions are made anew.
type Table struct {
	last   atomic.Uint64
	shards [shards]struct {
		mu    sync.Mutex
		flows map[uint64]*session // guarded by mu
	}

	mu   sync.Mutex
	hold *hold // guarded by mu; nil while handshakes need not wait
}

// NewTable returns an empty Table.
func NewTable() *Table {
	t := &Table{}
	for i := range t.shards {
		t.shards[i].flows = map[uint64]*session{}
	}
	return t
}

func (t *Table) add(s *session) {
	s.id = t.last.Add(1)
	s.publish()
	shard := &t.shards[s.id%shards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	shard.flows[s.id] = s
}

func (t *Table) remove(s *session) {
	shard := &t.shards[s.id%shards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	delete(shard.flows, s.id)
}

// all returns the flows of this moment, in no order.
func (t *Table) all() []*session {
	var list []*session
	for i := range t.shards {
		shard := &t.shards[i]
		shard.mu.Lock()
		for _, s := range shard.flows {
			list = append(list, s)
		}
		shard.mu.Unlock()
	}
	return list
}

// List returns the flows of this moment that keep says true of, oldest first;
// all of them where keep is nil.
func (t *Table) List(keep func(*Session) bool) []Session {
	var list []Session
	for _, s := range t.all() {
		if seen := s.look(); keep == nil || keep(&seen) {
			list = append(list, seen)
		}
	}
	slices.SortFunc(list, func(a, b Session) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Count returns how many flows there are, and how many of them are decrypted.
func (t *Table) Count() (all, decrypted int) {
	for i := range t.shards {
		shard := &t.shards[i]
		shard.mu.Lock()
		all += len(shard.flows)
		for _, s := range shard.flows {
			if s.seen.Load().Decrypted {
				decrypted++
			}
		}
		shard.mu.Unlock()
	}
	return all, decrypted
}

// End ends the flow of the number, with the cause in its record. It reports
// whether there was one.
func (t *Table) End(id uint64, cause error) bool {
	shard := &t.shards[id%shards]
	shard.mu.Lock()
	s := shard.flows[id]
	shard.mu.Unlock()
	if s == nil {
		return false
	}
	s.life.end(cause)
	return true
}

// EndAll ends the flows that keep says true of; all of them where keep is nil.
// It returns how many there were.
func (t *Table) EndAll(keep func(*Session) bool, cause error) int {
	n := 0
	for _, s := range t.all() {
		if seen := s.look(); keep == nil || keep(&seen) {
			s.life.end(cause)
			n++
		}
	}
	return n
}

// EndInspected ends the flows that were let through to their handshakes, those
// that are decrypted among them. It returns how many there were, and how many
// others go on.
func (t *Table) EndInspected(cause error) (ended, others int) {
	for _, s := range t.all() {
		if !s.inspected.Load() {
			others++
			continue
		}
		s.life.end(cause)
		ended++
	}
	return ended, others
}

// hold is a time in which no handshake begins.
type hold struct {
	bound    time.Duration
	cause    error
	released chan struct{}
	waiting  int // now; guarded by the Table's mu, as what follows
	waited   int
	refused  int
}

// Hold makes handshakes that need the gateway's keys wait, each for the bound
// at most: it fails then as one whose key is out of reach, with the cause. The
// function returned lets them go on, and tells how many had waited and how many
// of these were refused. A second Hold before that one's end is an error.
func (t *Table) Hold(bound time.Duration, cause error) (release func() (waited, refused int), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hold != nil {
		return nil, fmt.Errorf("sessions are being cleared already")
	}
	h := &hold{bound: bound, cause: cause, released: make(chan struct{})}
	t.hold = h
	return func() (int, int) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.hold == h {
			t.hold = nil
			close(h.released)
		}
		return h.waited, h.refused
	}, nil
}

// pass waits while handshakes are held. It returns why the flow must not go
// on; with nil, where begin is set, the flow counts as inspected, and
// EndInspected knows it.
func (t *Table) pass(ctx context.Context, s *session, begin bool) *flow.Failure {
	for {
		t.mu.Lock()
		h := t.hold
		if h == nil {
			if begin {
				s.inspected.Store(true)
			}
			t.mu.Unlock()
			return nil
		}
		if s.heldUntil.IsZero() {
			s.heldUntil = time.Now().Add(h.bound)
			h.waited++
		}
		h.waiting++
		t.mu.Unlock()
		if f := t.wait(ctx, h, s); f != nil {
			return f
		}
	}
}

// wait waits for the end of a hold. A flow that waited in vain is counted once,
// also where it comes again.
func (t *Table) wait(ctx context.Context, h *hold, s *session) *flow.Failure {
	timer := time.NewTimer(time.Until(s.heldUntil))
	defer timer.Stop()
	var cause error
	select {
	case <-h.released:
	case <-timer.C:
		cause = h.cause
	case <-ctx.Done():
		cause = context.Cause(ctx)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	h.waiting--
	if cause == nil {
		return nil
	}
	if !s.heldOut {
		s.heldOut = true
		h.refused++
	}
	return held(cause)
}

// Waiting returns how many handshakes wait for the end of a Hold.
func (t *Table) Waiting() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hold == nil {
		return 0
	}
	return t.hold.waiting
}

func held(cause error) *flow.Failure {
	return &flow.Failure{Stage: flow.StageHSM, Alert: flow.AlertInternalError, Err: fmt.Errorf("%w: %w", flow.ErrUnavailable, cause)}
}

// publish makes what the flow knows of itself by now what others see of it. It
// belongs to the flow's goroutine.
func (s *session) publish() {
	r := &s.record
	seen := &Session{
		ID: s.id, Flow: r.ID, Kind: r.Kind, Start: r.Start, Client: r.Client, Target: r.Target, SNI: r.SNI,
		Action: r.Action, Rule: r.Rule, Reason: r.Reason, Bypass: r.Bypass,
		Decrypted: r.ClientLeg != nil,
	}
	if s.server != nil {
		seen.Server = addrPort(s.server.RemoteAddr()).String()
	}
	if r.ClientLeg != nil {
		seen.Version = r.ClientLeg.Version
	}
	s.seen.Store(seen)
}

// look is what others see of the flow, with its bytes by now.
func (s *session) look() Session {
	seen := *s.seen.Load()
	seen.BytesUp, seen.BytesDown = s.up.Load(), s.down.Load()
	if raw := s.raw.Load(); raw != nil {
		up, down := raw.moved()
		seen.BytesUp, seen.BytesDown = max(seen.BytesUp, up), max(seen.BytesDown, down)
	}
	return seen
}

// rawBytes tells how far a relay by splice has come, which nobody here counts:
// the kernel's counters of the client's connection, less what they were when
// the relay began.
type rawBytes struct {
	client         *net.TCPConn
	received, sent uint64
	seen           int64 // bytes of the hello, which had been received
}

func newRawBytes(client *net.TCPConn, seen int) *rawBytes {
	received, sent, _ := counters(client)
	return &rawBytes{client: client, received: received, sent: sent, seen: int64(seen)}
}

func (b *rawBytes) moved() (up, down int64) {
	received, sent, known := counters(b.client)
	if !known {
		return 0, 0
	}
	return b.seen + int64(received-b.received), int64(sent - b.sent)
}
