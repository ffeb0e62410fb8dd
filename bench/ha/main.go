// Ha says what a group of HSMs costs: for each signature beside a single HSM,
// and to make, use and synchronize groups of two to sixteen.
//
//	go run ./bench/ha                                     what the documentation says
//	go run ./bench/ha -n 2 -measure 500ms -sizes 2,4      a quick pass
//	go run ./bench/ha -json                               every repetition
//
// HSMs run as processes of their own, and the client is this process: its
// processor time is what a group adds. The single HSM is a member of the same
// group, used by itself; the two are measured in turns, and compared repetition
// by repetition. Signatures are of P-256, the cheapest use there is.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	o, err := parse(os.Args[1:])
	if err == nil {
		err = run(ctx, o, os.Stdout, os.Stderr)
	}
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "ha:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	repetitions int
	measure     time.Duration
	sizes       []int
	keys        int
	json        bool
	within      time.Duration
}

func parse(args []string) (options, error) {
	var o options
	var sizes string
	flags := flag.NewFlagSet("ha", flag.ContinueOnError)
	flags.IntVar(&o.repetitions, "n", 5, "repetitions of the comparison with a single HSM")
	flags.DurationVar(&o.measure, "measure", 3*time.Second, "time of each measurement of signatures")
	flags.StringVar(&sizes, "sizes", "2,4,8,16", "members of the groups that are made")
	flags.IntVar(&o.keys, "keys", 100, "keys that a member which was away has to be brought")
	flags.BoolVar(&o.json, "json", false, "print JSON, with every repetition")
	flags.DurationVar(&o.within, "within", 15*time.Minute, "give up after this `time`")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	for word := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 2 || n > 16 {
			return options{}, fmt.Errorf("-sizes %s: %q is out of range, expected 2 to 16", sizes, word)
		}
		o.sizes = append(o.sizes, n)
	}
	switch {
	case flags.NArg() > 0:
		return options{}, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.repetitions < 1:
		return options{}, fmt.Errorf("-n %d: out of range, expected at least 1", o.repetitions)
	case o.measure <= 0:
		return options{}, fmt.Errorf("-measure %v: out of range, expected more than 0", o.measure)
	case o.keys < 1 || o.keys > 10_000:
		return options{}, fmt.Errorf("-keys %d: out of range, expected 1 to 10000", o.keys)
	}
	return o, nil
}
