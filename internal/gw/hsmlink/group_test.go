package hsmlink

import (
	"crypto/elliptic"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"moongate/client"
	"moongate/client/ha"
	"moongate/internal/gw/config"
	"moongate/internal/gw/keys"
)

// group is a configuration of HSMs as a group.
func group(hsms ...*hsm) *config.HSM {
	c := network(hsms...)
	c.HA = &config.HSMGroup{Name: "pki"}
	return c
}

// groupIs waits until the group is in a state.
func (g *gateway) groupIs(want GroupState) GroupStatus {
	g.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		s := g.m.Status()
		if s.Group != nil && s.Group.State == want {
			return *s.Group
		}
		if time.Now().After(end) {
			g.t.Fatalf("the group is %+v, want %s; servers %+v\n%s", s.Group, want, s.Servers, g.log)
		}
	}
}

// TestGroup is the guide's procedure for high availability: servers that are no
// group yet, a group, a member that is lost and comes back, one that lacks keys,
// one more and one less.
func TestGroup(t *testing.T) {
	t.Parallel()
	all := newCluster(t, "a", "b", "c")
	a, b, c := all[0], all[1], all[2]
	g := newGateway(t, nil)
	if _, err := g.m.CreateGroup(t.Context(), []byte(coPassword), nil); err == nil || !strings.Contains(err.Error(), "no HSM group is configured") {
		t.Errorf("a group that is not configured: %v", err)
	}
	g.use(group(a, b))
	for _, h := range all[:2] {
		g.introduce(h)
	}
	g.login(client.RoleCryptoUser, cuPassword, true)
	g.shows("a", StateAuthenticated, "", prompt)
	g.shows("b", StateAuthenticated, "", prompt)
	if s := g.groupIs(GroupNotCreated); s.Problem == nil || s.Problem.Code != CodeNoGroup || !strings.Contains(s.Problem.Reason, "on a alone") {
		t.Errorf("before it is created: %+v", s)
	}
	if _, err := g.m.CreateGroup(t.Context(), nil, nil); err == nil {
		t.Error("a group was created without the Crypto Officer")
	}
	if _, err := g.m.CreateGroup(t.Context(), []byte("wrong-password"), nil); client.CodeOf(err) != client.ErrPINIncorrect || !strings.Contains(err.Error(), "same on all servers") {
		t.Errorf("a group with a wrong password: %v", err)
	}
	record, err := g.m.CreateGroup(t.Context(), []byte(coPassword), nil)
	if err != nil || record.Epoch == 0 || !slices.Equal(memberNames(record), []string{"a", "b"}) {
		t.Fatalf("creating the group: %+v, %v", record, err)
	}
	g.groupIs(GroupWhole)
	g.told("hsm-ha-state", "the HSM group pki is whole")

	// A key that was made through the group is on both; one member may go.
	ctx := WithOfficer(t.Context(), []byte(coPassword))
	ref, err := g.sw.NewKey(ctx)
	must(t, err)
	wrapped, err := g.sw.Wrap(t.Context(), ref, []byte("secret"))
	must(t, err)
	listed, err := g.sw.Keys(t.Context())
	if err != nil || len(listed) != 1 || !slices.Equal(listed[0].Members, []string{"a", "b"}) || len(listed[0].Missing) != 0 {
		t.Errorf("wrapping keys: %+v, %v", listed, err)
	}
	a.kill()
	if plain, err := g.sw.Unwrap(t.Context(), ref, wrapped); err != nil || string(plain) != "secret" {
		t.Errorf("unwrapping with one member away: %v", err)
	}
	g.shows("a", "tcp", CodePortRefused, prompt)
	if s := g.groupIs(GroupDegraded); s.Problem == nil || !strings.Contains(s.Problem.Reason, "1 of 2") {
		t.Errorf("one member away: %+v", s)
	}
	if g.figure("moongate_hsm_member_state", "b", "live") != 1 || g.figure("moongate_hsm_member_state", "a", "live") != 0 {
		t.Error("the figures say something else of the members")
	}
	if listed, err = g.sw.Keys(t.Context()); err != nil || !slices.Equal(listed[0].Missing, []string{"a"}) {
		t.Errorf("wrapping keys with one member away: %+v, %v", listed, err)
	}
	b.kill()
	g.groupIs(GroupLost)
	if g.m.Status().Ready() || g.sw.Status().Ready {
		t.Error("a group without a member is ready")
	}
	a.start()
	b.start()
	g.groupIs(GroupWhole)

	// Somebody makes a key on one member alone: the other is named, and mended.
	other := b.client()
	lone := keys.WrappingPrefix + "lone"
	if _, err := other.GenerateAES(t.Context(), 32, client.NewTemplate(client.TextAttr(client.AttrLabel, lone), client.BoolAttr(client.AttrExtractable, false))); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		s := g.status("a")
		if s.Problem != nil && s.State == StateAuthenticated && (s.Problem.Code == CodeDrift || s.Problem.Code == CodeWrapping) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the member that lacks a key: %+v", s)
		}
	}
	report, err := g.m.Synchronize(t.Context(), []byte(coPassword), nil)
	if err != nil || !report.Complete() {
		t.Errorf("synchronizing: %v, %v", report, err)
	}
	g.groupIs(GroupWhole)
	g.shows("a", StateAuthenticated, "", patience)

	// One more server, and one less.
	g.use(group(a, c))
	g.introduce(c)
	g.login(client.RoleCryptoUser, cuPassword, true)
	g.shows("c", StateAuthenticated, CodeNotMember, patience)
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		s := g.m.Status().Group
		if s.Problem != nil && slices.Equal(s.Unconfigured, []string{"b"}) && slices.Equal(s.Unrecorded, []string{"c"}) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("other servers than the group's: %+v", s)
		}
	}
	done, err := g.m.ReplaceServers(t.Context(), []byte(coPassword), nil)
	if err != nil || !slices.Equal(done.Added, []string{"c"}) || !slices.Equal(done.Removed, []string{"b"}) {
		t.Fatalf("replacing: %+v, %v", done, err)
	}
	g.groupIs(GroupWhole)
	if plain, err := g.sw.Unwrap(t.Context(), ref, wrapped); err != nil || string(plain) != "secret" {
		t.Errorf("unwrapping on the new group: %v", err)
	}

	// Another life, with one member away: the group is known at once.
	must(t, g.m.Close())
	a.kill()
	g.start()
	g.use(group(a, c))
	g.shows("c", StateAuthenticated, "", patience)
	if plain, err := g.sw.Unwrap(t.Context(), ref, wrapped); err != nil || string(plain) != "secret" {
		t.Errorf("unwrapping after a restart with one member away: %v", err)
	}
	g.hidden()
}

// TestGroupOfStrangers: HSMs that share no domain are no group, and say what to
// do.
func TestGroupOfStrangers(t *testing.T) {
	t.Parallel()
	a, b, g := newHSM(t, "a"), newHSM(t, "b"), newGateway(t, nil)
	g.use(group(a, b))
	g.introduce(a)
	g.introduce(b)
	list, err := g.m.Login(t.Context(), LoginRequest{Role: client.RoleCryptoOfficer, Password: []byte(coPassword), Keep: true})
	must(t, err)
	if len(list) != 3 || list[0].Err != nil || list[1].Err != nil || list[2].Server != "HA group pki" || list[2].Err == nil || !strings.Contains(list[2].Err.Error(), "domain") {
		t.Fatalf("logging in: %+v", list)
	}
	g.shows("b", StateAuthenticated, "", prompt)
	if _, err = g.m.CreateGroup(t.Context(), nil, nil); err == nil || !strings.Contains(err.Error(), "domain") {
		t.Errorf("a group of strangers: %v", err)
	}
	var none *ha.PartialError
	if errors.As(err, &none) {
		t.Errorf("something was changed: %v", err)
	}
	// Keys are used on the first one meanwhile.
	key, err := g.sw.Make(t.Context(), keys.Spec{Curve: elliptic.P256(), Label: "k"})
	must(t, err)
	g.signWith(key.Public())
}

// TestGroupByLogin: giving the Crypto Officer's password to all servers makes
// the group, adds a server to it, and takes one out.
func TestGroupByLogin(t *testing.T) {
	t.Parallel()
	all, g := newCluster(t, "a", "b", "c"), newGateway(t, nil)
	login := func(want string) {
		t.Helper()
		list, err := g.m.Login(t.Context(), LoginRequest{Role: client.RoleCryptoOfficer, Password: []byte(coPassword), Keep: true})
		must(t, err)
		note := ""
		for _, done := range list {
			must(t, done.Err)
			note += done.Note
		}
		if note != want {
			t.Errorf("logging in did %q, want %q", note, want)
		}
	}
	g.use(group(all[0], all[1]))
	g.introduce(all[0])
	g.introduce(all[1])
	login("made of a, b")
	g.groupIs(GroupWhole)
	login("")
	g.groupIs(GroupWhole)
	signing := g.keepSigning(0)
	g.use(group(all...))
	g.introduce(all[2])
	login("added c")
	g.groupIs(GroupWhole)
	g.use(group(all[1], all[2]))
	login("removed a")
	g.groupIs(GroupWhole)
	signing()
}

// TestGroupOtherNames: a second gateway that calls the HSMs otherwise finds the
// group by itself, and takes it for its own.
func TestGroupOtherNames(t *testing.T) {
	t.Parallel()
	all, first, second := newCluster(t, "a", "b"), newGateway(t, nil), newGateway(t, nil)
	first.use(group(all...))
	for _, h := range all {
		first.introduce(h)
	}
	first.login(client.RoleCryptoOfficer, coPassword, true)
	first.groupIs(GroupWhole)

	c := group(all...)
	c.Servers[0].Name, c.Servers[1].Name = "x", "y"
	second.use(c)
	for i, h := range all {
		name := c.Servers[i].Name
		_, err := second.m.ImportServerCertificate(name, h.certificate())
		must(t, err)
		own, err := second.m.ExportClientCertificate(t.Context(), name)
		must(t, err)
		h.register("gw-2", own.Address, own.PEM, true)
	}
	second.login(client.RoleCryptoUser, cuPassword, true)
	if s := second.groupIs(GroupWhole); len(s.Unconfigured) != 0 || len(s.Unrecorded) != 0 || s.Problem != nil {
		t.Errorf("the group by other names: %+v", s)
	}
	done, err := second.m.ReplaceServers(t.Context(), []byte(coPassword), nil)
	if err != nil || len(done.Added) != 0 || len(done.Removed) != 0 {
		t.Errorf("replacing what is called otherwise: %+v, %v", done, err)
	}
	second.shows("x", StateAuthenticated, "", patience)
	ref, err := first.sw.NewKey(t.Context())
	must(t, err)
	if listed, err := second.sw.Keys(t.Context()); err != nil || len(listed) != 1 || listed[0].Ref != ref || !slices.Equal(listed[0].Members, []string{"x", "y"}) {
		t.Errorf("wrapping keys by other names: %+v, %v", listed, err)
	}
}

// TestGroupAgain: a group that somebody has ended can be created anew.
func TestGroupAgain(t *testing.T) {
	t.Parallel()
	all, g := newCluster(t, "a", "b"), newGateway(t, nil)
	g.use(group(all...))
	for _, h := range all {
		g.introduce(h)
	}
	g.login(client.RoleCryptoOfficer, coPassword, true)
	first := g.groupIs(GroupWhole)
	must(t, g.m.current().asOfficer(t.Context(), nil, func(group *ha.Group, _ ha.Config) error { return group.Dissolve(t.Context()) }))
	record, err := g.m.CreateGroup(t.Context(), nil, nil)
	if err != nil || record.ID == first.Record.ID {
		t.Fatalf("creating it again: %+v, %v", record, err)
	}
	for end := time.Now().Add(patience); g.groupIs(GroupWhole).Record.ID != record.ID; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the group in use is %+v", g.m.Status().Group)
		}
	}
	g.sign()
}
