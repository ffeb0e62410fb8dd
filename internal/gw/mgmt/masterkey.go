package mgmt

import (
	"context"
	"fmt"
	"strings"
	"time"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/config"
	"moongate/internal/gw/hsmlink"
	"moongate/internal/gw/jobs"
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

// MasterKeyNotes are what a change of the master key has to say to who asked for
// it, a sentence each.
type MasterKeyNotes []string

// ChangeMasterKey seals the data keys under another master key, has the HSM wrap
// it or no longer, or both. With another key a job seals the secrets under a new
// data key. Every secret stays readable. officer is the password of the
// partition's Crypto Officer, for a wrapping key that has to be made; nil where
// the gateway keeps it. The caller clears the keys and the password afterwards.
func (m *Manager) ChangeMasterKey(ctx context.Context, c Caller, change vault.Change, officer []byte) (MasterKeyNotes, error) {
	what := describe(change)
	err := m.allow(c, admin.OpMasterKey, "")
	if err == nil {
		work, cancel := asOfficer(ctx, officer)
		defer cancel()
		if err = m.parts.Vault.ChangeMaster(work, change); err != nil {
			m.event(logstore.High, "crypto", "master-key-change-failed", "", "changing the master key by "+who(c)+" failed: "+oneLine(err.Error()))
			err = coded(err)
		}
	}
	m.record(c, "request master-key", "", "", what, resultOf(err))
	if err != nil {
		return nil, err
	}
	m.event(logstore.High, "crypto", "master-key-changed", "", "the master key was changed by "+who(c)+": "+what)
	m.mu.Lock()
	m.told.masterKey = time.Time{}
	m.mu.Unlock()
	var notes MasterKeyNotes
	if change.New != nil {
		notes = append(notes, "Strength of the new master key: "+vault.Strength(change.New).String())
		if err := m.startRenewal(c); err != nil {
			m.log.Error("the master key was changed; the secrets stay sealed under the old data keys", "err", err)
		}
	}
	return append(notes, placeNotes(m.parts.Vault.Properties(), change)...), nil
}

// asOfficer is a context for work with keys, made as the Crypto Officer where a
// password was given.
func asOfficer(ctx context.Context, officer []byte) (context.Context, context.CancelFunc) {
	if len(officer) > 0 {
		ctx = hsmlink.WithOfficer(ctx, officer)
	}
	return context.WithTimeout(ctx, keyWork)
}

// describe tells of a change without any key.
func describe(change vault.Change) string {
	var parts []string
	if change.New != nil {
		parts = append(parts, "a new master key")
	}
	if change.OnHSM != nil && *change.OnHSM {
		parts = append(parts, "stored on the HSM")
	} else if change.OnHSM != nil {
		parts = append(parts, "not stored on the HSM")
	}
	if change.Lifetime > 0 {
		parts = append(parts, fmt.Sprintf("expires after %v", change.Lifetime))
	}
	if change.Reminder > 0 {
		parts = append(parts, fmt.Sprintf("reminders from %v before", change.Reminder))
	}
	if change.AutoRenew > 0 {
		parts = append(parts, fmt.Sprintf("then renewed for %v at a time", change.AutoRenew))
	}
	return strings.Join(parts, ", ")
}

// placeNotes are what follows from where the master key is now.
func placeNotes(p vault.Properties, change vault.Change) MasterKeyNotes {
	var notes MasterKeyNotes
	switch {
	case p.OnHSM:
		notes = append(notes, "The master key is wrapped by "+p.WrappingKey+" on the HSM, and in no file any more")
		if p.Generated {
			notes = append(notes, "It was made at random, so that nobody can enter it again: were the wrapping key lost, all software private keys would be. Give a new master key that you keep in a safe place")
		}
		if change.New == nil && change.OnHSM != nil {
			notes = append(notes, "Copies of its file that were made before (backups, disks) still hold it; only a new master key makes them worthless")
		}
	case change.OnHSM != nil:
		notes = append(notes, "The master key is in "+p.File+", in the clear")
	}
	return notes
}

// warnOfMasterKey warns of a configuration that leaves the HSM which wraps the
// master key.
func (m *Manager) warnOfMasterKey(s *config.Snapshot, r *jobs.Report) {
	if p := m.parts.Vault.Properties(); p.OnHSM && s.HSM == nil {
		r.Warning("the master key is stored on the HSM, and this configuration names none: at the next start software private keys cannot be used. Run `request master-key on-hsm no` first")
	}
}

// RecoverMasterKey takes the master key as an administrator enters it again: a
// locked vault opens, and a wrapping key that the HSM has lost is replaced. The
// caller clears the key and the password.
func (m *Manager) RecoverMasterKey(ctx context.Context, c Caller, given, officer []byte) (MasterKeyNotes, error) {
	err := m.allow(c, admin.OpMasterKey, "recover")
	var done vault.Recovered
	if err == nil {
		work, cancel := asOfficer(ctx, officer)
		defer cancel()
		if done, err = m.parts.Vault.Recover(work, given); err != nil {
			m.event(logstore.High, "crypto", "master-key-recovery-failed", "", "entering the master key again by "+who(c)+" failed: "+oneLine(err.Error()))
			err = coded(err)
		}
	}
	m.record(c, "request master-key recover", "", "", "", resultOf(err))
	if err != nil {
		return nil, err
	}
	m.event(logstore.High, "crypto", "master-key-recovered", done.WrappingKey, "the master key was entered again by "+who(c))
	var notes MasterKeyNotes
	if done.Unlocked {
		m.unlocked()
		notes = append(notes, "The master key is unlocked")
	}
	switch {
	case done.WrappingKey != "":
		notes = append(notes, "It is wrapped by the new wrapping key "+done.WrappingKey+" on the HSM")
	case done.Cause != nil:
		notes = append(notes, "It is not wrapped anew, and must be entered again at the next start unless the HSM unwraps it then: "+oneLine(done.Cause.Error()))
	default:
		notes = append(notes, "The HSM unwraps it by the wrapping key that it has; nothing was changed there")
	}
	return notes, nil
}

// watchMasterKey tells of a master key that expires: each hour within the time
// of its reminder, more urgently once it has expired. It locks nobody out. One
// that renews itself lives on.
func (m *Manager) watchMasterKey(now time.Time) {
	until, extended, err := m.parts.Vault.ExtendMaster()
	if extended {
		m.event(logstore.Informational, "crypto", "master-key-renewed", "", "the master key's lifetime ended, and is longer by itself: until "+until.UTC().Format(time.RFC3339))
	}
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
	if err != nil {
		m.event(logstore.High, "crypto", "master-key-renewal-failed", "", "making the master key's lifetime longer failed: "+oneLine(err.Error()))
	}
	if state == vault.Expired {
		m.event(logstore.Critical, "crypto", "master-key-expired", "", fmt.Sprintf("the master key expired at %s; everything works on: change it with `request master-key`", p.ExpireAt.UTC().Format(time.RFC3339)))
		return
	}
	m.event(logstore.High, "crypto", "master-key-reminder", "", fmt.Sprintf("the master key expires at %s: change it with `request master-key`", p.ExpireAt.UTC().Format(time.RFC3339)))
}
