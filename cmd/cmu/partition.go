package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"moongate/client"
	"moongate/internal/hsm/object"
)

// partitionShown is what `cmu partition show -json` says.
type partitionShown struct {
	Label    string            `json:"label"`
	Serial   string            `json:"serial"`
	Active   bool              `json:"active"`
	Objects  int               `json:"objects"`
	Roles    []roleShown       `json:"roles"`
	Policies map[string]uint64 `json:"policies"`
}

type roleShown struct {
	Role        string `json:"role"`
	Initialized bool   `json:"initialized"`
	Failures    int    `json:"failed_logins"`
	Locked      bool   `json:"locked"`
}

// connectAs is connect as another role than -role; RoleNone does not log in.
func (t *tool) connectAs(ctx context.Context, o options, role client.Role) (*session, error) {
	config, err := t.clientConfig(o)
	if err != nil {
		return nil, err
	}
	config.Role = role
	c, err := client.Dial(ctx, config)
	if err != nil {
		return nil, err
	}
	return &session{c}, nil
}

func (t *tool) partitionShow(ctx context.Context, o options) error {
	s, err := t.connectAs(ctx, o, client.RoleNone)
	if err != nil {
		return err
	}
	defer s.Close()
	status, err := s.PartitionStatus(ctx)
	if err != nil {
		return err
	}
	p := partitionShown{Label: status.Label, Serial: status.Serial, Active: status.Active, Objects: status.Objects, Policies: map[string]uint64{}}
	for _, r := range status.Roles {
		p.Roles = append(p.Roles, roleShown{r.Role.String(), r.Initialized, r.Failures, r.Locked})
	}
	for _, v := range status.Policies {
		p.Policies[v.ID.String()] = v.Value
	}
	if o.flag("json", false) {
		return t.con.printJSON(p)
	}
	t.con.printf("Partition %s, serial number %s\n", shown(p.Label), p.Serial)
	for _, r := range status.Roles {
		state := "no password yet"
		switch {
		case r.Locked:
			state = fmt.Sprintf("locked after %d wrong passwords", r.Failures)
		case r.Initialized:
			state = fmt.Sprintf("ready, %d wrong passwords in a row", r.Failures)
		}
		t.con.printf("  %-28s %s\n", r.Role.Title()+" ("+r.Role.String()+")", state)
	}
	for _, v := range status.Policies {
		info, known := v.ID.Info()
		if !known {
			continue // of a newer HSM
		}
		t.con.printf("  %-28s %-6s %s\n", fmt.Sprintf("%d %s", info.ID, info.Name), info.Format(v.Value), info.Help)
	}
	return nil
}

// partitionInit gives an uninitialised partition its Partition Security Officer.
func (t *tool) partitionInit(ctx context.Context, o options) error {
	s, err := t.connectAs(ctx, o, client.RoleNone)
	if err != nil {
		return err
	}
	defer s.Close()
	fresh, err := t.newPassword(client.RolePartitionOfficer)
	if err != nil {
		return err
	}
	defer clear(fresh)
	if err := s.InitPartition(ctx, fresh); err != nil {
		return err
	}
	t.con.printf("The partition has its Partition Security Officer. Next: cmu role init -role=co\n")
	return nil
}

func (t *tool) partitionPolicy(ctx context.Context, o options) error {
	if o.text("policy") == "" || o.text("value") == "" {
		return &usageError{"-policy and -value are needed; `cmu partition show` lists the policies"}
	}
	policy, err := object.ParsePolicy(o.text("policy"))
	if err != nil {
		return &usageError{plain(err)}
	}
	value, err := policy.Parse(o.text("value"))
	if err != nil {
		return &usageError{plain(err)}
	}
	s, err := t.connectAs(ctx, o, client.RolePartitionOfficer)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.SetPolicy(ctx, client.PolicyValue{ID: policy.ID, Value: value}); err != nil {
		return err
	}
	t.con.printf("Policy %s is %s\n", policy.Name, policy.Format(value))
	return nil
}

func (t *tool) partitionDeactivate(ctx context.Context, o options) error {
	role, err := roleOf(o.text("role"))
	if err != nil {
		return err
	}
	s, err := t.connectAs(ctx, o, role)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Deactivate(ctx); err != nil {
		return err
	}
	t.con.printf("The partition's keys leave the HSM's memory with its last logout\n")
	return nil
}

// target is the role that -role names, which the commands on roles need.
func target(o options) (client.Role, error) {
	switch strings.ToLower(o.text("role")) {
	case "po":
		return client.RolePartitionOfficer, nil
	case "":
		return 0, &usageError{"-role is missing; expected po, co or cu"}
	}
	return roleOf(o.text("role"))
}

// above is the role that administers another.
func above(role client.Role) client.Role {
	if role == client.RoleCryptoUser {
		return client.RoleCryptoOfficer
	}
	return client.RolePartitionOfficer
}

// onRole does something to the role that -role names, logged in as the one
// above it.
func (t *tool) onRole(ctx context.Context, o options, asks bool, done string, do func(*session, client.Role, []byte) error) error {
	role, err := target(o)
	if err != nil {
		return err
	}
	if role == client.RolePartitionOfficer {
		return &usageError{"-role=po; `cmu partition init` makes the Partition Security Officer, and `cmu role changePw` gives it another password"}
	}
	t.con.note("logging in as the %s", above(role).Title())
	delete(o, "role")
	s, err := t.connectAs(ctx, o, above(role))
	if err != nil {
		return err
	}
	defer s.Close()
	var fresh []byte
	if asks {
		if fresh, err = t.newPassword(role); err != nil {
			return err
		}
		defer clear(fresh)
	}
	if err := do(s, role, fresh); err != nil {
		return err
	}
	t.con.printf("The %s %s\n", role.Title(), done)
	return nil
}

func (t *tool) roleInit(ctx context.Context, o options) error {
	return t.onRole(ctx, o, true, "is ready", func(s *session, role client.Role, fresh []byte) error { return s.InitRole(ctx, role, fresh) })
}

func (t *tool) roleReset(ctx context.Context, o options) error {
	return t.onRole(ctx, o, true, "has a new password; the keys are kept", func(s *session, role client.Role, fresh []byte) error {
		return s.ResetRole(ctx, role, fresh)
	})
}

func (t *tool) roleUnlock(ctx context.Context, o options) error {
	return t.onRole(ctx, o, false, "may log in again", func(s *session, role client.Role, _ []byte) error { return s.UnlockRole(ctx, role) })
}

func (t *tool) roleChangePassword(ctx context.Context, o options) error {
	role, err := target(o)
	if err != nil {
		return err
	}
	delete(o, "role")
	s, err := t.connectAs(ctx, o, client.RoleNone)
	if err != nil {
		return err
	}
	defer s.Close()
	old, err := t.con.secret(fmt.Sprintf("Please enter the old password of the %s: ", role.Title()))
	if err != nil {
		return err
	}
	defer clear(old)
	fresh, err := t.newPassword(role)
	if err != nil {
		return err
	}
	defer clear(fresh)
	if err := s.ChangePassword(ctx, role, old, fresh); err != nil {
		return err
	}
	t.con.printf("The %s has a new password\n", role.Title())
	return nil
}

// newPassword asks for a new password twice.
func (t *tool) newPassword(role client.Role) ([]byte, error) {
	first, err := t.con.secret(fmt.Sprintf("Please enter a new password for the %s: ", role.Title()))
	if err != nil {
		return nil, err
	}
	second, err := t.con.secret("Please re-enter the password to confirm: ")
	if err != nil {
		return nil, err
	}
	defer clear(second)
	if !bytes.Equal(first, second) {
		clear(first)
		return nil, errors.New("the two passwords differ; nothing was changed")
	}
	return first, nil
}

// plain is a refusal's own text.
func plain(err error) string {
	if refusal, is := errors.AsType[*object.Error](err); is {
		return refusal.Detail
	}
	return err.Error()
}
