package main

import (
	"errors"
	"flag"
	"os"
	"strings"

	"moongate/internal/audit"
	"moongate/internal/hsm/adminshell"
)

func verifyCopy(argv []string) int {
	flags := flag.NewFlagSet("audit verify-copy", flag.ExitOnError)
	key := flags.String("key", "", "file with the log's public key, audit.pub, from a place the HSM's host cannot write")
	if len(argv) == 0 || strings.HasPrefix(argv[0], "-") {
		return fail(errors.New("audit verify-copy: name the directory of the copy first"))
	}
	flags.Parse(argv[1:])
	if *key == "" {
		return fail(errors.New("audit verify-copy: -key FILE is missing"))
	}
	verifier, err := os.ReadFile(*key)
	if err != nil {
		return fail(err)
	}
	report, err := audit.Verify(argv[0], strings.TrimSpace(string(verifier)))
	if err != nil {
		return fail(err)
	}
	if err := adminshell.PrintReport(os.Stdout, report); err != nil {
		return fail(err)
	}
	return 0
}
