// Package jobs is the table of a gateway's long operations: what is queued,
// what runs, how far it is, and what came of it.
//
// Jobs of one queue run one after the other, in their order; jobs without a
// queue run at once. The table is kept in a file, so that who polls a number
// finds its job also after a restart; a job that a restart interrupted has
// failed and says so.
package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// ErrBusy is returned when more jobs are waiting or running than are allowed.
var ErrBusy = errors.New("too many jobs are waiting or running: try again when some of them are finished")

// ErrNotFound is returned for a number that no job has, or that is so old that
// it was forgotten.
var ErrNotFound = errors.New("there is no such job")

// ErrClosed is returned for a job that came when the gateway was stopping.
var ErrClosed = errors.New("the gateway is stopping")

const (
	maxOpen   = 64  // jobs that are not finished
	maxKept   = 200 // jobs that are finished
	maxQuiet  = 50  // the same of those that are not kept in the file
	interrupt = "the gateway was stopped before this was finished"
)

// Options say what a Table is made of.
type Options struct {
	// Path is the file that the table is kept in.
	Path   string
	Logger *slog.Logger
	Now    func() time.Time // nil for time.Now
}

// Spec is a job that is to be done.
type Spec struct {
	Type, User, Description string
	// Queue names the jobs that run one after the other; "" for at once.
	Queue string
	// Run does it. An error makes the job fail: its lines become details. An
	// error that has the method Lines() []string gives them itself. ctx ends
	// when the table is closed.
	Run func(ctx context.Context, r *Report) error
	// Quiet jobs are not kept in the file, for reading a log is no news: after a
	// restart their numbers may be given again.
	Quiet bool
}

// Table holds jobs. Make one with Open; close it. It is safe for concurrent
// use.
type Table struct {
	opts Options
	file file

	mu      sync.Mutex
	last    int               // number of the newest job
	entries []*entry          // by number
	queues  map[string]*queue // those that have an open job
	closed  bool

	ctx     context.Context // of running jobs
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// entry is a job with those who wait for news of it. Table.mu guards it.
type entry struct {
	job     Job
	spec    Spec
	changed chan struct{} // closed at the next change
}

func (e *entry) notify() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// queue holds jobs that wait for the one that runs.
type queue struct{ waiting []*entry }

// Open reads the table back, or begins one.
func Open(opts Options) (*Table, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	t := &Table{opts: opts, file: file{path: opts.Path}, queues: map[string]*queue{}}
	kept, err := t.file.read()
	if err != nil {
		return nil, err
	}
	t.last = kept.Last
	for _, j := range kept.Jobs {
		if !j.Done() {
			j.Status, j.Result, j.Finished = Finished, Failed, opts.Now()
			j.Details = appendLine(j.Details, interrupt)
		}
		t.entries = append(t.entries, &entry{job: j, changed: make(chan struct{})})
		t.last = max(t.last, j.ID)
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t, nil
}

// Close cancels what runs, fails what waits, and returns when all have ended.
func (t *Table) Close() error {
	t.mu.Lock()
	t.closed = true
	for _, q := range t.queues {
		for _, e := range q.waiting {
			t.finish(e, errors.New(interrupt))
		}
		q.waiting = nil
	}
	t.mu.Unlock()
	t.cancel()
	t.running.Wait()
	return t.save()
}

// Start enqueues a job and returns its number. Once it has returned, the number
// is never given again, crash or not.
func (t *Table) Start(spec Spec) (int, error) {
	t.mu.Lock()
	e, err := t.enqueue(spec)
	t.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if err := t.saveUnless(spec.Quiet); err != nil {
		t.opts.Logger.Error("writing the table of jobs", "err", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		t.finish(e, errors.New(interrupt))
	} else {
		t.dispatch(e)
	}
	return e.job.ID, nil
}

// enqueue adds a job that waits. t.mu is held.
func (t *Table) enqueue(spec Spec) (*entry, error) {
	if t.closed {
		return nil, ErrClosed
	}
	open := 0
	for _, e := range t.entries {
		if !e.job.Done() {
			open++
		}
	}
	if open >= maxOpen {
		return nil, ErrBusy
	}
	t.last++
	e := &entry{spec: spec, changed: make(chan struct{}), job: Job{
		ID: t.last, Type: spec.Type, User: spec.User, Description: spec.Description,
		Enqueued: t.opts.Now(), Status: Pending, Result: Unknown,
	}}
	t.entries = append(t.entries, e)
	t.forget(false, maxKept)
	t.forget(true, maxQuiet)
	return e, nil
}

// forget drops the oldest finished jobs of a kind beyond a number. t.mu is held.
func (t *Table) forget(quiet bool, keep int) {
	of := func(e *entry) bool { return e.job.Done() && e.spec.Quiet == quiet }
	extra := -keep
	for _, e := range t.entries {
		if of(e) {
			extra++
		}
	}
	t.entries = slices.DeleteFunc(t.entries, func(e *entry) bool {
		if extra <= 0 || !of(e) {
			return false
		}
		extra--
		return true
	})
}

// dispatch runs a job, or has it wait for its turn. t.mu is held.
func (t *Table) dispatch(e *entry) {
	if e.spec.Queue == "" {
		t.begin(e)
		return
	}
	if q := t.queues[e.spec.Queue]; q != nil {
		q.waiting = append(q.waiting, e)
		// Numbers say the order, whoever came first to this line.
		slices.SortFunc(q.waiting, func(a, b *entry) int { return a.job.ID - b.job.ID })
		return
	}
	t.queues[e.spec.Queue] = &queue{}
	t.begin(e)
}

// begin runs a job. t.mu is held.
func (t *Table) begin(e *entry) {
	e.job.Status, e.job.Started = Active, t.opts.Now()
	e.notify()
	t.running.Go(func() {
		err := t.run(e)
		t.mu.Lock()
		t.finish(e, err)
		if q := t.queues[e.spec.Queue]; q != nil {
			if len(q.waiting) == 0 {
				delete(t.queues, e.spec.Queue)
			} else {
				next := q.waiting[0]
				q.waiting = q.waiting[1:]
				t.begin(next)
			}
		}
		t.mu.Unlock()
		if err := t.saveUnless(e.spec.Quiet); err != nil {
			t.opts.Logger.Error("writing the table of jobs", "err", err)
		}
	})
}

// run turns a panic into a failure: one job must not take the gateway with it.
func (t *Table) run(e *entry) (err error) {
	defer func() {
		if p := recover(); p != nil {
			t.opts.Logger.Error("a job panicked", "job", e.job.ID, "type", e.spec.Type, "panic", p)
			err = errors.New("an internal error: the gateway's messages say which")
		}
	}()
	return e.spec.Run(t.ctx, &Report{t, e})
}

// finish is the end of a job. t.mu is held.
func (t *Table) finish(e *entry, err error) {
	e.job.Status, e.job.Finished, e.job.Progress = Finished, t.opts.Now(), 100
	e.job.Result = Succeeded
	if err != nil {
		e.job.Result = Failed
		for _, line := range linesOf(err) {
			e.job.Details = appendLine(e.job.Details, line)
		}
	}
	e.spec.Run = nil
	e.notify()
}

func linesOf(err error) []string {
	if l, ok := errors.AsType[interface {
		error
		Lines() []string
	}](err); ok {
		return l.Lines()
	}
	return strings.Split(err.Error(), "\n")
}

// List returns every job, the newest first.
func (t *Table) List() []Job {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]Job, 0, len(t.entries))
	for _, e := range slices.Backward(t.entries) {
		list = append(list, t.view(e))
	}
	return list
}

// Job returns one job.
func (t *Table) Job(id int) (Job, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, err := t.find(id)
	if err != nil {
		return Job{}, err
	}
	return t.view(e), nil
}

// Wait returns a job when it is finished, or as it is when ctx ends, with ctx's
// error. watch, unless nil, is called with the job as it is now and after each
// change, in their order.
func (t *Table) Wait(ctx context.Context, id int, watch func(Job)) (Job, error) {
	t.mu.Lock()
	e, err := t.find(id)
	if err != nil {
		t.mu.Unlock()
		return Job{}, err
	}
	for {
		job, changed := t.view(e), e.changed
		t.mu.Unlock()
		if watch != nil {
			watch(job)
		}
		if job.Done() {
			return job, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return job, ctx.Err()
		}
		t.mu.Lock()
	}
}

func (t *Table) find(id int) (*entry, error) {
	i, found := slices.BinarySearchFunc(t.entries, id, func(e *entry, id int) int { return e.job.ID - id })
	if !found {
		return nil, fmt.Errorf("job %d: %w", id, ErrNotFound)
	}
	return t.entries[i], nil
}

// view is a copy of a job with its place in the queue. t.mu is held.
func (t *Table) view(e *entry) Job {
	j := e.job.copy()
	if q := t.queues[e.spec.Queue]; q != nil && j.Status == Pending {
		j.Position = slices.Index(q.waiting, e) + 1
	}
	return j
}
