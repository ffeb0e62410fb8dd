package adminshell

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
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
		help: "Admit a client (Security Officer)."},
	{words: "client delete", roles: operators, options: []option{optClient, optForce}, run: (*Shell).clientDelete,
		help: "Take a client's registration away and end its connections (Security Officer)."},
	{words: "client assignPartition", roles: operators, options: []option{optClient, optPartition}, run: (*Shell).clientAssign,
		help: "Let a client reach a partition (Security Officer)."},
	{words: "client revokePartition", roles: operators, options: []option{optClient, optPartition}, run: (*Shell).clientRevoke,
		help: "Take a partition from a client and end its connections (Security Officer)."},
	{words: "client list", roles: lookers, options: []option{optJSON}, run: (*Shell).clientList,
		help: "Every registered client."},
	{words: "client show", roles: lookers, options: []option{optClient, optJSON}, run: (*Shell).clientShow,
		help: "One client: address and partitions."},
	{words: "client fingerprint", roles: lookers, options: []option{optClient}, run: (*Shell).clientFingerprint,
		help: "The SHA-256 of a client's certificate."},
}

func (s *Shell) clientRegister(ctx context.Context, a args) error {
	certificate, err := s.clientCertificate(a)
	if err != nil {
		return err
	}
	o, err := s.asOfficer(ctx)
	if err != nil {
		return err
	}
	err = o.RegisterClient(ctx, partition.Registration{
		Name: a.get("client"), Address: a.get("ip"), Hostname: a.get("hostname"),
		Certificate: certificate, Replace: a.has("replace"),
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
	if !filepath.IsLocal(name) || filepath.Base(name) != name {
		return nil, fmt.Errorf("%w: %q is no address or host name", errUsage, strings.TrimSuffix(name, ".pem"))
	}
	content, err := os.ReadFile(filepath.Join(s.appliance.Inbox, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no %s in the inbox %s; copy the client's certificate there, or name it with -certificate", name, s.appliance.Inbox)
	}
	return content, err
}

func (s *Shell) clientDelete(ctx context.Context, a args) error {
	name := a.get("client")
	if err := s.confirm(a, "Are you sure you wish to delete client named: "+name, "delete the client"); err != nil {
		return err
	}
	o, err := s.asOfficer(ctx)
	if err != nil {
		return err
	}
	if err := o.DeleteClient(ctx, name); err != nil {
		return err
	}
	s.successful("client delete")
	return nil
}

func (s *Shell) clientAssign(ctx context.Context, a args) error {
	o, err := s.asOfficer(ctx)
	if err != nil {
		return err
	}
	if err := o.AssignPartition(ctx, a.get("client"), a.get("partition")); err != nil {
		return err
	}
	s.successful("client assignPartition")
	return nil
}

func (s *Shell) clientRevoke(ctx context.Context, a args) error {
	o, err := s.asOfficer(ctx)
	if err != nil {
		return err
	}
	if err := o.RevokePartition(ctx, a.get("client"), a.get("partition")); err != nil {
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
	names := make([]string, len(c.Partitions))
	for i, p := range c.Partitions {
		names[i] = strconv.Quote(p)
	}
	fmt.Fprintf(t, "Partitions:\t%s\n", strings.Join(names, ", "))
	return t.Flush()
}

func (s *Shell) clientFingerprint(_ context.Context, a args) error {
	c, err := s.appliance.HSM.Client(a.get("client"))
	if err != nil {
		return err
	}
	fmt.Fprintf(s.term, "Certificate fingerprint (SHA-256): %s\n", c.Fingerprint)
	return nil
}
