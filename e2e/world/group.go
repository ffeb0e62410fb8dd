package world

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"moongate/client"
	"moongate/client/ha"
)

// Group is a group of HSMs with one client, made by the commands that
// docs/ha.md tells an administrator.
type Group struct {
	HSMs      []*HSM
	Partition *Partition // its label and its passwords are the same on each
	Client    *Host      // where the client is
	Dir       string     // of the client: client.toml and what it names

	cmu string
}

// groupLabel is the group's name.
const groupLabel = "world-ha"

// memberName is what a member is called, counted from 0.
func memberName(i int) string { return fmt.Sprintf("hsm%d", i+1) }

// StartGroup starts an HSM on each host, below dir, which must exist, and makes
// a group of one partition of each.
func StartGroup(ctx context.Context, dir string, from *Host, hosts ...*Host) (_ *Group, err error) {
	g, err := StartMembers(ctx, dir, from, hosts...)
	if err != nil {
		return nil, err
	}
	if err := g.Create(ctx); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// Create makes the group.
func (g *Group) Create(ctx context.Context) error {
	if out, err := g.CMU(ctx, "ha", "create", "-label="+groupLabel); err != nil {
		return fmt.Errorf("making a group: %w\n%s", err, out)
	}
	return nil
}

// StartMembers is StartGroup, but for the last step: the HSMs are ready to be a
// group, and are none.
func StartMembers(ctx context.Context, dir string, from *Host, hosts ...*Host) (_ *Group, err error) {
	g := &Group{
		Partition: &Partition{Label: "p", CryptoOfficer: rand.Text(), CryptoUser: rand.Text()},
		Client:    from, Dir: filepath.Join(dir, "client"),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.Close())
		}
	}()
	if g.cmu, err = Program(ctx, "cmu"); err != nil {
		return nil, err
	}
	if err := os.Mkdir(g.Dir, 0o700); err != nil {
		return nil, err
	}
	for i, host := range hosts {
		own := filepath.Join(dir, fmt.Sprint(i+1))
		if err := os.Mkdir(own, 0o700); err != nil {
			return nil, err
		}
		h, err := StartHSMOn(ctx, host, own)
		if err != nil {
			return nil, err
		}
		g.HSMs = append(g.HSMs, h)
	}
	if err := Introduce(ctx, dir, g.HSMs...); err != nil {
		return nil, err
	}
	return g, g.register(ctx)
}

// register makes the client and its partition on each HSM.
func (g *Group) register(ctx context.Context) error {
	if out, err := g.CMU(ctx, "client", "init", "-name=app", "-ip="+g.Client.From()); err != nil {
		return fmt.Errorf("making the client: %w\n%s", err, out)
	}
	password := filepath.Join(g.Dir, "co.password")
	if err := os.WriteFile(password, []byte(g.Partition.CryptoOfficer+"\n"), 0o600); err != nil {
		return err
	}
	for i, h := range g.HSMs {
		if err := h.AddPartition(ctx, g.Partition); err != nil {
			return err
		}
		app := &Registered{Name: "app", Partition: g.Partition, Certificate: filepath.Join(g.Dir, g.Client.From()+".pem")}
		if err := h.admit(ctx, app, g.Client); err != nil {
			return err
		}
		out, err := g.CMU(ctx, "server", "add", "-name="+memberName(i), "-address="+h.Addr, "-certificate="+h.ServerCertificate(),
			"-partition="+g.Partition.Label)
		if err != nil {
			return fmt.Errorf("adding HSM %d: %w\n%s", i+1, err, out)
		}
	}
	return nil
}

// RegisterFrom registers one more client, on a host, with every member.
func (g *Group) RegisterFrom(ctx context.Context, host *Host, name string) (*Registered, error) {
	r, err := g.HSMs[0].RegisterFrom(ctx, host, name, g.Partition)
	if err != nil {
		return nil, err
	}
	r.group = g
	for _, h := range g.HSMs[1:] {
		if err := h.admit(ctx, r, host); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// CMU runs cmu as the group's client; what it asks for is the Crypto Officer's
// password. It returns what cmu printed on both streams.
func (g *Group) CMU(ctx context.Context, args ...string) (string, error) {
	var out string
	err := g.Client.Do(func() (err error) {
		out, err = runIn(ctx, g.Dir, []string{"MOONGATE_CLIENT_CONF=" + g.File()}, strings.Repeat(g.Partition.CryptoOfficer+"\n", 20), g.cmu, args...)
		return err
	})
	return out, err
}

// File is the client's configuration.
func (g *Group) File() string { return filepath.Join(g.Dir, "client.toml") }

// Config is what ha.Open needs to be this client as a role. Where the client
// is not on this machine's loopback, forward gives the way to an address.
func (g *Group) Config(role client.Role, forward func(address string) string) (ha.Config, error) {
	config, err := ha.Load(g.File())
	if err != nil {
		return ha.Config{}, err
	}
	g.enter(config.Members, role, forward)
	return config, nil
}

// Members are the HSMs as the members of a group that is not there yet.
func (g *Group) Members(role client.Role, forward func(address string) string) ([]ha.Member, error) {
	list, err := ha.LoadServers(g.File())
	if err != nil {
		return nil, err
	}
	g.enter(list, role, forward)
	return list, nil
}

func (g *Group) enter(list []ha.Member, role client.Role, forward func(address string) string) {
	password := g.Partition.CryptoOfficer
	if role == client.RoleCryptoUser {
		password = g.Partition.CryptoUser
	}
	for i := range list {
		m := &list[i]
		m.Role, m.Password = role, func() ([]byte, error) { return []byte(password), nil }
		if forward != nil {
			m.Address = forward(m.Address)
		}
	}
}

// Close stops the HSMs.
func (g *Group) Close() error {
	var errs []error
	for _, h := range g.HSMs {
		errs = append(errs, h.Close())
	}
	return errors.Join(errs...)
}

// Log returns what the HSMs printed.
func (g *Group) Log() string {
	var b strings.Builder
	for i, h := range g.HSMs {
		fmt.Fprintf(&b, "%s:\n%s", memberName(i), tail(h.Log()))
	}
	return b.String()
}

// Group starts a group that ends with a test. The client is on this machine's
// loopback, or from a host.
func (w Test) Group(from *Host, hosts ...*Host) *Group {
	w.t.Helper()
	return w.keep(StartGroup(w.t.Context(), w.Dir(), from, hosts...))
}

// Members starts HSMs that are ready to be a group.
func (w Test) Members(from *Host, hosts ...*Host) *Group {
	w.t.Helper()
	return w.keep(StartMembers(w.t.Context(), w.Dir(), from, hosts...))
}

func (w Test) keep(g *Group, err error) *Group {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v", err)
	}
	w.t.Cleanup(func() {
		if err := g.Close(); err != nil {
			w.t.Errorf("closing the group's HSMs: %v", err)
		}
		if w.t.Failed() {
			w.t.Logf("the ends of the HSMs' logs:\n%s", g.Log())
		}
	})
	return g
}
