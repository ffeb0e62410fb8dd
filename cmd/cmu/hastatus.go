package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"moongate/client/ha"
)

// haShown is what `cmu ha status -json` and `cmu ha list -json` say.
type haShown struct {
	Label    string        `json:"label"`
	Serial   string        `json:"serial"`
	ID       string        `json:"id"`
	Epoch    uint64        `json:"epoch"`
	Retry    int           `json:"retry"`
	NoReturn bool          `json:"no_return"`
	Members  []memberShown `json:"members"`
}

type memberShown struct {
	Name     string `json:"name"`
	Address  string `json:"address"`
	Serial   string `json:"serial,omitempty"`
	Identity string `json:"identity,omitempty"`
	// Those of the status alone.
	Software    string     `json:"software,omitempty"`
	State       string     `json:"state,omitempty"`
	Since       *time.Time `json:"since,omitempty"`
	Reason      string     `json:"reason,omitempty"`
	Fix         string     `json:"fix,omitempty"`
	Objects     *uint64    `json:"objects,omitempty"`
	Tombstones  *uint64    `json:"tombstones,omitempty"`
	Digest      string     `json:"digest,omitempty"`
	Behind      *int       `json:"behind,omitempty"`
	Outstanding int        `json:"outstanding,omitempty"`
}

func newHAShown(record ha.Record, config ha.Config) haShown {
	return haShown{
		Label: config.Label, Serial: record.Serial, ID: record.ID.String(), Epoch: record.Epoch,
		Retry: config.Retry, NoReturn: config.NoReturn, Members: []memberShown{},
	}
}

// haList shows the group's record, as the members have it.
func (t *tool) haList(ctx context.Context, o options) error {
	g, found, err := t.group(ctx, o)
	if err != nil {
		return err
	}
	defer g.Close()
	record := g.Record()
	v := newHAShown(record, *found.group)
	for _, m := range record.Members {
		v.Members = append(v.Members, memberShown{Name: m.Name, Address: m.Address, Serial: m.Serial, Identity: m.HSM.String()})
	}
	if o.flag("json", false) {
		return t.con.printJSON(v)
	}
	t.con.printf("Group %s, serial number %s, epoch %d\n", shown(v.Label), v.Serial, v.Epoch)
	for _, m := range v.Members {
		t.con.printf("name=%s\taddress=%s\tserial=%s\tidentity=%s\n", shown(m.Name), shown(m.Address), m.Serial, m.Identity)
	}
	return nil
}

// errNotWhole ends `cmu ha status` and `synchronize`, which have printed what is
// missing.
var errNotWhole = errors.New("not all members are live")

// haStatus shows how each member stands. It waits for none that is away.
func (t *tool) haStatus(ctx context.Context, o options) error {
	role, err := roleOf(o.text("role"))
	if err != nil {
		return err
	}
	found, err := t.grouped(o, role)
	if err != nil {
		return err
	}
	g, err := t.startGroup(found)
	if err != nil {
		return err
	}
	defer g.Close()
	unreachable := t.reach(ctx, g)
	v := newHAShown(g.Record(), *found.group)
	whole := true
	for _, m := range g.Members() {
		v.Members = append(v.Members, newMemberShown(m))
		whole = whole && m.State == ha.Live
	}
	if o.flag("json", false) {
		if err := t.con.printJSON(v); err != nil {
			return err
		}
	} else {
		t.printStatus(v)
	}
	switch {
	case unreachable != nil:
		return unreachable
	case !whole:
		return errNotWhole
	}
	return nil
}

func newMemberShown(m ha.MemberStatus) memberShown {
	s := memberShown{
		Name: m.Name, Address: m.Address, Serial: m.Serial, Software: m.Software, State: m.State.String(), Since: &m.Since,
		Reason: m.Reason, Fix: m.Fix, Outstanding: m.Outstanding,
	}
	if m.HSM != (ha.HSMID{}) {
		s.Identity = m.HSM.String()
	}
	if m.Digest.Sum != [32]byte{} {
		s.Objects, s.Tombstones, s.Digest = &m.Digest.Objects, &m.Digest.Tombstones, hex.EncodeToString(m.Digest.Sum[:])
	}
	if m.Behind >= 0 {
		s.Behind = &m.Behind
	}
	return s
}

func (t *tool) printStatus(v haShown) {
	t.con.printf("Group %s, serial number %s, epoch %d, retry %d\n", shown(v.Label), v.Serial, v.Epoch, v.Retry)
	for _, m := range v.Members {
		contents := ""
		if m.Objects != nil {
			contents = fmt.Sprintf("\tobjects=%d\tdigest=%.16s", *m.Objects, m.Digest)
		}
		if m.Behind != nil && *m.Behind > 0 {
			contents += fmt.Sprintf("\tbehind=%d", *m.Behind)
		}
		t.con.printf("name=%s\tstate=%s\taddress=%s%s\n", shown(m.Name), m.State, shown(m.Address), contents)
		if m.Reason != "" {
			t.con.printf("  %s\n", printable(m.Reason))
		}
		if m.Fix != "" {
			t.con.printf("  what to do: %s\n", printable(m.Fix))
		}
	}
}

// syncShown is what `cmu ha synchronize -json` says.
type syncShown struct {
	Complete  bool          `json:"complete"`
	Seconds   float64       `json:"seconds"`
	Members   []syncMember  `json:"members"`
	Away      []string      `json:"away"`
	Conflicts []string      `json:"conflicts"`
	Refusals  []syncRefusal `json:"refusals"`
}

type syncMember struct {
	Name       string `json:"name"`
	Added      int    `json:"added"`
	Updated    int    `json:"updated"`
	Destroyed  int    `json:"destroyed"`
	Merged     int    `json:"merged"`
	Refused    int    `json:"refused"`
	Objects    uint64 `json:"objects"`
	Tombstones uint64 `json:"tombstones"`
}

type syncRefusal struct {
	Member string `json:"member"`
	Object string `json:"object"`
	Error  string `json:"error"`
}

func (t *tool) haSynchronize(ctx context.Context, o options) error {
	g, _, err := t.group(ctx, o)
	if err != nil {
		return err
	}
	defer g.Close()
	return t.synchronize(ctx, o, g)
}

// haRecover tries members that are away at once, and brings up what came back.
func (t *tool) haRecover(ctx context.Context, o options) error {
	g, _, err := t.group(ctx, o)
	if err != nil {
		return err
	}
	defer g.Close()
	away := g.Recover(ctx)
	if err := t.synchronize(ctx, o, g); err != nil && !errors.Is(err, errNotWhole) {
		return err
	} else if away == nil {
		return err
	}
	return away
}

// synchronize brings every member that is there up, and says what came of it.
func (t *tool) synchronize(ctx context.Context, o options, g *ha.Group) error {
	r, err := g.Synchronize(ctx, t.progress())
	if err != nil {
		return err
	}
	v := syncShown{Complete: r.Complete(), Seconds: r.Took.Seconds(), Members: []syncMember{}, Away: append([]string{}, r.Away...), Conflicts: []string{}, Refusals: []syncRefusal{}}
	for _, m := range r.Members {
		v.Members = append(v.Members, syncMember{m.Name, m.Added, m.Updated, m.Destroyed, m.Merged, m.Refused, m.Objects, m.Tombstones})
	}
	for _, c := range r.Conflicts {
		v.Conflicts = append(v.Conflicts, c.String())
	}
	for _, refusal := range r.Refusals {
		v.Refusals = append(v.Refusals, syncRefusal{refusal.Member, refusal.ID.String(), plain(refusal.Err)})
	}
	if o.flag("json", false) {
		if err := t.con.printJSON(v); err != nil {
			return err
		}
	} else {
		t.printSync(v)
	}
	if !v.Complete {
		return errNotWhole
	}
	return nil
}

func (t *tool) printSync(v syncShown) {
	for _, m := range v.Members {
		t.con.printf("name=%s\tobjects=%d\tadded=%d\tupdated=%d\tdestroyed=%d\tmerged=%d\trefused=%d\n", shown(m.Name), m.Objects, m.Added, m.Updated, m.Destroyed, m.Merged, m.Refused)
	}
	for _, name := range v.Away {
		t.con.printf("name=%s\taway\n", shown(name))
	}
	for _, c := range v.Conflicts {
		t.con.printf("conflict: %s\n", shown(c))
	}
	for _, r := range v.Refusals {
		t.con.printf("refused by %s: object %s: %s\n", shown(r.Member), r.Object, shown(r.Error))
	}
	if v.Complete {
		t.con.printf("All members hold the same objects\n")
	} else {
		t.con.printf("Not all members hold the same objects\n")
	}
}
