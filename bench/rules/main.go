// Rules says what ten thousand decryption rules cost beside ten: to load and
// commit them over the XML API, to change one of them, in memory, and in
// handshakes through the forward proxy.
//
//	go run ./bench/rules                                  what the documentation says
//	go run ./bench/rules -n 2 -many 1000 -measure 500ms   a quick pass
//	go run ./bench/rules -json                            every repetition
//
// An HSM and two gateways run as processes of their own, one with few rules
// and one with many; they are measured in turns, and the figures are compared
// repetition by repetition. No rule but the last, which decrypts everything,
// matches the traffic: all of them have to be ruled out for each connection.
// Every handshake is a full one, of a host that the gateway knows, with an
// upstream connection of its own; status, body and chain are checked.
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
)

// What this program is run as by itself.
const (
	originCommand = "origin"
	loadCommand   = "load"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := dispatch(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "rules:", err)
		os.Exit(1)
	}
}

func dispatch(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case originCommand:
			return origin.Main(os.Stdin, os.Stdout, false)
		case loadCommand:
			return load.Main(ctx, os.Stdin, os.Stdout)
		}
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	return run(ctx, o, os.Stdout, os.Stderr)
}

// options are the command line.
type options struct {
	few, many       int
	repetitions     int
	warmup, measure time.Duration
	json            bool
	within          time.Duration
}

// maxRules is the most that -few and -many take: what a configuration is made
// for.
const maxRules = 10_000

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("rules", flag.ContinueOnError)
	flags.IntVar(&o.few, "few", 10, "rules of one gateway")
	flags.IntVar(&o.many, "many", maxRules, "rules of the other")
	flags.IntVar(&o.repetitions, "n", 5, "repetitions")
	flags.DurationVar(&o.warmup, "warmup", 500*time.Millisecond, "time before each measurement of handshakes")
	flags.DurationVar(&o.measure, "measure", 3*time.Second, "time of each measurement of handshakes")
	flags.BoolVar(&o.json, "json", false, "print JSON, with every repetition")
	flags.DurationVar(&o.within, "within", 15*time.Minute, "give up after this `time`")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	switch {
	case flags.NArg() > 0:
		return options{}, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.few < 1 || o.few > maxRules || o.many < 1 || o.many > maxRules:
		return options{}, fmt.Errorf("-few %d -many %d: out of range, expected 1 to %d", o.few, o.many, maxRules)
	case o.repetitions < 1:
		return options{}, fmt.Errorf("-n %d: out of range, expected at least 1", o.repetitions)
	}
	return o, nil
}
