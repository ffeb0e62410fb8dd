package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"moongate/bench/origin"
	"moongate/e2e/world"
)

// run starts everything, measures, prints, and stops it all.
func run(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.within, fmt.Errorf("not done within %v", o.within))
	defer cancel()
	dir, err := os.MkdirTemp("", "moongate-rules-")
	if err != nil {
		return fmt.Errorf("making a directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	server, err := origin.Start(ctx, false, program, originCommand)
	if err != nil {
		return err
	}
	defer server.Close()
	hsm, err := world.StartHSM(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hsm.Close()) }()

	var stands [2]*stand
	for i, rules := range [...]int{o.few, o.many} {
		s, err := newStand(ctx, dir, rules, [...]string{"few", "many"}[i], hsm, server)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.close()) }()
		stands[i] = s
	}
	samples, err := measure(ctx, o, stands, stderr)
	if err != nil {
		return err
	}
	r := report{Few: o.few, Many: o.many, Samples: samples, measure: o.measure}
	if o.json {
		return r.writeJSON(stdout)
	}
	return r.writeTable(stdout)
}

// measure takes turns, and changes who is first.
func measure(ctx context.Context, o options, stands [2]*stand, progress io.Writer) ([2][]sample, error) {
	var samples [2][]sample
	for repetition := range o.repetitions {
		var pair [2]sample
		order := [2]int{repetition % 2, 1 - repetition%2}
		for _, i := range order {
			m, err := stands[i].configure(ctx, repetition)
			if err != nil {
				return samples, fmt.Errorf("%d rules: %w", stands[i].rules, err)
			}
			pair[i] = m
		}
		for _, i := range order {
			if err := stands[i].handshakes(ctx, o, &pair[i]); err != nil {
				return samples, fmt.Errorf("%d rules: %w", stands[i].rules, err)
			}
		}
		for i := range samples {
			samples[i] = append(samples[i], pair[i])
		}
		fmt.Fprintf(progress, "repetition %d of %d is done\n", repetition+1, o.repetitions)
	}
	return samples, nil
}
