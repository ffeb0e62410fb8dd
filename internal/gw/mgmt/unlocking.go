package mgmt

import (
	"context"
	"errors"
	"time"

	"moongate/internal/gw/jobs"
	"moongate/internal/gw/keys"
	"moongate/internal/gw/logstore"
	"moongate/internal/gw/vault"
)

const (
	unlockEach  = 500 * time.Millisecond // looks whether the HSM is there
	unlockAgain = 5 * time.Second        // asks it again, when it answered that it cannot
	unlockWork  = 10 * time.Second       // bounds one question
	settleEach  = 10 * time.Second
)

// keepVault unlocks the vault whenever the HSM is there, and drops older wraps
// of the master key once they are not needed. It returns when ctx is done.
func (m *Manager) keepVault(ctx context.Context) {
	look := time.NewTicker(unlockEach)
	settle := time.NewTicker(settleEach)
	defer look.Stop()
	defer settle.Stop()
	next := time.Time{}
	for {
		if now := time.Now(); !now.Before(next) && !m.tryUnlock(ctx) {
			next = now.Add(unlockAgain)
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		case <-settle.C:
			m.settleWrapping(ctx)
		}
	}
}

// tryUnlock is false where the HSM is there and does not unwrap the master key.
func (m *Manager) tryUnlock(ctx context.Context) bool {
	v := m.parts.Vault
	if v.Locked() == nil {
		m.mu.Lock()
		untried := m.told.untried
		m.mu.Unlock()
		if untried { // it opened before anybody looked
			m.unlocked()
		}
		return true
	}
	if s := m.parts.HSM.Status(); !s.Ready {
		cause := keys.ErrUnavailable
		if s.Cause != "" {
			cause = errors.New(s.Cause)
		}
		v.StillLocked(cause)
		m.tellLocked(v.Locked())
		return true
	}
	work, cancel := context.WithTimeout(ctx, unlockWork)
	defer cancel()
	if err := v.Unlock(work); err != nil {
		if ctx.Err() == nil {
			m.tellLocked(err)
		}
		return false
	}
	m.unlocked()
	return true
}

// tellLocked tells why the vault is locked, each cause once.
func (m *Manager) tellLocked(err error) {
	if !errors.Is(err, vault.ErrLocked) {
		return // it opened meanwhile, or is closed
	}
	text := oneLine(err.Error())
	m.mu.Lock()
	told := m.told.vault == text
	m.told.vault = text
	m.mu.Unlock()
	if !told {
		m.event(logstore.Critical, "crypto", "master-key-locked", "", "software private keys cannot be used, and nothing can be sealed: "+text)
	}
}

// unlocked tells that the vault is open, and tries the software keys that nobody
// could try until now.
func (m *Manager) unlocked() {
	m.mu.Lock()
	m.told.vault, m.told.untried = "", false
	m.mu.Unlock()
	m.event(logstore.Informational, "crypto", "master-key-unlocked", "", "the master key is unlocked: software private keys can be used")
	s := m.Snapshot()
	if s == nil {
		return
	}
	if err := m.checkKeys(s, new(jobs.Report)); err != nil {
		m.event(logstore.Critical, "crypto", "private-key-unreadable", "", oneLine(err.Error()))
	}
}

// settleWrapping drops the wraps by older wrapping keys once every member of the
// group holds the new one.
func (m *Manager) settleWrapping(ctx context.Context) {
	before := m.parts.Vault.Properties()
	if before.Wraps < 2 || m.parts.Vault.Locked() != nil || !m.parts.HSM.Status().Ready {
		return
	}
	work, cancel := context.WithTimeout(ctx, unlockWork)
	defer cancel()
	if _, err := m.parts.Vault.SettleWrapping(work); err != nil {
		m.log.Warn("whether every HSM holds the new wrapping key is not known", "err", err)
		return
	}
	if m.parts.Vault.Properties().Wraps < before.Wraps {
		m.event(logstore.Informational, "crypto", "master-key-wraps-settled", before.WrappingKey, "every HSM holds the wrapping key "+before.WrappingKey+": the master key is wrapped by it alone")
	}
}
