package hsmlink

import (
	"context"
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"moongate/client"
	"moongate/client/ha"
	"moongate/internal/gw/config"
	"moongate/internal/gw/keys"
)

// planFor says how a server is to be connected, of what is known now. role is
// as which all are to log in.
func (l *Link) planFor(mod *module, ids *identities, idsErr error, role client.Role) plan {
	p := plan{config: client.Config{Address: mod.address, MaxBackoff: reconnect, Software: "moongate " + l.m.o.Version, Version: l.hsm.Version, Logger: l.m.o.Logger}}
	fail := func(stage StageName, problem Problem, err error) plan {
		p.problem = &Error{Server: mod.name, Stage: stage, Problem: problem, Err: err}
		return p
	}
	from, err := source(l.hsm.Source, mod.server.Address)
	if err != nil {
		return fail(StageTCP, Problem{CodeSource, oneLine(err.Error()), "give the machine the address, or change route/service/entry[@name='hsm']"}, err)
	}
	p.config.LocalAddress = from
	if idsErr != nil {
		return fail(StageTLS, Problem{CodeNoIdentity, oneLine(idsErr.Error()), ""}, idsErr)
	}
	pinned, pins, err := l.m.store.pins(mod.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail(StageTLS, Problem{CodeNotPinned, "the HSM's certificate is not known", "give it: `request hsm authenticate`, or `request hsm server-certificate import` with the HSM's server.pem"}, err)
	case err != nil:
		return fail(StageTLS, Problem{CodeNotPinned, "reading the pinned certificate: " + oneLine(err.Error()), "import the HSM's server.pem again"}, err)
	}
	p.config.ServerCertificates = pinned
	p.config.Certificate = *ids.find(l.m.store.get(mod.name).Client)
	if p.config.Partition, err = l.m.store.partition(mod.name); err != nil {
		return fail(StageAssigned, Problem{CodeRefused, oneLine(err.Error()), ""}, err)
	}
	p.connect = true
	of := passwordOf{mod.name, role}
	p.given = l.m.store.generation(of)
	mod.mu.Lock()
	locked := mod.locked
	mod.mu.Unlock()
	err = l.m.store.has(of)
	if err == nil {
		err = l.m.store.maySend(of, mod.address, pins)
	}
	switch {
	case locked:
		p.problem = explain(mod.name, mod.address, &client.Error{Stage: client.StageLogin, Err: lockedError})
	case err == nil:
		p.config.Role = role
		p.config.Password = func() ([]byte, error) { return l.m.store.password(of) }
		p.pins = fingerprintsOf(pins)
	case errors.Is(err, errNotGiven), errors.Is(err, errRefused), errors.Is(err, errElsewhere):
		p.problem = explain(mod.name, mod.address, err)
	default:
		p.problem = &Error{Server: mod.name, Stage: StageLogin, Err: err,
			Problem: Problem{CodeNoPassword, "reading the partition's password: " + oneLine(err.Error()), "give it again: `request hsm login`"}}
	}
	var fingerprints []string
	for _, pin := range pinned {
		fingerprints = append(fingerprints, client.Fingerprint(pin.Raw))
	}
	p.key = strings.Join([]string{mod.address, strings.Join(fingerprints, ","), fingerprint(&p.config.Certificate), p.config.Partition,
		p.config.Role.String(), from.String(), strconv.Itoa(int(p.config.Version)), p.given}, "|")
	return p
}

// lockedError stands for the HSM's while it is not asked again.
var lockedError = &client.HSMError{Code: client.ErrPINLocked}

// role is as which all servers log in: as the first of them that can.
func (l *Link) role() client.Role {
	for _, mod := range l.modules {
		role := l.m.store.role(mod.name)
		if l.m.store.has(passwordOf{mod.name, role}) == nil {
			return role
		}
	}
	return l.m.store.role(l.modules[0].name)
}

// assemble connects by what is known now, and leaves alone what is connected as
// it should be. With patience the connection before is used until the next one
// stands.
func (l *Link) assemble(patience bool) {
	l.building.Lock()
	defer l.building.Unlock()
	if l.ctx.Err() != nil {
		return
	}
	if l.hsm.Provider == config.PKCS11HSM {
		l.assembleToken()
		return
	}
	ids, idsErr := l.m.store.identities()
	role := l.role()
	plans := make([]plan, len(l.modules))
	var ready []int
	var from []string
	for i, mod := range l.modules {
		of := role
		if l.hsm.HA == nil {
			of = l.m.store.role(mod.name)
		}
		plans[i] = l.planFor(mod, ids, idsErr, of)
		if plans[i].logsIn() {
			ready = append(ready, i)
		}
		from = append(from, plans[i].config.LocalAddress.String())
	}
	l.noteSource(plans, strings.Join(from, ","))
	if l.hsm.HA != nil && len(ready) >= 2 && l.knowsGroup() {
		l.assembleGroup(plans, ready, patience)
		return
	}
	l.assembleSingle(plans, ready, patience)
}

// assembleSingle connects each server by itself. Keys are used on the first one;
// in a group that is not one yet, on the first one that can log in.
func (l *Link) assembleSingle(plans []plan, ready []int, patience bool) {
	served := 0
	if l.hsm.HA != nil && len(ready) > 0 {
		served = ready[0]
	}
	var gone, over []*client.Client
	for i, mod := range l.modules {
		old, used := mod.connect(&plans[i])
		switch {
		case old == nil:
		case used && plans[i].logsIn():
			gone = append(gone, old)
		default: // of no use to anybody, or logged out: at once
			over = append(over, old)
		}
	}
	mod := l.modules[served]
	key := "single " + mod.name + " " + plans[served].key
	if !plans[served].logsIn() {
		key = "none"
	}
	l.mu.Lock()
	group := l.group
	l.group, l.served = nil, mod.name
	l.mu.Unlock()
	if l.traffic != key || group != nil {
		mod.mu.Lock()
		next := mod.own
		mod.mu.Unlock()
		if key == "none" || next == nil {
			l.inner.Set(waiting{l})
		} else {
			l.handOver(next, patience)
			l.inner.Set(keys.Network(kept{next}))
		}
		l.traffic = key
	}
	if len(ready) == 0 {
		end(group, nil)
		group = nil
	}
	end(nil, over)
	l.retire(group, gone)
	l.lookForKeys()
}

// connect opens the connection of a plan, unless it stands already. It returns
// the one that was replaced, and whether that was logged in; nil for none.
func (mod *module) connect(p *plan) (before *client.Client, used bool) {
	mod.mu.Lock()
	defer mod.mu.Unlock()
	if mod.plan.key == p.key && p.connect && mod.own != nil {
		mod.plan = *p
		return nil, false
	}
	used = mod.plan.logsIn()
	mod.plan = *p
	before, mod.own = mod.own, nil
	if p.connect {
		c, err := client.Open(p.config)
		if err != nil {
			mod.plan.problem = &Error{Server: mod.name, Stage: StageTLS, Problem: Problem{CodeRefused, oneLine(err.Error()), ""}, Err: err}
			if p.config.Version != 0 {
				mod.plan.problem.Code, mod.plan.problem.Stage = CodeVersion, StageRegistered
			}
			mod.plan.connect = false
		}
		mod.own = c
	}
	mod.keys = foundKeys{}
	return before, used
}

// kept is an HSM that is closed by its module, not by who uses it.
type kept struct{ *client.Client }

func (kept) Close() error { return nil }

// keptGroup is a group that is closed by its Link.
type keptGroup struct{ *ha.Group }

func (keptGroup) Close() error { return nil }

// handOver waits for the next connection where there is one before that can be
// used meanwhile.
func (l *Link) handOver(next keys.HSM, patience bool) {
	if !patience || !l.inner.Status().Ready {
		return
	}
	ctx, cancel := context.WithTimeout(l.ctx, handover)
	defer cancel()
	if err := next.Ready(ctx); err != nil && l.ctx.Err() == nil {
		l.m.o.Logger.Warn("the next connection to the HSM does not stand yet", "err", err)
	}
}

// retire closes what is not used any more when what began on it has ended.
func (l *Link) retire(group *ha.Group, clients []*client.Client) {
	if group == nil && len(clients) == 0 {
		return
	}
	l.work.Go(func() {
		select {
		case <-time.After(grace):
		case <-l.ctx.Done():
		}
		end(group, clients)
	})
}

// end closes connections; none is nil.
func end(group *ha.Group, clients []*client.Client) {
	if group != nil {
		_ = group.Close() // never fails
	}
	for _, c := range clients {
		_ = c.Close() // never fails
	}
}
