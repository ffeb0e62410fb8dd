package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"moongate/bench/stat"
)

// Main is the load process: one job on in, its result on out.
func Main(ctx context.Context, in io.Reader, out io.Writer) error {
	var job Job
	if err := json.NewDecoder(in).Decode(&job); err != nil {
		return fmt.Errorf("reading the job: %w", err)
	}
	result, err := work(ctx, job)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}

// sample is one checked answer.
type sample struct {
	end  time.Time
	took time.Duration
}

// run is what the workers of a job share.
type run struct {
	job    Job
	client *client
	next   atomic.Int64 // offset of the next name
	stop   atomic.Bool  // set when the window is over

	mu      sync.Mutex
	samples []sample // guarded by mu; each worker adds its own at its end
}

func work(ctx context.Context, job Job) (Result, error) {
	if job.Workers < 1 || job.Measure <= 0 {
		return Result{}, errors.New("a job needs workers and a window")
	}
	client, err := newClient(job)
	if err != nil {
		return Result{}, err
	}
	r := &run{job: job, client: client}
	group, ctx := errgroup.WithContext(ctx)
	for range job.Workers {
		group.Go(func() error { return r.worker(ctx) })
	}
	var window window
	group.Go(func() error {
		defer r.stop.Store(true)
		return window.watch(ctx, job)
	})
	if err := group.Wait(); err != nil {
		return Result{}, err
	}
	return r.result(window)
}

// window is the measured part of a job, with the processor time it took.
type window struct {
	start, end time.Time
	cpu        map[string]time.Duration
	others     float64
}

// watch waits for the warm-up, then for the window to pass.
func (w *window) watch(ctx context.Context, job Job) error {
	if err := pause(ctx, job.Warmup); err != nil {
		return err
	}
	before, err := readCPU(job.Watch)
	if err != nil {
		return err
	}
	w.start = time.Now()
	if err := pause(ctx, job.Measure); err != nil {
		return err
	}
	w.end = time.Now()
	after, err := readCPU(job.Watch)
	if err != nil {
		return err
	}
	w.cpu, w.others = after.since(before)
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// worker asks until the window is over or an answer is wrong.
func (r *run) worker(ctx context.Context) error {
	var samples []sample
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.samples = append(r.samples, samples...)
	}()
	for !r.stop.Load() && ctx.Err() == nil {
		name, err := r.nextName()
		if err != nil {
			return err
		}
		if err := r.connection(ctx, name, &samples); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// nextName is the job's only name, or the next unused one.
func (r *run) nextName() (string, error) {
	i := int(r.next.Add(1)) - 1
	if r.job.Names.Count == 1 {
		i = 0
	}
	if i >= r.job.Names.Count {
		return "", fmt.Errorf("all %d names are used", r.job.Names.Count)
	}
	return r.job.Names.At(i), nil
}

// connection makes one connection and its request, or, when it is kept, its
// requests.
func (r *run) connection(ctx context.Context, name string, samples *[]sample) error {
	start := time.Now()
	conn, err := r.client.open(ctx, name)
	if err != nil {
		return err
	}
	defer conn.close()
	for {
		if err := conn.ask(); err != nil {
			return err
		}
		end := time.Now()
		*samples = append(*samples, sample{end: end, took: end.Sub(start)})
		if !r.job.Keep || r.stop.Load() || ctx.Err() != nil {
			return nil
		}
		start = end
	}
}

// result counts the answers that ended inside the window.
func (r *run) result(w window) (Result, error) {
	var took []time.Duration
	for _, s := range r.samples {
		if !s.end.Before(w.start) && s.end.Before(w.end) {
			took = append(took, s.took)
		}
	}
	if len(took) == 0 {
		return Result{}, errors.New("not one answer within the window")
	}
	slices.Sort(took)
	return Result{
		Done:    len(took),
		Bytes:   int64(len(took)) * int64(len(r.client.wantBody)),
		Elapsed: w.end.Sub(w.start),
		P50:     stat.Percentile(took, 50),
		P99:     stat.Percentile(took, 99),
		Used:    int(r.next.Load()),
		Session: r.client.session(),
		CPU:     w.cpu,
		Others:  w.others,
	}, nil
}
