package main

import (
	"errors"
	"flag"
	"os"
	"path/filepath"

	gateway "moongate/internal/gw/daemon"
)

// printLog prints entries of a gateway's logs. The log's name stands before the
// flags or behind them.
func printLog(argv []string) error {
	flags := flag.NewFlagSet("log", flag.ExitOnError)
	dir := flags.String("data", filepath.Join(dataDir(), "gateway"), "the gateway's data directory")
	var request gateway.LogRequest
	flags.IntVar(&request.Newest, "n", 20, "how many of the newest entries, 1 to 5000")
	flags.StringVar(&request.Filter, "filter", "", `which entries, such as "( addr.src in 10.0.0.0/8 ) and ( action neq decrypt )"`)
	flags.BoolVar(&request.Follow, "f", false, "print also entries that come, until interrupted")
	flags.Usage = func() {
		os.Stderr.WriteString("Usage: moongate log traffic|decryption|system|config [-n N] [-filter F] [-f] [-data DIR]\n\nPrints entries as lines of JSON, the newest last.\n\n")
		flags.PrintDefaults()
	}
	flags.Parse(argv)
	if flags.NArg() == 0 {
		return errors.New("log: name one: traffic, decryption, system or config")
	}
	request.Log = flags.Arg(0)
	flags.Parse(flags.Args()[1:])
	if err := noMore(flags); err != nil {
		return err
	}
	ctx, stop := interrupted()
	defer stop()
	return gateway.PrintLog(ctx, *dir, request, os.Stdout)
}
