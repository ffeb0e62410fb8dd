package e2e

import (
	"context"
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"moongate/client"
	"moongate/client/ha"
	"moongate/e2e/world"
)

// returnsWithin bounds how long a member that can be reached again may be
// without use: the pause between attempts to connect, a comparison of contents,
// and a noisy machine.
const returnsWithin = 30 * time.Second

// haWorld is a group of HSM processes, each on a host of its own, with two
// independent clients: an officer that makes and destroys keys, and a user that
// signs all the time.
type haWorld struct {
	t       *testing.T
	group   *world.Group
	hosts   []*world.Host
	officer *ha.Group
	user    *ha.Group
	load    *signing
	keys    int // made so far
}

func startHA(t *testing.T, members int) *haWorld {
	t.Helper()
	w := world.T(t)
	net := w.Network()
	h := &haWorld{t: t}
	for i := range members {
		h.hosts = append(h.hosts, net.Host(fmt.Sprintf("hsm%d", i+1), fmt.Sprintf("10.164.75.%d", 32+i)))
	}
	h.group = w.Group(net.Host("app", "10.164.78.10"), h.hosts...)
	h.officer, h.user = h.open(client.RoleCryptoOfficer), h.open(client.RoleCryptoUser)
	h.allLive()
	var keys []client.Key
	for i := range 3 {
		pair, err := h.officer.GenerateEC(t.Context(), elliptic.P256(), label("ec %d", i), label("ec %d", i))
		must(t, err)
		keys = append(keys, h.key(pair.Private))
	}
	pair, err := h.officer.GenerateRSA(t.Context(), 2048, label("rsa"), label("rsa"))
	must(t, err)
	h.load = sign(t, append(keys, h.key(pair.Private)), 4, 5*time.Millisecond)
	return h
}

// memberName is what a member is called, counted from 0.
func memberName(member int) string { return fmt.Sprintf("hsm%d", member+1) }

func label(format string, args ...any) client.Template {
	return client.NewTemplate(client.TextAttr(client.AttrLabel, fmt.Sprintf(format, args...)))
}

// key is the user's handle of a key.
func (h *haWorld) key(id client.ID) client.Key {
	h.t.Helper()
	key, err := h.user.Key(h.t.Context(), id)
	must(h.t, err)
	return key
}

func (h *haWorld) open(role client.Role) *ha.Group {
	h.t.Helper()
	config, err := h.group.Config(role, func(address string) string { return world.T(h.t).Forward(h.group.Client, address) })
	must(h.t, err)
	config.Logger = slog.New(slog.NewTextHandler(h.t.Output(), nil)).With("client", role)
	g, err := ha.Open(config)
	must(h.t, err)
	h.t.Cleanup(func() {
		if err := g.Close(); err != nil {
			h.t.Error(err)
		}
	})
	return g
}

// allLive waits until both clients have all members.
func (h *haWorld) allLive() {
	h.t.Helper()
	eventually(h.t, returnsWithin, func() error {
		for _, g := range []*ha.Group{h.officer, h.user} {
			for _, m := range g.Members() {
				if m.State != ha.Live {
					return fmt.Errorf("member %s is %s: %s", m.Name, m.State, m.Reason)
				}
			}
		}
		return nil
	})
}

// noticed waits until both clients know that a member is not to be used.
func (h *haWorld) noticed(member int) {
	h.t.Helper()
	eventually(h.t, returnsWithin, func() error {
		for _, g := range []*ha.Group{h.officer, h.user} {
			for _, m := range g.Members() {
				if m.Name == memberName(member) && m.State == ha.Live {
					return fmt.Errorf("member %s is still live", m.Name)
				}
			}
		}
		return nil
	})
}

// change makes a key and destroys one, without a member: the destruction is
// pending on it.
func (h *haWorld) change(away string) (made, destroyed client.ID) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	var ids [2]client.ID
	for i := range ids {
		h.keys++
		id, err := h.officer.GenerateAES(ctx, 32, label("made %d", h.keys))
		if err != nil {
			h.t.Fatalf("making a key without %s: %v", away, err)
		}
		ids[i] = id
	}
	err := h.officer.Destroy(ctx, ids[1])
	if pending, is := errors.AsType[*ha.PendingError](err); !is || len(pending.Members) != 1 || pending.Members[0] != away {
		h.t.Errorf("destroying a key without %s: %v; expected that it is pending there", away, err)
	}
	return ids[0], ids[1]
}

// holds checks what each member holds, by its own connection.
func (h *haWorld) holds(id client.ID, want bool) {
	h.t.Helper()
	for _, m := range h.officer.Members() {
		_, err := h.officer.Client(m.Name).Attributes(h.t.Context(), id, client.AttrLabel)
		if got := err == nil; got != want || !got && client.CodeOf(err) != client.ErrObjectNotFound {
			h.t.Errorf("member %s has key %s: %v, expected %v: %v", m.Name, id, got, want, err)
		}
	}
}

// equal waits until all members hold the same.
func (h *haWorld) equal() {
	h.t.Helper()
	eventually(h.t, returnsWithin, func() error {
		var first string
		for i := range h.group.HSMs {
			name := memberName(i)
			digest, err := h.officer.Client(name).Digest(h.t.Context())
			if err != nil {
				return err
			}
			sum := fmt.Sprintf("%x of %d objects and %d destroyed ones", digest.Sum, digest.Objects, digest.Tombstones)
			if first == "" {
				first = sum
			}
			if sum != first {
				return fmt.Errorf("%s holds %s, and hsm1 %s", name, sum, first)
			}
		}
		return nil
	})
}

// fault is what happens to one member, and how it ends. away says that the
// clients lose it.
type fault struct {
	name       string
	begin, end func(ctx context.Context, h *haWorld, member int) error
	away       bool
}

var faults = []fault{
	{"kill -9", kill, restart, true},
	{"stopped (SIGSTOP)", freeze, thaw, true},
	{"cut", cut, mend, true},
	{"slow", slow, mend, false},
	{"flapping", flap, mend, false},
}

func kill(_ context.Context, h *haWorld, member int) error {
	h.group.HSMs[member].Kill9()
	return nil
}

func restart(ctx context.Context, h *haWorld, member int) error {
	return h.group.HSMs[member].Restart(ctx)
}

func freeze(_ context.Context, h *haWorld, member int) error {
	return h.group.HSMs[member].Process().Freeze()
}

func thaw(_ context.Context, h *haWorld, member int) error {
	return h.group.HSMs[member].Process().Thaw()
}

// cut is the network's, or where that is of loopback addresses a process that
// stands still.
func cut(ctx context.Context, h *haWorld, member int) error {
	if err := h.hosts[member].Cut(ctx); !errors.Is(err, world.ErrNoNamespaces) {
		return err
	}
	return freeze(ctx, h, member)
}

func mend(ctx context.Context, h *haWorld, member int) error {
	if err := h.hosts[member].Mend(ctx); !errors.Is(err, world.ErrNoNamespaces) {
		return err
	}
	return thaw(ctx, h, member)
}

// slow leaves 1 kB/s for three seconds: signatures would wait for each other. On
// the loopback the process stands still most of the time.
func slow(ctx context.Context, h *haWorld, member int) error {
	if err := h.hosts[member].Slow(ctx, "8kbit"); !errors.Is(err, world.ErrNoNamespaces) {
		time.Sleep(3 * time.Second)
		return err
	}
	for range 6 {
		if err := freeze(ctx, h, member); err != nil {
			return err
		}
		time.Sleep(450 * time.Millisecond)
		if err := thaw(ctx, h, member); err != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}

// flap cuts and mends a few times, at intervals that are shorter and longer
// than what clients wait for.
func flap(ctx context.Context, h *haWorld, member int) error {
	for _, pause := range []time.Duration{50, 700, 200, 1200, 100} {
		if err := cut(ctx, h, member); err != nil {
			return err
		}
		time.Sleep(pause * time.Millisecond)
		if err := mend(ctx, h, member); err != nil {
			return err
		}
		time.Sleep(pause * time.Millisecond / 2)
	}
	return nil
}

// TestGroupUnderFaults lets happen to HSM processes what happens to HSMs, one
// member after the other, under a steady load of signatures: the application
// sees no error, a member that is back is used again and holds what the others
// hold.
func TestGroupUnderFaults(t *testing.T) {
	t.Parallel()
	h := startHA(t, 3)
	h.load.more(50)
	var phases []*signed
	for i, f := range faults {
		member := i % len(h.hosts)
		name := memberName(member)
		phases = append(phases, h.load.next(f.name))
		must(t, f.begin(t.Context(), h, member))
		var made, destroyed client.ID
		if f.away {
			h.noticed(member)
			made, destroyed = h.change(name)
		}
		h.load.more(100)
		must(t, f.end(t.Context(), h, member))
		back := time.Now()
		h.allLive()
		t.Logf("%s: %s is used again %v after its end", f.name, name, time.Since(back).Round(time.Millisecond))
		h.used(member)
		h.equal()
		if f.away {
			h.holds(made, true)
			h.holds(destroyed, false)
		}
	}
	phases = append(phases, h.load.next("all members killed"))

	for i := range h.hosts {
		must(t, kill(t.Context(), h, i))
	}
	for i := range h.hosts {
		h.noticed(i)
	}
	// Idle or not, nobody has to call for the group to come back.
	for i := range h.hosts {
		must(t, restart(t.Context(), h, i))
	}
	back := time.Now()
	h.allLive()
	t.Logf("all members are used again %v after the last was back", time.Since(back).Round(time.Millisecond))
	lost := h.load.next("after")
	h.load.more(100)
	h.equal()
	phases = append(phases, h.load.next("end"))
	h.load.end()
	h.load.report(lost)
	for _, p := range phases {
		h.load.none(p)
	}
	h.told()
}

// used waits until a member has answered signatures again.
func (h *haWorld) used(member int) {
	h.t.Helper()
	uses := func() int {
		records, err := h.group.HSMs[member].Audit(h.t.Context(), 50)
		must(h.t, err)
		n := 0
		for _, r := range records {
			if r.Action == "key.sign" && time.Since(r.Time) < time.Second {
				n++
			}
		}
		return n
	}
	eventually(h.t, returnsWithin, func() error {
		if uses() == 0 {
			return fmt.Errorf("%s signs nothing", memberName(member))
		}
		return nil
	})
}

// told checks what the tool says of a group that is whole.
func (h *haWorld) told() {
	h.t.Helper()
	out, err := h.group.CMU(h.t.Context(), "ha", "status", "-json")
	if err != nil {
		h.t.Fatalf("cmu ha status: %v\n%s", err, out)
	}
	_, text, _ := strings.Cut(out, "{")
	var status struct {
		Members []struct{ Name, State string }
	}
	if err := json.NewDecoder(strings.NewReader("{" + text)).Decode(&status); err != nil {
		h.t.Fatalf("cmu ha status -json: %v\n%s", err, out)
	}
	if len(status.Members) != len(h.hosts) {
		h.t.Errorf("cmu ha status shows %d members, the group has %d\n%s", len(status.Members), len(h.hosts), out)
	}
	for _, m := range status.Members {
		if m.State != "live" {
			h.t.Errorf("cmu ha status says that %s is %s", m.Name, m.State)
		}
	}
}
