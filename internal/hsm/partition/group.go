package partition

import (
	"context"
	"fmt"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// Group returns the record of the group that the partition is in; the zero
// Group where it is in none.
func (s *Session) Group(_ context.Context, op object.OperationID) (object.Group, error) {
	if err := permit(s.as(), actGroup, nil); err != nil {
		return object.Group{}, s.refuse(s.event(actGroup, op), err)
	}
	var g object.Group
	err := s.h.store.View(func(tx *store.Tx) error {
		record, err := loadReplication(tx, s.p.id)
		if err == nil {
			g, err = record.group()
		}
		return err
	})
	return g, err
}

// SetGroup writes the record where the one that is there has the epoch expect
// (0: there is none); ErrExists where it has another, or is of another group. A
// zero g.Epoch removes the record. What is written supersedes what was there.
func (s *Session) SetGroup(ctx context.Context, op object.OperationID, expect uint64, g object.Group) error {
	about := "no group"
	if g.Epoch != 0 {
		about = fmt.Sprintf("group %s, epoch %d, %d members", printed(g.Label), g.Epoch, len(g.Members))
	}
	return s.administer(ctx, op, actSetGroup, about, permit(s.as(), actSetGroup, nil), func() error {
		if g.Epoch != 0 {
			if err := g.Check(); err != nil {
				return err
			}
		}
		return s.h.updateReplication(s.p, func(_ *store.Tx, r *replicationRecord) error { return r.setGroup(expect, g) })
	})
}

func (r *replicationRecord) setGroup(expect uint64, g object.Group) error {
	there, err := r.group()
	switch {
	case err != nil:
		return err
	case there.Epoch != expect:
		return object.Errorf(object.ErrExists, "the group's record has epoch %d, and not %d; read it, and decide anew", there.Epoch, expect)
	case g.Epoch == 0:
		r.Group = nil
		return nil
	case there.Epoch != 0 && there.ID != g.ID:
		return object.Errorf(object.ErrExists, "the partition is in group %q (%v); remove it from that one first", there.Label, there.ID)
	case there.Epoch != 0 && there.Supersedes(g):
		return object.Errorf(object.ErrArgumentsBad, "the group's record has epoch %d, which does not come after %d; expected a higher one", g.Epoch, there.Epoch)
	}
	r.Group = g.Append(nil)
	return nil
}
