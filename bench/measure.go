package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"moongate/bench/load"
	"moongate/bench/origin"
)

// effort is how long and how often is measured.
type effort struct {
	repetitions     int
	warmup, measure time.Duration
}

var (
	fullEffort  = effort{repetitions: 5, warmup: time.Second, measure: 3 * time.Second}
	shortEffort = effort{repetitions: 2, warmup: 200 * time.Millisecond, measure: 500 * time.Millisecond}
)

// freshPerSecond bounds the new names that a slice may use, for each core:
// beyond what client and origin can do without any contestant.
const freshPerSecond = 2000

// measurement is a scenario's results: per contestant, one for each repetition.
type measurement struct {
	scenario    scenario
	contestants []*contestant
	results     map[string][]load.Result // by contestant's name
}

// bench measures scenarios, one after the other; used from one goroutine.
type bench struct {
	program     string // this one: it is the origin and the load as well
	origin      *origin.Origin
	contestants []*contestant
	effort      effort
	classic     bool
	progress    func(format string, args ...any)
}

// measure takes turns: A B C, then B C A, so that neither a slow minute of the
// machine nor the place in the order falls on one contestant.
func (b *bench) measure(ctx context.Context, s scenario) (measurement, error) {
	m := measurement{scenario: s, results: map[string][]load.Result{}}
	for _, c := range b.contestants {
		if s.takesPart(c) {
			m.contestants = append(m.contestants, c)
		}
	}
	if s.fresh {
		slice := b.effort.warmup + b.effort.measure
		s.names.Count = min(int(slice.Seconds()*float64(freshPerSecond*runtime.NumCPU()))+s.workers, origin.MaxNames)
	}
	for repetition := range b.effort.repetitions {
		if s.fresh {
			// All contestants are given the same new names.
			s.names.First = repetition * s.names.Count
			if err := b.origin.Prepare(s.names); err != nil {
				return measurement{}, err
			}
		}
		first := repetition % max(1, len(m.contestants))
		for _, c := range slices.Concat(m.contestants[first:], m.contestants[:first]) {
			result, err := b.slice(ctx, s, c)
			if err != nil {
				return measurement{}, fmt.Errorf("%s, %s: %w", s.title, c.name, err)
			}
			b.progress("%s, %s, %d of %d: %s", s.title, c.name, repetition+1, b.effort.repetitions, figures(s, result))
			m.results[c.name] = append(m.results[c.name], result)
		}
	}
	return m, nil
}

// slice is one contestant's turn.
func (b *bench) slice(ctx context.Context, s scenario, c *contestant) (load.Result, error) {
	e, _ := s.endpoint(c)
	watch := map[string]int{originName: b.origin.PID}
	for name, pid := range c.watch {
		watch[name] = pid
	}
	return load.Run(ctx, b.program, []string{loadCommand}, load.Job{
		Proxy: e.proxy, Target: e.target, Roots: e.roots,
		Names: s.names, Body: s.body, Keep: s.keep, Workers: s.workers,
		Classic: b.classic, Warmup: b.effort.warmup, Measure: b.effort.measure,
		Watch: watch,
	})
}
