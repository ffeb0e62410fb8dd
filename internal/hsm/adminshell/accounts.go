package adminshell

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"moongate/internal/hsm/users"
)

var (
	optUsername = option{name: "username", value: "NAME", required: true, operand: true, help: "the account's name", values: userNames}
	optUserRole = option{name: "role", value: "ROLE", required: true, help: "admin, operator, monitor or audit", values: userRoles}
	optKey      = option{name: "key", value: "LINE", help: "the line of a .pub file, in quotation marks; asked for where neither this nor -file is given"}
	optKeyFile  = option{name: "file", value: "FILE", file: true, help: "the .pub file, at the console"}
	optWhichKey = option{name: "key", value: "FINGERPRINT", required: true, help: "the key's fingerprint, or its comment"}
)

var userCommands = []command{
	{words: "user add", roles: admins, needs: nothing, accounts: true, run: (*Shell).userAdd,
		options: []option{
			{name: "username", value: "NAME", required: true, operand: true, help: "a small letter, then small letters, digits, dots, dashes, underlines"},
			optUserRole,
			{name: "noPassword", help: "only public keys shall open the account"},
		},
		help: "Make an account of the appliance."},
	{words: "user delete", roles: admins, options: []option{optUsername, optForce}, needs: nothing, accounts: true, run: (*Shell).userDelete,
		help: "Take an account away."},
	{words: "user list", roles: admins, options: []option{optJSON}, needs: nothing, accounts: true, run: (*Shell).userList,
		help: "Every account."},
	{words: "user role", roles: admins, options: []option{optUsername, optUserRole}, needs: nothing, accounts: true, run: (*Shell).userRole,
		help: "Give an account another role, from its next login on."},
	{words: "user password", roles: admins, options: []option{optUsername}, needs: nothing, accounts: true, run: (*Shell).userPassword,
		help: "Give an account a new password."},
	{words: "user enable", roles: admins, options: []option{optUsername}, needs: nothing, accounts: true,
		run:  onAccount("user enable", (*users.Users).Enable),
		help: "Let an account be used again."},
	{words: "user disable", roles: admins, options: []option{optUsername}, needs: nothing, accounts: true,
		run:  onAccount("user disable", (*users.Users).Disable),
		help: "Keep an account, and let nobody in by it."},
	{words: "user unlock", roles: admins, options: []option{optUsername}, needs: nothing, accounts: true,
		run:  onAccount("user unlock", (*users.Users).Unlock),
		help: "Forget an account's wrong passwords, and the delays that followed."},
	{words: "user publicKey add", roles: admins, options: []option{optUsername, optKey, optKeyFile}, needs: nothing, accounts: true, run: (*Shell).userKeyAdd,
		help: "Let a public key open an account."},
	{words: "user publicKey list", roles: admins, options: []option{optUsername, optJSON}, needs: nothing, accounts: true, run: (*Shell).userKeyList,
		help: "The public keys of an account."},
	{words: "user publicKey delete", roles: admins, options: []option{optUsername, optWhichKey}, needs: nothing, accounts: true, run: (*Shell).userKeyDelete,
		help: "Take a public key from an account."},

	{words: "my info", roles: everyone, options: []option{optJSON}, needs: nothing, run: (*Shell).myInfo,
		help: "Who you are here, and who is logged in in this session."},
	{words: "my password set", roles: everyone, needs: nothing, accounts: true, run: (*Shell).myPassword,
		help: "Give your own account a new password, by the old one."},
	{words: "my publicKey add", roles: everyone, options: []option{optKey, optKeyFile}, needs: nothing, accounts: true, run: (*Shell).myKeyAdd,
		help: "Let a public key open your account."},
	{words: "my publicKey list", roles: everyone, options: []option{optJSON}, needs: nothing, accounts: true, run: (*Shell).myKeyList,
		help: "The public keys of your account."},
	{words: "my publicKey delete", roles: everyone, options: []option{optWhichKey}, needs: nothing, accounts: true, run: (*Shell).myKeyDelete,
		help: "Take a public key from your account."},
}

// accountDo runs and records a change of an account.
func (s *Shell) accountDo(ctx context.Context, words, about string, do func(*users.Users) error) error {
	action := strings.ReplaceAll(words, " ", ".")
	err := s.appliance.HSM.Act(ctx, s.who.Operator, action, about, func() error { return do(s.appliance.Users) })
	if err != nil {
		return err
	}
	s.successful(words)
	return nil
}

// onAccount is a command that does one thing with an account.
func onAccount(words string, do func(*users.Users, string) error) func(*Shell, context.Context, args) error {
	return func(s *Shell, ctx context.Context, a args) error {
		name := a.get("username")
		return s.accountDo(ctx, words, name, func(u *users.Users) error { return do(u, name) })
	}
}

func (s *Shell) userAdd(ctx context.Context, a args) error {
	name, role := a.get("username"), users.Role(strings.ToLower(a.get("role")))
	if err := errors.Join(users.CheckName(name), users.CheckRole(role)); err != nil {
		return err
	}
	var pw []byte
	if !a.has("noPassword") {
		var err error
		if pw, err = s.askNew("account " + name); err != nil {
			return err
		}
		defer clear(pw)
	}
	return s.accountDo(ctx, "user add", name+" "+string(role), func(u *users.Users) error {
		if err := u.Add(name, role); err != nil || a.has("noPassword") {
			return err
		}
		if err := u.SetPassword(name, pw); err != nil {
			// Nothing opens the account; it must not stand in the way of the
			// next attempt.
			return errors.Join(err, u.Delete(name))
		}
		return nil
	})
}

func (s *Shell) userDelete(ctx context.Context, a args) error {
	name := a.get("username")
	if err := s.confirm(a, "Are you sure you wish to delete the account named: "+name, "delete the account"); err != nil {
		return err
	}
	return s.accountDo(ctx, "user delete", name, func(u *users.Users) error { return u.Delete(name) })
}

func (s *Shell) userList(_ context.Context, a args) error {
	list := s.appliance.Users.List()
	if a.has("json") {
		return s.printJSON(list)
	}
	t := s.table()
	fmt.Fprintln(t, "User\tRole\tState\tPassword\tKeys\tWrong passwords\tLast login")
	for _, u := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%s\n", u.Name, u.Role, enabled(u.Enabled), yesNo(u.Password, "set", "none"),
			u.Keys, u.Failures, strings.TrimSpace(moment(u.LastLogin)+" "+u.LastLoginFrom))
	}
	return t.Flush()
}

func (s *Shell) userRole(ctx context.Context, a args) error {
	name, role := a.get("username"), users.Role(strings.ToLower(a.get("role")))
	return s.accountDo(ctx, "user role", name+" "+string(role), func(u *users.Users) error { return u.SetRole(name, role) })
}

func (s *Shell) userPassword(ctx context.Context, a args) error {
	name := a.get("username")
	if _, err := s.appliance.Users.Get(name); err != nil {
		return err
	}
	return s.setPassword(ctx, "user password", name)
}

func (s *Shell) setPassword(ctx context.Context, words, name string) error {
	pw, err := s.askNew("account " + name)
	if err != nil {
		return err
	}
	defer clear(pw)
	return s.accountDo(ctx, words, name, func(u *users.Users) error { return u.SetPassword(name, pw) })
}

func (s *Shell) userKeyAdd(ctx context.Context, a args) error {
	return s.addKey(ctx, a, "user publicKey add", a.get("username"))
}

// maxKeyFile bounds a .pub file in bytes.
const maxKeyFile = 16 << 10

func (s *Shell) addKey(ctx context.Context, a args, words, name string) error {
	if _, err := s.appliance.Users.Get(name); err != nil {
		return err
	}
	line := a.get("key")
	switch {
	case a.has("key") && a.has("file"):
		return fmt.Errorf("%w: give one of -key and -file", errUsage)
	case a.has("file"):
		if len(a.files["file"]) > maxKeyFile {
			return fmt.Errorf("-file has %d bytes; it is no public key", len(a.files["file"]))
		}
		line = string(a.files["file"])
	case !a.has("key"):
		var err error
		if line, err = s.term.Ask("Please enter the line of the .pub file: ", false); err != nil {
			return err
		}
	}
	k, err := users.ParseKey(line)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.term, "%s %s\n", k.Type, k.Fingerprint)
	return s.accountDo(ctx, words, name+" "+k.Fingerprint, func(u *users.Users) error {
		_, err := u.AddKey(name, line)
		return err
	})
}

func (s *Shell) userKeyList(_ context.Context, a args) error { return s.listKeys(a, a.get("username")) }

func (s *Shell) listKeys(a args, name string) error {
	list, err := s.appliance.Users.Keys(name)
	if err != nil {
		return err
	}
	if a.has("json") {
		return s.printJSON(list)
	}
	for _, k := range list {
		fmt.Fprintf(s.term, "%s %s %s\n", k.Type, k.Fingerprint, k.Comment)
	}
	fmt.Fprintf(s.term, "Number of keys: %d\n", len(list))
	return nil
}

func (s *Shell) userKeyDelete(ctx context.Context, a args) error {
	return s.deleteKey(ctx, a, "user publicKey delete", a.get("username"))
}

func (s *Shell) deleteKey(ctx context.Context, a args, words, name string) error {
	return s.accountDo(ctx, words, name+" "+a.get("key"), func(u *users.Users) error { return u.RemoveKey(name, a.get("key")) })
}

// self is the name of the session's own account; at the console there is none.
func (s *Shell) self() (string, error) {
	if s.who.Role == users.RoleConsole {
		return "", errors.New("the console has no account; `user ...` administers those that there are")
	}
	return s.who.Name, nil
}

// myView is who a session belongs to.
type myView struct {
	Name    string         `json:"name"`
	From    string         `json:"from"`
	Role    users.Role     `json:"role"`
	Account *users.Account `json:"account,omitempty"`
	Logins  []string       `json:"logins"`
}

func (s *Shell) myInfo(_ context.Context, a args) error {
	v := myView{Name: s.who.Name, From: s.who.From, Role: s.who.Role, Logins: s.logins.names(s.appliance.HSM)}
	if name, err := s.self(); err == nil && s.appliance.Users != nil {
		account, err := s.appliance.Users.Get(name)
		if err != nil {
			return err
		}
		v.Account = &account
	}
	if a.has("json") {
		return s.printJSON(v)
	}
	t := s.table()
	fmt.Fprintf(t, "User:\t%s\n", v.Name)
	fmt.Fprintf(t, "From:\t%s\n", v.From)
	fmt.Fprintf(t, "Role:\t%s\n", v.Role)
	fmt.Fprintf(t, "Logged in as:\t%s\n", strings.Join(v.Logins, ", "))
	return t.Flush()
}

func (s *Shell) myPassword(ctx context.Context, _ args) error {
	const words = "my password set"
	name, err := s.self()
	if err != nil {
		return err
	}
	account, err := s.appliance.Users.Get(name)
	if err != nil {
		return err
	}
	if account.Password {
		old, err := s.ask("Please enter your old password: ")
		if err != nil {
			return err
		}
		defer clear(old)
		if _, err := s.appliance.Users.AuthenticatePassword(ctx, name, old, s.address()); err != nil {
			// A guess at the password of an open session is on the record, also
			// where the session ended while it was looked at.
			return s.accountDo(context.WithoutCancel(ctx), words, name, func(*users.Users) error { return err })
		}
	}
	return s.setPassword(ctx, words, name)
}

// address is where the session comes from; the zero value where that is no
// network address.
func (s *Shell) address() netip.Addr {
	if at, err := netip.ParseAddrPort(s.who.From); err == nil {
		return at.Addr()
	}
	at, _ := netip.ParseAddr(s.who.From)
	return at
}

// myKeys runs a command on the session's own account.
func (s *Shell) myKeys(do func(name string) error) error {
	name, err := s.self()
	if err != nil {
		return err
	}
	return do(name)
}

func (s *Shell) myKeyAdd(ctx context.Context, a args) error {
	return s.myKeys(func(name string) error { return s.addKey(ctx, a, "my publicKey add", name) })
}

func (s *Shell) myKeyList(_ context.Context, a args) error {
	return s.myKeys(func(name string) error { return s.listKeys(a, name) })
}

func (s *Shell) myKeyDelete(ctx context.Context, a args) error {
	return s.myKeys(func(name string) error { return s.deleteKey(ctx, a, "my publicKey delete", name) })
}
