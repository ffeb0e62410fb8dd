package ha

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"moongate/client"
	"moongate/internal/hsm/object"
)

// present are the members of a record that can be reached, as candidates.
func (g *Group) present(ctx context.Context, of object.Group) ([]candidate, error) {
	var list []candidate
	for _, m := range *g.routing.Load() {
		c := m.client.Load()
		self, known := m.self()
		if c == nil || !m.reachable() || !known || !slices.ContainsFunc(of.Members, func(r object.Member) bool { return r.HSM == self.HSM && r.Serial == self.Serial }) {
			continue
		}
		self, record, err := introduce(ctx, c)
		if err != nil {
			return nil, MemberError{m.name, err}
		}
		list = append(list, candidate{member: m, client: c, self: self, record: record})
	}
	if len(list) == 0 {
		return nil, g.standing(nil)
	}
	return list, nil
}

// complete refuses where a member of a record is not among those that are there,
// and says why each is not.
func (g *Group) complete(at []candidate, record object.Group) error {
	var e missingError
	for _, r := range record.Members {
		if slices.ContainsFunc(at, func(c candidate) bool { return c.self.HSM == r.HSM && c.self.Serial == r.Serial }) {
			continue
		}
		away := MemberError{r.Name, errors.New("this client's configuration does not name it")}
		for _, m := range g.all() {
			m.mu.Lock()
			is := m.replica.HSM == r.HSM && m.replica.Serial == r.Serial || m.replica.Serial == "" && m.name == r.Name
			m.mu.Unlock()
			if is {
				away = MemberError{m.name, m.away()}
			}
		}
		e.Members = append(e.Members, away)
	}
	if len(e.Members) == 0 {
		return nil
	}
	return &e
}

// missingError is of what all members are needed for.
type missingError struct{ CallError }

func (e *missingError) Error() string {
	var texts []string
	for _, m := range e.Members {
		texts = append(texts, m.Error())
	}
	return "all members must be there: " + strings.Join(texts, "; ")
}

// unchanged refuses to go on from a record where a member has one that counts
// more: somebody has changed the group, and this client has not looked since.
func (g *Group) unchanged(at []candidate, epoch uint64) error {
	for _, c := range at {
		if ours := g.Record(); c.record.ID == ours.ID && (c.record.Epoch > epoch || c.record.Supersedes(ours)) {
			g.adopt(c.record)
			return changedMeanwhile(fmt.Errorf("its record has epoch %d, and ours had %d", c.record.Epoch, epoch), c)
		}
	}
	return nil
}

func changedMeanwhile(err error, at candidate) error {
	return fmt.Errorf("the group was changed meanwhile, look at it and try again: %w", MemberError{at.member.name, err})
}

// rewrite puts a new record in the place of ours, at every member that can be
// reached; the others get it when they return. Of two administrators that
// change a group at once one is refused.
func (g *Group) rewrite(ctx context.Context, at []candidate, next object.Group) error {
	if err := next.Check(); err != nil {
		return err
	}
	if err := g.unchanged(at, next.Epoch-1); err != nil {
		return err
	}
	written := 0
	for _, c := range at {
		err := c.client.SetGroup(ctx, c.record.Epoch, next)
		if client.CodeOf(err) == client.ErrExists && written == 0 {
			g.wakeKeeper()
			return changedMeanwhile(err, c)
		}
		if err != nil && written == 0 {
			return fmt.Errorf("writing the group's record: %w", MemberError{c.member.name, err})
		}
		if err != nil {
			g.log.Warn("a member has not got the group's new record yet", "group", next.Label, "member", c.member.name, "epoch", next.Epoch, "error", err)
			continue
		}
		written++
	}
	g.adopt(next)
	return nil
}

// Add makes one more partition a member: it and those that are there list each
// other as peers, it gets all objects, and the record of the next epoch is
// written. Needs the Crypto Officer, and all members of the record there, since
// each has to list the new one. Objects that were in the partition before come
// to all members. What an Add left half done, or another client's did, the next
// one completes. progress may be nil.
func (g *Group) Add(ctx context.Context, m Member, progress func(Progress)) error {
	record := g.Record()
	if known := g.member(m.Name); known != nil && known.state() != Removed && known.state() != Refused {
		return fmt.Errorf("the group has a member %q already", m.Name)
	}
	_, err := g.enter(ctx, record, m, true, progress)
	return err
}

// Replace takes the member old out of the group, by its name in the record, and
// makes another partition a member in its place, in one change of the record: of
// a group of two where one is dead too. The old one need not be there, nor in
// the configuration; all others must be. A member that was restored, or made
// anew, and has no record of the group any more, is replaced by itself. Needs the
// Crypto Officer. progress may be nil.
func (g *Group) Replace(ctx context.Context, old string, m Member, progress func(Progress)) error {
	record := g.Record()
	i := g.placeNamed(record, old)
	if i < 0 {
		return fmt.Errorf("the group's record of epoch %d names no member %q, but %s", record.Epoch, old, memberNames(record))
	}
	gone := record.Members[i]
	left := record
	left.Members = slices.Delete(slices.Clone(record.Members), i, i+1)
	entered, err := g.enter(ctx, left, m, false, progress)
	if err != nil || entered.HSM == gone.HSM && entered.Serial == gone.Serial {
		return err
	}
	return g.part(ctx, old, gone)
}

// enter makes a partition the last member of a record of which all members are
// there, writes it as the next epoch, and brings the new member up, whose
// entry it returns. One that the record names may complete what was begun, or it
// is refused.
func (g *Group) enter(ctx context.Context, record object.Group, m Member, complete bool, progress func(Progress)) (object.Member, error) {
	if g.role != client.RoleCryptoOfficer {
		return object.Member{}, errNotOfficer
	}
	m.Role = g.role
	if err := m.check(); err != nil {
		return object.Member{}, err
	}
	fresh, err := dialOne(ctx, m)
	if err != nil {
		return object.Member{}, err
	}
	defer fresh.client.Close()
	others := record
	others.Members = slices.DeleteFunc(slices.Clone(record.Members), func(r object.Member) bool { return r.HSM == fresh.self.HSM && r.Serial == fresh.self.Serial })
	named := len(others.Members) < len(record.Members)
	if named && !complete {
		return object.Member{}, fmt.Errorf("%q is a member of the group already, and takes no other one's place", m.Name)
	}
	named = named && fresh.record.ID == record.ID
	if len(others.Members) >= object.MaxMembers {
		return object.Member{}, fmt.Errorf("the group has %d members, the most there may be; remove one first", len(others.Members))
	}
	at, err := g.present(ctx, others)
	if err != nil {
		return object.Member{}, err
	}
	if err := g.complete(at, others); err != nil {
		return object.Member{}, fmt.Errorf("adding %q: %w", m.Name, err)
	}
	if fresh.record.Epoch > 0 && fresh.record.ID != record.ID {
		return object.Member{}, fmt.Errorf("member %q is in group %q already; remove it there first, with `cmu ha remove`", m.Name, fresh.record.Label)
	}
	if err := fitTogether(append(slices.Clone(at), fresh)); err != nil {
		return object.Member{}, err
	}
	for _, c := range at {
		if err := introducePeers(ctx, c, fresh); err != nil {
			return object.Member{}, err
		}
	}
	next := record
	next.Epoch++
	next.Members = append(others.Members, fresh.entry())
	if named {
		err = g.unchanged(at, record.Epoch)
	} else {
		err = g.rewrite(ctx, append(at, fresh), next)
	}
	if err != nil {
		return object.Member{}, err
	}
	g.join(m)
	if err := g.gather(ctx); err != nil {
		return object.Member{}, fmt.Errorf("%q is a member; connecting to it: %w", m.Name, err)
	}
	_, err = g.Synchronize(ctx, progress)
	return fresh.entry(), err
}

// placeNamed is the place of a member in a record, by its name here or there;
// -1 for none.
func (g *Group) placeNamed(record object.Group, name string) int {
	if m := g.member(name); m != nil {
		if self, known := m.self(); known {
			return slices.IndexFunc(record.Members, func(r object.Member) bool { return r.HSM == self.HSM && r.Serial == self.Serial })
		}
	}
	return slices.IndexFunc(record.Members, func(r object.Member) bool { return r.Name == name })
}

// join begins to use a member, in place of one with its name.
func (g *Group) join(m Member) *member {
	added := newMember(g, m)
	g.mu.Lock()
	var old *member
	g.members = slices.DeleteFunc(g.members, func(other *member) bool {
		if other.name == m.Name {
			old = other
		}
		return other.name == m.Name
	})
	g.members = append(g.members, added)
	g.mu.Unlock()
	if old != nil {
		old.retire()
	}
	g.route()
	g.start(added)
	return added
}

// Remove takes a member out of the group: the record of the next epoch does not
// name it, and the others clone with it no more. It need not be there; where it
// is its record goes too. Its keys stay in it: destroy them, or its partition, by
// its own means. Needs the Crypto Officer.
func (g *Group) Remove(ctx context.Context, name string) error {
	if g.role != client.RoleCryptoOfficer {
		return errNotOfficer
	}
	record := g.Record()
	i := g.placeNamed(record, name)
	if i < 0 {
		return fmt.Errorf("the group's record of epoch %d names no member %q, but %s", record.Epoch, name, memberNames(record))
	}
	if len(record.Members) <= object.MinMembers {
		return fmt.Errorf("the group has %d members, the fewest there may be; add another first, replace this one, or dissolve the group", len(record.Members))
	}
	gone := record.Members[i]
	next := record
	next.Epoch++
	next.Members = slices.Delete(slices.Clone(record.Members), i, i+1)
	stay, err := g.present(ctx, next)
	if err != nil {
		return err
	}
	if err := g.rewrite(ctx, stay, next); err != nil {
		return err
	}
	return g.part(ctx, name, gone)
}

// part ends what connects the members with one that the record does not name
// any more.
func (g *Group) part(ctx context.Context, name string, gone object.Member) error {
	var failures []error
	stay, err := g.present(ctx, g.Record())
	if err != nil {
		failures = append(failures, err)
	}
	for _, c := range stay {
		if err := c.client.SetPeer(ctx, gone.HSM, gone.Serial, false); err != nil && !isAbsent(client.CodeOf(err)) {
			failures = append(failures, fmt.Errorf("ending its cloning with %q: %w", name, MemberError{c.member.name, err}))
		}
	}
	var leaving *member
	for _, m := range g.all() {
		c := m.client.Load()
		self, known := m.self()
		if known && self.HSM == gone.HSM && self.Serial == gone.Serial || !known && m.name == name {
			leaving = m
		}
		if leaving != m || c == nil || !c.Status().Connected {
			continue
		}
		within, cancel := context.WithTimeout(ctx, m.config.ConnectTimeout)
		if self, record, err := introduce(within, c); err == nil {
			failures = append(failures, leave(within, candidate{member: m, client: c, self: self, record: record}))
		}
		cancel()
	}
	g.mu.Lock()
	g.members = slices.DeleteFunc(g.members, func(m *member) bool { return m == leaving })
	g.mu.Unlock()
	if leaving != nil {
		leaving.retire()
	}
	g.route()
	return errors.Join(failures...)
}

// leave takes record and peers from a partition.
func leave(ctx context.Context, c candidate) error {
	var failures []error
	if c.record.Epoch > 0 {
		if err := c.client.SetGroup(ctx, c.record.Epoch, object.Group{}); err != nil {
			failures = append(failures, fmt.Errorf("removing the group's record: %w", MemberError{c.member.name, err}))
		}
	}
	for _, r := range c.record.Members {
		if r.HSM == c.self.HSM {
			continue
		}
		if err := c.client.SetPeer(ctx, r.HSM, r.Serial, false); err != nil && !isAbsent(client.CodeOf(err)) {
			failures = append(failures, fmt.Errorf("ending the cloning with %q: %w", r.Name, MemberError{c.member.name, err}))
		}
	}
	return errors.Join(failures...)
}

// Dissolve ends the group: every member's record and peers go, the keys stay.
// All members must be there. The Group is of no use afterwards but to be closed.
func (g *Group) Dissolve(ctx context.Context) error {
	if g.role != client.RoleCryptoOfficer {
		return errNotOfficer
	}
	at, err := g.present(ctx, g.Record())
	if err != nil {
		return err
	}
	if err := g.complete(at, g.Record()); err != nil {
		return fmt.Errorf("dissolving the group: %w", err)
	}
	if err := g.unchanged(at, g.Record().Epoch); err != nil {
		return err
	}
	var failures []error
	for _, c := range at {
		failures = append(failures, leave(ctx, c))
	}
	if err := errors.Join(failures...); err != nil {
		return err
	}
	if g.config.StateFile != "" {
		return removeState(g.config.StateFile)
	}
	return nil
}
