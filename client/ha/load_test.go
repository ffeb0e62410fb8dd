package ha

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"moongate/client"
)

const goodFile = `partition = "p"
password-file = "p.pass"
audit-checkpoint = "a.note"
[server]
name = "hsm-a"
address = "127.0.0.1:1"
certificate = "a.pem"
[client]
name = "c"
certificate = "c.pem"
key = "c-key.pem"
[[servers]]
name = "hsm-b"
address = "127.0.0.1:2"
certificate = "b.pem"
partition = "pb"
[[servers]]
name = "hsm-c"
address = "127.0.0.1:3"
certificate = "b.pem"
password-file = "c.pass"
audit-checkpoint = "c.note"
[ha]
label = "pki-ha"
members = ["hsm-b", "hsm-a"]
retry = 7
no-return = true
hedge = "250ms"
probe = "2s"
`

func writeFiles(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, content []byte) { must(t, os.WriteFile(filepath.Join(dir, name), content, 0o600)) }
	certificate, key, err := client.NewCertificate("c")
	must(t, err)
	write("c.pem", certificate)
	write("c-key.pem", key)
	for _, name := range []string{"a.pem", "b.pem"} {
		certificate, _, err := client.NewCertificate(name)
		must(t, err)
		write(name, certificate)
	}
	write("p.pass", []byte("of all"))
	write("c.pass", []byte("of c"))
	write("client.toml", []byte(text))
	return filepath.Join(dir, "client.toml")
}

func TestLoad(t *testing.T) {
	t.Parallel()
	path := writeFiles(t, goodFile)
	config, err := Load(path)
	must(t, err)
	config.SetRole(client.RoleCryptoOfficer, nil)
	must(t, config.check())
	if config.Label != "pki-ha" || config.Retry != 7 || !config.NoReturn || config.Hedge != 250*time.Millisecond || config.Probe != 2*time.Second ||
		config.StateFile != strings.TrimSuffix(path, ".toml")+".ha.json" || len(config.Members) != 2 {
		t.Errorf("%+v", config)
	}
	b, a := config.Members[0], config.Members[1]
	if b.Name != "hsm-b" || b.Address != "127.0.0.1:2" || b.Partition != "pb" || b.CheckpointFile != "" ||
		a.Name != "hsm-a" || a.Partition != "p" || !strings.HasSuffix(a.CheckpointFile, "a.note") ||
		a.ServerCertificates[0].Equal(b.ServerCertificates[0]) {
		t.Errorf("%+v\n%+v", a, b)
	}
	servers, err := LoadServers(path)
	must(t, err)
	if len(servers) != 3 || servers[0].Name != "hsm-a" || servers[2].Name != "hsm-c" {
		t.Errorf("%d servers", len(servers))
	}
	for i, want := range []string{"of all", "of all", "of c"} {
		if got, err := servers[i].Password(); string(got) != want || err != nil {
			t.Errorf("%s: password %q, %v", servers[i].Name, got, err)
		}
	}
	alone := writeFiles(t, strings.Split(goodFile, "[ha]")[0])
	if _, err := Load(alone); !errors.Is(err, ErrNoGroup) {
		t.Errorf("without [ha]: %v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ old, new, want string }{
		"an unknown key":                  {"retry = 7", "retrys = 7", "retrys"},
		"an unknown server key":           {`partition = "pb"`, `partitoin = "pb"`, "partitoin"},
		"an unknown member":               {`"hsm-b", "hsm-a"`, `"hsm-b", "hsm-x"`, `"hsm-x"`},
		"a time that is none":             {`"250ms"`, `"250"`, "hedge"},
		"a time below zero":               {`"250ms"`, `"-1s"`, "above zero"},
		"no name":                         {`name = "hsm-c"`, ``, "name of server 3"},
		"no address":                      {`address = "127.0.0.1:3"`, ``, "address of server 3"},
		"a name twice":                    {`name = "hsm-c"`, `name = "hsm-b"`, "two servers"},
		"a certificate that is not there": {`certificate = "b.pem"`, `certificate = "x.pem"`, "x.pem"},
	} {
		if !strings.Contains(goodFile, test.old) {
			t.Fatalf("%s: the file has no %q", name, test.old)
		}
		path := writeFiles(t, strings.Replace(goodFile, test.old, test.new, 1))
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q in it", name, err, test.want)
		}
	}
}
