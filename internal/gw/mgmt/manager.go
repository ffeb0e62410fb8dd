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
}

// Prepared is what a Follower has made: one of its methods is called, once.
type Prepared interface {
	Apply()
	Discard()
}

// Parts are what a Manager manages. All but Followers are needed.
type Parts struct {
	Revisions *revision.Store
	Vault     *vault.Vault
	Guard     *admin.Guard
	Jobs      *jobs.Table
	Logs      *logstore.Store
	Plane     *plane.Plane
	// HSM is the way to the private keys on the HSM; Keys finds those and the
	// software ones.
	HSM       *keys.Switch
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
	snapshot *config.Snapshot // that is applied; nil where none could be
	trouble  error            // why the running configuration is not applied
	authors  map[string]bool  // who changed the candidate since the last commit
	rearm    chan struct{}    // wakes Run when the time to confirm changed
	visits   visits
	searches searches
	told     told
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
		authors: map[string]bool{}, rearm: make(chan struct{}, 1),
	}, nil
}

// Start applies the running configuration. Where that fails, the gateway runs
// without it: the cause is logged and shown, and administrators can come in
// and mend it; only an administrator's account that cannot be read is an error.
func (m *Manager) Start(ctx context.Context) error {
	root, _ := m.parts.Revisions.Running()
	m.findAuthors(ctx)
	m.committing.Lock()
	defer m.committing.Unlock()
	err := m.apply(root)
	if err == nil {
		return nil
	}
	m.setTrouble(err)
	m.event(logstore.Critical, "general", "degraded", "configuration", "the running configuration cannot be used: "+err.Error())
	m.log.Error("the running configuration cannot be used; the management works, so that it can be mended", "cause", err)
	return m.applyManagement(root)
}

// Trouble is why the running configuration is not in use; nil where it is.
func (m *Manager) Trouble() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.trouble
}

// Snapshot is the configuration in use; nil where it could not be applied.
func (m *Manager) Snapshot() *config.Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.snapshot
}
