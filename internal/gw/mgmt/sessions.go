package mgmt

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/config"
	"moongate/internal/gw/logstore"
	"moongate/internal/gw/plane"
)

// Sessions lists the flows under way that keep says true of, the oldest first;
// all of them where keep is nil.
func (m *Manager) Sessions(ctx context.Context, c Caller, keep func(*plane.Session) bool) ([]plane.Session, error) {
	if err := m.allow(c, admin.OpReadSessions, ""); err != nil {
		return nil, err
	}
	return m.parts.Plane.Sessions(keep), nil
}

// SessionInfo counts the flows under way.
func (m *Manager) SessionInfo(ctx context.Context, c Caller) (plane.SessionInfo, error) {
	if err := m.allow(c, admin.OpReadSessions, ""); err != nil {
		return plane.SessionInfo{}, err
	}
	return m.parts.Plane.SessionInfo(), nil
}

// EndSession ends one flow.
func (m *Manager) EndSession(ctx context.Context, c Caller, id uint64) error {
	if err := m.allow(c, admin.OpClearSessions, fmt.Sprintf("session %d", id)); err != nil {
		return err
	}
	if !m.parts.Plane.End(id) {
		return refuse(CodeNotFound, "session %d is not there, or not any more", id)
	}
	m.event(logstore.Low, "general", "session-ended", fmt.Sprint(id), fmt.Sprintf("session %d was ended by %s", id, who(c)))
	return nil
}

// ClearSessions ends every inspected flow and every session with the HSM, and
// waits until those are back. progress hears of each step in a sentence.
func (m *Manager) ClearSessions(ctx context.Context, c Caller, progress func(string)) (plane.Cleared, error) {
	if err := m.allow(c, admin.OpClearSessions, "all sessions"); err != nil {
		return plane.Cleared{}, err
	}
	m.event(logstore.High, "general", "sessions-cleared", "", "all inspected sessions and HSM sessions are being ended by "+who(c))
	done, err := m.parts.Plane.ClearSessions(ctx, progress)
	if err != nil {
		m.event(logstore.High, "hsm", "hsm-sessions-down", "", "after clearing all sessions the HSM is not back: "+oneLine(err.Error()))
	} else {
		m.event(logstore.Informational, "hsm", "hsm-sessions-up", "", fmt.Sprintf("after clearing %d sessions the HSM is back; it was away for %v", done.Sessions, done.Down))
	}
	return done, coded(err)
}

// Counters are the data plane's figures that are not zero, by name.
func (m *Manager) Counters(ctx context.Context, c Caller) ([]plane.Counter, error) {
	if err := m.allow(c, admin.OpReadSystem, "counters"); err != nil {
		return nil, err
	}
	return m.parts.Plane.Counters(), nil
}

// DecryptSettings is what decryption does, from the configuration in use.
type DecryptSettings struct {
	ForwardTrust, ForwardUntrust config.CAPair
	TrustedRoots                 int // beside the system's
	Exclusions                   int
	Limits                       config.Limits
	Rules                        int
	Profiles                     int
}

// DecryptSettings tells what decryption does.
func (m *Manager) DecryptSettings(ctx context.Context, c Caller) (DecryptSettings, error) {
	if err := m.allow(c, admin.OpReadSystem, "decryption settings"); err != nil {
		return DecryptSettings{}, err
	}
	s := m.Snapshot()
	if s == nil {
		return DecryptSettings{}, m.notInUse()
	}
	return DecryptSettings{
		ForwardTrust: s.ForwardTrust, ForwardUntrust: s.ForwardUntrust, TrustedRoots: len(s.TrustedRoots),
		Exclusions: len(s.Exclusions), Limits: s.Limits, Rules: len(s.Rules), Profiles: len(s.Profiles),
	}, nil
}

func (m *Manager) notInUse() error {
	return refuse(CodeNotPossible, "the running configuration is not in use: %v", m.Trouble())
}

// CertCache lists the minted certificates that are kept.
func (m *Manager) CertCache(ctx context.Context, c Caller) ([]plane.Leaf, error) {
	if err := m.allow(c, admin.OpReadSystem, "certificate cache"); err != nil {
		return nil, err
	}
	return m.parts.Plane.Leaves(), nil
}

// ExcludeCache lists the names that are not decrypted.
func (m *Manager) ExcludeCache(ctx context.Context, c Caller) ([]config.Exclusion, error) {
	if err := m.allow(c, admin.OpReadSystem, "exclusions"); err != nil {
		return nil, err
	}
	return m.parts.Plane.Exclusions(), nil
}

// SessionCache tells of the TLS sessions with servers that are kept.
func (m *Manager) SessionCache(ctx context.Context, c Caller) ([]plane.ServerSessions, error) {
	if err := m.allow(c, admin.OpReadSystem, "session cache"); err != nil {
		return nil, err
	}
	return m.parts.Plane.ServerSessions(), nil
}

// RuleHits tells how often each rule decided, in their order.
func (m *Manager) RuleHits(ctx context.Context, c Caller) ([]plane.Hit, error) {
	if err := m.allow(c, admin.OpReadSystem, "rule hits"); err != nil {
		return nil, err
	}
	return m.parts.Plane.Hits(), nil
}

// ResetHits sets the counts of the named rules to zero, or all of them, and
// returns how many there were.
func (m *Manager) ResetHits(ctx context.Context, c Caller, names ...string) (int, error) {
	object := strings.Join(names, ", ")
	if err := m.allow(c, admin.OpResetCounters, object); err != nil {
		return 0, err
	}
	if object == "" {
		object = "all rules"
	}
	n := m.parts.Plane.ResetHits(names...)
	m.event(logstore.Informational, "general", "hits-reset", object, "the hit counts of "+object+" were set to zero by "+who(c))
	return n, nil
}

// Explain says what would become of a flow, by the policy in use.
func (m *Manager) Explain(ctx context.Context, c Caller, q plane.Query) (plane.Explanation, error) {
	if err := m.allow(c, admin.OpExplain, ""); err != nil {
		return plane.Explanation{}, err
	}
	e, err := m.parts.Plane.Explain(q)
	if errors.Is(err, plane.ErrNothing) {
		return e, refuse(CodeNotFound, "%v", err)
	}
	return e, coded(err)
}
