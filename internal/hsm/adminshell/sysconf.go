package adminshell

import (
	"context"
	"fmt"
	"strings"

	"moongate/internal/hsm/partition"
)

var sysconfCommands = []command{
	{words: "sysconf regenCert", roles: admins, needs: nothing, control: true, run: (*Shell).regenerate,
		options: []option{{name: "host", value: "HOST[,HOST]", operand: true, help: "names and addresses that clients reach the HSM by; those of the old certificate by default"}, optForce},
		help:    "Make the client port a new key and certificate. Every client must pin it anew."},
	{words: "sysconf fingerprint ssh", roles: lookers, options: []option{optJSON}, needs: nothing, run: (*Shell).fingerprintSSH,
		help: "The fingerprints of the SSH server's keys."},
	{words: "sysconf fingerprint ntls", roles: lookers, options: []option{optJSON}, needs: nothing, run: (*Shell).fingerprintNTLS,
		help: "The SHA-256 of the client port's certificate."},
	{words: "sysconf forceSOLogin enable", roles: admins, run: forceLogin(true),
		help: "Changes of clients, client port and certificate need the Security Officer, too (Security Officer)."},
	{words: "sysconf forceSOLogin disable", roles: admins, run: forceLogin(false),
		help: "The appliance's administrators and operators change them alone (Security Officer)."},
	{words: "sysconf forceSOLogin show", roles: lookers, options: []option{optJSON}, run: (*Shell).forceLoginShow,
		help: "Whether such changes need the Security Officer."},
}

func (s *Shell) regenerate(ctx context.Context, a args) error {
	var hosts []string
	if a.has("host") {
		hosts = strings.Split(a.get("host"), ",")
	}
	err := s.confirm(a, "The client port's certificate and key are replaced. Every client must add this HSM again, by the new certificate.", "replace the certificate")
	if err != nil {
		return err
	}
	var fingerprint string
	err = s.applianceDo(ctx, "sysconf.regenCert", strings.Join(hosts, ","), func() error {
		var err error
		fingerprint, err = s.appliance.Control.RegenerateCertificate(ctx, hosts)
		return err
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(s.term, "SHA-256: %s\nIt is used after `service restart ntls`.\n", fingerprint)
	s.successful("sysconf regenCert")
	return nil
}

func (s *Shell) fingerprintSSH(_ context.Context, a args) error {
	list := []fingerprintView{}
	for _, k := range s.appliance.HostKeys {
		kind, fingerprint, _ := strings.Cut(k, " ")
		list = append(list, fingerprintView{kind, fingerprint})
	}
	if a.has("json") {
		return s.printJSON(list)
	}
	if len(list) == 0 {
		fmt.Fprintln(s.term, "SSH is not served by this process.")
	}
	for _, k := range list {
		fmt.Fprintf(s.term, "%s %s\n", k.Name, k.Fingerprint)
	}
	return nil
}

func (s *Shell) fingerprintNTLS(_ context.Context, a args) error {
	if a.has("json") {
		return s.printJSON(fingerprintView{"ntls", s.serverFingerprint()})
	}
	fmt.Fprintf(s.term, "Certificate fingerprint (SHA-256): %s\n", s.serverFingerprint())
	return nil
}

func forceLogin(on bool) func(*Shell, context.Context, args) error {
	return func(s *Shell, ctx context.Context, _ args) error {
		words := "sysconf forceSOLogin " + yesNo(on, "enable", "disable")
		return s.officersDo(ctx, words, func(o *partition.Officer) error { return o.SetForceLogin(ctx, on) })
	}
}

func (s *Shell) forceLoginShow(_ context.Context, a args) error {
	info, err := s.appliance.HSM.Info()
	if err != nil {
		return err
	}
	if a.has("json") {
		return s.printJSON(switchView{info.ForceLogin})
	}
	fmt.Fprintf(s.term, "Forced SO login %s.\n", enabled(info.ForceLogin))
	return nil
}
