package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"moongate/e2e/world"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"cmu": main})
}

// TestScripts types the commands of testdata at a real HSM, one for all of
// them. Each script has a partition of its own ($PARTITION, with the passwords
// $CO and $CU, $CO also in the file password) and a client that is registered
// for it ($MOONGATE_CLIENT_CONF).
//
//	hsm WORDS...         a command of the HSM's administration
//	answers FILE LINE... makes a file for stdin or ttyin
//	exits CODE cmu ...   a command that should end with that code
func TestScripts(t *testing.T) {
	t.Parallel()
	hsm := world.T(t).HSM()
	testscript.Run(t, testscript.Params{
		Dir:                "testdata",
		RequireUniqueNames: true,
		Setup:              func(e *testscript.Env) error { return setUp(t.Context(), hsm, e) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"hsm":     func(ts *testscript.TestScript, neg bool, args []string) { administer(ts, hsm, neg, args) },
			"answers": answers,
			"exits":   exits,
		},
	})
}

func setUp(ctx context.Context, hsm *world.HSM, e *testscript.Env) error {
	name := strings.TrimPrefix(filepath.Base(e.WorkDir), "script-")
	p, err := hsm.NewPartition(ctx, name)
	if err != nil {
		return err
	}
	registered, err := hsm.Register(ctx, "ready-"+name, p)
	if err != nil {
		return err
	}
	conf := filepath.Join(e.WorkDir, "ready.toml")
	for file, content := range map[string]string{conf: registered.Settings(), filepath.Join(e.WorkDir, "password"): p.CryptoOfficer + "\n"} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			return err
		}
	}
	e.Setenv("GORACE", "atexit_sleep_ms=0") // each command would take a second longer
	e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
	e.Setenv("MOONGATE_CLIENT_CONF", conf)
	e.Setenv("HSM", hsm.Addr)
	e.Setenv("SERVER_PEM", hsm.ServerCertificate())
	e.Setenv("NAME", name)
	e.Setenv("PARTITION", p.Label)
	e.Setenv("CO", p.CryptoOfficer)
	e.Setenv("CU", p.CryptoUser)
	return nil
}

func administer(ts *testscript.TestScript, hsm *world.HSM, neg bool, args []string) {
	out, err := hsm.Shell(context.Background(), strings.Join(args, " "))
	fmt.Fprint(ts.Stdout(), out)
	switch {
	case err != nil && !neg:
		ts.Fatalf("%v", err)
	case err == nil && neg:
		ts.Fatalf("unexpected success: %s", out)
	}
}

func answers(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: answers FILE LINE...")
	}
	text := strings.Join(args[1:], "\n") + "\n"
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
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
