// Command cmu is the certificate and key management utility: it makes keys on
// a partition of a network HSM, certificates for them, and sets up the host as
// a client of the HSM. docs/cmu.md is its manual.
//
//	cmu gen -modulusBits=2048 -publicExp=65537 -sign=T -verify=T
//	cmu selfSign -C=CA -O=thales -CN="test.thales.com"
//	cmu export -outputFile=ca.pem
//
// The command table is commands.go; what people read is words.go.
package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"moongate/client"
	"moongate/client/ha"
)

var version = "unknown" // set by the linker

// Exit codes, as docs/cmu.md lists them.
const (
	exitDone        = 0
	exitFailed      = 1 // refused, not found, could not be written
	exitUsage       = 2 // the command line is wrong; nothing was done
	exitUnavailable = 3 // the HSM cannot be reached, or does not admit us
	exitLogin       = 4 // the password was refused, or the role is locked
)

func main() {
	os.Exit((&tool{con: newConsole(), getenv: os.Getenv, now: time.Now}).run(context.Background(), os.Args[1:]))
}

// tool is one run of the program.
type tool struct {
	con    *console
	getenv func(string) string
	now    func() time.Time
}

// usageError is the error of a command line that cannot be obeyed.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// fixError is an error with what to do about it.
type fixError struct {
	err error
	fix string
}

func (e *fixError) Error() string { return e.err.Error() }
func (e *fixError) Unwrap() error { return e.err }

// errNotVerified ends `cmu verify`, which has printed what is wrong.
var errNotVerified = errors.New("not verified")

func (t *tool) run(ctx context.Context, argv []string) int {
	if len(argv) == 0 {
		t.con.errorf("%s", overview())
		return exitUsage
	}
	switch strings.ToLower(strings.TrimLeft(argv[0], "-")) {
	case "help", "h", "?":
		return t.help(argv[1:])
	case "version":
		t.con.printf("cmu %s\n", version)
		return exitDone
	}
	cmd, rest, err := findCommand(argv)
	if err != nil {
		return t.fail("cmu", err)
	}
	if asksForHelp(rest) {
		t.con.printf("%s", cmd.usage())
		return exitDone
	}
	o, err := cmd.parse(rest)
	if err != nil {
		return t.fail("cmu "+cmd.name, err)
	}
	if err := cmd.run(t, ctx, o); err != nil {
		return t.fail("cmu "+cmd.name, err)
	}
	return exitDone
}

func asksForHelp(args []string) bool {
	if len(args) != 1 {
		return false
	}
	switch strings.ToLower(strings.TrimLeft(args[0], "-")) {
	case "help", "h", "?":
		return true
	}
	return false
}

func (t *tool) help(words []string) int {
	if len(words) == 0 {
		t.con.printf("%s", overview())
		return exitDone
	}
	cmd, _, err := findCommand(words)
	if err != nil {
		return t.fail("cmu", err)
	}
	t.con.printf("%s", cmd.usage())
	return exitDone
}

// fail prints the error and returns its exit code.
func (t *tool) fail(who string, err error) int {
	if errors.Is(err, errNotVerified) || errors.Is(err, errNotWhole) {
		return exitFailed
	}
	t.con.failure(who, err)
	return exitCode(err)
}

func exitCode(err error) int {
	if _, is := errors.AsType[*usageError](err); is {
		return exitUsage
	}
	// What is done on some members of a group only is not made better by trying
	// it again.
	if _, is := errors.AsType[*ha.PartialError](err); is {
		return exitFailed
	}
	if _, is := errors.AsType[*ha.PendingError](err); is {
		return exitFailed
	}
	if e, is := errors.AsType[*client.Error](err); is && e.Stage == client.StageLogin {
		return exitLogin
	}
	if client.Unavailable(err) {
		return exitUnavailable
	}
	return exitFailed
}
