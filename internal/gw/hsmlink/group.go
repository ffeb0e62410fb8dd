package hsmlink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"moongate/client"
	"moongate/client/ha"
	"moongate/internal/gw/keys"
)

// Codes of a group.
const (
	CodeNoGroup   Code = "no-group"
	CodeNotWhole  Code = "group-not-whole"
	CodeNotMember Code = "not-in-group"
	CodeDrift     Code = "drift"
)

// groupPath is where a group's record is remembered.
func (l *Link) groupPath() string { return l.m.store.path("ha-" + l.hsm.HA.Name + ".json") }

// knowsGroup reports whether the group was created: its record is remembered, or
// a server answered with it.
func (l *Link) knowsGroup() bool {
	if _, err := os.Stat(l.groupPath()); err == nil {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.record.Epoch > 0
}

// findRecord asks the servers for the record of the group while none is open:
// another gateway may have created it.
func (l *Link) findRecord() {
	if l.hsm.HA == nil || l.groupNow() != nil || l.knowsGroup() {
		return
	}
	for _, mod := range l.modules {
		c := mod.connection()
		status, _ := mod.snapshot()
		if c == nil || !c.Status().Connected || status.Role == "" || time.Since(mod.remembered) < rememberOf {
			continue
		}
		mod.remembered = time.Now()
		ctx, cancel := context.WithTimeout(client.WithoutWaiting(l.ctx), askFor)
		record, err := c.Group(ctx)
		cancel()
		if err == nil && record.Epoch > 0 && record.Label == l.hsm.HA.Name {
			l.mu.Lock()
			l.record = record
			l.mu.Unlock()
			l.rebuild()
			return
		}
	}
}

// groupConfig is the configuration of the group of those servers that can log
// in.
func (l *Link) groupConfig(plans []plan, ready []int) ha.Config {
	c := ha.Config{Label: l.hsm.HA.Name, Retry: l.hsm.HA.Retry, StateFile: l.groupPath(), Logger: l.m.o.Logger, Now: l.m.o.Now}
	for _, i := range ready {
		member := ha.Member{Name: l.modules[i].name, Config: plans[i].config}
		member.MaxBackoff = reconnect
		c.Members = append(c.Members, member)
	}
	return c
}

// assembleGroup connects the servers as a group.
func (l *Link) assembleGroup(plans []plan, ready []int, patience bool) {
	key := "group " + l.hsm.HA.Name
	for _, i := range ready {
		key += "\n" + l.modules[i].name + " " + plans[i].key
	}
	var gone []*client.Client
	l.mu.Lock()
	before := l.group
	l.mu.Unlock()
	if before == nil || l.traffic != key {
		group, err := ha.Open(l.groupConfig(plans, ready))
		if err != nil {
			l.m.o.Logger.Error("the HSM group cannot be used", "group", l.hsm.HA.Name, "err", err)
			l.assembleSingle(plans, ready, patience)
			return
		}
		l.handOver(group, patience)
		l.mu.Lock()
		l.group, l.served = group, ""
		l.mu.Unlock()
		l.inner.Set(keys.Network(keptGroup{group}))
		l.traffic = key
	} else {
		before = nil
	}
	for i, mod := range l.modules {
		p := plans[i]
		if slices.Contains(ready, i) {
			p.connect = false // it is the group's
		}
		old, used := mod.connect(&p)
		mod.mu.Lock()
		mod.plan = plans[i]
		mod.mu.Unlock()
		if old != nil && used {
			gone = append(gone, old)
		} else if old != nil {
			end(nil, []*client.Client{old})
		}
	}
	l.retire(before, gone)
	l.lookForKeys()
}

// officerConfig is the configuration of the group as the Crypto Officer, of all
// configured servers; an empty password is the kept one of each.
func (l *Link) officerConfig(password []byte) (ha.Config, error) {
	c := ha.Config{Label: l.hsm.HA.Name, Retry: l.hsm.HA.Retry, StateFile: l.groupPath(), Logger: l.m.o.Logger, Now: l.m.o.Now}
	for _, mod := range l.modules {
		config, err := l.officerOf(mod, password)
		if err != nil {
			return ha.Config{}, err
		}
		c.Members = append(c.Members, ha.Member{Name: mod.name, Config: config})
	}
	return c, nil
}

// ha is the link of a configuration with a group.
func (m *Manager) ha() (*Link, error) {
	l := m.current()
	if l == nil || l.hsm.HA == nil {
		return nil, errors.New("no HSM group is configured: set hsm-settings/provider/safenet-network/ha and commit")
	}
	return l, nil
}

// CreateGroup makes the configured servers a group: each lists the others, and
// all get all keys. password is the Crypto Officer's on all of them; empty is
// the kept one. Where the group is there already it is joined. progress may be
// nil.
func (m *Manager) CreateGroup(ctx context.Context, password []byte, progress func(ha.Progress)) (ha.Record, error) {
	l, err := m.ha()
	if err != nil {
		return ha.Record{}, err
	}
	m.grouping.Lock()
	defer m.grouping.Unlock()
	return l.createGroup(ctx, password, progress)
}

func (l *Link) createGroup(ctx context.Context, password []byte, progress func(ha.Progress)) (ha.Record, error) {
	c, err := l.officerConfig(password)
	if err != nil {
		return ha.Record{}, err
	}
	group, err := ha.Create(ctx, c, progress)
	if err != nil {
		return ha.Record{}, l.refusedBy(err)
	}
	record := group.Record()
	_ = group.Close() // never fails
	l.mu.Lock()
	l.record = record
	l.mu.Unlock()
	l.m.o.Logger.Info("HSM group created", "group", record.Label, "members", len(record.Members))
	l.m.event(Event{ID: "hsm-ha-created", Object: record.Label, Text: fmt.Sprintf("the HSM group %s is made of %s", record.Label, strings.Join(memberNames(record), ", "))})
	l.rebuildGroup()
	return record, nil
}

func memberNames(r ha.Record) []string {
	var names []string
	for _, m := range r.Members {
		names = append(names, cmp.Or(m.Name, m.Serial))
	}
	return names
}

// refusedBy adds what is known of a server whose password was wrong.
func (l *Link) refusedBy(err error) error {
	if code := client.CodeOf(err); code == client.ErrPINIncorrect {
		return fmt.Errorf("%w: give the Crypto Officer's password, which must be the same on all servers", err)
	}
	return err
}

// asOfficer runs something on the group as the Crypto Officer.
func (l *Link) asOfficer(ctx context.Context, password []byte, do func(*ha.Group, ha.Config) error) error {
	c, err := l.officerConfig(password)
	if err != nil {
		return err
	}
	members := c
	if recorded := l.recorded(c.Members); len(recorded) >= 2 {
		members.Members = recorded // the others are strangers to it yet
	}
	group, err := ha.Open(members)
	if err != nil {
		return err
	}
	defer group.Close()
	if err := group.Ready(ctx); err != nil {
		return l.refusedBy(err)
	}
	within, cancel := context.WithTimeout(ctx, handover)
	defer cancel()
	for onTheWay(group) && within.Err() == nil { // who stays away is said by what follows
		time.Sleep(10 * time.Millisecond)
	}
	return do(group, c)
}

// onTheWay reports whether members are still connecting, or catching up.
func onTheWay(g *ha.Group) bool {
	return slices.ContainsFunc(g.Members(), func(m ha.MemberStatus) bool { return m.State == ha.Connecting || m.State == ha.Behind })
}

// recorded are those of the members that the group's record names, as far as it
// is known.
func (l *Link) recorded(members []ha.Member) []ha.Member {
	l.mu.Lock()
	group, record := l.group, l.record
	l.mu.Unlock()
	if group != nil && group.Record().Epoch > 0 {
		record = group.Record()
	}
	missing, _ := l.compare(record)
	return slices.DeleteFunc(slices.Clone(members), func(m ha.Member) bool { return slices.Contains(missing, m.Name) })
}

// compare says which of the servers a record does not name, and which of its
// members, by their names there, are not configured. A partition is known by its
// serial number, whatever it is called by who made the group; one that was never
// logged in to, by its name.
func (l *Link) compare(record ha.Record) (unrecorded, unconfigured []string) {
	found := make([]bool, len(record.Members))
	for _, mod := range l.modules {
		serial := l.m.store.get(mod.name).Serial
		i := slices.IndexFunc(record.Members, func(m ha.RecordOf) bool {
			return serial != "" && m.Serial == serial || serial == "" && m.Name == mod.name
		})
		if i < 0 {
			unrecorded = append(unrecorded, mod.name)
		} else {
			found[i] = true
		}
	}
	for i, m := range record.Members {
		if !found[i] {
			unconfigured = append(unconfigured, cmp.Or(m.Name, m.Serial))
		}
	}
	return unrecorded, unconfigured
}

// Synchronize brings all members to the same keys. Passwords as of CreateGroup.
func (m *Manager) Synchronize(ctx context.Context, password []byte, progress func(ha.Progress)) (ha.Report, error) {
	l, err := m.ha()
	if err != nil {
		return ha.Report{}, err
	}
	m.grouping.Lock()
	defer m.grouping.Unlock()
	var report ha.Report
	err = l.asOfficer(ctx, password, func(g *ha.Group, _ ha.Config) error {
		var err error
		report, err = g.Synchronize(ctx, progress)
		return err
	})
	l.lookForKeys()
	return report, err
}

// Replaced is what ReplaceServers did.
type Replaced struct {
	Added, Removed []string
	Record         ha.Record
}

// ReplaceServers makes the group the configured servers: those that it lacks are
// added and get all keys, those that are not configured any more are removed.
// Passwords as of CreateGroup.
func (m *Manager) ReplaceServers(ctx context.Context, password []byte, progress func(ha.Progress)) (Replaced, error) {
	l, err := m.ha()
	if err != nil {
		return Replaced{}, err
	}
	m.grouping.Lock()
	defer m.grouping.Unlock()
	return l.replaceServers(ctx, password, progress)
}

func (l *Link) replaceServers(ctx context.Context, password []byte, progress func(ha.Progress)) (Replaced, error) {
	var done Replaced
	err := l.asOfficer(ctx, password, func(g *ha.Group, c ha.Config) error {
		record := g.Record()
		if record.Epoch == 0 {
			return errors.New("the group was not created yet: `request hsm ha create-ha-group`")
		}
		unrecorded, unconfigured := l.compare(record)
		var added []ha.Member
		for _, member := range c.Members {
			if slices.Contains(unrecorded, member.Name) {
				added = append(added, member)
			}
		}
		for _, name := range unconfigured {
			if len(added) > 0 { // in one step, since the old one may be dead
				if err := g.Replace(ctx, name, added[0], progress); err != nil {
					return fmt.Errorf("replacing %s in the group by %s: %w", name, added[0].Name, err)
				}
				done.Added, added = append(done.Added, added[0].Name), added[1:]
			} else if err := g.Remove(ctx, name); err != nil {
				return fmt.Errorf("removing %s from the group: %w", name, err)
			}
			done.Removed = append(done.Removed, name)
		}
		for _, member := range added {
			if err := g.Add(ctx, member, progress); err != nil {
				return fmt.Errorf("adding %s to the group: %w", member.Name, err)
			}
			done.Added = append(done.Added, member.Name)
		}
		done.Record = g.Record()
		return nil
	})
	if len(done.Added)+len(done.Removed) > 0 {
		l.m.event(Event{ID: "hsm-ha-changed", Object: l.hsm.HA.Name, Text: fmt.Sprintf("the HSM group %s: %d added, %d removed", l.hsm.HA.Name, len(done.Added), len(done.Removed))})
		l.rebuildGroup()
	}
	return done, err
}

// rebuildGroup opens the group anew, of another record.
func (l *Link) rebuildGroup() {
	l.building.Lock()
	l.traffic = ""
	l.building.Unlock()
	l.rebuild()
}

// followGroup makes the group what is configured, after a login as the Crypto
// Officer: it is created, servers are added to it and taken out of it. It returns
// nil where nothing is to be done, or a server cannot be logged in to yet.
func (l *Link) followGroup(ctx context.Context, password []byte) *LoggedIn {
	for _, mod := range l.modules {
		if l.m.store.has(passwordOf{mod.name, client.RoleCryptoOfficer}) != nil {
			return nil
		}
	}
	l.m.grouping.Lock()
	defer l.m.grouping.Unlock()
	done := &LoggedIn{Server: "HA group " + l.hsm.HA.Name}
	if !l.knowsGroup() {
		var record ha.Record
		if record, done.Err = l.createGroup(ctx, password, nil); done.Err == nil {
			done.Note = "made of " + strings.Join(memberNames(record), ", ")
		}
		return done
	}
	replaced, err := l.replaceServers(ctx, password, nil)
	if len(replaced.Added) > 0 {
		done.Note = "added " + strings.Join(replaced.Added, ", ")
	}
	if len(replaced.Removed) > 0 {
		done.Note = strings.TrimPrefix(done.Note+", removed "+strings.Join(replaced.Removed, ", "), ", ")
	}
	if done.Err = err; err == nil && done.Note == "" {
		return nil
	}
	return done
}
