package mgmt

import (
	"context"
	"fmt"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/gw/keys"
	"moongate/internal/gw/logstore"
)

// told is what was told of already, so that it is not told again each minute.
// Manager.mu guards it.
type told struct {
	masterKey    time.Time
	certificates map[string]string // what was told of each, by name
	hsm          *bool             // whether the HSM was ready
}

const (
	watchEach = time.Minute // certificates, master key
	hsmEach   = time.Second
	tryAgain  = 30 * time.Second // going back to the version before, when that failed
)

// Run does what nobody asks for: it goes back on a commit that is not confirmed
// in time, also on one from before a restart, and writes what expires, and the
// HSM's coming and going, into the system log. It returns when ctx is done.
func (m *Manager) Run(ctx context.Context) error {
	confirm := time.NewTimer(0)
	watch := time.NewTicker(watchEach)
	hsm := time.NewTicker(hsmEach)
	defer confirm.Stop()
	defer watch.Stop()
	defer hsm.Stop()
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
			m.watchHSM(m.parts.Keys.Status())
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
	m.watchMasterKey(now)
	if s := m.Snapshot(); s != nil {
		m.watchCertificates(s, now)
	}
}

// steps are how long before a certificate expires it is told of, the last step
// first.
var steps = []struct {
	before   time.Duration
	severity logstore.Severity
	text     string
}{
	{0, logstore.Critical, "has expired"},
	{24 * time.Hour, logstore.High, "expires within a day"},
	{7 * 24 * time.Hour, logstore.High, "expires within a week"},
	{30 * 24 * time.Hour, logstore.Medium, "expires within 30 days"},
}

// watchCertificates tells once of each step towards a certificate's end.
func (m *Manager) watchCertificates(s *config.Snapshot, now time.Time) {
	for _, c := range s.Certificates {
		for _, step := range steps {
			if c.Leaf().NotAfter.Sub(now) > step.before {
				continue
			}
			ends := c.Leaf().NotAfter.UTC().Format(time.RFC3339)
			if m.tellOnce(c.Name, step.text+ends) {
				m.event(step.severity, "crypto", "certificate-expiry", c.Name, fmt.Sprintf("certificate %q %s: %s", c.Name, step.text, ends))
			}
			break
		}
	}
}

func (m *Manager) tellOnce(name, what string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.told.certificates == nil {
		m.told.certificates = map[string]string{}
	}
	if m.told.certificates[name] == what {
		return false
	}
	m.told.certificates[name] = what
	return true
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

// findAuthors finds out, after a start, who changed the candidate since the
// last commit: the configuration log knows.
func (m *Manager) findAuthors(ctx context.Context) {
	candidate, _ := m.parts.Revisions.Candidate()
	running, version := m.parts.Revisions.Running()
	if config.Equal(candidate, running) {
		return
	}
	entries, err := m.parts.Logs.Query(ctx, logstore.Query{Log: logstore.Config, Limit: maxAuthorEntries})
	if err != nil {
		m.log.Warn("who changed the candidate configuration is not known", "err", err)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		if e.Time.Before(version.At) {
			break
		}
		if e.Get("result") == resultDone && e.Get("cmd") != "commit" {
			m.authors[e.Get("admin")] = true
		}
	}
}

// maxAuthorEntries bounds how far back the configuration log is read.
const maxAuthorEntries = 1000
