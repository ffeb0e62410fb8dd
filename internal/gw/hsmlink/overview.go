package hsmlink

import (
	"fmt"
	"strings"

	"moongate/client/ha"
	"moongate/internal/gw/config"
)

// overview is how everything of the link stands, from memory.
func (l *Link) overview() Status {
	s := Status{At: l.m.o.Now(), Provider: l.hsm.Provider}
	for _, mod := range l.modules {
		status, looked := mod.snapshot()
		if status.Name == "" { // not looked at yet
			status = ServerStatus{Name: mod.name, Address: mod.address, State: string(StageHost), Since: s.At}
			status.Stages = stagesOf(nil, 0, nil, &status, s.At)
		}
		if !looked.IsZero() && looked.Before(s.At) {
			s.At = looked
		}
		if l.hsm.Provider == config.NetworkHSM {
			_, status.Pins, _ = l.m.store.pins(mod.name) // none: the stage tls says why
		}
		s.Servers = append(s.Servers, status)
	}
	if l.hsm.Provider == config.NetworkHSM {
		s.Client = l.m.clientCertificates(l)
	}
	l.mu.Lock()
	s.Source = l.source
	l.mu.Unlock()
	if l.hsm.HA != nil {
		group := l.groupStatus(s.Servers)
		s.Group = &group
	}
	return s
}

// groupStatus is how the servers stand as a group.
func (l *Link) groupStatus(servers []ServerStatus) GroupStatus {
	l.mu.Lock()
	group, record := l.group, l.record
	l.mu.Unlock()
	s := GroupStatus{Name: l.hsm.HA.Name, Retry: l.hsm.HA.Retry, Record: record, State: GroupNotCreated}
	if group == nil {
		s.Problem = &Problem{CodeNoGroup, "the servers are no group yet: keys are used on " + l.servedName() + " alone", "create it: `request hsm ha create-ha-group`"}
		if l.knowsGroup() {
			s.State = GroupDegraded
			s.Problem = &Problem{CodeNoGroup, "fewer than two servers of the group can be logged in to: keys are used on " + l.servedName() + " alone", "see the servers' states"}
		}
		return s
	}
	if r := group.Record(); r.Epoch > 0 {
		s.Record = r
	}
	s.Conflicts = group.Conflicts()
	live := 0
	for i := range servers {
		if m := servers[i].Member; m != nil && m.State == ha.Live {
			live++
		}
	}
	s.Unrecorded, s.Unconfigured = l.compare(s.Record)
	switch {
	case live == len(servers) && len(s.Unconfigured) == 0:
		s.State = GroupWhole
	case live > 0:
		s.State = GroupDegraded
		s.Problem = &Problem{CodeNotWhole, fmt.Sprintf("%d of %d servers are live", live, len(servers)), "see the servers' states"}
	default:
		s.State = GroupLost
		s.Problem = &Problem{CodeNotWhole, "no server is live", "see the servers' states"}
	}
	if len(s.Unconfigured) > 0 || len(s.Unrecorded) > 0 {
		s.Problem = &Problem{CodeNotWhole, "the group is not the configured servers" + differences(s.Unrecorded, s.Unconfigured), "make it so: `request hsm ha replace-server`"}
	}
	return s
}

func differences(unrecorded, unconfigured []string) string {
	text := ""
	if len(unrecorded) > 0 {
		text += ": it lacks " + oneOf(unrecorded)
	}
	if len(unconfigured) > 0 {
		text += ": it still has " + oneOf(unconfigured)
	}
	return text
}

func (l *Link) servedName() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.served == "" {
		return l.modules[0].name
	}
	return l.served
}

// tell tells the administrator that a server's state has changed.
func (l *Link) tell(mod *module, before, now *ServerStatus) {
	if before.State != now.State || codeOf(before.Problem) != codeOf(now.Problem) {
		l.m.figures.changes(mod.name)
	}
	if !l.m.isActive(l) || now.Problem == nil && now.State != StateAuthenticated {
		return // on its way
	}
	word := now.State + " " + string(codeOf(now.Problem))
	up := now.State == StateAuthenticated
	wasUp := strings.HasPrefix(mod.told, StateAuthenticated)
	if mod.told == word || up && now.Problem == nil && len(now.Stages) > 0 && now.Stages[at(StageKeys)].Level == Waiting && wasUp {
		return
	}
	mod.told = word
	e := Event{Object: mod.name}
	switch {
	case up && now.Problem == nil:
		e.ID, e.Text = "hsm-server-up", fmt.Sprintf("HSM server %s is authenticated: partition %s, serial number %s, as %s", mod.name, now.Partition, now.Serial, now.Role)
	case up:
		e.ID, e.Severity = "hsm-server-keys", High
		e.Text = fmt.Sprintf("HSM server %s (%s): %s", mod.name, StageKeys, now.Problem)
	default:
		e.ID, e.Severity = "hsm-server-down", High
		if l.isServed(mod) && l.groupNow() == nil {
			e.Severity = Critical
		}
		e.Text = fmt.Sprintf("HSM server %s (%s): %s", mod.name, now.State, now.Problem)
	}
	l.m.event(e)
}

// tellGroup tells when the group becomes whole, or is not any more.
func (l *Link) tellGroup() {
	if l.hsm.HA == nil || !l.m.isActive(l) {
		return
	}
	var servers []ServerStatus
	for _, mod := range l.modules {
		s, _ := mod.snapshot()
		if s.Name == "" {
			return // not looked at yet
		}
		servers = append(servers, s)
	}
	now := l.groupStatus(servers)
	l.mu.Lock()
	before := l.told
	l.told = now.State
	l.mu.Unlock()
	if before == now.State || now.State == GroupNotCreated && before == GroupNone {
		return
	}
	e := Event{ID: "hsm-ha-state", Object: now.Name, Text: fmt.Sprintf("the HSM group %s is %s", now.Name, now.State)}
	switch now.State {
	case GroupLost:
		e.Severity = Critical
	case GroupDegraded:
		e.Severity = High
	}
	if now.Problem != nil {
		e.Text += ": " + now.Problem.String()
	}
	l.m.event(e)
}

// clientCertificates are the gateway's own.
func (m *Manager) clientCertificates(l *Link) []ClientCertificate {
	ids, err := m.store.identities()
	if err != nil {
		return nil
	}
	list := []ClientCertificate{certificateOf(&ids.current, false)}
	if ids.next != nil {
		list = append(list, certificateOf(ids.next, true))
	}
	for _, mod := range l.modules {
		status, _ := mod.snapshot()
		if at(StageName(status.State)) >= 0 && at(StageName(status.State)) <= at(StageRegistered) {
			continue
		}
		used := ids.find(m.store.get(mod.name).Client)
		for i := range list {
			if list[i].Fingerprint == fingerprint(used) {
				list[i].AcceptedBy = append(list[i].AcceptedBy, mod.name)
			}
		}
	}
	return list
}
