package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"moongate/internal/audit"
	"moongate/internal/hsm/adminshell"
)

// list is a flag that may be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

// verifyCopy is `audit verify DIR`: it needs no HSM, and nothing but the public
// key.
func verifyCopy(argv []string) int {
	flags := flag.NewFlagSet("audit verify", flag.ExitOnError)
	var archives list
	flags.Var(&archives, "archive", "directory that old segments were archived to; may be repeated")
	dir, verifier, err := subject(flags, argv, "the directory of the copy")
	if err != nil {
		return fail(err)
	}
	report, err := audit.Verify(dir, verifier, archives...)
	if err != nil {
		return fail(err)
	}
	if err := adminshell.PrintReport(os.Stdout, report); err != nil {
		return fail(err)
	}
	return 0
}

// verifyProof is `audit verify-proof FILE`.
func verifyProof(argv []string) int {
	path, verifier, err := subject(flag.NewFlagSet("audit verify-proof", flag.ExitOnError), argv, "the proof's file")
	if err != nil {
		return fail(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		return fail(err)
	}
	event, err := audit.VerifyProof(file, verifier)
	if err != nil {
		return fail(err)
	}
	fmt.Printf("The audit log holds this record:\n%s\n", event.AppendJSON(nil))
	return 0
}

// subject parses a command line of what is checked, first, and by which key.
func subject(flags *flag.FlagSet, argv []string, what string) (path, verifier string, err error) {
	key := flags.String("key", "", "file with the log's public key, audit.pub, from a place the HSM's host cannot write")
	// Before the flags, after them, or between them.
	for flags.Parse(argv); flags.NArg() > 0; flags.Parse(argv) {
		if path != "" {
			return "", "", fmt.Errorf("%s: %q: %s was named before: %s", flags.Name(), flags.Arg(0), what, path)
		}
		path, argv = flags.Arg(0), flags.Args()[1:]
	}
	switch {
	case path == "":
		return "", "", fmt.Errorf("%s: name %s", flags.Name(), what)
	case *key == "":
		return "", "", errors.New(flags.Name() + ": -key FILE is missing")
	}
	raw, err := os.ReadFile(*key)
	return path, strings.TrimSpace(string(raw)), err
}
