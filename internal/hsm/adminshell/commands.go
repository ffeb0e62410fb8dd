package adminshell

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"moongate/internal/hsm/object"
)

var (
	optJSON      = option{name: "json", help: "print JSON, for scripts"}
	optForce     = option{name: "force", short: "f", help: "do not ask"}
	optClient    = option{name: "client", short: "c", value: "NAME", required: true, help: "the client's name"}
	optPartition = option{name: "partition", short: "p", value: "PARTITION", required: true, help: "the partition's label or serial number"}
	optRole      = option{name: "role", value: "co|cu", required: true, help: "co, the Crypto Officer, or cu, the Crypto User"}
)

// commands is the whole language, in the order in which help lists it.
var commands = []command{
	{"hsm show", []option{optJSON}, "The appliance, the HSM, its partitions and policies.", (*Shell).hsmShow},
	{"hsm login", nil, "Log in as the Security Officer until `hsm logout` or the end of the session.", (*Shell).hsmLogin},
	{"hsm logout", nil, "Log the Security Officer out.", (*Shell).hsmLogout},
	{"hsm changePw", nil, "Change the Security Officer's password, by the old one.", (*Shell).hsmChangePassword},

	{"partition create", []option{{name: "partition", short: "p", value: "LABEL", required: true, help: "label of the new partition"}},
		"Make an empty partition (Security Officer).", (*Shell).partitionCreate},
	{"partition list", []option{optJSON}, "Every partition.", (*Shell).partitionList},
	{"partition show", []option{optPartition, optJSON}, "One partition: roles, clients, state.", (*Shell).partitionShow},
	{"partition delete", []option{optPartition, optForce}, "Destroy a partition and every key in it (Security Officer).", (*Shell).partitionDelete},

	{"role init", []option{optPartition, optRole}, "Give a partition its Crypto Officer (by the Security Officer) or its Crypto User (by the Crypto Officer).", (*Shell).roleInit},
	{"role changePw", []option{optPartition, optRole}, "Change a role's password, by its old one.", (*Shell).roleChangePassword},
	{"role unlock", []option{optPartition, optRole}, "Let a role log in again that too many wrong passwords locked (Security Officer).", (*Shell).roleUnlock},

	{"client register", []option{
		optClient,
		{name: "ip", value: "ADDRESS", help: "the IP address that the client calls from"},
		{name: "hostname", short: "h", value: "HOST", help: "or its host name"},
		{name: "certificate", value: "FILE", file: true, help: "the client's certificate, PEM; without it, ADDRESS.pem or HOST.pem from the HSM's inbox"},
		{name: "replace", help: "take an existing registration of this name away first"},
	}, "Admit a client (Security Officer).", (*Shell).clientRegister},
	{"client delete", []option{optClient, optForce}, "Take a client's registration away and end its connections (Security Officer).", (*Shell).clientDelete},
	{"client assignPartition", []option{optClient, optPartition}, "Let a client reach a partition (Security Officer).", (*Shell).clientAssign},
	{"client revokePartition", []option{optClient, optPartition}, "Take a partition from a client and end its connections (Security Officer).", (*Shell).clientRevoke},
	{"client list", []option{optJSON}, "Every registered client.", (*Shell).clientList},
	{"client show", []option{optClient, optJSON}, "One client: address and partitions.", (*Shell).clientShow},
	{"client fingerprint", []option{optClient}, "The SHA-256 of a client's certificate.", (*Shell).clientFingerprint},

	{"ntls show", []option{optJSON}, "The client protocol: address, server certificate.", (*Shell).ntlsShow},
	{"ntls ipcheck enable", nil, "A client must come from the address it is registered for (Security Officer).", ipcheck(true)},
	{"ntls ipcheck disable", nil, "A client may come from anywhere (Security Officer).", ipcheck(false)},
	{"ntls ipcheck show", nil, "Whether the client's address is checked.", (*Shell).ipcheckShow},

	{"audit tail", []option{{name: "entries", short: "n", value: "N", help: "how many; 20 by default"}}, "The newest audit records.", (*Shell).auditTail},
	{"audit verify", nil, "Check the audit log against its signed checkpoints.", (*Shell).auditVerify},
}

func (s *Shell) hsmShow(_ context.Context, a args) error {
	info, err := s.appliance.HSM.Info()
	if err != nil {
		return err
	}
	if a.has("json") {
		return s.printJSON(info)
	}
	t := tabwriter.NewWriter(s.term, 0, 0, 2, ' ', 0)
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

func enabled(on bool) string {
	if on {
		return "enabled"
	}
	return "disabled"
}

func (s *Shell) hsmLogin(ctx context.Context, _ args) error {
	s.officer = nil
	o, err := s.asOfficer(ctx)
	if err != nil {
		return err
	}
	s.officer = o
	s.successful("hsm login")
	return nil
}

func (s *Shell) hsmLogout(context.Context, args) error {
	s.officer = nil
	s.successful("hsm logout")
	return nil
}

// hsmChangePassword asks for the old password also within a login: who finds
// an open session must not be able to take it over for good.
func (s *Shell) hsmChangePassword(ctx context.Context, _ args) error {
	s.officer = nil
	o, err := s.asOfficer(ctx)
	if err != nil {
		return err
	}
	fresh, err := s.askNew("the HSM's Security Officer")
	if err != nil {
		return err
	}
	if err := o.ChangePassword(ctx, fresh); err != nil {
		return err
	}
	s.successful("hsm changePw")
	return nil
}

func (s *Shell) partitionCreate(ctx context.Context, a args) error {
	o, err := s.asOfficer(ctx)
	if err != nil {
		return err
	}
	if err := o.CreatePartition(ctx, a.get("partition")); err != nil {
		return err
	}
	s.successful("partition create")
	return nil
}

func (s *Shell) partitionList(_ context.Context, a args) error {
	list, err := s.appliance.HSM.Partitions()
	if err != nil {
		return err
	}
	if a.has("json") {
		return s.printJSON(list)
	}
	t := tabwriter.NewWriter(s.term, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "Partition\tSerial #\tActive\tClients")
	for _, p := range list {
		fmt.Fprintf(t, "%s\t%s\t%v\t%s\n", p.Label, p.Serial, p.Active, strings.Join(p.Clients, ", "))
	}
	return t.Flush()
}

func (s *Shell) partitionShow(_ context.Context, a args) error {
	p, err := s.appliance.HSM.Partition(a.get("partition"))
	if err != nil {
		return err
	}
	if a.has("json") {
		return s.printJSON(p)
	}
	t := tabwriter.NewWriter(s.term, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "Partition Name:\t%s\n", p.Label)
	fmt.Fprintf(t, "Partition SN:\t%s\n", p.Serial)
	fmt.Fprintf(t, "Created:\t%s\n", p.Created.Format(time.RFC3339))
	fmt.Fprintf(t, "Active:\t%v\n", p.Active)
	for _, r := range p.Roles {
		state := "not initialised"
		switch {
		case r.Locked:
			state = fmt.Sprintf("locked after %d wrong passwords", r.Failures)
		case r.Initialized:
			state = fmt.Sprintf("initialised, %d wrong passwords in a row", r.Failures)
		}
		fmt.Fprintf(t, "Role %s:\t%s\n", r.Role, state)
	}
	fmt.Fprintf(t, "Clients:\t%s\n", strings.Join(p.Clients, ", "))
	return t.Flush()
}

func (s *Shell) partitionDelete(ctx context.Context, a args) error {
	name := a.get("partition")
	if err := s.confirm(a, "Are you sure you wish to delete the partition named: "+name+", with every key in it?", "delete the partition"); err != nil {
		return err
	}
	o, err := s.asOfficer(ctx)
	if err != nil {
		return err
	}
	if err := o.DeletePartition(ctx, name); err != nil {
		return err
	}
	s.successful("partition delete")
	return nil
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
		if err := s.appliance.HSM.InitCryptoUser(ctx, s.who, a.get("partition"), []byte(officer), fresh); err != nil {
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
	if err := s.appliance.HSM.ChangePassword(ctx, s.who, a.get("partition"), role, []byte(old), fresh); err != nil {
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
