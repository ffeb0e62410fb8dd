package adminshell

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"moongate/internal/hsm/partition"
)

var clientCommands = []command{
	{words: "client register", roles: operators, run: (*Shell).clientRegister,
		options: []option{
			{name: "client", short: "c", value: "NAME", required: true, help: "the client's name"},
			{name: "ip", value: "ADDRESS", help: "the IP address that the client calls from"},
			{name: "hostname", short: "h", value: "HOST", help: "or its host name"},
			{name: "certificate", value: "FILE", file: true, help: "the client's certificate, PEM; without it, ADDRESS.pem or HOST.pem from the HSM's inbox"},
			{name: "replace", help: "take an existing registration of this name away first"},
		},
		help: "Admit a client by its certificate and address."},
	{words: "client delete", roles: operators, options: []option{optClient, optForce}, run: (*Shell).clientDelete,
		help: "Take a client's registration away and end its connections."},
	{words: "client assignPartition", roles: operators, options: []option{optClient, optPartition}, run: (*Shell).clientAssign,
		help: "Let a client reach a partition."},
	{words: "client revokePartition", roles: operators, options: []option{optClient, optPartition}, run: (*Shell).clientRevoke,
		help: "Take a partition from a client and end its connections."},
	{words: "client list", roles: lookers, options: []option{optJSON}, run: (*Shell).clientList,
		help: "Every registered client."},
	{words: "client show", roles: lookers, options: []option{optClient, optJSON}, run: (*Shell).clientShow,
		help: "One client: address and partitions."},
	{words: "client fingerprint", roles: lookers, options: []option{optClient, optJSON}, run: (*Shell).clientFingerprint,
		help: "The SHA-256 of a client's certificate."},
}

// registrar is who registers clients: the HSM's Security Officer, or the
// appliance's administrator where that is enough (`sysconf forceSOLogin`).
type registrar interface {
	RegisterClient(context.Context, partition.Registration) error
	DeleteClient(ctx context.Context, name string) error
	AssignPartition(ctx context.Context, client, name string) error
	RevokePartition(ctx context.Context, client, name string) error
	SetAddressCheck(ctx context.Context, on bool) error
}

// registrarsDo runs a registrar's act, as the Security Officer where one is
// logged in or has to be.
func (s *Shell) registrarsDo(ctx context.Context, do func(registrar) error) error {
	info, err := s.appliance.HSM.Info()
	if err != nil {
		return err
	}
	if !info.ForceLogin && s.logins.officer == nil {
		return do(s.appliance.HSM.Registrar(s.who.Operator))
	}
	o, err := s.asOfficer(ctx)
	if err != nil {
		return err
	}
	return do(o)
}

func (s *Shell) clientRegister(ctx context.Context, a args) error {
	certificate, err := s.clientCertificate(a)
	if err != nil {
		return err
	}
	err = s.registrarsDo(ctx, func(r registrar) error {
		return r.RegisterClient(ctx, partition.Registration{
			Name: a.get("client"), Address: a.get("ip"), Hostname: a.get("hostname"),
			Certificate: certificate, Replace: a.has("replace"),
		})
	})
	if err != nil {
		return err
	}
	s.successful("client register")
	return nil
}

// clientCertificate is the certificate that came with the command, or the one
// in the inbox whose base name is the address or host name to be registered.
func (s *Shell) clientCertificate(a args) ([]byte, error) {
	if a.has("certificate") {
		return a.files["certificate"], nil
	}
	name := a.get("ip") + a.get("hostname") + ".pem"
	if !filepath.IsLocal(name) || filepath.Base(name) != name || name == ".pem" || a.has("ip") && a.has("hostname") {
		return nil, fmt.Errorf("%w: %q is no address or host name; a client is registered by exactly one of -ip and -hostname", errUsage, strings.TrimSuffix(name, ".pem"))
	}
	return s.readInbox(name)
}

func (s *Shell) clientDelete(ctx context.Context, a args) error {
	name := a.get("client")
	if err := s.confirm(a, "Are you sure you wish to delete client named: "+name, "delete the client"); err != nil {
		return err
	}
	if err := s.registrarsDo(ctx, func(r registrar) error { return r.DeleteClient(ctx, name) }); err != nil {
		return err
	}
	s.successful("client delete")
	return nil
}

func (s *Shell) clientAssign(ctx context.Context, a args) error {
	err := s.registrarsDo(ctx, func(r registrar) error { return r.AssignPartition(ctx, a.get("client"), a.get("partition")) })
	if err != nil {
		return err
	}
	s.successful("client assignPartition")
	return nil
}

func (s *Shell) clientRevoke(ctx context.Context, a args) error {
	err := s.registrarsDo(ctx, func(r registrar) error { return r.RevokePartition(ctx, a.get("client"), a.get("partition")) })
	if err != nil {
		return err
	}
	s.successful("client revokePartition")
	return nil
}

func (s *Shell) clientList(_ context.Context, a args) error {
	list := s.appliance.HSM.Clients()
	if a.has("json") {
		return s.printJSON(list)
	}
	for i, c := range list {
		fmt.Fprintf(s.term, "registered client %d: %s\n", i+1, c.Name)
	}
	return nil
}

func (s *Shell) clientShow(_ context.Context, a args) error {
	c, err := s.appliance.HSM.Client(a.get("client"))
	if err != nil {
		return err
	}
	if a.has("json") {
		return s.printJSON(c)
	}
	t := s.table()
	fmt.Fprintf(t, "ClientID:\t%s\n", c.Name)
	if c.Address != "" {
		fmt.Fprintf(t, "IPAddress:\t%s\n", c.Address)
	} else {
		fmt.Fprintf(t, "Hostname:\t%s\n", c.Hostname)
	}
	fmt.Fprintf(t, "Partitions:\t%s\n", quoted(c.Partitions, ""))
	return t.Flush()
}

// fingerprintView is a certificate or key as a script reads it.
type fingerprintView struct {
	Name        string `json:"name"`
	Fingerprint string `json:"fingerprint"`
}

func (s *Shell) clientFingerprint(_ context.Context, a args) error {
	c, err := s.appliance.HSM.Client(a.get("client"))
	if err != nil {
		return err
	}
	if a.has("json") {
		return s.printJSON(fingerprintView{c.Name, c.Fingerprint})
	}
	fmt.Fprintf(s.term, "Certificate fingerprint (SHA-256): %s\n", c.Fingerprint)
	return nil
}
