package main

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"moongate/bench/stat"
	"moongate/client"
	"moongate/client/ha"
)

// flight is how many signatures are under way at once in the measurement of
// many.
const flight = 64

// sample is one measurement of signatures.
type sample struct {
	// One at a time: half of them take no longer than P50, 99 of 100 no longer
	// than P99, in microseconds; CPU is this process's for each.
	P50, P99, CPU float64
	// With many under way: signatures per second, and this process's time.
	Rate, ManyCPU float64
}

// compare measures signatures by the group and by one of its members alone, in
// turns.
func (r *report) compare(ctx context.Context, o options, g *ha.Group, _ string, member ha.Member) error {
	pair, err := g.GenerateEC(ctx, elliptic.P256(), client.Template{}, client.Template{})
	if err != nil {
		return err
	}
	member.NoWait = false
	alone, err := client.Dial(ctx, member.Config)
	if err != nil {
		return err
	}
	defer alone.Close()
	single, err := alone.Key(ctx, pair.Private)
	if err != nil {
		return err
	}
	grouped, err := g.Key(ctx, pair.Private)
	if err != nil {
		return err
	}
	for range o.repetitions {
		for i, key := range []client.Key{single, grouped} {
			m, err := measure(ctx, key, o.measure)
			if err != nil {
				return err
			}
			r.Samples[i] = append(r.Samples[i], m)
		}
	}
	return nil
}

func measure(ctx context.Context, key client.Key, length time.Duration) (m sample, err error) {
	for range 200 { // connections, tables and caches are warm
		if err := signOnce(ctx, key); err != nil {
			return m, err
		}
	}
	var took []time.Duration
	before := processorTime()
	for end := time.Now().Add(length / 2); time.Now().Before(end); {
		began := time.Now()
		if err := signOnce(ctx, key); err != nil {
			return m, err
		}
		took = append(took, time.Since(began))
	}
	m.CPU = microseconds(processorTime()-before) / float64(len(took))
	slices.Sort(took)
	m.P50, m.P99 = microseconds(stat.Percentile(took, 50)), microseconds(stat.Percentile(took, 99))

	var done atomic.Int64
	before = processorTime()
	began := time.Now()
	workers, ctx := errgroup.WithContext(ctx)
	for range flight {
		workers.Go(func() error {
			for time.Since(began) < length/2 {
				if err := signOnce(ctx, key); err != nil {
					return err
				}
				done.Add(1)
			}
			return nil
		})
	}
	if err := workers.Wait(); err != nil {
		return m, err
	}
	m.Rate = float64(done.Load()) / time.Since(began).Seconds()
	m.ManyCPU = microseconds(processorTime()-before) / float64(done.Load())
	return m, nil
}

var digest = sha256.Sum256([]byte("bench"))

func signOnce(ctx context.Context, key client.Key) error {
	_, err := key.WithContext(ctx).Sign(rand.Reader, digest[:], crypto.SHA256)
	return err
}

// processorTime is what this process has used so far (getrusage(2)).
func processorTime() time.Duration {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		return 0 // only for arguments that are not these
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// median is the median time of n calls in milliseconds.
func median(n int, f func() error) (float64, error) {
	var list []float64
	for range n {
		began := time.Now()
		if err := f(); err != nil {
			return 0, err
		}
		list = append(list, milliseconds(time.Since(began)))
	}
	return stat.Median(list), nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
