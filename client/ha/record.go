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

// verdict is what a partition is to the group.
type verdict struct {
	state       State // Behind: one of its members, whose contents are compared next
	reason, fix string
}

// identify judges a partition by what it says of itself and by the record that
// it has. A newer record than ours becomes ours.
func (g *Group) identify(m *member, self object.Replica, record object.Group, status client.Status) verdict {
	g.adopt(record)
	g.mu.Lock()
	ours := g.record
	place := g.placeOf(self)
	var twin string
	for _, other := range g.members {
		if other != m {
			if there, known := other.self(); known && there.HSM == self.HSM && there.Serial == self.Serial {
				twin = other.name
			}
		}
	}
	g.mu.Unlock()
	switch {
	case ours.Epoch == 0 && record.Epoch == 0:
		return verdict{Refused, ErrNoRecord.Error(), "make the group with `cmu ha create`"}
	case ours.Epoch == 0:
		return verdict{Refused, fmt.Sprintf("its partition is of group %q, not %q", record.Label, g.config.Label),
			"give the group its right label in the client configuration, or remove the partition from that other group"}
	case place < 0:
		return verdict{Removed, fmt.Sprintf("the record of epoch %d does not name it", ours.Epoch),
			"take it out of the client configuration, or add it again with `cmu ha add`"}
	case twin != "":
		return verdict{Refused, fmt.Sprintf("it is the same partition as member %q", twin), "give each member another HSM"}
	case record.Epoch == 0:
		return verdict{Refused, ErrNoRecord.Error(), "it was restored or left the group: remove it with `cmu ha remove` and add it again with `cmu ha add`"}
	case record.ID != ours.ID:
		return verdict{Refused, fmt.Sprintf("its partition is of another group, %q", record.Label),
			"remove it from that group, or take it out of this one with `cmu ha remove`"}
	}
	return verdict{state: Behind}
}

// adopt takes over a record that counts more than ours.
func (g *Group) adopt(record object.Group) {
	if record.Epoch == 0 || record.Label != g.config.Label {
		return
	}
	g.mu.Lock()
	if g.record.Epoch > 0 && (record.ID != g.record.ID || !record.Supersedes(g.record)) {
		g.mu.Unlock()
		return
	}
	g.record = record
	g.mu.Unlock()
	g.log.Info("HA group record", "group", record.Label, "id", record.ID, "epoch", record.Epoch, "members", memberNames(record))
	if g.config.StateFile != "" {
		if err := writeState(g.config.StateFile, record); err != nil {
			g.log.Warn("the HA group's record is not remembered", "group", record.Label, "error", err)
		}
	}
	g.route()
	g.expel()
}

// expel marks members that a new record does not name.
func (g *Group) expel() {
	for _, m := range g.all() {
		self, known := m.self()
		if !known {
			continue
		}
		g.mu.Lock()
		place, epoch := g.placeOf(self), g.record.Epoch
		g.mu.Unlock()
		if place < 0 {
			m.set(Removed, fmt.Sprintf("the record of epoch %d does not name it", epoch),
				"take it out of the client configuration, or add it again with `cmu ha add`")
		}
	}
}

func memberNames(record object.Group) string {
	var names []string
	for _, m := range record.Members {
		names = append(names, m.Name)
	}
	return strings.Join(names, ", ")
}

// candidate is a partition that is about to be a member.
type candidate struct {
	member *member
	client *client.Client
	self   object.Replica
	record object.Group // that it has; Epoch 0 for none
}

// Create makes a group of partitions: it checks that they can hold the same
// keys, lists each in all others as a peer, writes the record of epoch 1 into
// all of them and synchronizes. Needs the Crypto Officer. What a Create left
// half done the next one completes; where the partitions are this very group
// already it is joined. progress may be nil.
func Create(ctx context.Context, config Config, progress func(Progress)) (*Group, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	if config.Members[0].Role != client.RoleCryptoOfficer {
		return nil, errNotOfficer
	}
	candidates, closeAll, err := dialAll(ctx, config)
	if err != nil {
		return nil, err
	}
	record, err := found(ctx, config, candidates)
	closeAll()
	if err != nil {
		return nil, err
	}
	if config.StateFile != "" {
		if err := writeState(config.StateFile, record); err != nil {
			return nil, err
		}
	}
	g, err := open(config, record)
	if err != nil {
		return nil, err
	}
	if err := g.gather(ctx); err != nil {
		g.Close()
		return nil, fmt.Errorf("the group is made; connecting to its members: %w", err)
	}
	if _, err := g.Synchronize(ctx, progress); err != nil {
		g.Close()
		return nil, fmt.Errorf("the group is made; bringing its members together: %w", err)
	}
	return g, nil
}

// gather waits until all members of the record can be reached.
func (g *Group) gather(ctx context.Context) error {
	ctx, cancel := g.bounded(ctx)
	defer cancel()
	return g.until(ctx, func() bool { return len(g.there()) >= len(g.Record().Members) })
}

// dialAll connects to all partitions of a configuration, or to none.
func dialAll(ctx context.Context, config Config) ([]candidate, func(), error) {
	var candidates []candidate
	closeAll := func() {
		for _, c := range candidates {
			c.client.Close()
		}
	}
	for _, m := range config.Members {
		c, err := dialOne(ctx, m)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		candidates = append(candidates, c)
	}
	return candidates, closeAll, nil
}

func dialOne(ctx context.Context, m Member) (candidate, error) {
	c, err := client.Dial(ctx, m.Config)
	if err != nil {
		return candidate{}, MemberError{m.Name, err}
	}
	self, record, err := introduce(ctx, c)
	if err != nil {
		c.Close()
		return candidate{}, MemberError{m.Name, err}
	}
	return candidate{member: &member{name: m.Name, config: m.Config}, client: c, self: self, record: record}, nil
}

// found writes the record of a new group.
func found(ctx context.Context, config Config, candidates []candidate) (object.Group, error) {
	if err := fitTogether(candidates); err != nil {
		return object.Group{}, err
	}
	record, err := firstRecord(config, candidates)
	if err != nil {
		return object.Group{}, err
	}
	for i, a := range candidates {
		for _, b := range candidates[i+1:] {
			if err := introducePeers(ctx, a, b); err != nil {
				return object.Group{}, err
			}
		}
	}
	for _, c := range candidates {
		if c.record.Epoch > 0 {
			continue // an older one is brought up by the keeper
		}
		if err := c.client.SetGroup(ctx, 0, record); err != nil {
			return object.Group{}, fmt.Errorf("writing the group's record: %w", MemberError{c.member.name, err})
		}
	}
	return record, nil
}

// firstRecord is the record of epoch 1, a new one or that of a Create which did
// not end; or the record that all have already.
func firstRecord(config Config, candidates []candidate) (object.Group, error) {
	id := object.NewID()
	record := object.Group{ID: id, Label: config.Label, Serial: groupSerial(id), Epoch: 1}
	for _, c := range candidates {
		record.Members = append(record.Members, c.entry())
	}
	found := 0
	for _, c := range candidates {
		if c.record.Epoch == 0 {
			continue
		}
		if c.record.Label != config.Label || !sameMembers(c.record, record) {
			return object.Group{}, fmt.Errorf("member %q is in group %q (%s) already; remove it there first, with `cmu ha remove`",
				c.member.name, c.record.Label, memberNames(c.record))
		}
		if found > 0 && record.ID != c.record.ID {
			return object.Group{}, fmt.Errorf("members are in two groups named %q; dissolve one of them first", config.Label)
		}
		if found == 0 || c.record.Supersedes(record) {
			record = c.record
		}
		found++
	}
	if found > 0 && found < len(candidates) && record.Epoch > 1 {
		return object.Group{}, fmt.Errorf("the group %q is at epoch %d, and not all of these members have its record; add those with `cmu ha add`", record.Label, record.Epoch)
	}
	return record, record.Check()
}

// sameMembers reports whether two records name the same partitions.
func sameMembers(a, b object.Group) bool {
	if len(a.Members) != len(b.Members) {
		return false
	}
	for _, m := range a.Members {
		if !slices.ContainsFunc(b.Members, func(o object.Member) bool { return o.HSM == m.HSM && o.Serial == m.Serial }) {
			return false
		}
	}
	return true
}

func (c candidate) entry() object.Member {
	return object.Member{Serial: c.self.Serial, HSM: c.self.HSM, Name: c.member.name, Address: c.member.config.Address}
}

// groupSerial is the serial number of a group as a slot: 16 decimal digits of
// its ID, so that it stays when members come and go.
func groupSerial(id ID) string {
	n := uint64(0)
	for _, b := range id[:8] {
		n = n<<8 | uint64(b)
	}
	return fmt.Sprintf("%016d", n%10_000_000_000_000_000)
}

// fitTogether refuses partitions that could not hold the same keys.
func fitTogether(candidates []candidate) error {
	first := candidates[0]
	for i, c := range candidates {
		for _, other := range candidates[:i] {
			if c.self.HSM == other.self.HSM {
				return fmt.Errorf("members %q and %q are on the same HSM (%.16s…); a group needs another HSM for each", other.member.name, c.member.name, c.self.HSM)
			}
		}
		if c.self.Domain != first.self.Domain {
			return fmt.Errorf("the HSMs of members %q and %q are of two domains; have the second join the first with `hsm domain request`, `hsm domain share` and `hsm domain join`",
				first.member.name, c.member.name)
		}
	}
	return nil
}

// introducePeers lists two partitions in each other as those that they clone
// with.
func introducePeers(ctx context.Context, a, b candidate) error {
	for _, pair := range [][2]candidate{{a, b}, {b, a}} {
		at, peer := pair[0], pair[1]
		if lists(at.self, peer.self) {
			continue
		}
		if err := at.client.SetPeer(ctx, peer.self.HSM, peer.self.Serial, true); err != nil {
			return fmt.Errorf("having member %q clone with %q: %w; the Security Officer of %q pins the other HSM first, with `hsm peer add`",
				at.member.name, peer.member.name, err, at.member.name)
		}
	}
	return nil
}

func lists(self, peer object.Replica) bool {
	return slices.ContainsFunc(self.Peers, func(p object.Peer) bool { return p.HSM == peer.HSM && p.Serial == peer.Serial })
}

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

// rewrite puts a new record in the place of ours, at every member that can be
// reached; the others get it when they return. Of two administrators that
// change a group at once one is refused.
func (g *Group) rewrite(ctx context.Context, at []candidate, next object.Group) error {
	if err := next.Check(); err != nil {
		return err
	}
	written := 0
	for _, c := range at {
		err := c.client.SetGroup(ctx, c.record.Epoch, next)
		if client.CodeOf(err) == client.ErrExists && written == 0 {
			g.wakeKeeper()
			return fmt.Errorf("the group was changed meanwhile, look at it and try again: %w", MemberError{c.member.name, err})
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
// to all members. progress may be nil.
func (g *Group) Add(ctx context.Context, m Member, progress func(Progress)) error {
	record := g.Record()
	if known := g.member(m.Name); known != nil && known.state() != Removed && known.state() != Refused {
		return fmt.Errorf("the group has a member %q already", m.Name)
	}
	if len(record.Members) >= object.MaxMembers {
		return fmt.Errorf("the group has %d members, the most there may be; remove one first", len(record.Members))
	}
	return g.enter(ctx, record, m, progress)
}

// Replace takes the member old out of the group, by its name in the record, and
// makes another partition a member in its place, in one change of the record: of
// a group of two where one is dead too. The old one need not be there, nor in
// the configuration; all others must be. Needs the Crypto Officer. progress may
// be nil.
func (g *Group) Replace(ctx context.Context, old string, m Member, progress func(Progress)) error {
	record := g.Record()
	i := g.placeNamed(record, old)
	if i < 0 {
		return fmt.Errorf("the group's record of epoch %d names no member %q, but %s", record.Epoch, old, memberNames(record))
	}
	gone := record.Members[i]
	left := record
	left.Members = slices.Delete(slices.Clone(record.Members), i, i+1)
	if err := g.enter(ctx, left, m, progress); err != nil {
		return err
	}
	return g.part(ctx, old, gone)
}

// enter makes a partition the last member of a record of which all members are
// there, writes it as the next epoch, and brings the new member up.
func (g *Group) enter(ctx context.Context, record object.Group, m Member, progress func(Progress)) error {
	if g.role != client.RoleCryptoOfficer {
		return errNotOfficer
	}
	m.Role = g.role
	if err := m.check(); err != nil {
		return err
	}
	at, err := g.present(ctx, record)
	if err != nil {
		return err
	}
	if len(at) < len(record.Members) {
		return fmt.Errorf("adding %q: %w", m.Name, g.standing(nil))
	}
	fresh, err := dialOne(ctx, m)
	if err != nil {
		return err
	}
	defer fresh.client.Close()
	if fresh.record.Epoch > 0 && fresh.record.ID != record.ID {
		return fmt.Errorf("member %q is in group %q already; remove it there first, with `cmu ha remove`", m.Name, fresh.record.Label)
	}
	if err := fitTogether(append(slices.Clone(at), fresh)); err != nil {
		return err
	}
	for _, c := range at {
		if err := introducePeers(ctx, c, fresh); err != nil {
			return err
		}
	}
	next := record
	next.Epoch++
	next.Members = append(slices.Clone(record.Members), fresh.entry())
	if err := g.rewrite(ctx, append(at, fresh), next); err != nil {
		return err
	}
	g.join(m)
	if err := g.gather(ctx); err != nil {
		return fmt.Errorf("%q is a member; connecting to it: %w", m.Name, err)
	}
	_, err = g.Synchronize(ctx, progress)
	return err
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
	if len(at) < len(g.Record().Members) {
		return fmt.Errorf("dissolving the group: %w", g.standing(nil))
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
