package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"moongate/client"
	"moongate/client/ha"
)

const systemConfig = "/etc/moongate/client.toml"

// configPath is the client configuration that is used: -config, then
// $MOONGATE_CLIENT_CONF, then the user's, then the system's. Where neither of
// the last two exists it is the user's.
func (t *tool) configPath(o options) (string, error) {
	if o.has("config") {
		return o.text("config"), nil
	}
	if path := t.getenv("MOONGATE_CLIENT_CONF"); path != "" {
		return path, nil
	}
	dir := t.getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home := t.getenv("HOME")
		if home == "" {
			return systemConfig, nil
		}
		dir = filepath.Join(home, ".config")
	}
	own := filepath.Join(dir, "moongate", "client.toml")
	for _, path := range []string{own, systemConfig} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("looking for the client configuration: %w", err)
		}
	}
	return own, nil
}

// targets are the partitions that a command is about: that of the one HSM, that
// of -member, or those of the group's members.
type targets struct {
	path    string // of the configuration
	members []ha.Member
	group   *ha.Config // nil where they are no group
}

// targets reads the configuration and adds what the command line says. All log
// in as role; the password is asked for once.
func (t *tool) targets(o options, role client.Role) (targets, error) {
	if slot := o.number("slot", 0); slot != 0 {
		return targets{}, &usageError{fmt.Sprintf("-slot=%d; the configured partition is slot 0, another one is chosen with -partition=", slot)}
	}
	path, err := t.configPath(o)
	if err != nil {
		return targets{}, err
	}
	if err := checkSettings(path); err != nil {
		return targets{}, err
	}
	found := targets{path: path}
	group, err := ha.Load(path)
	switch {
	case o.has("member"):
		found.members, err = t.named(path, []string{o.text("member")})
	case errors.Is(err, ha.ErrNoGroup):
		if found.members, err = ha.LoadServers(path); err == nil {
			found.members = found.members[:1]
		}
	case err == nil:
		group.Registerer, group.Logger = nil, nil
		found.group, found.members = &group, group.Members
	}
	if err != nil {
		return targets{}, err
	}
	t.fill(found.members, o, role)
	return found, nil
}

// named returns those HSMs of the configuration that names name, in their order.
func (t *tool) named(path string, names []string) ([]ha.Member, error) {
	servers, err := ha.LoadServers(path)
	if err != nil {
		return nil, err
	}
	var list []ha.Member
	for _, name := range names {
		i := slices.IndexFunc(servers, func(m ha.Member) bool { return m.Name == name })
		if i < 0 {
			return nil, &fixError{fmt.Errorf("%s names no HSM %q", path, name), "`cmu server list` lists them; `cmu server add -name=" + name + "` notes one"}
		}
		list = append(list, servers[i])
	}
	return list, nil
}

// fill adds what the command line says to how members are reached.
func (t *tool) fill(members []ha.Member, o options, role client.Role) {
	asked := t.password(o)
	for i := range members {
		m := &members[i]
		if o.has("partition") {
			m.Partition = o.text("partition")
		}
		m.Role, m.Software = role, "cmu "+version
		if m.Password == nil || o.has("password") || o.has("passwordFile") {
			m.Password = asked
		}
	}
}

// one is targets for what is done on one HSM alone.
func (t *tool) one(o options, role client.Role) (client.Config, error) {
	found, err := t.targets(o, role)
	if err != nil {
		return client.Config{}, err
	}
	if found.group != nil {
		return client.Config{}, &usageError{"-member is missing: this is done on one member of the group " + found.group.Label + ", one of " + strings.Join(namesOf(found.members), ", ")}
	}
	return found.members[0].Config, nil
}

func namesOf(members []ha.Member) []string {
	list := make([]string, len(members))
	for i, m := range members {
		list[i] = m.Name
	}
	return list
}

func roleOf(name string) (client.Role, error) {
	switch strings.ToLower(name) {
	case "", "co", "crypto-officer":
		return client.RoleCryptoOfficer, nil
	case "cu", "crypto-user":
		return client.RoleCryptoUser, nil
	}
	return client.RoleNone, &usageError{fmt.Sprintf("-role=%s; expected co or cu", name)}
}

// password returns where a partition's password comes from that the
// configuration does not name: the command line, or the prompt. The prompt comes
// once, and only when an HSM has been reached; its answer is kept for other
// members and for a reconnect.
func (t *tool) password(o options) func() ([]byte, error) {
	switch {
	case o.has("passwordFile"):
		return client.PasswordFile(o.text("passwordFile"))
	case o.has("password"):
		t.con.warn("%s", warnPassword)
		return func() ([]byte, error) { return []byte(o.text("password")), nil }
	}
	var mu sync.Mutex
	var typed []byte // guarded by mu
	var failed error // guarded by mu
	return func() ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		if typed == nil && failed == nil {
			typed, failed = t.con.secret(promptPassword)
		}
		return slices.Clone(typed), failed // the client wipes what it gets
	}
}

// keystore is what commands do with objects: of a partition, or of a group.
type keystore interface {
	Objects(ctx context.Context, pattern client.Template, want ...client.AttributeType) iter.Seq2[client.Found, error]
	Attributes(ctx context.Context, id client.ID, want ...client.AttributeType) (client.Template, error)
	SetAttributes(ctx context.Context, id client.ID, t client.Template) error
	Destroy(ctx context.Context, id client.ID) error
	GenerateKeyPair(ctx context.Context, m client.MechanismType, public, private client.Template) (client.KeyPair, error)
	ImportKey(ctx context.Context, key any, t client.Template) (client.ID, error)
	Key(ctx context.Context, id client.ID) (client.Key, error)
	StoreCertificate(ctx context.Context, cert *x509.Certificate, t client.Template) (client.ID, error)
	StorePublicKey(ctx context.Context, public crypto.PublicKey, t client.Template) (client.ID, error)
	Close() error
}

// session is a login to the partition, or to the group.
type session struct {
	keystore
	where string // which, for people
}

func (t *tool) connect(ctx context.Context, o options) (*session, error) {
	role, err := roleOf(o.text("role"))
	if err != nil {
		return nil, err
	}
	found, err := t.targets(o, role)
	if err != nil {
		return nil, err
	}
	if found.group != nil {
		g, err := t.openGroup(ctx, found)
		if err != nil {
			return nil, err
		}
		return &session{g, fmt.Sprintf("group %q", found.group.Label)}, nil
	}
	c, err := client.Dial(ctx, found.members[0].Config)
	if err != nil {
		return nil, err
	}
	return &session{c, fmt.Sprintf("partition %q", c.Status().Partition.Label)}, nil
}
