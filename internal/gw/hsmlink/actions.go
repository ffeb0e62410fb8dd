package hsmlink

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"moongate/client"
	"moongate/internal/gw/config"
)

// ImportServerCertificate pins a server's certificate (its server.pem, or DER).
// Those that were pinned before stay accepted for OldPin, so that an HSM whose
// certificate is renewed is reached before and after.
func (m *Manager) ImportServerCertificate(server string, text []byte) (Imported, error) {
	l, _, err := m.server(server)
	if err != nil {
		return Imported{}, err
	}
	cert, err := parseServerCertificate(text)
	if err != nil {
		return Imported{}, err
	}
	m.acting.Lock()
	defer m.acting.Unlock()
	done, err := m.store.importPin(server, cert)
	if err != nil {
		return Imported{}, err
	}
	m.o.Logger.Info("HSM server certificate pinned", "server", server, "sha256", done.Pin.Fingerprint, "unchanged", done.Unchanged)
	l.rebuild()
	return done, nil
}

// ForgetServerCertificate stops accepting one of several certificates of a
// server before its time.
func (m *Manager) ForgetServerCertificate(server, fingerprint string) error {
	l, _, err := m.server(server)
	if err != nil {
		return err
	}
	m.acting.Lock()
	defer m.acting.Unlock()
	if err := m.store.forgetPin(server, fingerprint); err != nil {
		return err
	}
	l.rebuild()
	return nil
}

// Exported is the gateway's certificate as an HSM registers it.
type Exported struct {
	// Name is the file's: the address that the HSM sees the gateway come from,
	// as `client register -ip` expects it.
	Name        string
	Address     string
	PEM         []byte
	Fingerprint string
	Next        bool // it is the one that a renewal made
}

// ExportClientCertificate returns the gateway's certificate for a server's
// registration: after a renewal the next one.
func (m *Manager) ExportClientCertificate(ctx context.Context, server string) (Exported, error) {
	l, mod, err := m.server(server)
	if err != nil {
		return Exported{}, err
	}
	return m.export(ctx, l, mod)
}

func (m *Manager) export(ctx context.Context, l *Link, mod *module) (Exported, error) {
	ids, err := m.store.identities()
	if err != nil {
		return Exported{}, err
	}
	from, err := seenFrom(ctx, l.hsm.Source, mod.server.Address, mod.server.Port)
	if err != nil {
		return Exported{}, &Error{Server: mod.name, Stage: StageTCP, Err: err,
			Problem: Problem{CodeSource, oneLine(err.Error()), "check the network, and the service route hsm"}}
	}
	pair := &ids.current
	if ids.next != nil {
		pair = ids.next
	}
	return Exported{
		Name: from.String() + ".pem", Address: from.String(), PEM: inPEM(pair), Fingerprint: fingerprint(pair), Next: ids.next != nil,
	}, nil
}

// RenewClientCertificate makes the gateway's next certificate. The present one
// goes on to be used with each server until that one accepts the next: register
// it there under a second client name, which takes nothing away from the first.
// When all servers accept it, the present one is dropped.
func (m *Manager) RenewClientCertificate() (ClientCertificate, error) {
	m.acting.Lock()
	defer m.acting.Unlock()
	if err := m.store.renew(m.name()); err != nil {
		return ClientCertificate{}, err
	}
	ids, err := m.store.identities()
	if err != nil {
		return ClientCertificate{}, err
	}
	m.event(Event{ID: "hsm-client-certificate", Text: "the gateway's next certificate for HSMs was made, SHA-256 " + fingerprint(ids.next) + ": register it with every HSM"})
	return certificateOf(ids.next, true), nil
}

// tryNextIdentity asks the servers whether they know the gateway's next
// certificate, and changes to it where they do.
func (l *Link) tryNextIdentity() {
	if l.hsm.Provider != config.NetworkHSM || !l.m.isActive(l) {
		return
	}
	ids, err := l.m.store.identities()
	if err != nil || ids.next == nil {
		return
	}
	next, all := fingerprint(ids.next), true
	for _, mod := range l.modules {
		if l.m.store.get(mod.name).Client == next {
			continue
		}
		all = false
		mod.mu.Lock()
		p := mod.plan
		mod.mu.Unlock()
		if len(p.config.ServerCertificates) == 0 || !mod.renewAgain() {
			continue
		}
		p.config.Certificate, p.config.Role, p.config.Password, p.config.Logger = *ids.next, client.RoleNone, nil, nil
		if !l.accepts(p.config) {
			continue
		}
		if err := l.m.store.change(mod.name, func(s *serverState) { s.Client = next }); err != nil {
			l.m.o.Logger.Error("changing to the next certificate", "server", mod.name, "err", err)
			continue
		}
		l.m.event(Event{ID: "hsm-client-certificate", Object: mod.name, Text: "HSM server " + mod.name + " accepts the gateway's next certificate, which is used from now on"})
		l.rebuild()
	}
	if all {
		l.endRenewal(next)
	}
}

// accepts reports whether a server lets us as far as a partition.
func (l *Link) accepts(c client.Config) bool {
	ctx, cancel := context.WithTimeout(l.ctx, handover)
	defer cancel()
	results, err := client.Verify(ctx, c)
	if err != nil {
		return false
	}
	i := slices.IndexFunc(results, func(r client.StageResult) bool { return r.Stage == client.StageAssigned })
	return i >= 0 && results[i].OK
}

func (l *Link) endRenewal(next string) {
	l.m.acting.Lock()
	defer l.m.acting.Unlock()
	if err := l.m.store.promote(); err != nil {
		l.m.o.Logger.Error("ending the renewal of the gateway's certificate", "err", err)
		return
	}
	l.m.event(Event{ID: "hsm-client-certificate", Text: "every HSM accepts the gateway's certificate SHA-256 " + next + "; the one before is not used any more: delete its registrations"})
	l.rebuild()
}

// LoginRequest is a password of the partition's.
type LoginRequest struct {
	// Server is which one's; empty is all that are configured, or the token.
	Server string
	// Role is RoleCryptoUser or RoleCryptoOfficer. What was given last is what
	// keys are used as; a Crypto Officer's password is kept beside a Crypto
	// User's for what changes keys when Beside is set.
	Role     client.Role
	Beside   bool
	Password []byte // the caller clears it
	// Partition is the label of the partition; empty leaves it as it is: the
	// only one that is assigned, unless another was named before.
	Partition string
	// Keep seals the password on the disk, so that the gateway logs in by
	// itself after a restart. Otherwise it is in memory alone.
	Keep bool
}

// LoggedIn is what became of a login on one server, or after it of the group.
type LoggedIn struct {
	Server    string // or "HA group NAME"
	Partition client.PartitionInfo
	Note      string // what else was done; may be empty
	Err       error  // an *Error; nil where the password is right
}

// Login tries a password on each server, once, and takes it where it is right.
// With the Crypto Officer's on all servers of a group, the group is made of what
// is configured, too: created, with servers added and taken out.
// The error is that of a request that cannot work; what became of each server is
// in the list.
func (m *Manager) Login(ctx context.Context, r LoginRequest) ([]LoggedIn, error) {
	l := m.current()
	if l == nil {
		return nil, errors.New("no HSM is configured: set hsm-settings/provider and commit")
	}
	switch {
	case len(r.Password) == 0 || len(r.Password) > maxPassword:
		return nil, fmt.Errorf("the partition's password has %d bytes, expected 1 to %d", len(r.Password), maxPassword)
	case r.Role != client.RoleCryptoUser && r.Role != client.RoleCryptoOfficer:
		return nil, fmt.Errorf("the role is %v, expected crypto-user or crypto-officer", r.Role)
	case len(r.Partition) > maxPartitionLabel:
		return nil, fmt.Errorf("the partition's label has %d bytes, expected at most %d", len(r.Partition), maxPartitionLabel)
	}
	modules := l.modules
	if r.Server != "" {
		_, mod, err := m.server(r.Server)
		if err != nil {
			return nil, err
		}
		modules = []*module{mod}
	}
	m.acting.Lock()
	defer m.acting.Unlock()
	var list []LoggedIn
	for _, mod := range modules {
		list = append(list, l.login(ctx, mod, r))
	}
	if l.hsm.HA != nil && r.Role == client.RoleCryptoOfficer && !slices.ContainsFunc(list, func(done LoggedIn) bool { return done.Err != nil }) {
		if group := l.followGroup(ctx, r.Password); group != nil {
			list = append(list, *group)
		}
	}
	l.rebuild()
	return list, nil
}

func (l *Link) login(ctx context.Context, mod *module, r LoginRequest) LoggedIn {
	done := LoggedIn{Server: mod.name}
	of := passwordOf{mod.name, r.Role}
	if l.hsm.Provider == config.PKCS11HSM {
		done.Partition, done.Err = l.loginToken(ctx, mod, r)
		return done
	}
	if done.Partition, done.Err = l.tryPassword(ctx, mod, r); done.Err != nil {
		if e, ok := errors.AsType[*Error](done.Err); ok && e.Code == CodeLocked && r.Role == l.m.store.role(mod.name) {
			mod.mu.Lock()
			mod.locked = true // whatever was wrong before
			mod.mu.Unlock()
		}
		return done
	}
	_, pins, err := l.m.store.pins(mod.name) // as they are: acting is held
	if done.Err = err; err == nil {
		done.Err = l.m.store.setPassword(of, r.Password, r.Keep)
	}
	if done.Err == nil {
		done.Err = l.m.store.change(mod.name, func(s *serverState) {
			s.prove(of, provenAt{mod.address, fingerprintsOf(pins)})
			s.Serial = done.Partition.Serial
			if r.Partition != "" {
				s.Partition = r.Partition
			}
			if !r.Beside {
				s.Role = roleWord(r.Role)
			}
		})
	}
	mod.mu.Lock()
	mod.locked = false
	mod.mu.Unlock()
	return done
}

// tryPassword logs in once, on a connection of its own.
func (l *Link) tryPassword(ctx context.Context, mod *module, r LoginRequest) (client.PartitionInfo, error) {
	ids, err := l.m.store.identities()
	p := l.planFor(mod, ids, err, r.Role)
	if !p.connect {
		return client.PartitionInfo{}, p.problem
	}
	p.config.Role, p.config.Logger = r.Role, nil
	p.config.Password = func() ([]byte, error) { return slices.Clone(r.Password), nil }
	if r.Partition != "" {
		p.config.Partition = r.Partition
	}
	c, err := client.Dial(ctx, p.config)
	if err != nil {
		return client.PartitionInfo{}, explain(mod.name, mod.address, err)
	}
	defer c.Close()
	return c.Status().Partition, nil
}

// Logout drops the passwords of a server, or with an empty name of all: those
// that are kept, too. The gateway ends its sessions as that role.
func (m *Manager) Logout(server string) error {
	l := m.current()
	if l == nil {
		return errors.New("no HSM is configured: set hsm-settings/provider and commit")
	}
	modules := l.modules
	if server != "" {
		_, mod, err := m.server(server)
		if err != nil {
			return err
		}
		modules = []*module{mod}
	}
	m.acting.Lock()
	defer m.acting.Unlock()
	var errs []error
	for _, mod := range modules {
		for _, role := range []client.Role{client.RoleCryptoUser, client.RoleCryptoOfficer} {
			errs = append(errs, m.store.forgetPassword(passwordOf{mod.name, role}))
		}
	}
	l.rebuild()
	return errors.Join(errs...)
}
