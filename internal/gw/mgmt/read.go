package mgmt

import (
	"context"
	"fmt"
	"slices"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/config"
	"moongate/internal/gw/revision"
)

// Which names a configuration: Candidate, Running, or a version by its number.
type Which struct{ version int }

var (
	Candidate = Which{0}
	Running   = Which{-1}
)

// Version is the version of that number, from 1.
func Version(n int) Which { return Which{n} }

func (w Which) String() string {
	switch w {
	case Candidate:
		return "candidate"
	case Running:
		return "running"
	}
	return fmt.Sprintf("version %d", w.version)
}

// tree returns a whole configuration as it is stored.
func (m *Manager) tree(w Which) (*config.Node, error) {
	switch {
	case w == Candidate:
		root, _ := m.parts.Revisions.Candidate()
		return root, nil
	case w == Running:
		root, _ := m.parts.Revisions.Running()
		return root, nil
	case w.version < 1:
		return nil, refuse(CodeNotFound, "version %d: versions are numbered from 1", w.version)
	}
	root, err := m.parts.Revisions.Version(w.version)
	return root, coded(err)
}

// Get returns the elements that an XPath names, secrets masked; none where
// nothing is there. An entry without a name is every entry.
func (m *Manager) Get(ctx context.Context, c Caller, which Which, xpath string) ([]*config.Node, error) {
	if err := m.allow(c, admin.OpReadConfig, which.String()); err != nil {
		return nil, err
	}
	root, err := m.tree(which)
	if err != nil {
		return nil, err
	}
	found, err := config.Select(root, xpath)
	if err != nil {
		return nil, coded(err)
	}
	shown := make([]*config.Node, len(found))
	for i, n := range found {
		shown[i] = config.MaskAt(xpath, n)
	}
	return shown, nil
}

// Diff returns what the candidate would change in the running configuration,
// secrets masked.
func (m *Manager) Diff(ctx context.Context, c Caller) ([]config.Change, error) {
	if err := m.allow(c, admin.OpReadConfig, "changes"); err != nil {
		return nil, err
	}
	candidate, _ := m.parts.Revisions.Candidate()
	running, _ := m.parts.Revisions.Running()
	return config.Diff(running, candidate), nil
}

// DiffText is the difference between two configurations as people read it.
func (m *Manager) DiffText(ctx context.Context, c Caller, from, to Which) (string, error) {
	if err := m.allow(c, admin.OpReadConfig, "changes"); err != nil {
		return "", err
	}
	before, err := m.tree(from)
	if err != nil {
		return "", err
	}
	after, err := m.tree(to)
	if err != nil {
		return "", err
	}
	return config.FormatDiff(before, after), nil
}

// ExportConfig returns a whole configuration as XML. Secrets are in it as they
// are stored, sealed: another gateway cannot open them, and this one can load
// it again. Passwords of administrators are masked for all but superusers.
func (m *Manager) ExportConfig(ctx context.Context, c Caller, which Which) ([]byte, error) {
	if err := m.allow(c, admin.OpReadConfig, which.String()); err != nil {
		return nil, err
	}
	root, err := m.tree(which)
	if err != nil {
		return nil, err
	}
	if !m.may(c, admin.OpEditAdmins) {
		root = config.Mask(root)
	}
	return config.Encode(root), nil
}

// Versions lists the versions that were committed, the newest first.
func (m *Manager) Versions(ctx context.Context, c Caller) ([]revision.Version, error) {
	if err := m.allow(c, admin.OpReadConfig, "versions"); err != nil {
		return nil, err
	}
	list := m.parts.Revisions.Versions()
	slices.Reverse(list)
	return list, nil
}
