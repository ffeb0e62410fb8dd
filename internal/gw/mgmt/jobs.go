package mgmt

import (
	"context"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/jobs"
)

// Jobs lists the jobs, the newest first.
func (m *Manager) Jobs(ctx context.Context, c Caller) ([]jobs.Job, error) {
	if err := m.allow(c, admin.OpReadJobs, ""); err != nil {
		return nil, err
	}
	return m.parts.Jobs.List(), nil
}

// Job returns one job; CodeNotFound where no job has the number.
func (m *Manager) Job(ctx context.Context, c Caller, id int) (jobs.Job, error) {
	if err := m.allow(c, admin.OpReadJobs, ""); err != nil {
		return jobs.Job{}, err
	}
	job, err := m.parts.Jobs.Job(id)
	return job, coded(err)
}

// WaitJob returns a job when it is finished, or as it is when ctx ends. watch,
// unless nil, is told of it as it is now and after each change.
func (m *Manager) WaitJob(ctx context.Context, c Caller, id int, watch func(jobs.Job)) (jobs.Job, error) {
	if err := m.allow(c, admin.OpReadJobs, ""); err != nil {
		return jobs.Job{}, err
	}
	job, err := m.parts.Jobs.Wait(ctx, id, watch)
	return job, coded(err)
}
