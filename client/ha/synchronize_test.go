package ha

import (
	"crypto/elliptic"
	"slices"
	"strings"
	"testing"

	"moongate/client"
)

// halves is a group of which nobody watches: its members may be changed alone.
func halves(t testing.TB, n int) (*cluster, client.Key) {
	t.Helper()
	c, g, key := newGroup(t, n)
	must(t, g.Close())
	return c, key
}

// TestHalvesComeTogether: two halves that were changed apart are one again:
// what either made, both have; what either destroyed is gone; of what both
// changed the later change stays, and both are named.
func TestHalvesComeTogether(t *testing.T) {
	t.Parallel()
	c, key := halves(t, 2)
	ctx := t.Context()
	a, b := c.direct(0), c.direct(1)
	_, err := a.GenerateEC(ctx, elliptic.P256(), nil, label("of a"))
	must(t, err)
	_, err = b.GenerateEC(ctx, elliptic.P256(), nil, label("of b"))
	must(t, err)
	must(t, a.SetAttributes(ctx, key.ID(), label("once")))
	must(t, b.SetAttributes(ctx, key.ID(), label("first")))
	must(t, b.SetAttributes(ctx, key.ID(), label("second")))

	config := c.config(client.RoleCryptoOfficer)
	config.Probe *= 100 // only when told
	g := c.open(config)
	must(t, g.gather(ctx))
	var seen []Progress
	report, err := g.Synchronize(ctx, func(p Progress) { seen = append(seen, p) })
	must(t, err)
	if !report.Complete() && len(g.Conflicts()) == 0 {
		t.Errorf("report: %v", report)
	}
	conflicts := g.Conflicts() // of this call, or of the keeper's before it
	if len(conflicts) != 1 || conflicts[0].ID != key.ID() || conflicts[0].Kept.Member != "hsmb" || conflicts[0].Kept.Label != "second" ||
		conflicts[0].Lost.Member != "hsma" || conflicts[0].Lost.Label != "once" {
		t.Errorf("conflicts: %v", conflicts)
	}
	if text := conflicts[0].String(); !strings.Contains(text, `"second" of hsmb`) || !strings.Contains(text, `"once" of hsma`) {
		t.Errorf("a conflict's text: %s", text)
	}
	c.wantEqual()
	for i := range c.hsms {
		if got, want := labels(t, c.direct(i)), []string{"", "", "", "of a", "of b", "second"}; !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", c.hsms[i].name, got, want)
		}
	}
	must(t, g.ReadyAll(ctx))
	report, err = g.Synchronize(ctx, nil)
	if err != nil || report.changes() != 0 || !report.Complete() {
		t.Errorf("once more: %v, %v", report, err)
	}
	_ = seen
}

// TestDestroyedStaysDestroyed: a key that was destroyed on one member does not
// come back from another that was away and changed it.
func TestDestroyedStaysDestroyed(t *testing.T) {
	t.Parallel()
	c, key := halves(t, 3)
	ctx := t.Context()
	must(t, c.direct(0).Destroy(ctx, key.ID()))
	must(t, c.direct(2).SetAttributes(ctx, key.ID(), label("renamed")))
	g := c.open(c.config(client.RoleCryptoOfficer))
	must(t, g.ReadyAll(ctx))
	c.wantEqual()
	if _, err := g.Key(ctx, key.ID()); !isAbsent(client.CodeOf(err)) {
		t.Errorf("the key: %v", err)
	}
}

// TestReportCounts: what Synchronize did to whom.
func TestReportCounts(t *testing.T) {
	t.Parallel()
	c, key := halves(t, 2)
	ctx := t.Context()
	a := c.direct(0)
	for range 200 {
		_, err := a.GenerateAES(ctx, 32, label("aes"))
		must(t, err)
	}
	must(t, a.Destroy(ctx, key.ID()))
	config := c.config(client.RoleCryptoOfficer)
	g := c.open(config)
	g.syncing.Lock() // the keeper waits
	must(t, g.gather(ctx))
	g.syncing.Unlock()
	done := map[string]int{}
	report, err := g.Synchronize(ctx, func(p Progress) {
		if p.Total != 201 || p.Done <= done[p.To] || p.From != "hsma" {
			t.Errorf("progress %+v after %d", p, done[p.To])
		}
		done[p.To] = p.Done
	})
	must(t, err)
	if report.changes() > 0 && (len(report.Members) != 2 || report.Members[1].Added != 200 || report.Members[1].Destroyed != 1 || done["hsmb"] != 201) {
		t.Errorf("report: %+v, progress %v", report, done)
	}
	c.wantEqual()
}

// TestSynchronizeNeedsTheOfficer: the Crypto User copies nothing.
func TestSynchronizeNeedsTheOfficer(t *testing.T) {
	t.Parallel()
	c, _ := halves(t, 2)
	g := c.open(c.config(client.RoleCryptoUser))
	if _, err := g.Synchronize(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "Crypto Officer") {
		t.Errorf("Synchronize: %v", err)
	}
}

// TestDriftIsSeen: what is changed past the group is seen by digests, and
// mended.
func TestDriftIsSeen(t *testing.T) {
	t.Parallel()
	c, g, _ := newGroup(t, 2)
	_, err := c.direct(1).GenerateAES(t.Context(), 32, label("drift"))
	must(t, err)
	eventually(t, "the drift is mended", func() bool {
		_, err := c.hsms[0], g.ReadyAll(t.Context())
		return err == nil && len(c.sums()) == 1
	})
}
