package mgmt

import (
	"context"
	"errors"
	"fmt"
	"time"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/config"
	"moongate/internal/gw/jobs"
	"moongate/internal/gw/logstore"
)

// apply makes everything follow a tree that is the running configuration
// already. m.committing is held.
func (m *Manager) apply(root *config.Node) error {
	next, err := m.prepare(root, proven, new(jobs.Report))
	if err != nil {
		return err
	}
	next.apply()
	m.wake()
	return nil
}

// least makes a snapshot of no more of a configuration than what somebody needs
// to come in and mend it: accounts, and where the management listens, by default
// where not even that can be used.
func (m *Manager) least(root *config.Node) (*config.Snapshot, error) {
	least := config.Default()
	for _, path := range []string{adminsPath, config.DevicePath + "/deviceconfig/setting/management"} {
		there := part(root, path)
		if there == nil {
			continue
		}
		with, err := config.Apply(least, config.Edit{Op: config.OpEdit, Path: path, Elements: []*config.Node{there}})
		if err == nil {
			_, _, err = config.Compile(with, m.now())
		}
		if err != nil {
			m.log.Error("a part of the running configuration cannot be used", "path", path, "cause", err)
			continue
		}
		least = with
	}
	snapshot, _, err := config.Compile(least, m.now())
	if err != nil {
		return nil, fmt.Errorf("the running configuration cannot be used: %w", err)
	}
	return snapshot, nil
}

// useSettings makes the management itself follow a snapshot.
func (m *Manager) useSettings(s *config.Snapshot) {
	m.useAccounts(s)
	m.useLogSettings(s)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.snapshot, m.trouble = s, nil
}

// IdleTimeout is how long an administrator's session may do nothing; 0 for any
// time.
func (m *Manager) IdleTimeout() time.Duration {
	if s := m.Snapshot(); s != nil {
		return s.Management.IdleTimeout
	}
	return defaultIdle
}

// defaultIdle is for a gateway whose configuration is not in use.
const defaultIdle = 15 * time.Minute

func (m *Manager) setTrouble(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trouble = err
}

// useAccounts lets the accounts of a snapshot in, and nobody else. Locks of
// administrators that are gone are released.
func (m *Manager) useAccounts(s *config.Snapshot) {
	accounts := make([]admin.Account, 0, len(s.Administrators))
	for _, a := range s.Administrators {
		accounts = append(accounts, admin.Account{Name: a.Name, Role: admin.Role(a.Role), PasswordHash: a.PasswordHash, PublicKeys: a.PublicKeys})
	}
	if err := m.parts.Guard.SetAccounts(accounts); err != nil {
		m.log.Error("administrators", "err", err)
		m.event(logstore.High, "auth", "accounts", "", "of the administrators something cannot be used: "+oneLine(err.Error()))
	}
	m.parts.Guard.SetPolicy(admin.Policy{
		FailedAttempts: s.Management.FailedAttempts, LockoutTime: s.Management.LockoutTime, APIKeyLifetime: s.Management.APIKeyLifetime,
	})
	for _, l := range m.parts.Revisions.Locks() {
		if _, there := m.parts.Guard.Current(l.Admin); there || l.Admin == consoleName {
			continue
		}
		if err := m.parts.Revisions.Unlock(context.Background(), l.Kind, l.Admin); err != nil {
			m.log.Error("releasing the lock of an administrator that is gone", "lock", l.Kind, "admin", l.Admin, "err", err)
		}
		m.event(logstore.Low, "general", "lock-released", l.Admin, fmt.Sprintf("the %s lock of %s, who is no administrator any more, was released", l.Kind, l.Admin))
	}
}

// someSuperuser refuses a configuration that nobody could administer.
func someSuperuser(s *config.Snapshot) error {
	for _, a := range s.Administrators {
		if a.Role == config.Superuser && (a.PasswordHash != "" || len(a.PublicKeys) > 0) {
			return nil
		}
	}
	return errors.New(adminsPath + "/users: no administrator is a superuser who can log in: nobody could administer the gateway; keep one with a password or a public key")
}
