package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"moongate/client"
)

// replicaShown is what `cmu partition peer list -json` says.
type replicaShown struct {
	Member   string      `json:"member,omitempty"` // of a group
	Label    string      `json:"label"`
	Serial   string      `json:"serial"`
	Identity string      `json:"identity"` // of the HSM: SHA-256, hex
	Domain   string      `json:"domain"`
	Software string      `json:"software"`
	Peers    []peerShown `json:"peers"`
}

// peerShown is a partition of another HSM.
type peerShown struct {
	HSM      string `json:"hsm"` // its name on the HSM that was asked
	Identity string `json:"identity"`
	Serial   string `json:"serial"`
}

func (t *tool) peerList(ctx context.Context, o options) error {
	list, end, err := t.administer(ctx, o, client.RoleNone)
	if err != nil {
		return err
	}
	defer end()
	all := []replicaShown{}
	for _, p := range list {
		r, err := p.Replica(ctx)
		if err != nil {
			return p.told(err)
		}
		s := replicaShown{Member: p.member, Label: r.Label, Serial: r.Serial, Identity: r.HSM.String(), Domain: r.Domain, Software: r.Software, Peers: []peerShown{}}
		for _, peer := range r.Peers {
			s.Peers = append(s.Peers, peerShown{peer.Name, peer.HSM.String(), peer.Serial})
		}
		all = append(all, s)
	}
	if o.flag("json", false) {
		return t.con.printJSON(all)
	}
	for _, r := range all {
		at := ""
		if r.Member != "" {
			at = " of member " + shown(r.Member)
		}
		t.con.printf("Partition %s, serial number %s%s, HSM %s, domain %s\n", shown(r.Label), r.Serial, at, r.Identity, r.Domain)
		for _, p := range r.Peers {
			t.con.printf("  clones with hsm=%s\tserial=%s\tidentity=%s\n", shown(p.HSM), p.Serial, p.Identity)
		}
		if len(r.Peers) == 0 {
			t.con.printf("  clones with nobody\n")
		}
	}
	return nil
}

func (t *tool) peerAdd(ctx context.Context, o options) error    { return t.setPeer(ctx, o, true) }
func (t *tool) peerRemove(ctx context.Context, o options) error { return t.setPeer(ctx, o, false) }

// setPeer lists a partition of another HSM as one to clone with, or takes it off
// the list.
func (t *tool) setPeer(ctx context.Context, o options, listed bool) error {
	role := client.RolePartitionOfficer
	if !strings.EqualFold(o.text("role"), "po") {
		var err error
		if role, err = roleOf(o.text("role")); err != nil {
			return err
		}
	}
	config, err := t.one(o, role)
	if err != nil {
		return err
	}
	hsm, serial, err := t.otherPartition(ctx, o)
	if err != nil {
		return err
	}
	c, err := client.Dial(ctx, config)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetPeer(ctx, hsm, serial, listed); err != nil {
		return err
	}
	if listed {
		t.con.printf("Partition %s may clone with partition %s of HSM %s; that one has to list it as well\n", shown(c.Status().Partition.Label), serial, hsm)
	} else {
		t.con.printf("Partition %s clones no more with partition %s of HSM %s\n", shown(c.Status().Partition.Label), serial, hsm)
	}
	return nil
}

// otherPartition is the partition that -peer or -identity and -serial name.
// What another HSM says of itself is believed no further than its pinned
// certificate goes: the HSM takes only identities that its Security Officer has
// pinned.
func (t *tool) otherPartition(ctx context.Context, o options) (hsm client.HSMID, serial string, err error) {
	if o.has("peer") == (o.has("identity") || o.has("serial")) || o.has("identity") != o.has("serial") {
		return hsm, "", &usageError{"name the other partition with -peer=NAME, an HSM of the configuration, or with -identity= and -serial="}
	}
	if o.has("identity") {
		raw, err := hex.DecodeString(o.text("identity"))
		if err != nil || len(raw) != len(hsm) {
			return hsm, "", &usageError{fmt.Sprintf("-identity=%s; expected the %d hexadecimal digits that `hsm identity show` prints there", o.text("identity"), 2*len(hsm))}
		}
		return client.HSMID(raw), o.text("serial"), nil
	}
	path, err := t.configPath(o)
	if err != nil {
		return hsm, "", err
	}
	members, err := t.named(path, []string{o.text("peer")})
	if err != nil {
		return hsm, "", err
	}
	other := members[0].Config
	other.Role, other.Software = client.RoleNone, "cmu "+version
	c, err := client.Dial(ctx, other)
	if err != nil {
		return hsm, "", fmt.Errorf("asking %s which partition it is: %w", o.text("peer"), err)
	}
	defer c.Close()
	r, err := c.Replica(ctx)
	if err != nil {
		return hsm, "", fmt.Errorf("asking %s which partition it is: %w", o.text("peer"), err)
	}
	return r.HSM, r.Serial, nil
}
