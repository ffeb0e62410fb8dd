package ops

import (
	"context"
	"strconv"
	"strings"
	"time"

	"moongate/internal/gw/jobs"
	"moongate/internal/gw/mgmt"
)

func jobCommands() []*Command {
	return []*Command{
		{Words: "show jobs all", Help: "Show all jobs, the newest first", run: showJobs(func(jobs.Job) bool { return true })},
		{Words: "show jobs pending", Help: "Show the jobs that are not finished",
			run: showJobs(func(j jobs.Job) bool { return !j.Done() })},
		{Words: "show jobs processed", Help: "Show the jobs that are finished",
			run: showJobs(func(j jobs.Job) bool { return j.Done() })},
		{Words: "show jobs id", Help: "Show one job with what it says", Args: []Arg{
			{Name: "id", Bare: true, Required: true, Kind: Number, Min: 1, Value: "1-4294967296", Help: "The job's number", known: knownJobs},
		}, run: showJob},
	}
}

func showJobs(keep func(jobs.Job) bool) func(context.Context, *invocation) (*Result, error) {
	return func(ctx context.Context, in *invocation) (*Result, error) {
		list, err := in.m.Jobs(ctx, in.caller)
		if err != nil {
			return nil, err
		}
		r := &Result{}
		g := jobGrid()
		for _, j := range newestFirst(list) {
			if keep(j) {
				r.Elements = append(r.Elements, Job(j))
				jobRow(g, j)
			}
		}
		r.Text = g.text()
		return r, nil
	}
}

func newestFirst(list []jobs.Job) []jobs.Job {
	ordered := make([]jobs.Job, len(list))
	copy(ordered, list)
	for i := range ordered {
		for k := i; k > 0 && ordered[k].ID > ordered[k-1].ID; k-- {
			ordered[k], ordered[k-1] = ordered[k-1], ordered[k]
		}
	}
	return ordered
}

func showJob(ctx context.Context, in *invocation) (*Result, error) {
	id, _ := strconv.Atoi(in.Value("id")) // checked as a number
	j, err := in.m.Job(ctx, in.caller, id)
	if err != nil {
		if mgmt.CodeOf(err) == mgmt.CodeNotFound {
			return nil, refusal(mgmt.CodeNotPresent, "job %d not found", id)
		}
		return nil, err
	}
	g := jobGrid()
	jobRow(g, j)
	text := g.text()
	if j.Description != "" {
		text += "Description: " + j.Description + "\n"
	}
	for _, w := range j.Warnings {
		text += "Warning: " + w + "\n"
	}
	if len(j.Details) > 0 {
		text += "Details:\n  " + strings.Join(j.Details, "\n  ") + "\n"
	}
	return &Result{Elements: []*Element{Job(j)}, Text: text}, nil
}

func jobGrid() *grid {
	return newGrid("Enqueued", "Dequeued", "ID", "PositionInQ", "User", "Type", "Status", "Result", "Completed")
}

func jobRow(g *grid, j jobs.Job) {
	completed := strconv.Itoa(j.Progress) + "%"
	if j.Done() {
		completed = Clock(j.Finished)
	}
	g.row(stamp(j.Enqueued), Clock(j.Started), strconv.Itoa(j.ID), strconv.Itoa(j.Position), j.User, j.Type,
		string(j.Status), string(j.Result), completed)
}

// Job is a job as clients poll it. Some of them find children by their place:
// the order is the interface's.
func Job(j jobs.Job) *Element {
	lines := func(name string, list []string) *Element {
		e := E(name)
		for _, text := range list {
			e.Add(T("line", text))
		}
		return e
	}
	progress := strconv.Itoa(j.Progress)
	if j.Done() {
		progress = "100"
	}
	return E("job",
		T("tenq", stamp(j.Enqueued)),
		T("tdeq", Clock(j.Started)),
		T("id", strconv.Itoa(j.ID)),
		T("user", j.User),
		T("type", j.Type),
		T("status", string(j.Status)),
		T("queued", queued(j)),
		T("stoppable", "no"),
		T("result", string(j.Result)),
		T("tfin", or(Clock(j.Finished), "Still Active")),
		T("description", j.Description),
		T("positionInQ", strconv.Itoa(j.Position)),
		T("progress", progress),
		lines("warnings", j.Warnings),
		lines("details", j.Details),
	)
}

func queued(j jobs.Job) string {
	if j.Status == jobs.Pending {
		return "YES"
	}
	return "NO"
}

func knownJobs(ctx context.Context, m *mgmt.Manager, c mgmt.Caller) []Option {
	list, err := m.Jobs(ctx, c)
	if err != nil {
		return nil // the command itself will say why
	}
	var found []Option
	for _, j := range newestFirst(list) {
		if len(found) == 20 {
			break
		}
		found = append(found, Option{strconv.Itoa(j.ID), j.Type + " of " + j.User + ", " + j.Enqueued.Format(time.DateTime)})
	}
	return found
}
