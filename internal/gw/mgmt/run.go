package mgmt

import (
	"context"
	"fmt"
	"sync"
	"time"

	"moongate/internal/gw/certstore"
	"moongate/internal/gw/keys"
	"moongate/internal/gw/logstore"
)

// told is what was told of already, so that it is not told again each minute.
// Manager.mu guards what is not safe by itself.
type told struct {
	masterKey    time.Time
	certificates certstore.Reminder
	hsm          *bool  // whether the HSM was ready
	vault        string // why the vault is locked, as it was told last
	untried      bool   // software keys were taken while it was
}

const (
	watchEach = time.Minute // certificates, master key
	hsmEach   = time.Second
	tryAgain  = 30 * time.Second // going back to the version before, when that failed
)

// Run does what nobody asks for: it goes back on a commit that is not confirmed
// in time, also on one from before a restart, and writes what expires, and the
// HSM's coming and going, into the system log; it unlocks the vault. It returns when ctx is done.
func (m *Manager) Run(ctx context.Context) error {
	confirm := time.NewTimer(0)
	watch := time.NewTicker(watchEach)
	hsm := time.NewTicker(hsmEach)
	defer confirm.Stop()
	defer watch.Stop()
	defer hsm.Stop()
	var keeping sync.WaitGroup
	keeping.Go(func() { m.keepVault(ctx) })
	defer keeping.Wait()
	m.watch(m.now())
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.rearm:
			confirm.Reset(m.untilConfirm())
		case <-confirm.C:
			if m.untilConfirm() <= 0 {
				m.goBack(ctx)
			}
			confirm.Reset(max(m.untilConfirm(), tryAgain))
		case <-watch.C:
			m.watch(m.now())
		case <-hsm.C:
			m.watchHSM(m.parts.HSM.Status())
		}
	}
}

// longTime is until nothing.
const longTime = 24 * time.Hour

// untilConfirm is how long a commit may still wait to be confirmed.
func (m *Manager) untilConfirm() time.Duration {
	pending, there := m.parts.Revisions.Pending()
	if !there {
		return longTime
	}
	return min(pending.Deadline.Sub(m.now()), longTime)
}

// wake tells Run that the time to confirm changed.
func (m *Manager) wake() {
	select {
	case m.rearm <- struct{}{}:
	default: // it is awake already
	}
}

func (m *Manager) watch(now time.Time) {
	m.retry()
	m.inbox.sweep(now)
	m.watchMasterKey(now)
	m.watchCertificates(now)
}

// watchCertificates tells once of each step towards a certificate's end.
func (m *Manager) watchCertificates(now time.Time) {
	root, _ := m.parts.Revisions.Running()
	list, err := certstore.Expiries(root, now)
	if err != nil {
		m.log.Warn("when certificates expire is not known", "err", err)
		return
	}
	for _, e := range m.told.certificates.Due(list) {
		severity, text := logstore.Medium, fmt.Sprintf("expires in %d days", e.Days)
		switch {
		case e.Threshold == certstore.Expired:
			severity, text = logstore.High, "has expired"
			if e.InUse {
				severity = logstore.Critical
			}
		case e.InUse && e.Threshold <= certstore.WithinWeek:
			severity = logstore.High
		}
		m.event(severity, "crypto", "certificate-expiry", e.Name, fmt.Sprintf("certificate %q %s: %s, at %s", e.Name, text, e.Subject, e.NotAfter.UTC().Format(time.RFC3339)))
	}
}

// watchHSM tells when the HSM comes and goes.
func (m *Manager) watchHSM(s keys.Status) {
	configured := m.Snapshot() != nil && m.Snapshot().HSM != nil
	m.mu.Lock()
	before := m.told.hsm
	if configured {
		m.told.hsm = &s.Ready
	} else {
		m.told.hsm = nil
	}
	m.mu.Unlock()
	switch {
	case !configured || before != nil && *before == s.Ready:
	case s.Ready:
		m.event(logstore.Informational, "hsm", "hsm-up", "", "the HSM is connected, private keys can be used")
	default:
		m.event(logstore.Critical, "hsm", "hsm-down", "", "the HSM is not connected ("+s.Stage+"): "+oneLine(s.Cause))
	}
}
