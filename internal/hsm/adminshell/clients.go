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
	"text/tabwriter"

	"moongate/internal/hsm/partition"
)

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
	t := tabwriter.NewWriter(s.term, 0, 0, 2, ' ', 0)
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

func (s *Shell) ntlsShow(_ context.Context, a args) error {
	if a.has("json") {
		return s.printJSON(map[string]string{
			"listen": s.appliance.Listen, "certificate": s.appliance.Certificate, "fingerprint": s.appliance.Fingerprint,
		})
	}
	t := tabwriter.NewWriter(s.term, 0, 0, 2, ' ', 0)
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
