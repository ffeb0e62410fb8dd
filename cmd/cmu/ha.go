package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"moongate/client"
	"moongate/client/ha"
)

// settle is how long a command waits for members that are still connecting or
// being brought up; then it goes on without them, and says so.
const settle = 3 * time.Second

// openGroup opens the group and waits until it can be used.
func (t *tool) openGroup(ctx context.Context, found targets) (*ha.Group, error) {
	g, err := t.startGroup(found)
	if err != nil {
		return nil, err
	}
	if err := t.reach(ctx, g); err != nil {
		g.Close()
		return nil, err
	}
	for _, m := range g.Members() {
		if m.State != ha.Live {
			t.con.note("member %s is %s%s", m.Name, m.State, after(": ", printable(m.Reason)))
		}
	}
	return g, nil
}

// startGroup opens the group. The password is asked for first: members are
// waited for no longer than they need, and a person is.
func (t *tool) startGroup(found targets) (*ha.Group, error) {
	for _, m := range found.members {
		if m.Password == nil {
			continue
		}
		password, err := m.Password()
		clear(password)
		if err != nil {
			return nil, err
		}
	}
	return ha.Open(*found.group)
}

// waitSettled waits until it is known of every member how it stands.
func (t *tool) waitSettled(ctx context.Context, g *ha.Group) {
	unsettled := func(m ha.MemberStatus) bool {
		return m.State == ha.Connecting || m.State == ha.Suspect || m.State == ha.Behind && m.Behind < 0
	}
	for end := time.Now().Add(settle); time.Now().Before(end) && slices.ContainsFunc(g.Members(), unsettled); {
		select {
		case <-ctx.Done():
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// reach waits until it is known how the members stand. The error says why none
// of them can be used.
func (t *tool) reach(ctx context.Context, g *ha.Group) error {
	t.waitSettled(ctx, g)
	gone := func(m ha.MemberStatus) bool {
		return m.State == ha.Lost || m.State == ha.Refused || m.State == ha.Removed
	}
	if slices.ContainsFunc(g.Members(), func(m ha.MemberStatus) bool { return !gone(m) }) {
		return g.Ready(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Millisecond) // nobody is waited for
	defer cancel()
	err := g.Ready(ctx)
	if call, is := errors.AsType[*ha.CallError](err); is {
		call.Waiting = nil
	}
	return err
}

// after writes text with something in front of it, or nothing.
func after(before, text string) string {
	if text == "" {
		return ""
	}
	return before + text
}

// group opens the group that the configuration has.
func (t *tool) group(ctx context.Context, o options) (*ha.Group, targets, error) {
	role, err := roleOf(o.text("role"))
	if err != nil {
		return nil, targets{}, err
	}
	found, err := t.grouped(o, role)
	if err != nil {
		return nil, targets{}, err
	}
	g, err := t.openGroup(ctx, found)
	return g, found, err
}

// grouped is targets where there has to be a group.
func (t *tool) grouped(o options, role client.Role) (targets, error) {
	found, err := t.targets(o, role)
	if err == nil && found.group == nil {
		err = &fixError{fmt.Errorf("%s has no HA group", found.path), "make one with `cmu ha create -label=LABEL`"}
	}
	return found, err
}

// progress shows how far a synchronization is, at a terminal on one line.
func (t *tool) progress() func(ha.Progress) {
	var shownAt time.Time
	return func(p ha.Progress) {
		done := p.Done == p.Total
		if !done && time.Since(shownAt) < time.Second {
			return
		}
		shownAt = time.Now()
		t.con.note("%s to %s: %d of %d objects", p.From, p.To, p.Done, p.Total)
	}
}

// haMade is what the commands that change a group say with -json.
type haMade struct {
	Label   string   `json:"label"`
	Serial  string   `json:"serial"`
	Epoch   uint64   `json:"epoch"`
	Members []string `json:"members"`
	Config  string   `json:"config"`
}

func (t *tool) sayGroup(o options, g *ha.Group, path string) error {
	r := g.Record()
	made := haMade{Label: r.Label, Serial: r.Serial, Epoch: r.Epoch, Members: []string{}, Config: path}
	for _, m := range r.Members {
		made.Members = append(made.Members, m.Name)
	}
	for _, m := range g.Members() {
		if m.State != ha.Live {
			t.con.note("member %s is %s%s; `cmu ha synchronize` brings it up, or says why it cannot", m.Name, m.State, after(": ", printable(m.Reason)))
		}
	}
	if o.flag("json", false) {
		return t.con.printJSON(made)
	}
	t.con.printf("Group %s, serial number %s, epoch %d: %s\n", shown(made.Label), made.Serial, made.Epoch, shown(strings.Join(made.Members, ", ")))
	return nil
}

func (t *tool) haCreate(ctx context.Context, o options) error {
	path, s, err := t.settings(o)
	if err != nil {
		return err
	}
	if s.HA != nil {
		return &fixError{fmt.Errorf("%s has the group %s already", path, s.HA.Label), "see it with `cmu ha status`; `cmu ha add` makes it larger, `cmu ha delete` ends it"}
	}
	if err := checkSettings(path); err != nil {
		return err
	}
	if o.text("label") == "" {
		return &usageError{"-label is missing; it is the group's name"}
	}
	names := o.words("member")
	if names == nil {
		names = s.names()
	}
	members, err := t.named(path, names)
	if err != nil {
		return err
	}
	if len(members) < 2 {
		return &fixError{fmt.Errorf("%s names %d HSM, and a group needs two", path, len(members)), "note further ones with `cmu server add -name=NAME -address=HSM -certificate=server.pem`"}
	}
	t.fill(members, o, client.RoleCryptoOfficer)
	retry := o.number("retry", 0)
	if retry > ha.MaxRetry {
		return &usageError{fmt.Sprintf("-retry=%d; expected 0 to %d", retry, ha.MaxRetry)}
	}
	s.HA = &haSettings{Label: o.text("label"), Members: names, Retry: int(retry), NoReturn: o.flag("noReturn", false)}
	g, err := ha.Create(ctx, ha.Config{Label: s.HA.Label, Members: members, Retry: s.HA.Retry, NoReturn: s.HA.NoReturn, StateFile: strings.TrimSuffix(path, ".toml") + ".ha.json"}, t.progress())
	if err != nil {
		return err
	}
	defer g.Close()
	// The record is on the HSMs; should the file not be written, the same command
	// finds the group there.
	if err := s.write(path); err != nil {
		return err
	}
	return t.sayGroup(o, g, path)
}

func (t *tool) haAdd(ctx context.Context, o options) error {
	name, err := oneMember(o)
	if err != nil {
		return err
	}
	return t.enter(ctx, o, name, func(g *ha.Group, m ha.Member) error { return g.Add(ctx, m, t.progress()) }, func(members []string) []string {
		return append(members, name)
	})
}

func (t *tool) haReplace(ctx context.Context, o options) error {
	old, err := oneMember(o)
	if err != nil {
		return err
	}
	name := o.text("by")
	if name == "" {
		return &usageError{"-by is missing; it names the HSM of the configuration that takes the member's place"}
	}
	return t.enter(ctx, o, name, func(g *ha.Group, m ha.Member) error { return g.Replace(ctx, old, m, t.progress()) }, func(members []string) []string {
		return append(slices.DeleteFunc(members, func(m string) bool { return m == old }), name)
	})
}

// enter makes an HSM of the configuration a member by do, and notes the members
// in the file as note has them.
func (t *tool) enter(ctx context.Context, o options, name string, do func(*ha.Group, ha.Member) error, note func([]string) []string) error {
	path, s, err := t.settings(o)
	if err != nil {
		return err
	}
	members, err := t.named(path, []string{name})
	if err != nil {
		return err
	}
	m := members[0]
	g, found, err := t.group(ctx, without(o, "member"))
	if err != nil {
		return err
	}
	defer g.Close()
	own := m.Password
	t.fill(members, o, client.RoleCryptoOfficer)
	m = members[0]
	if own == nil && !o.has("password") && !o.has("passwordFile") {
		m.Password = found.members[0].Password // asked for once
	}
	if err := do(g, m); err != nil {
		return err
	}
	if !slices.Contains(s.HA.Members, name) {
		s.HA.Members = note(s.HA.Members)
		if err := s.write(path); err != nil {
			return err
		}
	}
	return t.sayGroup(o, g, path)
}

func oneMember(o options) (string, error) {
	if names := o.words("member"); len(names) == 1 {
		return names[0], nil
	}
	return "", &usageError{"-member names the one HSM that this is about"}
}

// without are the options but for one, which means something else to what they
// are handed to.
func without(o options, name string) options {
	rest := options{}
	for key, value := range o {
		if key != name {
			rest[key] = value
		}
	}
	return rest
}

func (t *tool) haRemove(ctx context.Context, o options) error {
	path, s, err := t.settings(o)
	if err != nil {
		return err
	}
	name, err := oneMember(o)
	if err != nil {
		return err
	}
	o = without(o, "member")
	g, _, err := t.group(ctx, o)
	if err != nil {
		return err
	}
	defer g.Close()
	if !o.flag("force", false) {
		t.con.errorf("CAUTION: Are you sure you wish to take %s out of the group %s? Its keys stay in it, and are changed with the others' no more.\n", shown(name), shown(s.HA.Label))
		if err := t.proceed("take the member out"); err != nil {
			return err
		}
	}
	if err := g.Remove(ctx, name); err != nil {
		return err
	}
	s.HA.Members = slices.DeleteFunc(s.HA.Members, func(m string) bool { return m == name })
	if err := s.write(path); err != nil {
		return err
	}
	return t.sayGroup(o, g, path)
}

func (t *tool) haDelete(ctx context.Context, o options) error {
	path, s, err := t.settings(o)
	if err != nil {
		return err
	}
	g, _, err := t.group(ctx, o)
	if err != nil {
		return err
	}
	defer g.Close()
	if !o.flag("force", false) {
		t.con.errorf("CAUTION: Are you sure you wish to end the group %s? Its members keep their keys, and are no longer kept alike.\n", shown(s.HA.Label))
		if err := t.proceed("end the group"); err != nil {
			return err
		}
	}
	if err := g.Dissolve(ctx); err != nil {
		return err
	}
	label := s.HA.Label
	s.HA = nil
	if err := s.write(path); err != nil {
		return err
	}
	if o.flag("json", false) {
		return t.con.printJSON(map[string]string{"deleted": label, "config": path})
	}
	t.con.printf("The group %s is ended; every member keeps its keys\n", shown(label))
	return nil
}
