package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"moongate/client"
	"moongate/internal/durable"
)

// serverAdded is what `cmu server add` noted.
type serverAdded struct {
	Config      string `json:"config"`
	Name        string `json:"name"`
	Address     string `json:"address"`
	Certificate string `json:"certificate"`
	Fingerprint string `json:"fingerprint"`
	Partition   string `json:"partition,omitempty"`
}

// serverAdd notes an HSM: without -name the first one, with -name the one of
// that name, which may be the first.
func (t *tool) serverAdd(_ context.Context, o options) error {
	path, s, err := t.settings(o)
	if err != nil {
		return err
	}
	address, source, name := o.text("address"), o.text("certificate"), o.text("name")
	if name != "" && (len(name) > 64 || !isWord(name)) {
		return &usageError{fmt.Sprintf("-name=%s should be 1 to 64 letters, digits, dots, dashes and underscores", name)}
	}
	if address == "" {
		if address, err = t.con.ask(promptServer); err != nil {
			return &fixError{err, "give -address="}
		}
	}
	if !isAddress(address) {
		return &usageError{fmt.Sprintf("-address=%s; expected a host name or an IP address, with :PORT where it is not %s", address, client.DefaultPort)}
	}
	server, further, err := s.place(path, name, address, o)
	if err != nil {
		return err
	}
	if source == "" {
		if source, err = t.con.ask(promptServerPE); err != nil {
			return &fixError{err, "give -certificate="}
		}
	}
	list, err := client.LoadCertificates(source)
	if err != nil {
		return &fixError{fmt.Errorf("reading the HSM's certificate: %w", err), "copy server.pem from the HSM and name it with -certificate="}
	}
	if len(list) != 1 {
		return fmt.Errorf("reading the HSM's certificate: %s holds %d certificates, expected the HSM's alone", source, len(list))
	}
	data, err := os.ReadFile(source)
	if err != nil {
		return fmt.Errorf("reading the HSM's certificate: %w", err)
	}
	if server.Certificate == "" {
		server.Certificate = cmp.Or(name, fileName(hostOf(address))) + "-server.pem"
	}
	server.Address = address
	partition := &s.Partition
	if further != nil {
		partition = &further.Partition
	}
	if o.has("partition") {
		*partition = o.text("partition")
	}
	added := serverAdded{
		Config: path, Name: cmp.Or(server.Name, firstServer), Address: address, Fingerprint: client.Fingerprint(list[0].Raw),
		Partition: cmp.Or(*partition, s.Partition), Certificate: server.Certificate,
	}
	if !filepath.IsAbs(added.Certificate) {
		added.Certificate = filepath.Join(filepath.Dir(path), added.Certificate)
	}
	if err := mayPin(added, o); err != nil {
		return err
	}
	if err := makeConfigDir(path); err != nil {
		return err
	}
	if err := durable.WriteFile(added.Certificate, data, 0o644); err != nil {
		return fmt.Errorf("writing the HSM's certificate: %w", err)
	}
	if err := s.write(path); err != nil {
		return err
	}
	if o.flag("json", false) {
		return t.con.printJSON(added)
	}
	t.con.printf("HSM %s pinned in %s.\n  SHA-256: %s\nCompare it with what `ntls show` prints on the HSM.\n", address, path, added.Fingerprint)
	return nil
}

// place is where an HSM of a name and an address is noted in the file. further
// is nil for the first one. Another address than the present one needs -force.
func (s *settings) place(path, name, address string, o options) (server *serverSettings, further *furtherSettings, err error) {
	server = &s.Server
	switch {
	case name == "" || (s.Server == serverSettings{}) || s.server(name) == server:
	case s.Server.Name == "" && s.Server.Address == address && s.server(name) == nil:
		// The first one gets its name.
	default:
		i := slices.IndexFunc(s.Servers, func(f furtherSettings) bool { return f.Name == name })
		if i < 0 {
			i = len(s.Servers)
			s.Servers = append(s.Servers, furtherSettings{})
		}
		further = &s.Servers[i]
		server = &further.serverSettings
	}
	if server.Address != "" && server.Address != address && !o.flag("force", false) {
		fix := "replace it with -force; to note a further HSM, name it with -name="
		if further != nil {
			fix = "replace it with -force, or give another -name="
		}
		return nil, nil, &fixError{fmt.Errorf("%s names the HSM %s already", path, server.Address), fix}
	}
	server.Name = cmp.Or(name, server.Name)
	return server, further, nil
}

// mayPin refuses to replace a pinned certificate by another one unasked: that
// is what somebody in between would want.
func mayPin(added serverAdded, o options) error {
	if o.flag("force", false) {
		return nil
	}
	list, err := client.LoadCertificates(added.Certificate)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err == nil && len(list) == 1 && client.Fingerprint(list[0].Raw) == added.Fingerprint {
		return nil
	}
	return &fixError{
		fmt.Errorf("%s is another certificate than the one given, SHA-256 %s", added.Certificate, added.Fingerprint),
		"compare with `ntls show` on the HSM; if the HSM got a new certificate, add -force",
	}
}

// serverShown is what `cmu server list` says of an HSM.
type serverShown struct {
	Name        string `json:"name"`
	Address     string `json:"address"`
	Partition   string `json:"partition,omitempty"`
	Fingerprint string `json:"fingerprint"`
	Member      bool   `json:"member"` // of the group
}

func (t *tool) serverList(_ context.Context, o options) error {
	path, s, err := t.settings(o)
	if err != nil {
		return err
	}
	shownList := []serverShown{}
	for i, name := range s.names() {
		server, partition := s.server(name), s.Partition
		if i > 0 {
			partition = cmp.Or(s.Servers[i-1].Partition, partition)
		}
		certificate := server.Certificate
		if !filepath.IsAbs(certificate) {
			certificate = filepath.Join(filepath.Dir(path), certificate)
		}
		list, err := client.LoadCertificates(certificate)
		if err != nil {
			return &fixError{fmt.Errorf("reading the certificate of %s: %w", name, err), "pin it again with `cmu server add -force`"}
		}
		shownList = append(shownList, serverShown{name, server.Address, partition, client.Fingerprint(list[0].Raw), s.isMember(name)})
	}
	if o.flag("json", false) {
		return t.con.printJSON(shownList)
	}
	for _, l := range shownList {
		member := ""
		if l.Member {
			member = "\tmember of " + s.HA.Label
		}
		t.con.printf("name=%s\taddress=%s\tpartition=%s\tsha256=%s%s\n", l.Name, l.Address, shown(l.Partition), l.Fingerprint, member)
	}
	if len(shownList) == 0 {
		t.con.note("%s names no HSM", path)
	}
	return nil
}

func (t *tool) serverRemove(_ context.Context, o options) error {
	path, s, err := t.settings(o)
	if err != nil {
		return err
	}
	name := o.text("name")
	switch server := s.server(name); {
	case name == "":
		return &usageError{"-name is missing; `cmu server list` lists the HSMs"}
	case server == nil:
		return &fixError{fmt.Errorf("%s names no HSM %q", path, name), "`cmu server list` lists them"}
	case s.isMember(name):
		return &fixError{fmt.Errorf("%s is a member of the group %s", name, s.HA.Label), "take it out first, with `cmu ha remove -member=" + name + "`"}
	case server != &s.Server:
		s.Servers = slices.DeleteFunc(s.Servers, func(f furtherSettings) bool { return f.Name == name })
	case len(s.Servers) == 0:
		s.Server = serverSettings{}
	default:
		next := s.Servers[0]
		if next.PasswordFile != "" || next.Checkpoint != "" || next.Partition != "" && next.Partition != s.Partition {
			return &fixError{
				fmt.Errorf("%s is the first HSM of %s, and the next one, %s, has a partition, password file or checkpoint of its own", name, path, next.Name),
				"put another HSM in its place with `cmu server add -name=" + name + " -force`",
			}
		}
		s.Server, s.Servers = next.serverSettings, s.Servers[1:]
	}
	if err := s.write(path); err != nil {
		return err
	}
	t.con.printf("HSM %s is not in %s any more.\n", name, path)
	return nil
}
