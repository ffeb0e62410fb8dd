package adminshell

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/partition"
	"moongate/internal/shell"
)

// rolesOf are the roles that a partition has.
var rolesOf = []object.Role{object.RoleCryptoOfficer, object.RoleCryptoUser, object.RolePartitionOfficer}

var roleCommands = []command{
	{words: "role init", roles: operators, options: []option{optPartition, roleOption(rolesOf...)}, run: (*Shell).roleInit,
		help: "Give a partition its Crypto Officer (by its Security Officer), its Crypto User (by the Crypto Officer)\nor a Security Officer of its own (by the HSM's; `partition init` does the same)."},
	{words: "role list", roles: lookers, options: []option{optPartition, optJSON}, run: (*Shell).roleList,
		help: "The roles of a partition and their state."},
	{words: "role show", roles: lookers, options: []option{optPartition, roleOption(rolesOf...), optJSON}, run: (*Shell).roleShow,
		help: "One role of a partition: state, wrong passwords in a row."},
	{words: "role changePw", roles: operators, options: []option{optPartition, roleOption(rolesOf...)}, run: (*Shell).roleChangePassword,
		help: "Change a role's password, by its old one."},
	{words: "role unlock", roles: operators, options: []option{optPartition, roleOption(rolesOf...)}, run: (*Shell).roleUnlock,
		help: "Let a role log in again that too many wrong passwords locked (the partition's Security Officer;\nthat one is unlocked by the HSM's)."},
	{words: "role reset", roles: operators, options: []option{optPartition, roleOption(keyRoles...)}, run: (*Shell).roleReset,
		help: "Give a role whose password is lost a new one and keep the keys, where policy officer-reset allows it\n(the partition's Security Officer)."},
	{words: "role recreate", roles: admins, options: []option{optPartition, optForce}, run: (*Shell).roleRecreate,
		help: "Destroy every key of a partition and give it a Crypto Officer anew: what is left where a password is lost\nand cannot be reset (the partition's Security Officer)."},
}

// keyRoles are those that use keys.
var keyRoles = []object.Role{object.RoleCryptoOfficer, object.RoleCryptoUser}

// roleOption is -role of a command that takes these roles.
func roleOption(roles ...object.Role) option {
	var names, help []string
	var list []shell.Candidate
	for _, r := range roles {
		names, help = append(names, r.String()), append(help, r.String()+", the "+r.Title())
		list = append(list, shell.Candidate{Word: r.String(), Help: "the " + r.Title()})
	}
	return option{
		name: "role", value: strings.Join(names, "|"), required: true, help: strings.Join(help, ", or "),
		values: func(*Shell, args) []shell.Candidate { return slices.Clone(list) },
	}
}

// orElse makes the option one that may be left out.
func (o option) orElse(role object.Role) option {
	o.required = false
	o.help += "; " + role.String() + " by default"
	return o
}

// parseRole reads -role as one of some roles.
func parseRole(text string, of ...object.Role) (object.Role, error) {
	names := make([]string, len(of))
	for i, r := range of {
		if strings.EqualFold(text, r.String()) || strings.EqualFold(strings.ReplaceAll(text, "-", " "), r.Title()) {
			return r, nil
		}
		names[i] = r.String()
	}
	return object.RoleNone, fmt.Errorf("%w: -role %q; expected %s", errUsage, text, strings.Join(names, " or "))
}

func (s *Shell) roleInit(ctx context.Context, a args) error {
	role, err := parseRole(a.get("role"), rolesOf...)
	if err != nil {
		return err
	}
	name := a.get("partition")
	switch role {
	case object.RolePartitionOfficer:
		return s.initPartition(ctx, "role init", name)
	case object.RoleCryptoUser:
		return s.roleInitUser(ctx, name)
	}
	return s.partitionsDo(ctx, name, "role init", func(p *partition.PartitionOfficer) error {
		fresh, err := s.askNew("the " + role.Title())
		if err != nil {
			return err
		}
		defer clear(fresh)
		return p.InitCryptoOfficer(ctx, fresh)
	})
}

func (s *Shell) roleInitUser(ctx context.Context, name string) error {
	officer, err := s.ask("Please enter the Crypto Officer's password: ")
	if err != nil {
		return err
	}
	defer clear(officer)
	fresh, err := s.askNew("the Crypto User")
	if err != nil {
		return err
	}
	defer clear(fresh)
	if err := s.appliance.HSM.InitCryptoUser(ctx, s.who.Operator, name, officer, fresh); err != nil {
		return err
	}
	s.successful("role init")
	return nil
}

// roleState says in words how a role is.
func roleState(r partition.RoleStatus) string {
	switch {
	case r.Locked:
		return fmt.Sprintf("locked after %d wrong passwords", r.Failures)
	case r.Initialized:
		return fmt.Sprintf("initialised, %d wrong passwords in a row", r.Failures)
	}
	return "not initialised"
}

func (s *Shell) roleList(_ context.Context, a args) error {
	p, err := s.appliance.HSM.Partition(a.get("partition"))
	if err != nil {
		return err
	}
	return s.showRoles(a, p.Roles, p.Roles)
}

func (s *Shell) roleShow(_ context.Context, a args) error {
	role, err := parseRole(a.get("role"), rolesOf...)
	if err != nil {
		return err
	}
	p, err := s.appliance.HSM.Partition(a.get("partition"))
	if err != nil {
		return err
	}
	i := slices.IndexFunc(p.Roles, func(r partition.RoleStatus) bool { return r.Role == role.String() })
	if i < 0 {
		return fmt.Errorf("partition %s has no role %s", p.Label, role)
	}
	return s.showRoles(a, p.Roles[i:i+1], p.Roles[i])
}

// showRoles prints roles for people, or v for a script.
func (s *Shell) showRoles(a args, list []partition.RoleStatus, v any) error {
	if a.has("json") {
		return s.printJSON(v)
	}
	t := s.table()
	fmt.Fprintln(t, "Role\tState")
	for _, r := range list {
		fmt.Fprintf(t, "%s\t%s\n", r.Role, roleState(r))
	}
	return t.Flush()
}

func (s *Shell) roleChangePassword(ctx context.Context, a args) error {
	role, err := parseRole(a.get("role"), rolesOf...)
	if err != nil {
		return err
	}
	name := a.get("partition")
	old, err := s.ask("Please enter the old password: ")
	if err != nil {
		return err
	}
	defer clear(old)
	fresh, err := s.askNew("the " + role.Title())
	if err != nil {
		return err
	}
	defer clear(fresh)
	if role == object.RolePartitionOfficer {
		p, err := s.appliance.HSM.AuthenticatePartitionOfficer(ctx, s.who.Operator, name, old)
		if err != nil {
			return err
		}
		err = p.ChangePassword(ctx, fresh)
		if err != nil {
			return err
		}
	} else if err := s.appliance.HSM.ChangePassword(ctx, s.who.Operator, name, role, old, fresh); err != nil {
		return err
	}
	s.successful("role changePw")
	return nil
}

func (s *Shell) roleUnlock(ctx context.Context, a args) error {
	role, err := parseRole(a.get("role"), rolesOf...)
	if err != nil {
		return err
	}
	name := a.get("partition")
	if role == object.RolePartitionOfficer { // cannot unlock itself
		return s.officersDo(ctx, "role unlock", func(o *partition.Officer) error { return o.UnlockRole(ctx, name, role) })
	}
	return s.partitionsDo(ctx, name, "role unlock", func(p *partition.PartitionOfficer) error { return p.UnlockRole(ctx, role) })
}

func (s *Shell) roleReset(ctx context.Context, a args) error {
	role, err := parseRole(a.get("role"), keyRoles...)
	if err != nil {
		return err
	}
	return s.partitionsDo(ctx, a.get("partition"), "role reset", func(p *partition.PartitionOfficer) error {
		fresh, err := s.askNew("the " + role.Title())
		if err != nil {
			return err
		}
		defer clear(fresh)
		return p.ResetRole(ctx, role, fresh)
	})
}

func (s *Shell) roleRecreate(ctx context.Context, a args) error {
	name := a.get("partition")
	err := s.confirm(a, "Are you sure you wish to destroy every key of the partition named: "+name+", to make its roles anew?", "destroy the partition's keys")
	if err != nil {
		return err
	}
	return s.partitionsDo(ctx, name, "role recreate", func(p *partition.PartitionOfficer) error {
		fresh, err := s.askNew("the Crypto Officer")
		if err != nil {
			return err
		}
		defer clear(fresh)
		return p.Recreate(ctx, fresh)
	})
}
