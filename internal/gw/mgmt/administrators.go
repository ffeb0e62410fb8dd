package mgmt

import (
	"context"
	"fmt"
	"time"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/config"
	"moongate/internal/gw/logstore"
	"moongate/internal/gw/revision"
)

func userPath(name string) string { return adminsPath + "/users/" + config.EntryStep(name) }

// SetPassword gives an administrator of the candidate another password; it
// counts from the next commit. Everybody may set their own. The caller clears
// the password.
func (m *Manager) SetPassword(ctx context.Context, c Caller, name string, password []byte) error {
	op := admin.OpAdminPasswords
	if name == c.Name {
		op = admin.OpOwnPassword
	}
	err := m.allow(c, op, name)
	if err == nil {
		err = m.setPassword(ctx, c, name, password)
	}
	m.record(c, "set password", userPath(name), "", "", resultOf(err))
	return err
}

func (m *Manager) setPassword(ctx context.Context, c Caller, name string, password []byte) error {
	if root, _ := m.parts.Revisions.Candidate(); part(root, userPath(name)) == nil {
		return refuse(CodeNotPresent, "administrator %q is not in the candidate configuration", name)
	}
	edit, err := passwordEdit(name, password)
	if err != nil {
		return err
	}
	m.editing.Lock()
	defer m.editing.Unlock()
	if err := m.free(revision.LockConfig, c); err != nil {
		return err
	}
	if _, err := m.parts.Revisions.Edit(ctx, 0, edit); err != nil {
		return coded(err)
	}
	m.changedBy(c)
	return nil
}

// passwordEdit is the edit that gives an administrator a password.
func passwordEdit(name string, password []byte) (config.Edit, error) {
	hash, err := admin.Hash(password)
	if err != nil {
		return config.Edit{}, refuse(CodeInvalidObject, "%v", err)
	}
	return hashEdit(name, hash)
}

func hashEdit(name, hash string) (config.Edit, error) {
	edit, err := config.SetEdit(userPath(name)+"/phash", hash)
	return edit, coded(err)
}

// ResetAdministrator sets the password of an administrator at the console, in
// the running configuration and in the candidate, whatever else is in that. It
// counts at once, and ends the account's lock-out. Where create is set the
// account is made, a superuser, if it is not there.
func (m *Manager) ResetAdministrator(ctx context.Context, name string, password []byte, create bool) error {
	edit, err := passwordEdit(name, password)
	if err != nil {
		return err
	}
	err = m.resetAdministrator(ctx, name, edit, create)
	m.record(AtConsole(), "admin reset", userPath(name), "", "", resultOf(err))
	if err == nil {
		m.event(logstore.High, "auth", "administrator-reset", name, "the password of "+name+" was set at the console")
	}
	return err
}

func (m *Manager) resetAdministrator(ctx context.Context, name string, edit config.Edit, create bool) error {
	edits := []config.Edit{edit}
	root, _ := m.parts.Revisions.Running()
	if part(root, userPath(name)) == nil {
		if !create {
			return refuse(CodeNotPresent, "there is no administrator %q; with -create one is made, a superuser", name)
		}
		role, err := config.SetEdit(userPath(name)+"/permissions/role-based/superuser", "yes")
		if err != nil {
			return coded(err)
		}
		edits = append(edits, role)
	}
	m.committing.Lock()
	defer m.committing.Unlock()
	m.editing.Lock()
	defer m.editing.Unlock()
	root, _ = m.parts.Revisions.Running()
	for _, e := range edits {
		var err error
		if root, err = config.Apply(root, e); err != nil {
			return coded(err)
		}
	}
	meta := revision.Meta{Admin: consoleName, Description: "password of " + name + " set at the console", At: m.now()}
	if err := m.installAccount(ctx, meta, root); err != nil {
		return err
	}
	if err := m.parts.Guard.Unlock(name); err != nil {
		return fmt.Errorf("the password is set, but the account is still locked: %w", err)
	}
	if _, err := m.parts.Revisions.Edit(ctx, 0, edits...); err != nil {
		return fmt.Errorf("the password is set and counts, but not in the candidate configuration, whose commit would set the old one again: %w", err)
	}
	return nil
}

// installAccount makes a tree the running one of which nothing differs but
// administrators: also where the rest of it cannot be used, which is what
// somebody may want to come in for. A commit that waits to be confirmed goes on
// waiting.
func (m *Manager) installAccount(ctx context.Context, meta revision.Meta, root *config.Node) error {
	var confirmBy time.Time
	if pending, there := m.parts.Revisions.Pending(); there {
		confirmBy = pending.Deadline
	}
	if _, err := m.parts.Revisions.Commit(ctx, meta, root, confirmBy); err != nil {
		return coded(err)
	}
	snapshot, _, err := config.Compile(root, m.now())
	if err != nil {
		if snapshot, err = m.least(root); err != nil {
			return err
		}
		m.useAccounts(snapshot)
		return nil
	}
	m.useAccounts(snapshot)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.snapshot = snapshot
	return nil
}

// FirstAdministrator makes the account of that name, a superuser with the
// password of the hash, where the running configuration has no administrator:
// at the first start. It reports whether it did.
func (m *Manager) FirstAdministrator(ctx context.Context, name, hash string) (bool, error) {
	if !m.NeedsAdministrator() {
		return false, nil
	}
	edit, err := hashEdit(name, hash)
	if err != nil {
		return false, err
	}
	err = m.resetAdministrator(ctx, name, edit, true)
	m.record(AtConsole(), "first administrator", userPath(name), "", "", resultOf(err))
	if err != nil {
		return false, err
	}
	m.event(logstore.Informational, "auth", "first-administrator", name, "the first administrator, "+name+", was made")
	return true, nil
}

// NeedsAdministrator reports that the running configuration has no
// administrator.
func (m *Manager) NeedsAdministrator() bool {
	root, _ := m.parts.Revisions.Running()
	users, err := config.Select(root, adminsPath+"/users/entry")
	return err == nil && len(users) == 0
}

// APIKeys lists the API keys of an account; of the caller's own where name is "".
func (m *Manager) APIKeys(ctx context.Context, c Caller, name string) ([]admin.APIKey, error) {
	if name == "" {
		name = c.Name
	}
	if err := m.allow(c, apiKeysOf(c, name), name); err != nil {
		return nil, err
	}
	return m.parts.Guard.APIKeys(name), nil
}

// RevokeAPIKeys revokes every API key of an account, and returns how many there
// were.
func (m *Manager) RevokeAPIKeys(ctx context.Context, c Caller, name string) (int, error) {
	if name == "" {
		name = c.Name
	}
	if err := m.allow(c, apiKeysOf(c, name), name); err != nil {
		return 0, err
	}
	n, err := m.parts.Guard.RevokeAPIKeys(name)
	if err != nil {
		return 0, coded(err)
	}
	m.event(logstore.Medium, "auth", "api-keys-revoked", name, fmt.Sprintf("%d API keys of %s were revoked by %s", n, name, who(c)))
	return n, nil
}

func apiKeysOf(c Caller, name string) admin.Operation {
	if name == c.Name {
		return admin.OpOwnAPIKeys
	}
	return admin.OpAdminAPIKeys
}

// UnlockAdministrator ends the lock-out of an account.
func (m *Manager) UnlockAdministrator(ctx context.Context, c Caller, name string) error {
	if err := m.allow(c, admin.OpUnlockAdmin, name); err != nil {
		return err
	}
	if _, known := m.parts.Guard.Current(name); !known {
		return refuse(CodeNotFound, "there is no administrator %q", name)
	}
	if err := m.parts.Guard.Unlock(name); err != nil {
		return coded(err)
	}
	m.event(logstore.Medium, "auth", "account-unlocked", name, "the account "+name+" was unlocked by "+who(c))
	return nil
}

// LoginStatus tells of an account's logins.
func (m *Manager) LoginStatus(ctx context.Context, c Caller, name string) (admin.Status, error) {
	if err := m.allow(c, admin.OpReadAdmins, name); err != nil {
		return admin.Status{}, err
	}
	return m.parts.Guard.Status(name), nil
}
