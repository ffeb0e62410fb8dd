// Package load is the benchmark's client: closed-loop workers, each with one
// connection at a time, in a process of its own so that its processor time is
// not counted as a contestant's.
//
//	result, err := load.Run(ctx, "/proc/self/exe", []string{"load"}, job)
//
// Run starts the program given, which must call Main, and waits for it. Every
// answer is checked: status, length, body, the chain to Job.Roots for the name
// asked for, and that the handshake was a full one. The first wrong one fails
// the job: a proxy that is fast and wrong has no figure.
package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"time"

	"moongate/bench/origin"
)

// Job is one slice of load on one contestant.
type Job struct {
	// Proxy is dialled and asked to CONNECT to Target; with none, Target
	// itself is dialled.
	Proxy  string `json:"proxy,omitempty"`
	Target string `json:"target"`
	// Names are the server names of successive connections. With several,
	// each is used once, beginning at Names.First; running past Names.Count
	// is an error.
	Names origin.Names `json:"names"`
	Roots []byte       `json:"roots"` // PEM: what the presented chain must lead to
	// Body is the length of each answer's body; 0 asks for the small page.
	Body int `json:"body,omitempty"`
	// Keep makes all of a worker's requests on one connection.
	Keep    bool `json:"keep,omitempty"`
	Workers int  `json:"workers"`
	// Classic offers X25519 and P-256 alone, without X25519MLKEM768.
	Classic bool          `json:"classic,omitempty"`
	Warmup  time.Duration `json:"warmup"`
	Measure time.Duration `json:"measure"`
	// Watch are processes, with their descendants, whose processor time is
	// read at both ends of the measured window.
	Watch map[string]int `json:"watch,omitempty"`
}

// Result is what happened inside the measured window.
type Result struct {
	Done    int           `json:"done"`    // checked answers
	Bytes   int64         `json:"bytes"`   // of their bodies
	Elapsed time.Duration `json:"elapsed"` // length of the window
	P50     time.Duration `json:"p50"`     // dial to last byte of an answer
	P99     time.Duration `json:"p99"`
	Used    int           `json:"used"`    // names used, warm-up included
	Session string        `json:"session"` // what was negotiated, for people
	// CPU is the time consumed in the window by each watched process, and
	// by the load itself as "load".
	CPU map[string]time.Duration `json:"cpu"`
	// Others is the share of all cores that neither the load nor a watched
	// process had, and that was not idle: how far to trust the rest.
	Others float64 `json:"others"`
}

// Rate is checked answers per second.
func (r Result) Rate() float64 { return float64(r.Done) / r.Elapsed.Seconds() }

// Throughput is bodies in 10⁶ bytes per second.
func (r Result) Throughput() float64 { return float64(r.Bytes) / 1e6 / r.Elapsed.Seconds() }

// grace is what a job may take beyond its warm-up and window.
const grace = 30 * time.Second

// Run has the program do the job and returns what it reports.
func Run(ctx context.Context, program string, args []string, job Job) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, job.Warmup+job.Measure+grace)
	defer cancel()
	input, err := json.Marshal(job)
	if err != nil {
		return Result{}, fmt.Errorf("encoding the job: %w", err)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = 5 * time.Second
	cmd.Stdin = bytes.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return Result{}, fmt.Errorf("running the load: %w", context.Cause(ctx))
		}
		return Result{}, fmt.Errorf("running the load: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	var result Result
	if err := json.Unmarshal(stdout.Bytes(), &result); err != nil {
		return Result{}, fmt.Errorf("reading the load's result: %w", err)
	}
	return result, nil
}
