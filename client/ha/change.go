package ha

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"moongate/client"
	"moongate/internal/hsm/object"
)

// A change through the group goes to one member, the first in the record's
// order that can do it, and is copied from there to all others that are there
// before it succeeds. It is not repeated: where the answer was lost the error is
// a *client.OutcomeUnknownError.

// primary makes a change at the first member that can do it: one to which the
// request was certainly not sent, or which refused for reasons of its own, is
// passed over.
func (g *Group) primary(ctx context.Context, n need, change func(context.Context, *client.Client) error) (*member, error) {
	var failed []MemberError
	var absent error
	passed := map[*member]bool{}
	for {
		m := g.choosePrimary(n, passed)
		if m == nil && len(passed) == 0 {
			if err := g.until(ctx, func() bool { return g.choosePrimary(n, passed) != nil }); err != nil {
				return nil, err
			}
			continue
		}
		if m == nil {
			if absent != nil {
				return nil, g.notFound(absent)
			}
			return nil, &CallError{Members: failed}
		}
		passed[m] = true
		err := g.changeAt(ctx, m, change)
		if err == nil {
			return m, nil
		}
		refusal, answered := errors.AsType[*client.HSMError](err)
		switch {
		case ctx.Err() != nil:
			return m, err
		case answered && wasDone(refusal):
			g.wakeKeeper() // what it made is copied, if not by this call
			return m, err
		case answered && isAbsent(refusal.Code):
			absent = err
		case answered && ofMember(refusal.Code), client.NotSent(err), errors.Is(err, errNothingDone):
			failed = append(failed, MemberError{m.name, err})
			m.failovers.Add(1)
		default:
			return m, err
		}
	}
}

// errNothingDone is within the error of a change that failed before anything was
// asked that changes something.
var errNothingDone = errors.New("nothing was changed")

func nothingDone(err error) error { return fmt.Errorf("%w: %w", errNothingDone, err) }

func (g *Group) changeAt(ctx context.Context, m *member, change func(context.Context, *client.Client) error) error {
	c := m.client.Load()
	if c == nil {
		return nothingDone(m.away())
	}
	m.outstanding.Add(1)
	defer m.outstanding.Add(-1)
	err := change(ctx, c)
	if err == nil {
		m.answers.Add(1)
	}
	return err
}

// choosePrimary is the first member in the record's order that serves a need
// and was not passed over; a suspect where there is no other, since it may
// answer yet.
func (g *Group) choosePrimary(n need, passed map[*member]bool) *member {
	members := *g.routing.Load()
	for _, suspect := range []bool{false, true} {
		for _, m := range members {
			v := m.view.Load()
			if !passed[m] && v.serves(n) && (v.usable && !suspect || v.suspect && suspect) {
				return m
			}
		}
	}
	return nil
}

// spread copies objects from the member that has them to every other one that
// is there, at once. It returns what became of it at each; a member that died
// meanwhile is behind and no refusal.
func (g *Group) spread(ctx context.Context, from *member, ids []ID) (reached []*member, away []*member, refused []MemberError) {
	reached, away, refused, _ = g.spreadFrom(ctx, from, ids)
	return reached, away, refused
}

// spreadFrom is spread, and reports whether a copy failed since the member that
// has the objects could not be asked for them any more.
func (g *Group) spreadFrom(ctx context.Context, from *member, ids []ID) (reached []*member, away []*member, refused []MemberError, lost bool) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, m := range *g.routing.Load() {
		if m == from || m.state() == Removed {
			continue
		}
		if !m.reachable() {
			m.missed(ids, errMemberGone)
			mu.Lock()
			away = append(away, m)
			mu.Unlock()
			continue
		}
		all.Go(func() {
			within, cancel := m.while(ctx)
			defer cancel()
			result, err := copyObjects(within, from, m, ids, nil)
			if err == nil {
				err = result.refusal()
			}
			mu.Lock()
			defer mu.Unlock()
			at, _ := errors.AsType[MemberError](err)
			switch _, answered := errors.AsType[*client.HSMError](err); {
			case err == nil:
				reached = append(reached, m)
				m.reached(ids)
				g.tellMerged(from, m, result)
			case answered:
				refused = append(refused, MemberError{m.name, unwrapMember(err)})
			default:
				// Where the time is over, or the target is gone, nothing is said of
				// the source, whatever it was that was waited for.
				lost = lost || at.Member == from.name && within.Err() == nil
				m.missed(ids, err)
				away = append(away, m)
			}
		})
	}
	all.Wait()
	return reached, away, refused, lost
}

// tellMerged logs what a copy of a change met at a member: another change, which
// the one that was copied knew nothing of. The rest is the keeper's.
func (g *Group) tellMerged(from, to *member, result copied) {
	for _, r := range result {
		if r.Outcome == object.CloneMerged {
			g.log.Warn("HA members had changed an object apart", "group", g.config.Label, "object", r.ID, "from", from.name, "to", to.name, "detail", r.Detail)
			g.wakeKeeper()
		}
	}
}

// unwrapMember is err without the name of a member in front.
func unwrapMember(err error) error {
	if e, is := errors.AsType[MemberError](err); is {
		return e.Err
	}
	return err
}

// makeObjects makes objects at one member and copies them to the others. Where one
// refuses them they are destroyed everywhere again.
func (g *Group) makeObjects(ctx context.Context, call string, n need, make func(context.Context, *client.Client) ([]ID, error)) error {
	ctx, cancel := g.lengthy(ctx)
	defer cancel()
	var ids []ID
	from, err := g.primary(ctx, n, func(ctx context.Context, c *client.Client) error {
		var err error
		ids, err = make(ctx, c)
		return err
	})
	if err != nil {
		return err
	}
	return g.finish(ctx, call, from, ids, func(ctx context.Context) error {
		return g.destroyAt(ctx, from, ids)
	})
}

// finish spreads what was changed at one member, and undoes it where another
// refuses.
func (g *Group) finish(ctx context.Context, call string, from *member, ids []ID, undo func(context.Context) error) error {
	reached, away, refused, lost := g.spreadFrom(ctx, from, ids)
	if len(refused) == 0 && (len(reached) > 0 || len(away) == 0 || !lost && from.state() != Lost) {
		return nil
	}
	cause := error(errMemberGone)
	if len(refused) > 0 {
		cause = refused[0]
	}
	e := &PartialError{Call: call, IDs: ids, Err: cause}
	if len(refused) > 0 {
		// The caller's time may be over; what is half done is not left for that.
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.limit)
		defer cancel()
		if err := undo(after); err != nil {
			e.Members = append(e.Members, MemberError{from.name, fmt.Errorf("it was done, and could not be undone: %w", err)})
		} else {
			// Who refused the change has nothing to undo, and may refuse that too.
			undone, _, _ := g.spread(after, from, ids)
			left := slices.DeleteFunc(slices.Clone(reached), func(m *member) bool { return slices.Contains(undone, m) })
			if len(left) == 0 {
				return cause // as if it had never been
			}
			e.Members = append(e.Members, MemberError{from.name, errUndone})
			reached = left
		}
	} else {
		e.Members = append(e.Members, MemberError{Member: from.name})
	}
	for _, m := range reached {
		e.Members = append(e.Members, MemberError{Member: m.name})
	}
	for _, m := range away {
		e.Members = append(e.Members, MemberError{m.name, errMemberGone})
	}
	e.Members = append(e.Members, refused...)
	return e
}

var errUndone = errors.New("it was done, and undone")

// destroyAt destroys objects at one member; one that is gone already is.
func (g *Group) destroyAt(ctx context.Context, m *member, ids []ID) error {
	var failed error
	for _, id := range ids {
		err := g.changeAt(ctx, m, func(ctx context.Context, c *client.Client) error { return c.Destroy(ctx, id) })
		if err != nil && !isAbsent(client.CodeOf(err)) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// lengthy bounds a change: making RSA keys takes longer than other calls.
func (g *Group) lengthy(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, 10*g.limit)
}

// SetAttributes changes an object's attributes on all members that are there.
// Where one refuses, they are set back everywhere. Not repeatable.
func (g *Group) SetAttributes(ctx context.Context, id ID, t client.Template) error {
	ctx, cancel := g.bounded(ctx)
	defer cancel()
	var types []client.AttributeType
	for _, a := range t {
		types = append(types, a.Type)
	}
	var old client.Template
	from, err := g.primary(ctx, need{key: id}, func(ctx context.Context, c *client.Client) error {
		var err error
		if old, err = c.Attributes(ctx, id, types...); err != nil {
			return nothingDone(err)
		}
		return c.SetAttributes(ctx, id, t)
	})
	if err != nil {
		return err
	}
	return g.finish(ctx, "SetAttributes", from, []ID{id}, func(ctx context.Context) error {
		return g.changeAt(ctx, from, func(ctx context.Context, c *client.Client) error { return c.SetAttributes(ctx, id, old) })
	})
}

// Destroy destroys an object on every member. It succeeds when all members of
// the record have confirmed it; where some could not be reached the error is a
// *PendingError that names them. Not repeatable.
func (g *Group) Destroy(ctx context.Context, id ID) error {
	ctx, cancel := g.bounded(ctx)
	defer cancel()
	from, err := g.primary(ctx, need{none: true}, func(ctx context.Context, c *client.Client) error { return c.Destroy(ctx, id) })
	if err != nil {
		return err
	}
	confirmed, _, refused := g.spread(ctx, from, []ID{id})
	for _, r := range refused {
		// It would not take the tombstone: told in its own words.
		if m := g.member(r.Member); m != nil {
			m.missed([]ID{id}, r.Err)
		}
	}
	if pending := g.unconfirmed(append(confirmed, from)); len(pending) > 0 {
		return &PendingError{ID: id, Members: pending}
	}
	return nil
}

// unconfirmed names the members of the record that are not among those that have
// confirmed a change.
func (g *Group) unconfirmed(confirmed []*member) []string {
	var names []string
	for _, r := range g.Record().Members {
		name, done := r.Name, false
		for _, m := range g.all() {
			m.mu.Lock()
			is := m.replica.HSM == r.HSM && m.replica.Serial == r.Serial
			m.mu.Unlock()
			if is {
				name, done = m.name, slices.Contains(confirmed, m)
			}
		}
		if !done {
			names = append(names, name)
		}
	}
	return names
}

func (g *Group) member(name string) *member {
	for _, m := range g.all() {
		if m.name == name {
			return m
		}
	}
	return nil
}

// Client returns the connection to one member, for what is asked of it alone:
// its partition's status, its roles. Nil where there is no such member, or it is
// kept away. Do not close it.
func (g *Group) Client(name string) *client.Client {
	if m := g.member(name); m != nil {
		return m.client.Load()
	}
	return nil
}

// sequenceOf is where a member's line of changes stands.
func sequenceOf(ctx context.Context, c *client.Client) (uint64, error) {
	d, err := c.Digest(ctx)
	return d.Sequence, err
}

// changedSince lists what changed in a member since.
func changedSince(ctx context.Context, c *client.Client, after uint64) ([]object.ObjectState, error) {
	var list []object.ObjectState
	for state, err := range c.Changes(ctx, after) {
		if err != nil {
			return nil, err
		}
		list = append(list, state)
	}
	return list, nil
}
