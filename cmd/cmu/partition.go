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
	Member   string            `json:"member,omitempty"` // of a group
	Label    string            `json:"label"`
	Serial   string            `json:"serial"`
	Active   bool              `json:"active"`
	Objects  int               `json:"objects"`
	Roles    []roleShown       `json:"roles"`
	Policies map[string]uint64 `json:"policies"`

	values []client.PolicyValue
}

type roleShown struct {
	Role        string `json:"role"`
	Initialized bool   `json:"initialized"`
	Failures    int    `json:"failed_logins"`
	Locked      bool   `json:"locked"`

	title string
}

// administered is a partition that its owner administers.
type administered struct {
	*client.Client
	member string // its name in the group; empty where there is none
}

// told adds which member an error is about.
func (p administered) told(err error) error {
	if err == nil || p.member == "" {
		return err
	}
	return fmt.Errorf("member %s: %w", p.member, err)
}

// administer opens every partition that a command is about, all before anything
// is done on one of them: roles and policies are no objects, which a group
// copies, but each partition's own. RoleNone does not log in.
func (t *tool) administer(ctx context.Context, o options, role client.Role) (list []administered, end func(), err error) {
	found, err := t.targets(o, role)
	if err != nil {
		return nil, nil, err
	}
	end = func() {
		for _, p := range list {
			p.Close()
		}
	}
	for _, m := range found.members {
		var p administered
		if found.group != nil {
			p.member = m.Name
		}
		if p.Client, err = client.Dial(ctx, m.Config); err != nil {
			end()
			if p.member != "" {
				t.con.note("nothing was done on any member; -member= addresses one alone")
			}
			return nil, nil, p.told(err)
		}
		list = append(list, p)
	}
	return list, end, nil
}

// each does something on every partition and says so. The error names those
// where it could not be done.
func (t *tool) each(list []administered, done string, do func(*client.Client) error) error {
	var failures []error
	for _, p := range list {
		switch err := do(p.Client); {
		case err != nil:
			failures = append(failures, p.told(err))
		case p.member != "":
			t.con.printf("%s: %s\n", p.member, done)
		default:
			t.con.printf("%s\n", done)
		}
	}
	return errors.Join(failures...)
}

// administerEach is administer and each.
func (t *tool) administerEach(ctx context.Context, o options, role client.Role, done string, do func(*client.Client) error) error {
	list, end, err := t.administer(ctx, o, role)
	if err != nil {
		return err
	}
	defer end()
	return t.each(list, done, do)
}

func (t *tool) partitionShow(ctx context.Context, o options) error {
	found, err := t.targets(o, client.RoleNone)
	if err != nil {
		return err
	}
	// Of a group what can be known is shown, and then what could not.
	var list []partitionShown
	var failures []error
	for _, m := range found.members {
		p := administered{}
		if found.group != nil {
			p.member = m.Name
		}
		shown, err := showPartition(ctx, p.member, m.Config)
		if err != nil {
			failures = append(failures, p.told(err))
			continue
		}
		list = append(list, shown)
	}
	if err := errors.Join(failures...); found.group == nil && err != nil {
		return err
	}
	switch {
	case o.flag("json", false) && found.group == nil:
		err = t.con.printJSON(list[0])
	case o.flag("json", false):
		err = t.con.printJSON(append([]partitionShown{}, list...))
	default:
		for _, p := range list {
			t.printPartition(p)
		}
	}
	return errors.Join(append(failures, err)...)
}

func showPartition(ctx context.Context, member string, config client.Config) (partitionShown, error) {
	c, err := client.Dial(ctx, config)
	if err != nil {
		return partitionShown{}, err
	}
	defer c.Close()
	status, err := c.PartitionStatus(ctx)
	if err != nil {
		return partitionShown{}, err
	}
	p := partitionShown{
		Member: member, Label: status.Label, Serial: status.Serial, Active: status.Active, Objects: status.Objects,
		Policies: map[string]uint64{}, values: status.Policies,
	}
	for _, r := range status.Roles {
		p.Roles = append(p.Roles, roleShown{r.Role.String(), r.Initialized, r.Failures, r.Locked, r.Role.Title()})
	}
	for _, v := range status.Policies {
		p.Policies[v.ID.String()] = v.Value
	}
	return p, nil
}

func (t *tool) printPartition(p partitionShown) {
	at := ""
	if p.Member != "" {
		at = " of member " + shown(p.Member)
	}
	t.con.printf("Partition %s, serial number %s%s\n", shown(p.Label), p.Serial, at)
	for _, r := range p.Roles {
		state := "no password yet"
		switch {
		case r.Locked:
			state = fmt.Sprintf("locked after %d wrong passwords", r.Failures)
		case r.Initialized:
			state = fmt.Sprintf("ready, %d wrong passwords in a row", r.Failures)
		}
		t.con.printf("  %-28s %s\n", r.title+" ("+r.Role+")", state)
	}
	for _, v := range p.values {
		info, known := v.ID.Info()
		if !known {
			continue // of a newer HSM
		}
		t.con.printf("  %-28s %-6s %s\n", fmt.Sprintf("%d %s", info.ID, info.Name), info.Format(v.Value), info.Help)
	}
}

// partitionInit gives an uninitialised partition its Partition Security Officer.
func (t *tool) partitionInit(ctx context.Context, o options) error {
	list, end, err := t.administer(ctx, o, client.RoleNone)
	if err != nil {
		return err
	}
	defer end()
	fresh, err := t.newPassword(client.RolePartitionOfficer)
	if err != nil {
		return err
	}
	defer clear(fresh)
	return t.each(list, "The partition has its Partition Security Officer. Next: cmu role init -role=co", func(c *client.Client) error {
		return c.InitPartition(ctx, fresh)
	})
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
	done := fmt.Sprintf("Policy %s is %s", policy.Name, policy.Format(value))
	return t.administerEach(ctx, o, client.RolePartitionOfficer, done, func(c *client.Client) error {
		return c.SetPolicy(ctx, client.PolicyValue{ID: policy.ID, Value: value})
	})
}

func (t *tool) partitionDeactivate(ctx context.Context, o options) error {
	role, err := roleOf(o.text("role"))
	if err != nil {
		return err
	}
	return t.administerEach(ctx, o, role, "The partition's keys leave the HSM's memory with its last logout", func(c *client.Client) error {
		return c.Deactivate(ctx)
	})
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
func (t *tool) onRole(ctx context.Context, o options, asks bool, done string, do func(*client.Client, client.Role, []byte) error) error {
	role, err := target(o)
	if err != nil {
		return err
	}
	if role == client.RolePartitionOfficer {
		return &usageError{"-role=po; `cmu partition init` makes the Partition Security Officer, and `cmu role changePw` gives it another password"}
	}
	t.con.note("logging in as the %s", above(role).Title())
	delete(o, "role")
	list, end, err := t.administer(ctx, o, above(role))
	if err != nil {
		return err
	}
	defer end()
	var fresh []byte
	if asks {
		if fresh, err = t.newPassword(role); err != nil {
			return err
		}
		defer clear(fresh)
	}
	return t.each(list, "The "+role.Title()+" "+done, func(c *client.Client) error { return do(c, role, fresh) })
}

func (t *tool) roleInit(ctx context.Context, o options) error {
	return t.onRole(ctx, o, true, "is ready", func(c *client.Client, role client.Role, fresh []byte) error { return c.InitRole(ctx, role, fresh) })
}

func (t *tool) roleReset(ctx context.Context, o options) error {
	return t.onRole(ctx, o, true, "has a new password; the keys are kept", func(c *client.Client, role client.Role, fresh []byte) error {
		return c.ResetRole(ctx, role, fresh)
	})
}

func (t *tool) roleUnlock(ctx context.Context, o options) error {
	return t.onRole(ctx, o, false, "may log in again", func(c *client.Client, role client.Role, _ []byte) error { return c.UnlockRole(ctx, role) })
}

func (t *tool) roleChangePassword(ctx context.Context, o options) error {
	role, err := target(o)
	if err != nil {
		return err
	}
	delete(o, "role")
	list, end, err := t.administer(ctx, o, client.RoleNone)
	if err != nil {
		return err
	}
	defer end()
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
	return t.each(list, "The "+role.Title()+" has a new password", func(c *client.Client) error {
		return c.ChangePassword(ctx, role, old, fresh)
	})
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
