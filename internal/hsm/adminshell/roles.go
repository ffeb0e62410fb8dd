package adminshell

import (
	"context"
	"fmt"
	"strings"

	"moongate/internal/hsm/object"
	"moongate/internal/shell"
)

var roleCommands = []command{
	{words: "role init", roles: operators, options: []option{optPartition, optRole}, run: (*Shell).roleInit,
		help: "Give a partition its Crypto Officer (by the Security Officer) or its Crypto User (by the Crypto Officer)."},
	{words: "role changePw", roles: operators, options: []option{optPartition, optRole}, run: (*Shell).roleChangePassword,
		help: "Change a role's password, by its old one."},
	{words: "role unlock", roles: operators, options: []option{optPartition, optRole}, run: (*Shell).roleUnlock,
		help: "Let a role log in again that too many wrong passwords locked (Security Officer)."},
}

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
		values: func(*Shell, args) []shell.Candidate { return list },
	}
}

func parseRole(name string) (object.Role, error) {
	switch strings.ToLower(name) {
	case "co", "crypto-officer":
		return object.RoleCryptoOfficer, nil
	case "cu", "crypto-user":
		return object.RoleCryptoUser, nil
	}
	return object.RoleNone, fmt.Errorf("%w: -role %q; expected co or cu", errUsage, name)
}

func roleName(r object.Role) string {
	if r == object.RoleCryptoOfficer {
		return "the Crypto Officer"
	}
	return "the Crypto User"
}

func (s *Shell) roleInit(ctx context.Context, a args) error {
	role, err := parseRole(a.get("role"))
	if err != nil {
		return err
	}
	if role == object.RoleCryptoUser {
		officer, err := s.term.Ask("Please enter the Crypto Officer's password: ", true)
		if err != nil {
			return err
		}
		fresh, err := s.askNew(roleName(role))
		if err != nil {
			return err
		}
		if err := s.appliance.HSM.InitCryptoUser(ctx, s.who.Operator, a.get("partition"), []byte(officer), fresh); err != nil {
			return err
		}
		s.successful("role init")
		return nil
	}
	o, err := s.asOfficer(ctx)
	if err != nil {
		return err
	}
	fresh, err := s.askNew(roleName(role))
	if err != nil {
		return err
	}
	if err := o.InitCryptoOfficer(ctx, a.get("partition"), fresh); err != nil {
		return err
	}
	s.successful("role init")
	return nil
}

func (s *Shell) roleChangePassword(ctx context.Context, a args) error {
	role, err := parseRole(a.get("role"))
	if err != nil {
		return err
	}
	old, err := s.term.Ask("Please enter the old password: ", true)
	if err != nil {
		return err
	}
	fresh, err := s.askNew(roleName(role))
	if err != nil {
		return err
	}
	if err := s.appliance.HSM.ChangePassword(ctx, s.who.Operator, a.get("partition"), role, []byte(old), fresh); err != nil {
		return err
	}
	s.successful("role changePw")
	return nil
}

func (s *Shell) roleUnlock(ctx context.Context, a args) error {
	role, err := parseRole(a.get("role"))
	if err != nil {
		return err
	}
	o, err := s.asOfficer(ctx)
	if err != nil {
		return err
	}
	if err := o.UnlockRole(ctx, a.get("partition"), role); err != nil {
		return err
	}
	s.successful("role unlock")
	return nil
}
