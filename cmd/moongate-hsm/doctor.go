package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"moongate/internal/hsm/doctor"
)

// examine is `moongate-hsm doctor`: 0 when nothing failed.
func examine(dir string, argv []string) int {
	flags := flag.NewFlagSet("doctor", flag.ExitOnError)
	file := flags.String("config", "", "configuration file, as for serve")
	asJSON := flags.Bool("json", false, "print JSON, for scripts")
	flags.Parse(argv)
	if flags.NArg() > 0 {
		return fail(fmt.Errorf("doctor: %q is not expected", flags.Arg(0)))
	}
	findings := doctor.Examine(context.Background(), doctor.Options{Dir: dir, Config: *file})
	if *asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(findings); err != nil {
			return fail(err)
		}
	} else {
		printFindings(os.Stdout, findings)
	}
	if !doctor.Healthy(findings) {
		return 1
	}
	return 0
}

func printFindings(w io.Writer, findings []doctor.Finding) {
	for _, f := range findings {
		fmt.Fprintf(w, "%-5s %-20s %s\n", f.Level, f.Check, f.Found)
		if f.Level != doctor.OK {
			fmt.Fprintf(w, "%s-> %s\n", strings.Repeat(" ", 27), f.Fix)
		}
	}
}
