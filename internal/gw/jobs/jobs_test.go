package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func open(t *testing.T, path string) *Table {
	t.Helper()
	table, err := Open(Options{Path: path, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	})
	return table
}

func start(t *testing.T, table *Table, spec Spec) int {
	t.Helper()
	id, err := table.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func wait(t *testing.T, table *Table, id int) Job {
	t.Helper()
	job, err := table.Wait(t.Context(), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func nothing(context.Context, *Report) error { return nil }

type manyLines []string

func (m manyLines) Error() string   { return strings.Join(m, "; ") }
func (m manyLines) Lines() []string { return m }

func TestOutcome(t *testing.T) {
	t.Parallel()
	table := open(t, filepath.Join(t.TempDir(), "jobs.json"))
	var late *Report
	good := start(t, table, Spec{Type: "Commit", User: "ann", Description: "why", Run: func(_ context.Context, r *Report) error {
		late = r
		r.Progress(50)
		r.Progress(10) // never back
		r.Detail("did it")
		r.Warning("mind this")
		return nil
	}})
	bad := start(t, table, Spec{Type: "Validate", Run: func(context.Context, *Report) error { return fmt.Errorf("wrapped: %w", manyLines{"a", "b"}) }})
	panics := start(t, table, Spec{Type: "Validate", Run: func(context.Context, *Report) error { panic("oh") }})

	job := wait(t, table, good)
	late.Detail("too late")
	if again := wait(t, table, good); !cmp.Equal(job, again) {
		t.Errorf("a finished job changed: %s", cmp.Diff(job, again))
	}
	if job.Status != Finished || job.Result != Succeeded || job.Progress != 100 || job.User != "ann" || job.Description != "why" ||
		!slices.Equal(job.Details, []string{"did it"}) || !slices.Equal(job.Warnings, []string{"mind this"}) ||
		job.Enqueued.IsZero() || job.Started.Before(job.Enqueued) || job.Finished.Before(job.Started) {
		t.Errorf("the job is %+v", job)
	}
	if job := wait(t, table, bad); job.Result != Failed || !slices.Equal(job.Details, []string{"a", "b"}) {
		t.Errorf("the failed job is %+v", job)
	}
	if job := wait(t, table, panics); job.Result != Failed || len(job.Details) != 1 {
		t.Errorf("the job that panicked is %+v", job)
	}
	if _, err := table.Job(99); !errors.Is(err, ErrNotFound) {
		t.Errorf("job 99: %v", err)
	}
	var ids []int
	for _, j := range table.List() {
		ids = append(ids, j.ID)
	}
	if !slices.Equal(ids, []int{3, 2, 1}) {
		t.Errorf("the list is %v", ids)
	}
}

func TestQueue(t *testing.T) {
	t.Parallel()
	table := open(t, filepath.Join(t.TempDir(), "jobs.json"))
	release := make(chan struct{})
	var order []int // jobs of the queue write it one after the other
	var ids []int
	for i := range 3 {
		ids = append(ids, start(t, table, Spec{Type: "Commit", Queue: "commit", Run: func(context.Context, *Report) error {
			<-release
			order = append(order, i)
			return nil
		}}))
	}
	free := start(t, table, Spec{Type: "Log", Run: nothing})
	wait(t, table, free) // it does not wait for the queue
	for i, want := range []Status{Active, Pending, Pending} {
		if job, err := table.Job(ids[i]); err != nil || job.Status != want || job.Position != i {
			t.Errorf("job %d is %+v, %v; want %s at %d", ids[i], job, err, want, i)
		}
	}
	close(release)
	for _, id := range ids {
		wait(t, table, id)
	}
	if !slices.Equal(order, []int{0, 1, 2}) {
		t.Errorf("they ran in the order %v", order)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	table := open(t, filepath.Join(t.TempDir(), "jobs.json"))
	step := make(chan int)
	id := start(t, table, Spec{Run: func(_ context.Context, r *Report) error {
		for p := range step {
			r.Progress(p)
		}
		return nil
	}})
	var seen []int
	_, err := table.Wait(t.Context(), id, func(j Job) {
		seen = append(seen, j.Progress)
		switch j.Progress {
		case 0:
			step <- 30
		case 30:
			step <- 60
		case 60:
			close(step)
		}
	})
	if err != nil || !slices.Equal(seen, []int{0, 30, 60, 100}) {
		t.Errorf("seen %v, %v", seen, err)
	}

	stuck := start(t, table, Spec{Run: func(ctx context.Context, _ *Report) error { <-ctx.Done(); return ctx.Err() }})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if job, err := table.Wait(ctx, stuck, nil); !errors.Is(err, context.Canceled) || job.Done() {
		t.Errorf("waiting with an ended context: %+v, %v", job, err)
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "jobs.json")
	table := open(t, path)
	began := make(chan struct{})
	done := start(t, table, Spec{Type: "Commit", Queue: "q", Run: nothing})
	before := wait(t, table, done)
	runs := start(t, table, Spec{Type: "Commit", Queue: "q", Run: func(ctx context.Context, _ *Report) error {
		close(began)
		<-ctx.Done()
		return ctx.Err()
	}})
	<-began
	waits := start(t, table, Spec{Type: "Commit", Queue: "q", Run: nothing})
	quiet := start(t, table, Spec{Type: "Log", Quiet: true, Run: nothing})
	wait(t, table, quiet)

	// A crash: what is in the file now is what is left.
	crashed := filepath.Join(t.TempDir(), "jobs.json")
	raw, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(crashed, raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	after := open(t, crashed)
	if job, err := after.Job(done); err != nil || !cmp.Equal(job, before) {
		t.Errorf("after the crash the finished job is %v\n%s", err, cmp.Diff(before, job))
	}
	for _, id := range []int{runs, waits} {
		if job := wait(t, after, id); job.Result != Failed || !slices.Contains(job.Details, interrupt) {
			t.Errorf("after the crash job %d is %+v", id, job)
		}
	}
	if _, err := after.Job(quiet); !errors.Is(err, ErrNotFound) {
		t.Errorf("the quiet job: %v", err)
	}
	if id := start(t, after, Spec{Run: nothing}); id <= waits {
		t.Errorf("number %d was given again", id)
	}

	// A stop.
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	for _, id := range []int{runs, waits} {
		if job := wait(t, table, id); job.Result != Failed {
			t.Errorf("after the stop job %d is %+v", id, job)
		}
	}
	if _, err := table.Start(Spec{Run: nothing}); !errors.Is(err, ErrClosed) {
		t.Errorf("a job after the stop: %v", err)
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	table := open(t, filepath.Join(t.TempDir(), "jobs.json"))
	first := start(t, table, Spec{Type: "Commit", Run: func(_ context.Context, r *Report) error {
		for range 3 * maxLines {
			r.Detail(strings.Repeat("x", 2*maxLine))
		}
		return nil
	}})
	if job := wait(t, table, first); len(job.Details) != maxLines+1 || len(job.Details[0]) > maxLine+3 {
		t.Errorf("%d details, the first of %d bytes", len(job.Details), len(job.Details[0]))
	}
	for range maxQuiet + 10 {
		wait(t, table, start(t, table, Spec{Quiet: true, Run: nothing}))
	}
	if _, err := table.Job(first); err != nil {
		t.Errorf("quiet jobs drove the first one away: %v", err)
	}
	if n := len(table.List()); n > maxQuiet+2 {
		t.Errorf("%d jobs are kept", n)
	}
	release := make(chan struct{})
	defer close(release)
	for range maxOpen {
		start(t, table, Spec{Queue: "q", Quiet: true, Run: func(context.Context, *Report) error { <-release; return nil }})
	}
	if _, err := table.Start(Spec{Run: nothing}); !errors.Is(err, ErrBusy) {
		t.Errorf("one job more: %v", err)
	}
}

func TestDamaged(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no JSON": "{", "out of order": `{"last":3,"jobs":[{"id":2},{"id":1}]}`,
	} {
		path := filepath.Join(t.TempDir(), "jobs.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Options{Path: path, Logger: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"last":3,"jobs":[{"id":2,"status":"ACT","details":["x"]}]}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(dir, "jobs.json")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		table, err := Open(Options{Path: path, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return
		}
		for _, j := range table.List() {
			if !j.Done() {
				t.Errorf("job %d is not finished", j.ID)
			}
		}
	})
}
