package adminshell

import (
	"context"
	"fmt"
)

var ntlsCommands = []command{
	{words: "ntls show", roles: lookers, options: []option{optJSON}, needs: nothing, run: (*Shell).ntlsShow,
		help: "The client protocol: address, server certificate."},
	{words: "ntls ipcheck enable", roles: operators, run: ipcheck(true),
		help: "A client must come from the address it is registered for (Security Officer)."},
	{words: "ntls ipcheck disable", roles: operators, run: ipcheck(false),
		help: "A client may come from anywhere (Security Officer)."},
	{words: "ntls ipcheck show", roles: lookers, run: (*Shell).ipcheckShow,
		help: "Whether the client's address is checked."},
}

func (s *Shell) ntlsShow(_ context.Context, a args) error {
	if a.has("json") {
		return s.printJSON(map[string]string{
			"listen": s.appliance.Listen, "certificate": s.appliance.Certificate, "fingerprint": s.appliance.Fingerprint,
		})
	}
	t := s.table()
	fmt.Fprintf(t, "Listening on:\t%s\n", s.appliance.Listen)
	fmt.Fprintf(t, "Server certificate:\t%s\n", s.appliance.Certificate)
	fmt.Fprintf(t, "SHA-256:\t%s\n", s.appliance.Fingerprint)
	return t.Flush()
}

func ipcheck(on bool) func(*Shell, context.Context, args) error {
	return func(s *Shell, ctx context.Context, _ args) error {
		o, err := s.asOfficer(ctx)
		if err != nil {
			return err
		}
		if err := o.SetAddressCheck(ctx, on); err != nil {
			return err
		}
		fmt.Fprintf(s.term, "Client address check %s.\n", enabled(on))
		return nil
	}
}

func (s *Shell) ipcheckShow(context.Context, args) error {
	info, err := s.appliance.HSM.Info()
	if err != nil {
		return err
	}
	fmt.Fprintf(s.term, "Client address check %s.\n", enabled(info.AddressCheck))
	return nil
}
