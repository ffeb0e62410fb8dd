package adminshell

import (
	"context"
	"fmt"
	"time"
)

var hsmCommands = []command{
	{words: "hsm show", roles: lookers, options: []option{optJSON}, needs: nothing, run: (*Shell).hsmShow,
		help: "The appliance, the HSM, its partitions and policies."},
	{words: "hsm login", roles: operators, run: (*Shell).hsmLogin,
		help: "Log in as the Security Officer until `hsm logout` or the end of the session."},
	{words: "hsm logout", roles: operators, needs: nothing, run: (*Shell).hsmLogout,
		help: "Log the Security Officer out."},
	{words: "hsm changePw", roles: admins, run: (*Shell).hsmChangePassword,
		help: "Change the Security Officer's password, by the old one."},
}

func (s *Shell) hsmShow(_ context.Context, a args) error {
	info, err := s.appliance.HSM.Info()
	if err != nil {
		return err
	}
	if a.has("json") {
		return s.printJSON(info)
	}
	t := s.table()
	fmt.Fprintf(t, "Software Version:\t%s\n", s.appliance.Version)
	fmt.Fprintf(t, "HSM Label:\t%s\n", info.Label)
	fmt.Fprintf(t, "Serial #:\t%s\n", info.Serial)
	fmt.Fprintf(t, "Initialised:\t%s\n", info.Created.Format(time.RFC3339))
	fmt.Fprintf(t, "Cryptography:\t%s\n", info.FIPS)
	fmt.Fprintf(t, "SO login attempts left:\t%d\n", info.OfficerAttempts)
	fmt.Fprintf(t, "Partitions:\t%d\n", info.Partitions)
	fmt.Fprintf(t, "Registered clients:\t%d\n", info.Clients)
	fmt.Fprintf(t, "Client address check:\t%s\n", enabled(info.AddressCheck))
	return t.Flush()
}

func (s *Shell) hsmLogin(ctx context.Context, _ args) error {
	s.logins.officer = nil
	o, err := s.authenticateOfficer(ctx)
	if err != nil {
		return err
	}
	s.logins.officer = o
	s.successful("hsm login")
	return nil
}

func (s *Shell) hsmLogout(context.Context, args) error {
	s.logins.officer = nil
	s.successful("hsm logout")
	return nil
}

// hsmChangePassword asks for the old password also within a login: who finds
// an open session must not be able to take it over for good.
func (s *Shell) hsmChangePassword(ctx context.Context, _ args) error {
	s.logins.officer = nil
	o, err := s.authenticateOfficer(ctx)
	if err != nil {
		return err
	}
	fresh, err := s.askNew("the HSM's Security Officer")
	if err != nil {
		return err
	}
	defer clear(fresh)
	if err := o.ChangePassword(ctx, fresh); err != nil {
		return err
	}
	s.successful("hsm changePw")
	return nil
}
