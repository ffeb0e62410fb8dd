package ha

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"moongate/client"
	"moongate/internal/hsm/object"
)

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
	return record, writeFirst(ctx, candidates, record)
}

// writeFirst writes a group's record where there is none. It begins with the
// same member whatever the order of the configuration, so that of two who make a
// group of the same partitions at once one is refused before it wrote anything.
// What was written of one that cannot be made is taken back.
func writeFirst(ctx context.Context, candidates []candidate, record object.Group) error {
	ordered := slices.SortedFunc(slices.Values(candidates), func(a, b candidate) int { return bytes.Compare(a.self.HSM[:], b.self.HSM[:]) })
	var written []candidate
	for _, c := range ordered {
		if c.record.Epoch > 0 {
			continue // an older one is brought up by the keeper
		}
		err := c.client.SetGroup(ctx, 0, record)
		if err == nil {
			written = append(written, c)
			continue
		}
		if refusal, answered := errors.AsType[*client.HSMError](err); answered && refusal.Code == client.ErrExists {
			for _, w := range written {
				err = errors.Join(err, w.client.SetGroup(ctx, record.Epoch, object.Group{}))
			}
			return fmt.Errorf("somebody made it a group's at the same time, try again: %w", MemberError{c.member.name, err})
		}
		return fmt.Errorf("writing the group's record: %w", MemberError{c.member.name, err})
	}
	return nil
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
