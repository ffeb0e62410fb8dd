package ha

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"slices"
	"testing"
	"time"

	"moongate/client"
)

func label(text string) client.Template {
	return client.NewTemplate(client.TextAttr(client.AttrLabel, text))
}

// labels are the labels of a member's objects.
func labels(t testing.TB, c *client.Client) []string {
	t.Helper()
	found, err := c.Find(t.Context(), nil, client.AttrLabel)
	must(t, err)
	var list []string
	for _, f := range found {
		list = append(list, f.Attributes.Text(client.AttrLabel))
	}
	slices.Sort(list)
	return list
}

// TestChangesAreEverywhere: what is made, imported, derived, renamed and
// destroyed through the group is so on all members when the call returns.
func TestChangesAreEverywhere(t *testing.T) {
	t.Parallel()
	c, g, key := newGroup(t, 3)
	ctx := t.Context()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	imported, err := g.ImportKey(ctx, private, label("imported"))
	must(t, err)
	c.wantEqual()
	secret, err := g.GenerateSecret(ctx, 32, label("secret").With(client.BoolAttr(client.AttrDerive, true)))
	must(t, err)
	_, err = g.DeriveHKDF(ctx, secret, client.HashSHA256, nil, nil, label("derived").With(client.NumberAttr(client.AttrValueLen, 16)))
	must(t, err)
	must(t, g.SetAttributes(ctx, imported, label("renamed")))
	must(t, g.Destroy(ctx, secret))
	c.wantEqual()
	want := []string{"", "derived", "k", "renamed"}
	for i := range c.hsms {
		if got := labels(t, c.direct(i)); !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", c.hsms[i].name, got, want)
		}
	}
	for range 6 {
		k, err := g.Key(ctx, imported)
		must(t, err)
		must(t, sign(k))
	}
	must(t, sign(key))
	if _, err := g.Key(ctx, secret); !isAbsent(client.CodeOf(err)) {
		t.Errorf("a destroyed key: %v", err)
	}
}

// TestRefusedChangeIsUndone: a member that has no room refuses a key; it is on
// none then, and the error is the refusal.
func TestRefusedChangeIsUndone(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	must(t, c.hsms[1].kill())
	c.hsms[1].maxObjects = 3
	must(t, c.hsms[1].start())
	g := c.create(c.config(client.RoleCryptoOfficer))
	ctx := t.Context()
	newEC(t, g, "fits")
	_, err := g.GenerateEC(ctx, elliptic.P256(), nil, label("does not"))
	var refused MemberError
	if !errors.As(err, &refused) || refused.Member != "hsmb" || client.CodeOf(err) != client.ErrBusy && client.CodeOf(err) != client.ErrPolicy {
		t.Errorf("a key too many: %v (%v)", err, client.CodeOf(err))
	}
	for i := range c.hsms {
		if got := labels(t, c.direct(i)); len(got) != 2 {
			t.Errorf("%s has %q", c.hsms[i].name, got)
		}
	}
	c.wantEqual()
	must(t, sign(newLookup(t, g, "fits")))
}

func newLookup(t testing.TB, g *Group, name string) client.Key {
	t.Helper()
	key, err := g.FindKeyByLabel(t.Context(), name)
	must(t, err)
	return key
}

// TestDestroyIsPending: destroyed is what all members have confirmed; until the
// last one is back it is pending there, and then it is gone there too.
func TestDestroyIsPending(t *testing.T) {
	t.Parallel()
	c, g, key := newGroup(t, 3)
	must(t, c.hsms[2].kill())
	eventually(t, "lost", func() bool { return g.stateOf("hsmc") == Lost })
	err := g.Destroy(t.Context(), key.ID())
	var pending *PendingError
	if !errors.As(err, &pending) || !slices.Equal(pending.Members, []string{"hsmc"}) {
		t.Fatalf("Destroy: %v", err)
	}
	if err := sign(key); !isAbsent(client.CodeOf(err)) {
		t.Errorf("signing with a destroyed key: %v", err)
	}
	must(t, c.hsms[2].start())
	eventually(t, "live again", func() bool { return g.stateOf("hsmc") == Live })
	c.wantEqual()
	if _, err := c.direct(2).Key(t.Context(), key.ID()); !isAbsent(client.CodeOf(err)) {
		t.Errorf("the key on the member that was away: %v", err)
	}
}

// TestBehindServesWhatIsEqual: to a Crypto User, who can copy nothing, a member
// that missed changes stays behind, says so, and serves the other keys.
func TestBehindServesWhatIsEqual(t *testing.T) {
	t.Parallel()
	c, officer, kept := newGroup(t, 2)
	ctx := t.Context()
	changed, gone := newEC(t, officer, "changed"), newEC(t, officer, "gone")
	must(t, officer.Close())
	of := func(g *Group, k client.Key) client.Key {
		key, err := g.KeyOf(k.ID(), k.Label(), k.Public())
		must(t, err)
		return key
	}
	// Changed past the group, on one member alone.
	direct := c.direct(0)
	must(t, direct.SetAttributes(ctx, changed.ID(), client.NewTemplate(client.TextAttr(client.AttrLabel, "new name"))))
	must(t, direct.Destroy(ctx, gone.ID()))
	_, err := direct.GenerateEC(ctx, elliptic.P256(), nil, label("fresh"))
	must(t, err)

	g := c.open(c.config(client.RoleCryptoUser))
	eventually(t, "behind, and known how far", func() bool {
		s := g.member("hsmb").snapshot()
		return s.State == Behind && s.Behind > 0
	})
	s := g.member("hsmb").snapshot()
	if s.Behind != 4 || s.Fix == "" || s.Equal { // changed, gone, and both halves of fresh
		t.Errorf("behind: %+v", s)
	}
	fresh, renamed := newLookup(t, g, "fresh"), newLookup(t, g, "new name")
	gone, kept = of(g, gone), of(g, kept)
	for range 10 {
		must(t, sign(fresh))
		must(t, sign(renamed))
		if err := sign(gone); !isAbsent(client.CodeOf(err)) {
			t.Fatalf("a destroyed key: %v", err)
		}
	}
	member := g.member("hsmb")
	if v := member.view.Load(); v.serves(need{key: gone.ID()}) || v.serves(need{key: fresh.ID()}) || !v.serves(need{key: kept.ID()}) {
		t.Error("the member that is behind serves what it should not, or does not what it should")
	}
	must(t, c.hsms[0].kill())
	eventually(t, "the other lost", func() bool { return g.stateOf("hsma") == Lost })
	must(t, sign(kept))
	// Alone it is compared with nobody: what is known of it stays known.
	g.wakeKeeper()
	time.Sleep(300 * time.Millisecond)
	within, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if _, err := gone.WithContext(within).Sign(nil, digest[:], crypto.SHA256); err == nil {
		t.Error("the member that is behind signed with a key that is destroyed")
	}
}

// TestDeadDuringCopy: a member that stops while a key is copied to it does not
// hold the change; it is behind, and gets the key when it is back.
func TestDeadDuringCopy(t *testing.T) {
	t.Parallel()
	c, g, _ := newGroup(t, 2)
	c.proxies[1].set(frozen, 0)
	began := time.Now()
	key := newEC(t, g, "made meanwhile")
	t.Logf("it took %v", time.Since(began))
	must(t, sign(key))
	c.proxies[1].set(passing, 0)
	eventually(t, "live again", func() bool { return g.stateOf("hsmb") == Live })
	c.wantEqual()
}

// TestOutcomeUnknown: the answer to a change is lost: the error says that it may
// have been made, and nobody makes it twice.
func TestOutcomeUnknown(t *testing.T) {
	t.Parallel()
	c, g, _ := newGroup(t, 2)
	c.proxies[0].set(frozen, 0)
	made := make(chan error, 1)
	go func() {
		_, err := g.GenerateEC(context.Background(), elliptic.P256(), nil, label("x"))
		made <- err
	}()
	time.Sleep(20 * time.Millisecond)
	c.proxies[0].reset()
	c.proxies[0].set(passing, 0)
	err := <-made
	if _, unknown := errors.AsType[*client.OutcomeUnknownError](err); err != nil && !unknown {
		t.Errorf("GenerateEC: %v", err)
	}
	eventually(t, "both live", func() bool { return g.stateOf("hsma") == Live && g.stateOf("hsmb") == Live })
	_, err = g.Synchronize(t.Context(), nil)
	must(t, err)
	c.wantEqual()
	if list, err := g.Find(t.Context(), label("x")); err != nil || len(list) > 1 {
		t.Errorf("%d keys were made, %v", len(list), err)
	}
}
