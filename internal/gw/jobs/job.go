package jobs

import (
	"slices"
	"time"
)

// Status is where a job is, in the words of those who poll it.
type Status string

const (
	Pending  Status = "PEND" // waits for those before it
	Active   Status = "ACT"
	Finished Status = "FIN"
)

// Result is what came of a job.
type Result string

const (
	Unknown   Result = "PEND" // it is not finished
	Succeeded Result = "OK"
	Failed    Result = "FAIL"
)

// Job is a job as it was when it was asked for. Whoever has one may keep it:
// nothing writes to it any more.
type Job struct {
	ID          int       `json:"id"`
	Type        string    `json:"type"` // Commit, Validate, Log, ...
	User        string    `json:"user"`
	Description string    `json:"description,omitempty"`
	Enqueued    time.Time `json:"enqueued"`
	Started     time.Time `json:"started,omitzero"`  // zero while it waits
	Finished    time.Time `json:"finished,omitzero"` // zero while it is not
	Status      Status    `json:"status"`
	Result      Result    `json:"result"`
	Progress    int       `json:"progress"` // percent
	// Position is the number of jobs that are before it in its queue.
	Position int      `json:"-"`
	Warnings []string `json:"warnings,omitempty"`
	Details  []string `json:"details,omitempty"` // what it did, or why it failed: lines
}

// Done reports whether the job is finished.
func (j Job) Done() bool { return j.Status == Finished }

func (j *Job) copy() Job {
	c := *j
	c.Warnings, c.Details = slices.Clone(j.Warnings), slices.Clone(j.Details)
	return c
}

// bounds of what one job may say: a configuration with ten thousand mistakes
// names the first of them.
const (
	maxLines = 1000
	maxLine  = 1000 // bytes
)

func appendLine(list []string, line string) []string {
	switch {
	case len(list) > maxLines:
		return list
	case len(list) == maxLines:
		return append(list, "(there is more; it is not shown)")
	}
	if len(line) > maxLine {
		line = line[:maxLine] + "..."
	}
	return append(list, line)
}

// Report is how a running job tells of itself. It may be used from any
// goroutine; after the job's function has returned it does nothing. The zero
// Report is nobody's, and does nothing.
type Report struct {
	table *Table
	entry *entry
}

// Progress says how far the job is, in percent; it never goes back, and 100 is
// the end's.
func (r *Report) Progress(percent int) {
	r.change(func(j *Job) { j.Progress = max(j.Progress, min(percent, 99)) })
}

// Detail adds a line to what the job says that it did.
func (r *Report) Detail(line string) {
	r.change(func(j *Job) { j.Details = appendLine(j.Details, line) })
}

// Warning adds a line of what is worth attention in a job that succeeds.
func (r *Report) Warning(line string) {
	r.change(func(j *Job) { j.Warnings = appendLine(j.Warnings, line) })
}

func (r *Report) change(do func(*Job)) {
	if r.table == nil {
		return
	}
	r.table.mu.Lock()
	defer r.table.mu.Unlock()
	if r.entry.job.Status == Active {
		do(&r.entry.job)
		r.entry.notify()
	}
}
