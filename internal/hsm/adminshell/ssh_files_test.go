package adminshell

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pkg/sftp"

	"moongate/internal/hsm/users"
)

func TestSSHFiles(t *testing.T) {
	t.Parallel()
	w := newSSH(t)
	certificate := newCertificate(t)
	server, err := os.ReadFile(w.appliance.Certificate)
	must(t, err)
	der, _, err := w.appliance.HSM.HSMIdentity()
	must(t, err)
	identity := pemOf(der)
	put := func(c *sftp.Client, name string, content []byte) error {
		f, err := c.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
		if err != nil {
			return err
		}
		_, err = f.Write(content)
		return errors.Join(err, f.Close())
	}
	for _, role := range users.Roles() {
		c, err := sftp.NewClient(w.dial(string(role)))
		must(t, err)
		f, err := c.Open("server.pem")
		must(t, err)
		if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, server) {
			t.Errorf("%s fetched %d bytes, %v", role, len(got), err)
		}
		if f, err = c.Open("identity.pem"); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, identity) {
			t.Errorf("%s fetched an identity of %d bytes, %v", role, len(got), err)
		}
		for _, own := range []string{"server.pem", "identity.pem"} {
			if err := put(c, own, certificate); !errors.Is(err, fs.ErrPermission) {
				t.Errorf("%s wrote %s: %v", role, own, err)
			}
		}
		err = put(c, "192.0.2.9.pem", certificate)
		list, listErr := c.ReadDir(".")
		must(t, listErr)
		if may := role == users.RoleAdmin || role == users.RoleOperator; (err == nil) != may || len(list) == 2 == may {
			t.Errorf("%s delivered: %v, and sees %d files", role, err, len(list))
		}
		if _, err := c.Open("192.0.2.9.pem"); (err == nil) != (role == users.RoleAdmin || role == users.RoleOperator) {
			t.Errorf("%s reads the inbox: %v", role, err)
		}
	}

	// What makes an HSM one of a domain is an administrator's.
	for _, role := range users.Roles() {
		c, err := sftp.NewClient(w.dial(string(role)))
		must(t, err)
		for _, name := range domainFiles {
			if err := put(c, name, []byte("sealed")); (err == nil) != (role == users.RoleAdmin) {
				t.Errorf("%s delivered %s: %v", role, name, err)
			}
			if _, err := c.Open(name); (err == nil) != (role == users.RoleAdmin) {
				t.Errorf("%s reads %s: %v", role, name, err)
			}
		}
		if err := put(c, "domain.other", []byte("sealed")); err == nil {
			t.Errorf("%s delivered a file of another name", role)
		}
	}

	client := w.dial("admin")
	c, err := sftp.NewClient(client)
	must(t, err)
	key := []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
	for what, test := range map[string]struct {
		name    string
		content []byte
	}{
		"no certificate":      {"a.pem", []byte("hello")},
		"nothing":             {"a.pem", nil},
		"a key":               {"a.pem", key},
		"a key after it":      {"a.pem", append(slices.Clone(certificate), key...)},
		"two certificates":    {"a.pem", append(slices.Clone(certificate), certificate...)},
		"text before it":      {"a.pem", append([]byte("hello\n"), certificate...)},
		"a damaged one":       {"a.pem", bytes.Replace(certificate, []byte("MII"), []byte("MIJ"), 1)},
		"too much":            {"a.pem", append(slices.Clone(certificate), bytes.Repeat([]byte("\n"), 64<<10)...)},
		"another name":        {"a.txt", certificate},
		"no name":             {".pem", certificate},
		"a name with a space": {"a b.pem", certificate},
		"a name with a dash":  {"-a.pem", certificate},
		"an empty part":       {"a..b.pem", certificate},
		"another server.pem":  {"SERVER.pem", certificate},
		"another identity":    {"Identity.pem", certificate},
	} {
		if err := put(c, test.name, test.content); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	if _, err := checkCertificate(append(slices.Clone(certificate), key...)); err == nil || !strings.Contains(err.Error(), "private key") {
		t.Errorf("who sends a private key is told %v", err)
	}
	entries, err := os.ReadDir(w.appliance.Inbox)
	must(t, err)
	if len(entries) != 1+len(domainFiles) {
		t.Errorf("the inbox holds %v", entries)
	}

	// Whatever way an address is written in, its client is registered by it.
	for i, test := range []struct{ deliver, register string }{
		{"2001:db8::1.pem", "-ip 2001:db8::1"},
		{"2001_db8__2.pem", "-ip 2001:db8::2"},
		{"2001:0DB8:0::3.pem", "-ip 2001:DB8::3"},
		{"10.0.0.5.pem", "-ip 10.0.0.5"},
		{"GW.example.pem", "-hostname gw.example"},
		{"gw_2.example.pem", "-hostname GW_2.example"},
	} {
		must(t, put(c, test.deliver, newCertificate(t)))
		command := fmt.Sprintf("client register -c c%d %s", i, test.register)
		if out, status := w.run(client, command, ""); status != 0 || !strings.Contains(out, "'client register' successful.") {
			t.Errorf("%s, then %s: %d\n%s", test.deliver, command, status, out)
		}
	}
	must(t, put(c, "10.0.0.5.pem", newCertificate(t))) // in place of the first
}

func FuzzCheckCertificate(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "10.0.0.5.pem")
	f.Add([]byte(" \n-----BEGIN CERTIFICATE-----\nx: y\n\nAAAA\n-----END CERTIFICATE-----"), "fe80__1.pem")
	f.Fuzz(func(t *testing.T, content []byte, name string) {
		if certificate, err := checkCertificate(content); err == nil && len(certificate.Raw) == 0 {
			t.Error("an empty certificate")
		}
		as, err := deliveredName(name)
		if err != nil {
			return
		}
		if filepath.Base(as) != as || strings.HasPrefix(as, ".") || as == serverFile || as == identityFile {
			t.Errorf("%q is kept as %q", name, as)
		}
		if again, err := deliveredName(as); err != nil || again != as {
			t.Errorf("%q is kept as %q, and that as %q, %v", name, as, again, err)
		}
	})
}
