package mgmt

import (
	"context"
	"fmt"
	"sync"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/jobs"
	"moongate/internal/gw/logstore"
)

// Logs asks a log. A filter that cannot be read has CodeBadParameter.
func (m *Manager) Logs(ctx context.Context, c Caller, q logstore.Query) ([]logstore.Entry, error) {
	if err := m.allow(c, admin.OpReadLogs, string(q.Log)); err != nil {
		return nil, err
	}
	entries, err := m.parts.Logs.Query(ctx, q)
	return entries, queryError(err)
}

// StartLogQuery asks a log in a job, whose number is returned; LogQueryResult
// has what it found.
func (m *Manager) StartLogQuery(ctx context.Context, c Caller, q logstore.Query) (int, error) {
	if err := m.allow(c, admin.OpReadLogs, string(q.Log)); err != nil {
		return 0, err
	}
	if err := logstore.CheckFilter(q.Log, q.Filter); err != nil {
		return 0, queryError(err)
	}
	s := &search{of: c.Name}
	id, err := m.parts.Jobs.Start(jobs.Spec{
		Type: "Log", User: c.Name, Quiet: true,
		Run: func(ctx context.Context, r *jobs.Report) error {
			entries, err := m.parts.Logs.Query(ctx, q)
			if err != nil {
				return err
			}
			s.set(entries)
			r.Detail(fmt.Sprintf("%d entries", len(entries)))
			return nil
		},
	})
	if err != nil {
		return 0, coded(err)
	}
	m.searches.add(id, s)
	return id, nil
}

// LogQueryResult is what a job of StartLogQuery found; only who started it may
// ask. While the job runs there is nothing yet.
func (m *Manager) LogQueryResult(ctx context.Context, c Caller, id int) (entries []logstore.Entry, job jobs.Job, err error) {
	if err := m.allow(c, admin.OpReadLogs, fmt.Sprintf("job %d", id)); err != nil {
		return nil, job, err
	}
	s := m.searches.get(id)
	if s == nil || s.of != c.Name {
		return nil, job, refuse(CodeNotFound, "job %d is no log query of %s, or an old one", id, c.Name)
	}
	if job, err = m.parts.Jobs.Job(id); err != nil {
		return nil, job, coded(err)
	}
	if job.Done() && job.Result == jobs.Failed {
		return nil, job, &Error{Code: CodeNotPossible, Lines: job.Details}
	}
	return s.get(), job, nil
}

func queryError(err error) error {
	if logstore.IsFilterError(err) {
		return refuse(CodeBadParameter, "%v", err)
	}
	return coded(err)
}

// searches are what log queries found, the newest of them.
type searches struct {
	mu    sync.Mutex
	byJob map[int]*search
	order []int
}

type search struct {
	of string // the account that asked

	mu      sync.Mutex
	entries []logstore.Entry
}

// maxSearches bounds what is kept: a query finds at most 5,000 entries.
const maxSearches = 16

func (s *searches) add(id int, found *search) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byJob == nil {
		s.byJob = map[int]*search{}
	}
	s.byJob[id] = found
	if s.order = append(s.order, id); len(s.order) > maxSearches {
		delete(s.byJob, s.order[0])
		s.order = s.order[1:]
	}
}

func (s *searches) get(id int) *search {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byJob[id]
}

func (s *search) set(entries []logstore.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries = entries
}

func (s *search) get() []logstore.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entries
}
