package main

import (
	"errors"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"moongate/internal/hsm/adminshell"
	"moongate/internal/hsm/daemon"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"moongate-hsm": main})
}

// TestScripts types the commands of testdata.
//
//	exits CODE PROGRAM...  a command that should end with that code
//	serving DIR            waits until an HSM in the background serves
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                "testdata",
		RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("GORACE", "atexit_sleep_ms=0") // each command would take a second longer
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "serving": serving},
	})
}

func exits(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGUMENT...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, is := errors.AsType[*exec.ExitError](err)
		if !is {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if code != want {
		ts.Fatalf("exit code %d, expected %d", code, want)
	}
}

func serving(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(30 * time.Second)
	for {
		c, err := adminshell.DialLocal(daemon.In(ts.MkAbs(args[0])).Socket(), nil)
		if err == nil {
			ts.Check(c.Close())
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("no HSM serves: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
