package mgmt

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/certstore"
	"moongate/internal/gw/config"
	"moongate/internal/gw/hsmlink"
	"moongate/internal/gw/jobs"
	"moongate/internal/gw/keys"
	"moongate/internal/gw/logstore"
	"moongate/internal/gw/plane"
	"moongate/internal/gw/revision"
	"moongate/internal/gw/vault"
)

// Follower is a part of the gateway that follows the running configuration
// and may refuse one: the listeners of the management itself.
type Follower interface {
	// Prepare makes everything that the snapshot asks for, without touching
	// what is in use.
	Prepare(s *config.Snapshot) (Prepared, error)
	// Begin does as much of what the snapshot asks for as can be done, at the
	// start. Its error says what cannot.
	Begin(s *config.Snapshot) error
}

// Prepared is what a Follower has made: one of its methods is called, once.
type Prepared interface {
	Apply()
	Discard()
}

// Parts are what a Manager manages. All but Followers and Link are needed.
type Parts struct {
	Revisions *revision.Store
	Vault     *vault.Vault
	Guard     *admin.Guard
	Jobs      *jobs.Table
	Logs      *logstore.Store
	Plane     *plane.Plane
	// HSM is the way to the private keys on the HSM; Keys finds those and the
	// software ones.
	HSM *keys.Switch
	// Link is what HSM leads to: servers, their certificates, logins, groups.
	Link      *hsmlink.Manager
	Keys      *certstore.Keys
	Followers []Follower
	Device    Device
	Logger    *slog.Logger
	Now       func() time.Time // nil for time.Now
}

// Device is what the gateway is, whatever is configured.
type Device struct {
	Version string // of the program
	Serial  string
	Started time.Time
}

// Manager is the door. Make one with New, then call Start, and Run until the
// gateway stops. It is safe for concurrent use.
type Manager struct {
	parts Parts
	log   *slog.Logger
	now   func() time.Time

	editor *certstore.Editor

	// editing is held by who changes the candidate, so that what was checked
	// is what is stored.
	editing sync.Mutex

	// committing is held by who replaces the running configuration.
	committing sync.Mutex

	mu       sync.Mutex
	snapshot *config.Snapshot // of the running configuration; nil where there can be none
	trouble  error            // why the running configuration is not applied
	authors  authors          // who changed the candidate since the last commit
	rearm    chan struct{}    // wakes Run when the time to confirm changed
	visits   visits
	searches searches
	told     told

	inbox inbox
}

// New makes a manager. Start applies the running configuration.
func New(parts Parts) (*Manager, error) {
	if parts.Revisions == nil || parts.Vault == nil || parts.Guard == nil || parts.Jobs == nil ||
		parts.Logs == nil || parts.Plane == nil || parts.HSM == nil || parts.Keys == nil || parts.Logger == nil {
		return nil, errors.New("mgmt: a part is missing")
	}
	if parts.Now == nil {
		parts.Now = time.Now
	}
	return &Manager{
		parts: parts, log: parts.Logger, now: parts.Now,
		editor:  certstore.NewEditor(parts.Vault, parts.HSM, parts.Now),
		authors: authors{}, rearm: make(chan struct{}, 1),
	}, nil
}

// Start applies the running configuration. What of it cannot be used is logged
// and shown (Trouble), and the gateway runs without: administrators can come in
// and mend it. The error is that not even their accounts can be read.
func (m *Manager) Start(ctx context.Context) error {
	m.findAuthors(ctx)
	m.committing.Lock()
	defer m.committing.Unlock()
	root, _ := m.parts.Revisions.Running()
	snapshot, err := m.compile(root, new(jobs.Report))
	if err == nil {
		err = m.startPlane(snapshot)
		m.useSettings(snapshot)
	}
	if err != nil {
		m.setTrouble(err)
		m.event(logstore.Critical, "general", "degraded", "configuration", "the running configuration is not in use: "+oneLine(err.Error()))
		m.log.Error("the running configuration is not in use; the management works, so that it can be mended", "cause", err)
	}
	if snapshot == nil {
		if snapshot, err = m.least(root); err != nil {
			return err
		}
		m.useAccounts(snapshot)
	}
	for _, f := range m.parts.Followers {
		if err := f.Begin(snapshot); err != nil {
			m.event(logstore.Critical, "general", "degraded", "management", oneLine(err.Error()))
			m.log.Error("a part of the management cannot be used", "cause", err)
		}
	}
	return nil
}

func (m *Manager) startPlane(s *config.Snapshot) error {
	next, err := m.parts.Plane.Prepare(s)
	if err != nil {
		return err
	}
	next.Apply()
	return nil
}

// retry applies a running configuration that could not be used at the start:
// the cause may be gone, a port that was taken.
func (m *Manager) retry() {
	if m.Trouble() == nil {
		return
	}
	m.committing.Lock()
	defer m.committing.Unlock()
	root, _ := m.parts.Revisions.Running()
	if err := m.apply(root); err != nil {
		m.setTrouble(err)
		return
	}
	m.event(logstore.Informational, "general", "in-use", "configuration", "the running configuration is in use now")
}

// Trouble is why the running configuration is not in use; nil where it is.
func (m *Manager) Trouble() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.trouble
}

// Snapshot is the running configuration, in use or not (Trouble); nil where it
// is not even one that could be.
func (m *Manager) Snapshot() *config.Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.snapshot
}
