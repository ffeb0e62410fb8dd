package mgmt

import (
	"context"
	"fmt"
	"time"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/logstore"
	"moongate/internal/gw/vault"
)

// MasterKey tells what may be shown of the master key.
func (m *Manager) MasterKey(ctx context.Context, c Caller) (vault.Properties, error) {
	if err := m.allow(c, admin.OpReadSystem, "master key"); err != nil {
		return vault.Properties{}, err
	}
	return m.parts.Vault.Properties(), nil
}

// ChangeMasterKey seals the data keys under another master key, and has a job
// seal the secrets under a new data key. Every secret stays readable. The caller
// clears the keys afterwards.
func (m *Manager) ChangeMasterKey(ctx context.Context, c Caller, change vault.Change) error {
	if err := m.allow(c, admin.OpMasterKey, ""); err != nil {
		return err
	}
	if err := m.parts.Vault.ChangeMaster(change); err != nil {
		m.event(logstore.High, "crypto", "master-key-change-failed", "", "changing the master key by "+who(c)+" failed: "+err.Error())
		return coded(err)
	}
	text := "the master key was changed by " + who(c)
	if change.Lifetime > 0 {
		text += fmt.Sprintf("; it expires after %v", change.Lifetime)
	}
	m.event(logstore.High, "crypto", "master-key-changed", "", text)
	m.mu.Lock()
	m.told.masterKey = time.Time{}
	m.mu.Unlock()
	if err := m.startRenewal(c); err != nil {
		m.log.Error("the master key was changed; the secrets stay sealed under the old data keys", "err", err)
	}
	return nil
}

// watchMasterKey tells of a master key that expires: each hour within the time
// of its reminder, more urgently once it has expired. It locks nobody out.
func (m *Manager) watchMasterKey(now time.Time) {
	p := m.parts.Vault.Properties()
	state := p.State(now)
	if state == vault.Valid {
		return
	}
	m.mu.Lock()
	due := now.Sub(m.told.masterKey) >= time.Hour
	if due {
		m.told.masterKey = now
	}
	m.mu.Unlock()
	if !due {
		return
	}
	if state == vault.Expired {
		m.event(logstore.Critical, "crypto", "master-key-expired", "", fmt.Sprintf("the master key expired at %s; everything works on: change it with `request master-key`", p.ExpireAt.UTC().Format(time.RFC3339)))
		return
	}
	m.event(logstore.High, "crypto", "master-key-reminder", "", fmt.Sprintf("the master key expires at %s: change it with `request master-key`", p.ExpireAt.UTC().Format(time.RFC3339)))
}
