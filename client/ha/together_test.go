package ha

import (
	"context"
	"crypto/elliptic"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"moongate/client"
	"moongate/internal/hsm/object"
)

// TestTwoAdministrators: of two clients that change the group's record one after
// the other, the second before it has learned of the first, one is refused, and
// nobody's change is lost; when it has learned it succeeds.
func TestTwoAdministrators(t *testing.T) {
	t.Parallel()
	// The order in which two records with one epoch count is chance: both.
	for _, first := range []int{2, 3} {
		t.Run(fmt.Sprint(first), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 4)
			ctx := t.Context()
			two := c.config(client.RoleCryptoOfficer)
			two.Members = two.Members[:2]
			g := c.create(two)
			// One that does not look by itself for as long as this takes.
			slow := two
			slow.Probe, slow.Registerer = time.Minute, nil
			other := c.open(slow)
			must(t, other.ReadyAll(ctx))
			second := 5 - first
			must(t, g.Add(ctx, c.member(first, client.RoleCryptoOfficer), nil))
			err := other.Add(ctx, c.member(second, client.RoleCryptoOfficer), nil)
			if err == nil || !strings.Contains(err.Error(), "changed meanwhile") {
				t.Errorf("adding to a record that is not the one that counts: %v", err)
			}
			record, err := c.direct(0).Group(ctx)
			must(t, err)
			if memberNames(record) != "hsma, hsmb, "+c.hsms[first].name {
				t.Errorf("the record names %s", memberNames(record))
			}
			// It has the record now, and cannot add to a group of which it knows
			// but a part.
			err = other.Add(ctx, c.member(second, client.RoleCryptoOfficer), nil)
			if name := c.hsms[first].name; err == nil || !strings.Contains(err.Error(), "must be there: "+name+": this client's configuration does not name it") {
				t.Errorf("adding to a group of which one is not configured: %v", err)
			}
			must(t, other.Add(ctx, c.member(first, client.RoleCryptoOfficer), nil)) // completes its configuration
			if r := other.Record(); r.Epoch != 2 || len(r.Members) != 3 {
				t.Errorf("record: %+v", r)
			}
			must(t, g.Add(ctx, c.member(second, client.RoleCryptoOfficer), nil))
			if r := g.Record(); r.Epoch != 3 || len(r.Members) != 4 {
				t.Errorf("record: %+v", r)
			}
		})
	}
}

// TestTwoCreate: two administrators make the same group at once, with the members
// in another order; one of them at least succeeds, and who was refused does when
// it is tried again.
func TestTwoCreate(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	a, b := c.config(client.RoleCryptoOfficer), c.config(client.RoleCryptoOfficer)
	b.Members[0], b.Members[2] = b.Members[2], b.Members[0]
	var made [2]*Group
	var errs [2]error
	var both sync.WaitGroup
	for i, config := range []Config{a, b} {
		both.Go(func() { made[i], errs[i] = Create(t.Context(), config, nil) })
	}
	both.Wait()
	if errs[0] != nil && errs[1] != nil {
		t.Errorf("nobody succeeded: %v", errs)
	}
	for _, g := range made {
		if g != nil {
			must(t, g.Close())
		}
	}
	g := c.create(a)
	for i := range c.hsms {
		if r, err := c.direct(i).Group(t.Context()); err != nil || r.ID != g.Record().ID {
			t.Errorf("%s has %+v, %v", c.hsms[i].name, r, err)
		}
	}
}

// TestReplaceByItself: of a group of two one was put back without its record, as
// by a restore on other hardware; it is told how it comes back, and that works.
// A member that is well may be replaced by itself, too, and is one afterwards.
func TestReplaceByItself(t *testing.T) {
	t.Parallel()
	c, g, key := newGroup(t, 2)
	ctx := t.Context()
	alone := c.direct(0)
	self, err := c.direct(1).Replica(ctx)
	must(t, err)
	must(t, alone.SetGroup(ctx, 1, object.Group{}))
	must(t, alone.SetPeer(ctx, self.HSM, self.Serial, false))
	g = c.open(c.config(client.RoleCryptoOfficer))
	eventually(t, "it is refused, and told how it comes back", func() bool {
		m := g.member("hsma").snapshot()
		return m.State == Refused && strings.Contains(m.Fix, "cmu ha replace -member=hsma -by=hsma")
	})
	for epoch := uint64(2); epoch <= 3; epoch++ {
		must(t, g.Replace(ctx, "hsma", c.member(0, client.RoleCryptoOfficer), nil))
		must(t, g.ReadyAll(ctx))
		for i := range c.hsms {
			record, err := c.direct(i).Group(ctx)
			must(t, err)
			self, err := c.direct(i).Replica(ctx)
			must(t, err)
			if record.Epoch != epoch || len(record.Members) != 2 || len(self.Peers) != 1 {
				t.Errorf("%s: %+v, %d peers", c.hsms[i].name, record, len(self.Peers))
			}
		}
		k, err := g.Key(ctx, key.ID())
		must(t, err)
		must(t, sign(k))
		newEC(t, g, fmt.Sprint("made in epoch ", epoch))
		c.wantEqual()
	}
	if err := g.Replace(ctx, "hsma", c.member(1, client.RoleCryptoOfficer), nil); err == nil || !strings.Contains(err.Error(), "is a member of the group already") {
		t.Errorf("replacing one member by the other: %v", err)
	}
}

// TestUndoneAtAFullMember: a member that can record nothing refuses a new key,
// and the tombstone of it as well; what was made on the others is gone, and the
// error is its refusal.
func TestUndoneAtAFullMember(t *testing.T) {
	t.Parallel()
	c, g, key := newGroup(t, 3)
	before := digests(t, c)
	c.hsms[1].full.Store(true)
	_, err := g.GenerateEC(t.Context(), elliptic.P256(), nil, nil)
	var partial *PartialError
	if client.CodeOf(err) != client.ErrAuditFailed || errors.As(err, &partial) {
		t.Errorf("making a key that one refuses: %v", err)
	}
	err = g.SetAttributes(t.Context(), key.ID(), client.NewTemplate(client.TextAttr(client.AttrLabel, "other")))
	if client.CodeOf(err) != client.ErrAuditFailed || errors.As(err, &partial) {
		t.Errorf("renaming a key that one refuses to: %v", err)
	}
	c.hsms[1].full.Store(false)
	for i := range c.hsms {
		d := c.direct(i)
		after, err := d.Digest(t.Context())
		must(t, err)
		found, err := d.Attributes(t.Context(), key.ID(), client.AttrLabel)
		must(t, err)
		if after.Objects != before[i].Objects || found.Text(client.AttrLabel) != "k" {
			t.Errorf("%s holds %d objects, the key is called %q", c.hsms[i].name, after.Objects, found.Text(client.AttrLabel))
		}
	}
	eventually(t, "all are alike", func() bool { return len(c.sums()) == 1 })
}

func digests(t *testing.T, c *cluster) []client.ReplicaDigest {
	t.Helper()
	var list []client.ReplicaDigest
	for i := range c.hsms {
		d, err := c.direct(i).Digest(t.Context())
		must(t, err)
		list = append(list, d)
	}
	return list
}

// TestDiesWithWhatItMade: the member that made a key dies before anybody else
// has it, so shortly before that its state does not show it yet: the key is
// nobody's who could sign with it, and was not made.
func TestDiesWithWhatItMade(t *testing.T) {
	t.Parallel()
	c, g, _ := newGroup(t, 3)
	err := g.makeObjects(t.Context(), "Generate", need{none: true}, func(ctx context.Context, at *client.Client) ([]ID, error) {
		pair, err := at.GenerateEC(ctx, elliptic.P256(), nil, nil)
		must(t, err)
		c.proxies[0].refuse()
		return []ID{pair.Private, pair.Public}, nil
	})
	var partial *PartialError
	if !errors.As(err, &partial) || len(partial.Members) != 3 || partial.Members[0] != (MemberError{Member: "hsma"}) {
		t.Errorf("making a key that only the dead one has: %v", err)
	}
}
