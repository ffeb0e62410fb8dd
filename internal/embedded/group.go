package embedded

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"moongate/client"
	"moongate/client/ha"
	"moongate/internal/durable"
	"moongate/internal/gw/config"
)

type configServer = config.HSMServer

// groupShown is the group that `partition show -json` says the partition is in.
type groupShown struct {
	Label, Serial string
	Epoch         uint64
	Members       []struct{ Name, Identity string }
}

// groups are those that the HSMs' partitions are in; nil for none.
func (u *up) groups(ctx context.Context) ([]*groupShown, error) {
	list := make([]*groupShown, len(u.hsms))
	for i, h := range u.hsms {
		var shown struct {
			Replication struct{ Group *groupShown }
		}
		if err := h.tool.readJSON(ctx, &shown, "partition", "show", "-partition", partitionName); err != nil {
			return nil, err
		}
		list[i] = shown.Replication.Group
	}
	return list, nil
}

// ensureGroup makes the partitions of all HSMs one group, or takes those into it
// that are not in it yet. Keys that the first one has are on all afterwards.
func (u *up) ensureGroup(ctx context.Context) error {
	groups, err := u.groups(ctx)
	if err != nil {
		return err
	}
	first := groups[0]
	outside := func(g *groupShown) bool {
		return g == nil || first == nil || g.Serial != first.Serial || g.Epoch != first.Epoch
	}
	if first != nil && !slices.ContainsFunc(groups, outside) {
		return nil
	}
	label := u.label(first)
	u.say("making the HSMs one group: %s", label)
	member, forget, err := u.visit(ctx)
	if err != nil {
		return err
	}
	defer forget()
	var all, inside, joining []ha.Member
	for i, h := range u.hsms {
		m := member(h)
		all = append(all, m)
		if first != nil && !outside(groups[i]) {
			inside = append(inside, m)
		} else {
			joining = append(joining, m)
		}
	}
	if len(inside) < 2 {
		g, err := ha.Create(ctx, ha.Config{Label: label, Members: all, StateFile: u.l.gateway().Group(label)}, nil)
		if err != nil {
			return err
		}
		return g.Close()
	}
	g, err := ha.Open(ha.Config{Label: label, Members: inside, StateFile: u.l.gateway().Group(label)})
	if err != nil {
		return err
	}
	defer g.Close()
	if err := allLive(ctx, g); err != nil {
		return err
	}
	for _, m := range joining {
		if err := g.Add(ctx, m, nil); err != nil {
			return err
		}
	}
	return nil
}

// memberPatience is how long members of a group may take to be live.
const memberPatience = 20 * time.Second

// allLive waits until all members are live. One that refuses, as for a password
// that was changed, is not waited for.
func allLive(ctx context.Context, g *ha.Group) error {
	for end := time.Now().Add(memberPatience); ; {
		var waiting error
		for _, m := range g.Members() {
			switch err := fmt.Errorf("%s is %v: %s", m.Name, m.State, m.Reason); {
			case m.State == ha.Live:
			case m.State == ha.Refused || m.State == ha.Removed || time.Now().After(end):
				return err
			default:
				waiting = err
			}
		}
		if waiting == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// label is the group's: that of the group that there is, or that the gateway's
// configuration names, or our own.
func (u *up) label(there *groupShown) string {
	switch {
	case there != nil:
		return there.Label
	case u.configured != nil && u.configured.HSM != nil && u.configured.HSM.HA != nil:
		return u.configured.HSM.HA.Name
	}
	return groupName
}

// visitorName is the client that makes the group: the gateway's own key is the
// gateway's, and sealed once it has run.
const visitorName = "moongate-up"

// visit registers a client with all HSMs whose key is in this process alone,
// until forget is called. member is how it reaches the gateway's partition as
// its Crypto Officer.
func (u *up) visit(ctx context.Context) (member func(*hsm) ha.Member, forget func(), err error) {
	certificate, key, err := client.NewCertificate(visitorName, "127.0.0.1")
	if err != nil {
		return nil, nil, err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, nil, err
	}
	file := filepath.Join(u.l.dir, visitorName+".pem")
	if err := durable.WriteFile(file, certificate, 0o600); err != nil {
		return nil, nil, err
	}
	defer os.Remove(file)
	var visited []*hsm
	forget = func() {
		for _, h := range visited {
			if _, err := h.tool.run(context.WithoutCancel(ctx), "", "client", "delete", "-client", visitorName, "-force"); err != nil {
				u.opts.Logger.Warn("a registration is left on an HSM; `client delete` takes it away", "client", visitorName, "hsm", h.number, "err", err)
			}
		}
	}
	pins := map[*hsm]client.Config{}
	for _, h := range u.hsms {
		err := h.tool.asOfficer(ctx, u.cred,
			"client register -c "+visitorName+" -ip 127.0.0.1 -replace -certificate "+strconv.Quote(file),
			"client assignPartition -c "+visitorName+" -p "+partitionName)
		if err != nil {
			forget()
			return nil, nil, err
		}
		visited = append(visited, h)
		servers, err := client.LoadCertificates(u.l.hsmCertificate(h.number))
		if err != nil {
			forget()
			return nil, nil, err
		}
		pins[h] = client.Config{
			Address: h.address, ServerCertificates: servers, Certificate: pair, Partition: partitionName,
			Role: client.RoleCryptoOfficer, Software: "moongate up",
			Password: func() ([]byte, error) { return []byte(u.cred["partition-co"]), nil },
		}
	}
	return func(h *hsm) ha.Member { return ha.Member{Name: h.server, Config: pins[h]} }, forget, nil
}

// adviseGateway says how the gateway's configuration, which is its
// administrator's, gets to know HSMs that came later.
func (u *up) adviseGateway() {
	missing := u.unconfigured()
	if len(missing) == 0 {
		return
	}
	names := make([]string, len(missing))
	for i, h := range missing {
		names[i] = h.server
	}
	u.say("NOTE: the gateway's configuration, which is its administrator's, does not name %s. In its shell:", strings.Join(names, ", "))
	u.say("         configure")
	const path = "set deviceconfig system hsm-settings provider safenet-network "
	for _, h := range missing {
		host, port, _ := net.SplitHostPort(h.address)
		u.say("         %shsm-server %s server-address %s port %s ssh-port %d", path, h.server, host, port, h.shell)
	}
	if u.configured.HSM.HA == nil {
		u.say("         %sha ha-group-name %s", path, groupName)
	}
	u.say("         commit")
}

// adviseKilling says how to see that one of several HSMs may die.
func (u *up) adviseKilling() {
	if len(u.hsms) == 1 {
		return
	}
	pid := u.hsms[0].program.pid.Load()
	u.say("")
	u.say("Kill an HSM, and try again: it is started anew, and the others go on meanwhile. Stopped, it stays away until it is let go on.")
	u.say("kill -KILL %d", pid)
	u.say("kill -STOP %d; sleep 30; kill -CONT %d", u.hsms[1].program.pid.Load(), u.hsms[1].program.pid.Load())
	u.say("watch -n1 \"curl -s http://%s/metrics | grep '^moongate_hsm_member_state{.* 1'\"   (or, in the gateway's shell, show hsm ha-status)", u.figures())
}
