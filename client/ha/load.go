package ha

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"moongate/client"
)

// settings is the client configuration file as far as groups go; Load says
// what stands in it. The rest is client.LoadConfig's.
type settings struct {
	Server struct {
		Name string `toml:"name"`
	} `toml:"server"`
	Servers []struct {
		Name         string `toml:"name"`
		Address      string `toml:"address"`
		Certificate  string `toml:"certificate"`
		Partition    string `toml:"partition"`
		PasswordFile string `toml:"password-file"`
		Checkpoint   string `toml:"audit-checkpoint"`
	} `toml:"servers"`
	HA *struct {
		Label     string   `toml:"label"`
		Members   []string `toml:"members"`
		Retry     int      `toml:"retry"`
		NoReturn  bool     `toml:"no-return"`
		Hedge     duration `toml:"hedge"`
		Probe     duration `toml:"probe"`
		StateFile string   `toml:"state-file"`
	} `toml:"ha"`
}

// duration is a time as time.ParseDuration reads it.
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err == nil && v <= 0 {
		err = fmt.Errorf("%q is not a time above zero", text)
	}
	*d = duration(v)
	return err
}

// Load reads the group of a client configuration file (TOML). Beside what
// client.LoadConfig reads of it, it may hold further HSMs and how they are one:
//
//	[server]
//	name = "hsm-a"                      # optional; "server" where it is missing
//	address = "10.0.0.1:1792"
//	certificate = "hsm-a-server.pem"
//
//	[[servers]]
//	name = "hsm-b"
//	address = "10.0.0.2:1792"
//	certificate = "hsm-b-server.pem"
//	partition = "pki-b"                 # optional, as the next two: the file's own otherwise
//	password-file = "b.pass"
//	audit-checkpoint = "b.note"         # optional: no check otherwise
//
//	[ha]
//	label = "pki-ha"
//	members = ["hsm-a", "hsm-b"]        # names
//	retry = 0                           # Config.Retry; optional, as all that follow
//	no-return = false                   # Config.NoReturn
//	hedge = "500ms"                     # Config.Hedge
//	probe = "1s"                        # Config.Probe
//	state-file = "client.ha.json"       # Config.StateFile; this is its default for client.toml
//
// Paths are relative to the file's directory. Unknown keys are refused. The
// error is ErrNoGroup where there is no [ha]. Roles are not set: see SetRole.
func Load(path string) (Config, error) {
	file, servers, err := read(path)
	if err != nil {
		return Config{}, err
	}
	if file.HA == nil {
		return Config{}, fmt.Errorf("%s: %w; make one with `cmu ha create`", path, ErrNoGroup)
	}
	config := Config{
		Label: file.HA.Label, Retry: file.HA.Retry, NoReturn: file.HA.NoReturn,
		Hedge: time.Duration(file.HA.Hedge), Probe: time.Duration(file.HA.Probe), StateFile: file.HA.StateFile,
	}
	if config.StateFile == "" {
		config.StateFile = strings.TrimSuffix(filepath.Base(path), ".toml") + ".ha.json"
	}
	config.StateFile = beside(path, config.StateFile)
	for _, name := range file.HA.Members {
		found := false
		for _, s := range servers {
			if s.Name == name {
				config.Members = append(config.Members, s)
				found = true
			}
		}
		if !found {
			return Config{}, fmt.Errorf("reading client configuration: %s: ha.members names %q, and there is no such server", path, name)
		}
	}
	return config, nil
}

// LoadServers reads all HSMs of a client configuration file, that of [server]
// first, whether or not they are a group.
func LoadServers(path string) ([]Member, error) {
	_, servers, err := read(path)
	return servers, err
}

func beside(path, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(path), name)
}

func read(path string) (settings, []Member, error) {
	first, err := client.LoadConfig(path)
	if err != nil {
		return settings{}, nil, err
	}
	var file settings
	meta, err := toml.DecodeFile(path, &file)
	if err != nil {
		return settings{}, nil, fmt.Errorf("reading client configuration: %s: %w", path, err)
	}
	for _, unknown := range meta.Undecoded() {
		if unknown[0] == "servers" || unknown[0] == "ha" { // client.LoadConfig knows the rest
			return settings{}, nil, fmt.Errorf("reading client configuration: %s: unknown key %q", path, unknown)
		}
	}
	if file.Server.Name == "" {
		file.Server.Name = "server"
	}
	servers := []Member{{Name: file.Server.Name, Config: first}}
	for i, s := range file.Servers {
		member := Member{Name: s.Name, Config: first}
		member.Address, member.CheckpointFile = s.Address, ""
		for _, required := range []struct{ key, value string }{{"name", s.Name}, {"address", s.Address}, {"certificate", s.Certificate}} {
			if required.value == "" {
				return settings{}, nil, fmt.Errorf("reading client configuration: %s: %s of server %d (%q) is missing", path, required.key, i+2, s.Name)
			}
		}
		if member.ServerCertificates, err = client.LoadCertificates(beside(path, s.Certificate)); err != nil {
			return settings{}, nil, fmt.Errorf("reading client configuration: certificate of server %q: %w", s.Name, err)
		}
		if s.Partition != "" {
			member.Partition = s.Partition
		}
		if s.PasswordFile != "" {
			member.Password = client.PasswordFile(beside(path, s.PasswordFile))
		}
		if s.Checkpoint != "" {
			member.CheckpointFile = beside(path, s.Checkpoint)
		}
		for _, other := range servers {
			if other.Name == s.Name {
				return settings{}, nil, fmt.Errorf("reading client configuration: %s: two servers have the name %q; give each its own", path, s.Name)
			}
		}
		servers = append(servers, member)
	}
	return file, servers, nil
}
