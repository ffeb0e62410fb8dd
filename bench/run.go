package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"moongate/bench/origin"
)

// run starts origin and contestants, measures, prints, and stops them all.
func run(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.within, fmt.Errorf("not done within %v", o.within))
	defer cancel()
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	dir, err := os.MkdirTemp("", "moongate-bench-")
	if err != nil {
		return fmt.Errorf("making a directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	server, err := origin.Start(ctx, o.classic, program, originCommand)
	if err != nil {
		return err
	}
	defer server.Close()
	chosen := choose(scenarios(server.Addr), o.only)
	if len(chosen) == 0 {
		return fmt.Errorf("no scenario's id begins with %q", o.only)
	}

	contestants, err := startContestants(ctx, setting{dir: dir, origin: server, classic: o.classic})
	defer func() {
		for _, c := range contestants {
			err = errors.Join(err, c.close())
		}
	}()
	if err != nil {
		return err
	}
	b := &bench{
		program: program, origin: server, contestants: contestants, effort: o.effort, classic: o.classic,
		progress: func(format string, args ...any) {
			if o.verbose {
				fmt.Fprintf(stderr, format+"\n", args...)
			}
		},
	}
	machine := describeMachine(contestants)
	var measured []measurement
	for _, s := range chosen {
		m, err := b.measure(ctx, s)
		if err != nil {
			return err
		}
		measured = append(measured, m)
	}
	r := newReport(machine, o, measured)
	if o.json {
		return r.writeJSON(stdout)
	}
	return r.writeTable(stdout)
}

func choose(all []scenario, only string) []scenario {
	var chosen []scenario
	for _, s := range all {
		if strings.HasPrefix(s.id, only) {
			chosen = append(chosen, s)
		}
	}
	return chosen
}

// startContestants returns those that were started also with an error, for the
// caller to close. Moongate comes first in each group of the table.
func startContestants(ctx context.Context, s setting) ([]*contestant, error) {
	var started []*contestant
	moongate, err := startMoongate(ctx, s)
	if err != nil {
		return started, fmt.Errorf("moongate: %w", err)
	}
	if moongate != nil {
		started = append(started, moongate)
	}
	squid, err := startSquid(ctx, s)
	if err != nil {
		return started, err
	}
	started = append(started, squid)
	nginx, pooled, err := startNginx(ctx, s)
	if err != nil {
		return started, err
	}
	return append(started, nginx, pooled, startDirect(s)), nil
}
