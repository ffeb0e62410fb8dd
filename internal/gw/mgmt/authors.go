package mgmt

import (
	"context"
	"slices"

	"moongate/internal/gw/config"
	"moongate/internal/gw/logstore"
)

// authors are who changed the candidate since the last commit, each with the
// number of the candidate after their last change: a commit takes the changes of
// all, and says whose they are.
type authors map[string]uint64

// changedBy remembers who changed the candidate. m.editing is held.
func (m *Manager) changedBy(c Caller) {
	_, rev := m.parts.Revisions.Candidate()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.authors[c.Name] = rev
}

// otherAuthors are those but the caller.
func (m *Manager) otherAuthors(c Caller) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []string
	for name := range m.authors {
		if name != c.Name {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// forgetAuthors forgets whose changes are in the candidate of that number, which
// was committed; who has changed it since then is remembered.
func (m *Manager) forgetAuthors(committed uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, last := range m.authors {
		if last <= committed {
			delete(m.authors, name)
		}
	}
}

// findAuthors finds out, after a start, who changed the candidate since the
// last commit: the configuration log knows.
func (m *Manager) findAuthors(ctx context.Context) {
	candidate, rev := m.parts.Revisions.Candidate()
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
			m.authors[e.Get("admin")] = rev
		}
	}
}

// maxAuthorEntries bounds how far back the configuration log is read.
const maxAuthorEntries = 1000
