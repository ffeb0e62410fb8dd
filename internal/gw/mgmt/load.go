package mgmt

import (
	"context"
	"fmt"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/config"
	"moongate/internal/gw/revision"
)

// Revert makes the candidate what runs: every change since is given up.
func (m *Manager) Revert(ctx context.Context, c Caller) error {
	return m.replace(ctx, c, admin.OpRevert, "revert config", "running", func() (*config.Node, error) { return m.tree(Running) })
}

// LoadVersion makes the candidate what the version of that number was.
func (m *Manager) LoadVersion(ctx context.Context, c Caller, n int) error {
	return m.replace(ctx, c, admin.OpLoadConfig, "load config", fmt.Sprintf("version %d", n), func() (*config.Node, error) {
		if n < 1 {
			return nil, refuse(CodeNotFound, "version %d: versions are numbered from 1", n)
		}
		return m.tree(Version(n))
	})
}

// LoadConfig makes the candidate what a whole configuration in XML says. It may
// lack what makes a configuration complete; a commit says so. Secrets are
// sealed as by Change.
func (m *Manager) LoadConfig(ctx context.Context, c Caller, xml []byte) error {
	return m.replace(ctx, c, admin.OpLoadConfig, "load config", "from a file", func() (*config.Node, error) {
		root, err := config.Decode(xml)
		if err != nil {
			return nil, err
		}
		row, err := config.Lookup("/config")
		if err != nil {
			return nil, err
		}
		before, _ := m.parts.Revisions.Candidate()
		return m.sealBelow(before, row, root, "/config")
	})
}

// replace makes another tree the candidate.
func (m *Manager) replace(ctx context.Context, c Caller, op admin.Operation, command, object string, tree func() (*config.Node, error)) error {
	err := m.allow(c, op, object)
	if err == nil {
		err = m.replaceBy(ctx, c, command, object, tree)
	}
	if err != nil {
		err = coded(err)
		m.record(c, command, object, "", "", failed(err))
	}
	return err
}

func (m *Manager) replaceBy(ctx context.Context, c Caller, command, object string, tree func() (*config.Node, error)) error {
	m.editing.Lock()
	defer m.editing.Unlock()
	if err := m.free(revision.LockConfig, c); err != nil {
		return err
	}
	root, err := tree()
	if err != nil {
		return err
	}
	before, _ := m.parts.Revisions.Candidate()
	if err := m.mayReplace(c, before, root, object); err != nil {
		return err
	}
	if err := m.parts.Revisions.Replace(ctx, root); err != nil {
		return err
	}
	m.replacedBy(c, root)
	was, is := beforeAfter(config.Diff(before, root))
	m.record(c, command, object, was, is, resultDone)
	return nil
}

// replacedBy remembers whose changes a replaced candidate has: nobody's where
// it is what runs, else its last author's alone.
func (m *Manager) replacedBy(c Caller, root *config.Node) {
	running, _ := m.parts.Revisions.Running()
	same := config.Equal(running, root)
	m.mu.Lock()
	clear(m.authors)
	m.mu.Unlock()
	if !same {
		m.changedBy(c)
	}
}
