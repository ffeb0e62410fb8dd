package ha

import (
	"crypto"
	"errors"
	"testing"

	"moongate/client"
)

// TestClosedGroup: what still has a key of a group that was closed, or the group
// itself, is told so; nothing is taken for done.
func TestClosedGroup(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	g := c.create(c.config(client.RoleCryptoOfficer))
	key := newEC(t, g, "k")
	must(t, sign(key))
	must(t, g.Close())
	if err := g.Ready(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Ready: %v", err)
	}
	if s := g.Status(); s.Connected {
		t.Errorf("Status: %+v", s)
	}
	for range 3 {
		if out, err := key.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, ErrClosed) || len(out) > 0 {
			t.Errorf("Sign: %x, %v", out, err)
		}
		if id, err := g.GenerateAES(t.Context(), 32, nil); !errors.Is(err, ErrClosed) || id != (ID{}) {
			t.Errorf("GenerateAES: %v, %v", id, err)
		}
		if err := g.Destroy(t.Context(), key.ID()); !errors.Is(err, ErrClosed) {
			t.Errorf("Destroy: %v", err)
		}
		if err := g.SetAttributes(t.Context(), key.ID(), client.NewTemplate(client.TextAttr(client.AttrLabel, "x"))); !errors.Is(err, ErrClosed) {
			t.Errorf("SetAttributes: %v", err)
		}
		if _, err := g.Find(t.Context(), nil); !errors.Is(err, ErrClosed) {
			t.Errorf("Find: %v", err)
		}
	}
	if _, err := c.direct(0).FindKeyByLabel(t.Context(), "k"); err != nil {
		t.Errorf("the key after all that: %v", err)
	}
}

// TestMemberWithoutConnection: a member whose connection ended while it counts
// as live has done nothing.
func TestMemberWithoutConnection(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	g := c.create(c.config(client.RoleCryptoOfficer))
	m := (*g.routing.Load())[0]
	was := m.client.Swap(nil)
	defer m.client.Store(was)
	if err := g.changeAt(t.Context(), m, nil); !client.Unavailable(err) {
		t.Errorf("a change: %v", err)
	}
	f := &flight[[]byte]{g: g, ctx: t.Context()}
	if out, err := f.at(m); !client.Unavailable(err) || out != nil {
		t.Errorf("a use: %x, %v", out, err)
	}
}
