package mgmt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/config"
	"moongate/internal/gw/jobs"
	"moongate/internal/gw/logstore"
	"moongate/internal/gw/plane"
	"moongate/internal/gw/revision"
)

// CommitRequest is what Commit may be told.
type CommitRequest struct {
	Description string
	// Confirm is how long the gateway waits for ConfirmCommit before it goes
	// back to the version before; 0 for no going back.
	Confirm time.Duration
	// Force commits a candidate that is the running configuration.
	Force bool
}

// commitQueue is the queue of jobs that look at a whole configuration.
const commitQueue = "commit"

// maxConfirm bounds the time to confirm.
const maxConfirm = 7 * 24 * time.Hour

// Committed is the last line of a commit that succeeded.
const Committed = "Configuration committed successfully"

// Commit makes the candidate the running configuration, in a job whose number
// is returned. What the candidate is now is what is committed, whatever is
// edited meanwhile, and whoever edited it. ErrNoChanges where there is nothing
// to commit. A commit also confirms an earlier one that waits to be confirmed.
func (m *Manager) Commit(ctx context.Context, c Caller, req CommitRequest) (int, error) {
	if err := m.mayCommit(c, req); err != nil {
		m.record(c, "commit", "", "", "", failed(err))
		return 0, err
	}
	m.editing.Lock()
	root, rev := m.parts.Revisions.Candidate()
	authors := m.otherAuthors(c)
	m.editing.Unlock()
	running, _ := m.parts.Revisions.Running()
	_, pending := m.parts.Revisions.Pending()
	if !req.Force && !pending && m.Trouble() == nil && config.Equal(running, root) {
		return 0, ErrNoChanges
	}
	id, err := m.parts.Jobs.Start(jobs.Spec{
		Type: "Commit", User: c.Name, Description: req.Description, Queue: commitQueue,
		Run: func(ctx context.Context, r *jobs.Report) error { return m.commit(ctx, c, req, root, rev, authors, r) },
	})
	if err != nil {
		return 0, coded(err)
	}
	m.record(c, "commit", "", "", "", fmt.Sprintf("Submitted: job %d", id))
	return id, nil
}

func (m *Manager) mayCommit(c Caller, req CommitRequest) error {
	if err := m.allow(c, admin.OpCommit, ""); err != nil {
		return err
	}
	if req.Confirm < 0 || req.Confirm > maxConfirm {
		return refuse(CodeBadParameter, "commit confirmed: the time to confirm is %v, expected one minute to %v", req.Confirm, maxConfirm)
	}
	if len(req.Description) > maxDescription {
		return refuse(CodeBadParameter, "the commit's description has %d bytes, expected at most %d", len(req.Description), maxDescription)
	}
	return m.free(revision.LockCommit, c)
}

// maxDescription bounds the description of a commit, in bytes: it is kept with
// each version and job, and written again with each of the next ones.
const maxDescription = 1024

// commit is the job of Commit.
func (m *Manager) commit(ctx context.Context, c Caller, req CommitRequest, root *config.Node, rev uint64, authors []string, r *jobs.Report) error {
	m.committing.Lock()
	defer m.committing.Unlock()
	if err := m.free(revision.LockCommit, c); err != nil { // taken while it waited
		return m.commitFailed(c, err)
	}
	if len(authors) > 0 {
		r.Detail("The changes of other administrators are committed as well: " + strings.Join(authors, ", "))
	}
	r.Progress(5)
	before, _ := m.parts.Revisions.Running()
	version, err := m.install(ctx, revision.Meta{
		Admin: c.Name, Description: req.Description, From: fromOf(c), At: m.now(),
	}, root, req.Confirm, fresh, r)
	if err != nil {
		return m.commitFailed(c, err)
	}
	m.forgetAuthors(rev)
	was, is := beforeAfter(config.Diff(before, root))
	m.record(c, "commit", "", was, is, fmt.Sprintf("%s: version %d", resultDone, version.Number))
	m.event(logstore.Informational, "general", "commit", fmt.Sprintf("version %d", version.Number), "version "+fmt.Sprint(version.Number)+" was committed by "+who(c))
	if req.Confirm > 0 {
		r.Detail(fmt.Sprintf("Confirm within %v, or the gateway goes back to the version before", req.Confirm))
	}
	r.Detail(Committed)
	return nil
}

func (m *Manager) commitFailed(c Caller, err error) error {
	m.record(c, "commit", "", "", "", failed(err))
	m.event(logstore.Medium, "general", "commit-failed", c.Name, "a commit by "+who(c)+" failed: "+oneLine(err.Error()))
	return err
}

// install makes a tree the running configuration: it is checked as a whole,
// everything is made that it asks for, it is persisted, and only then is
// anything changed. m.committing is held.
func (m *Manager) install(ctx context.Context, meta revision.Meta, root *config.Node, confirm time.Duration, from origin, r *jobs.Report) (revision.Version, error) {
	r.Detail("Validating the configuration")
	next, err := m.prepare(root, from, r)
	if err != nil {
		return revision.Version{}, err
	}
	r.Progress(60)
	var confirmBy time.Time
	if confirm > 0 {
		confirmBy = m.now().Add(confirm)
	}
	version, err := m.parts.Revisions.Commit(ctx, meta, root, confirmBy)
	if err != nil {
		next.discard()
		return revision.Version{}, fmt.Errorf("storing the configuration: %w; the running configuration is as it was", err)
	}
	r.Progress(80)
	next.apply()
	m.wake()
	return version, nil
}

// next is everything that a configuration asks for, made and not yet in use.
type next struct {
	m         *Manager
	snapshot  *config.Snapshot
	plane     *plane.Prepared
	followers []Prepared
}

// prepare makes what a tree asks for. An error says everything that is wrong.
func (m *Manager) prepare(root *config.Node, from origin, r *jobs.Report) (*next, error) {
	snapshot, err := m.compile(root, r)
	if err != nil {
		return nil, err
	}
	r.Progress(20)
	if err := m.checkNewCertificates(root, snapshot, from, r); err != nil {
		return nil, err
	}
	m.warnOfMasterKey(snapshot, r)
	r.Progress(30)
	n := &next{m: m, snapshot: snapshot}
	r.Detail("Preparing the data plane")
	if n.plane, err = m.parts.Plane.Prepare(snapshot); err != nil {
		return nil, err
	}
	for _, f := range m.parts.Followers {
		p, err := f.Prepare(snapshot)
		if err != nil {
			n.discard()
			return nil, err
		}
		n.followers = append(n.followers, p)
	}
	return n, nil
}

// compile checks a whole tree and makes its snapshot.
func (m *Manager) compile(root *config.Node, r *jobs.Report) (*config.Snapshot, error) {
	snapshot, warnings, err := config.Compile(root, m.now())
	for _, w := range warnings {
		r.Warning(w.String())
	}
	if err != nil {
		return nil, err
	}
	m.warnOfLink(snapshot, r)
	if err := someSuperuser(snapshot); err != nil {
		return nil, err
	}
	if err := checkLogSettings(snapshot); err != nil {
		return nil, err
	}
	if err := m.checkKeys(snapshot, r); err != nil {
		return nil, err
	}
	return snapshot, nil
}

// warnOfLink warns of what a configuration does to the way to the HSMs.
func (m *Manager) warnOfLink(next *config.Snapshot, r *jobs.Report) {
	if m.parts.Link == nil {
		return
	}
	var running *config.HSM
	if s := m.Snapshot(); s != nil {
		running = s.HSM
	}
	for _, w := range m.parts.Link.Warnings(running, next.HSM) {
		r.Warning(w)
	}
}

func (n *next) apply() {
	n.m.useSettings(n.snapshot)
	n.plane.Apply()
	for _, f := range n.followers {
		f.Apply()
	}
}

func (n *next) discard() {
	if n.plane != nil {
		n.plane.Discard()
	}
	for _, f := range n.followers {
		f.Discard()
	}
}

// Validate checks the candidate as a whole, as a commit does, in a job.
func (m *Manager) Validate(ctx context.Context, c Caller) (int, error) {
	if err := m.allow(c, admin.OpValidate, ""); err != nil {
		return 0, err
	}
	root, _ := m.parts.Revisions.Candidate()
	id, err := m.parts.Jobs.Start(jobs.Spec{
		Type: "Validate", User: c.Name, Queue: commitQueue,
		Run: func(_ context.Context, r *jobs.Report) error {
			r.Progress(10)
			next, err := m.prepare(root, fresh, r)
			if err != nil {
				return err
			}
			next.discard()
			r.Detail("Configuration is valid")
			return nil
		},
	})
	return id, coded(err)
}

// ConfirmCommit confirms a commit that would otherwise be gone back on.
func (m *Manager) ConfirmCommit(ctx context.Context, c Caller) error {
	err := m.allow(c, admin.OpCommit, "confirm")
	if err == nil {
		err = m.free(revision.LockCommit, c)
	}
	if err == nil {
		err = m.confirm(ctx)
	}
	m.record(c, "commit confirm", "", "", "", resultOf(err))
	return err
}

func (m *Manager) confirm(ctx context.Context) error {
	m.committing.Lock()
	defer m.committing.Unlock()
	if _, pending := m.parts.Revisions.Pending(); !pending {
		return refuse(CodeNotPossible, "no commit waits to be confirmed")
	}
	if err := m.parts.Revisions.Confirm(ctx); err != nil {
		return coded(err)
	}
	m.wake()
	return nil
}

func resultOf(err error) string {
	if err != nil {
		return failed(err)
	}
	return resultDone
}

// PendingConfirm is the commit that waits to be confirmed; nil for none.
func (m *Manager) PendingConfirm(ctx context.Context, c Caller) (*revision.Confirm, error) {
	if err := m.allow(c, admin.OpReadConfig, "commit to confirm"); err != nil {
		return nil, err
	}
	if p, pending := m.parts.Revisions.Pending(); pending {
		return &p, nil
	}
	return nil, nil
}

// goBack makes the version before the running one the running one again: nobody
// confirmed in time.
func (m *Manager) goBack(ctx context.Context) {
	id, err := m.parts.Jobs.Start(jobs.Spec{
		Type: "Revert", User: consoleName, Description: "the commit was not confirmed in time", Queue: commitQueue,
		Run: func(ctx context.Context, r *jobs.Report) error {
			m.committing.Lock()
			defer m.committing.Unlock()
			return m.goBackNow(ctx, r)
		},
	})
	if err == nil {
		_, err = m.parts.Jobs.Wait(ctx, id, nil)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		m.log.Error("going back to the version before failed", "err", err)
	}
}

func (m *Manager) goBackNow(ctx context.Context, r *jobs.Report) error {
	pending, there := m.parts.Revisions.Pending()
	if !there || m.now().Before(pending.Deadline) {
		return nil // it was confirmed at the last moment
	}
	root, err := m.parts.Revisions.Version(pending.Previous)
	if err != nil {
		return err
	}
	before, _ := m.parts.Revisions.Running()
	console := AtConsole()
	description := fmt.Sprintf("back to version %d: version %d was not confirmed", pending.Previous, pending.Version)
	version, err := m.install(ctx, revision.Meta{Admin: consoleName, Description: description, At: m.now()}, root, 0, proven, r)
	if err != nil {
		m.event(logstore.Critical, "general", "commit-revert-failed", "", "going "+description+" failed: "+oneLine(err.Error()))
		return err
	}
	was, is := beforeAfter(config.Diff(before, root))
	m.record(console, "commit revert", "", was, is, fmt.Sprintf("%s: version %d", resultDone, version.Number))
	m.event(logstore.High, "general", "commit-reverted", fmt.Sprintf("version %d", version.Number), description)
	r.Detail(description)
	return nil
}
