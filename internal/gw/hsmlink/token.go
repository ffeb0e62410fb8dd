package hsmlink

import (
	"context"
	"errors"
	"time"

	"moongate/client"
	"moongate/internal/gw/keys"
	"moongate/internal/gw/p11host"
)

// assembleToken starts the process of a PKCS#11 module, once there is a PIN,
// and connects to it.
func (l *Link) assembleToken() {
	mod := l.modules[0]
	of := passwordOf{mod.name, client.RoleCryptoOfficer}
	given := l.m.store.generation(of)
	p := plan{key: given, given: given}
	fail := func(problem Problem, err error) {
		p.problem = &Error{Server: mod.name, Stage: StageLogin, Problem: problem, Err: err}
	}
	switch err := l.m.store.has(of); {
	case errors.Is(err, errNotGiven), errors.Is(err, errRefused):
		p.problem = explain(mod.name, mod.address, err)
	case err != nil:
		fail(Problem{CodeNoPassword, "reading the token's PIN: " + oneLine(err.Error()), "give it again: `request hsm login`"}, err)
	default:
		p.connect = true
	}
	l.mu.Lock()
	host := l.host
	l.mu.Unlock()
	mod.mu.Lock()
	same := mod.plan.key == p.key && mod.plan.connect == p.connect && host != nil
	mod.mu.Unlock()
	if same {
		return
	}
	if host != nil {
		l.mu.Lock()
		l.host = nil
		l.mu.Unlock()
		l.inner.Set(waiting{l})
		if old, _ := mod.connect(&plan{}); old != nil {
			_ = old.Close() // never fails
		}
		if err := host.Close(); err != nil {
			l.m.o.Logger.Warn("ending the process of the PKCS#11 module", "err", err)
		}
	}
	if p.connect {
		var user string
		if l.hsm.Module.CryptoUser {
			user = p11host.LunaCryptoUser
		}
		started, err := p11host.Start(p11host.Config{
			Module: l.hsm.Module.Path, Token: l.hsm.Module.Token, Program: l.m.o.Module, Env: l.m.o.ModuleEnvironment, Logger: l.m.o.Logger, UserType: user,
			PIN: func() ([]byte, error) { return l.m.store.password(of) },
		})
		if err != nil {
			p.connect = false
			p.problem = &Error{Server: mod.name, Stage: StageTCP, Problem: Problem{CodeModule, oneLine(err.Error()), ""}, Err: err}
		} else {
			p.config = started.Client()
			p.config.Role, p.config.Software, p.config.Logger = client.RoleCryptoOfficer, "moongate "+l.m.o.Version, l.m.o.Logger
			l.mu.Lock()
			l.host = started
			l.mu.Unlock()
		}
	}
	mod.connect(&p)
	mod.mu.Lock()
	own := mod.own
	mod.mu.Unlock()
	if own != nil {
		l.inner.Set(keys.Network(kept{own}))
	}
	l.lookForKeys()
}

// loginToken starts the module's process with a PIN, and takes the PIN where the
// token does.
func (l *Link) loginToken(ctx context.Context, mod *module, r LoginRequest) (client.PartitionInfo, error) {
	of := passwordOf{mod.name, client.RoleCryptoOfficer} // a token has one PIN
	if err := l.m.store.setPassword(of, r.Password, false); err != nil {
		return client.PartitionInfo{}, err
	}
	key := l.m.store.generation(of)
	l.rebuild()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		mod.mu.Lock()
		c, p := mod.own, mod.plan
		mod.mu.Unlock()
		switch {
		case p.key != key:
		case p.problem != nil:
			return client.PartitionInfo{}, p.problem
		case c != nil && c.Status().Connected:
			var err error
			if r.Keep {
				err = l.m.store.keepGiven(of)
			}
			return c.Status().Partition, err
		}
		if problem := l.tokenProblem(mod); problem != nil && problem.Code == CodeWrongPassword && p.key == key {
			return client.PartitionInfo{}, problem
		}
		select {
		case <-ctx.Done():
			return client.PartitionInfo{}, ctx.Err()
		case <-l.ctx.Done():
			return client.PartitionInfo{}, errors.New("the configuration was changed meanwhile: log in again")
		case <-tick.C:
		}
	}
}

// tokenProblem is why the module's process does not serve; nil where it does.
func (l *Link) tokenProblem(mod *module) *Error {
	mod.mu.Lock()
	given := mod.plan.given // before the host: that of an earlier PIN is not taken for this one's
	mod.mu.Unlock()
	l.mu.Lock()
	host := l.host
	l.mu.Unlock()
	if host == nil {
		return nil
	}
	s := host.Status()
	e := &Error{Server: mod.name, Stage: StageTCP, Problem: Problem{CodeModule, oneLine(s.Cause), s.Fix}}
	switch s.State {
	case p11host.Running, p11host.Starting:
		return nil
	case p11host.Refused:
		if err := l.m.store.refused(passwordOf{mod.name, client.RoleCryptoOfficer}, given); err != nil {
			l.m.o.Logger.Error("keeping that a PIN was refused", "err", err)
		}
		e.Stage, e.Problem = StageLogin, Problem{CodeWrongPassword, "the token refused the PIN, which is not tried again by itself: " + oneLine(s.Cause), "give the right one: `request hsm login`"}
	}
	return e
}
