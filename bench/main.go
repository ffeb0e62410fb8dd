// Bench compares the Moongate gateway with Squid (forward proxy) and nginx
// (inbound), in one run, on one machine, and prints one table.
//
//	go run ./bench                  everything, about ten minutes
//	go run ./bench -short           a quick pass
//	go run ./bench -only forward    the scenarios whose id begins so
//	go run ./bench -json            the figures of each repetition
//
// The peers come from Debian and are installed when they are missing, which
// needs root. Traffic stays on loopback. Load, origin and each contestant are
// processes of their own; their processor time is in the table, because on a
// busy machine it is steadier than the rate.
//
// Everybody is asked the same: a forward proxy to CONNECT to the origin's
// address, with the host's name in the hello; an inbound listener for its own
// name. Clients never resume a session, and check status, body, and that the
// chain leads to the contestant's own CA for the name asked for; a wrong
// answer fails the run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"moongate/bench/load"
	"moongate/bench/origin"
	"moongate/bench/peer"
)

// What this program is run as by itself.
const (
	originCommand = "origin"
	loadCommand   = "load"
)

// originName is the origin's in a result's processor times.
const originName = "origin"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := dispatch(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func dispatch(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case originCommand:
			return origin.Main(os.Stdin, os.Stdout, len(args) > 1)
		case loadCommand:
			return load.Main(ctx, os.Stdin, os.Stdout)
		case peer.LeashCommand:
			if len(args) < 2 {
				return errors.New("a leash needs a program")
			}
			return peer.Leash(os.Stdin, args[1], args[2:]...)
		}
	}
	options, err := parse(args)
	if err != nil {
		return err
	}
	return run(ctx, options, os.Stdout, os.Stderr)
}

// options are the command line.
type options struct {
	effort  effort
	only    string
	json    bool
	classic bool
	verbose bool
	within  time.Duration
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	short := flags.Bool("short", false, "a quick pass: a few seconds a scenario")
	flags.StringVar(&o.only, "only", "", "measure only scenarios whose `id` begins so")
	flags.BoolVar(&o.json, "json", false, "print JSON, with every repetition")
	flags.BoolVar(&o.classic, "classic", false, "client and origin offer X25519 and P-256, without X25519MLKEM768")
	flags.BoolVar(&o.verbose, "v", false, "print each repetition on standard error")
	flags.DurationVar(&o.within, "within", 30*time.Minute, "give up after this `time`")
	repetitions := flags.Int("n", 0, "repetitions, instead of the effort's `number`")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	if flags.NArg() > 0 {
		return options{}, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	o.effort = fullEffort
	if *short {
		o.effort = shortEffort
	}
	if *repetitions > 0 {
		o.effort.repetitions = *repetitions
	}
	return o, nil
}
