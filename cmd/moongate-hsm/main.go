// Command moongate-hsm is the network HSM: it makes one, serves one, and
// administers one on this machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"moongate/internal/audit"
	"moongate/internal/hsm/adminshell"
	"moongate/internal/hsm/daemon"
	"moongate/internal/hsm/object"
)

var version = "unknown" // set by the linker

const usage = `moongate-hsm is a network HSM: partitions of keys that never leave it.

Usage:
  moongate-hsm [-data DIR] init   -label LABEL [-host NAME-OR-ADDRESS]... [-fips]
  moongate-hsm [-data DIR] serve  [-listen ADDRESS:PORT] [-accept-audit-loss]
  moongate-hsm [-data DIR] shell  commands from standard input, one a line
  moongate-hsm [-data DIR] COMMAND...   one administration command, below
  moongate-hsm audit verify-copy DIR -key FILE   check a copy of an audit log
  moongate-hsm version

The data directory is -data, or $MOONGATE_DATA/hsm, or ./data/hsm. Commands
reach the running HSM, or open its files where it is not running. Passwords are
asked for; without a terminal they are read from standard input, a line each.
In the shell a word with spaces is quoted: "a b". The exit status is 0 for
success, 1 for a failure, 3 where the data directory holds no HSM.

Commands (abbreviated while unique; add -help for one's options):
`

func main() { os.Exit(run(os.Args[1:])) }

func run(argv []string) int {
	dir, argv, err := dataDir(argv)
	if err != nil {
		return fail(err)
	}
	if len(argv) == 0 || isHelp(argv[0]) {
		fmt.Print(usage, adminshell.Help())
		return 0
	}
	switch argv[0] {
	case "version", "-version", "--version":
		fmt.Println("moongate-hsm", version)
		return 0
	case "init":
		return initialize(dir, argv[1:])
	case "serve":
		return serve(dir, argv[1:])
	case "shell":
		return shell(dir)
	}
	if len(argv) > 1 && argv[0] == "audit" && argv[1] == "verify-copy" {
		return verifyCopy(argv[2:])
	}
	return command(dir, argv)
}

func isHelp(word string) bool {
	return word == "help" || word == "-h" || word == "-help" || word == "--help"
}

// dataDir takes -data off the front of the arguments.
func dataDir(argv []string) (string, []string, error) {
	if len(argv) > 0 {
		word := argv[0]
		if strings.HasPrefix(word, "--") {
			word = word[1:]
		}
		if value, inline := strings.CutPrefix(word, "-data="); inline {
			return value, argv[1:], nil
		}
		if word == "-data" {
			if len(argv) < 2 {
				return "", nil, errors.New("-data needs a directory")
			}
			return argv[1], argv[2:], nil
		}
	}
	top := os.Getenv("MOONGATE_DATA")
	if top == "" {
		top = "data"
	}
	return filepath.Join(top, "hsm"), argv, nil
}

// exitNoHSM is the exit status of what needs an HSM where there is none, or one
// that was not made whole: `moongate-hsm init` is what to do.
const exitNoHSM = 3

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "moongate-hsm:", err)
	if object.CodeOf(err) == object.ErrNotInitialized {
		return exitNoHSM
	}
	return 1
}

type hostList []string

func (h *hostList) String() string     { return strings.Join(*h, ",") }
func (h *hostList) Set(s string) error { *h = append(*h, s); return nil }

func initialize(dir string, argv []string) int {
	flags := flag.NewFlagSet("init", flag.ExitOnError)
	label := flags.String("label", "", "name of the HSM")
	fips := flags.Bool("fips", false, "allow approved algorithms only, for ever")
	hosts := hostList{}
	flags.Var(&hosts, "host", "name or address that clients reach the HSM by; may be repeated")
	flags.Parse(argv)
	if *label == "" {
		return fail(errors.New("init: -label is missing; give the HSM a name"))
	}
	if flags.NArg() > 0 {
		return fail(fmt.Errorf("init: %q is not expected", flags.Arg(0)))
	}
	if *fips {
		if code, again := inFIPSMode(); again {
			return code
		}
	}
	term := newConsole()
	pw, err := term.askTwice("Please enter a password for the HSM's Security Officer: ")
	if err != nil {
		return fail(err)
	}
	if len(hosts) == 0 {
		hosts = hostList{"localhost", "127.0.0.1"}
	}
	serial, err := daemon.Init(daemon.InitOptions{Dir: dir, Label: *label, Hosts: hosts, FIPS: *fips, Officer: []byte(pw)})
	if err != nil {
		return fail(err)
	}
	fmt.Printf("HSM %q is initialised. Serial number %s.\n", *label, serial)
	fmt.Printf("Its device root key is %s: without it every key is lost; with it and a password they are not safe.\n", daemon.In(dir).RootKey())
	return 0
}

func serve(dir string, argv []string) int {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:1792", "address and port of the client protocol")
	accept := flags.Bool("accept-audit-loss", false, "put a damaged audit log aside and begin a new one")
	flags.Parse(argv)
	if flags.NArg() > 0 {
		return fail(fmt.Errorf("serve: %q is not expected", flags.Arg(0)))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	err := daemon.Run(ctx, daemon.Options{
		Dir: dir, Listen: *listen, Version: version, AcceptAuditLoss: *accept,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Ready:  func(addr net.Addr) { fmt.Printf("listening %s\n", addr) },
	})
	if errors.Is(err, daemon.ErrFIPSModule) {
		if code, again := inFIPSMode(); again {
			return code
		}
	}
	if err != nil {
		return fail(err)
	}
	return 0
}

// inFIPSMode starts this program again with Go's cryptographic module in FIPS
// 140-3 mode, which is chosen before main. It returns only when that fails, or
// when it was done before.
func inFIPSMode() (code int, again bool) {
	const setting = "fips140=on"
	godebug := os.Getenv("GODEBUG")
	if strings.Contains(godebug, setting) {
		return 0, false
	}
	if godebug != "" {
		godebug += ","
	}
	self, err := os.Executable()
	if err != nil {
		return fail(fmt.Errorf("starting again in FIPS mode: %w", err)), true
	}
	os.Setenv("GODEBUG", godebug+setting)
	err = syscall.Exec(self, os.Args, os.Environ())
	return fail(fmt.Errorf("starting again in FIPS mode: %w", err)), true
}

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

// executor runs command lines in the running HSM, or in its files.
type executor struct {
	run   func(adminshell.Request) (int, error)
	close func() error
}

func newExecutor(dir string, term adminshell.Terminal) (*executor, error) {
	caller, err := adminshell.DialLocal(daemon.In(dir).Socket(), term)
	if err == nil {
		return &executor{caller.Run, caller.Close}, nil
	}
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("this HSM belongs to another user; run as that user or as root: %w", err)
	}
	a, err := daemon.Open(daemon.Options{Dir: dir, Version: version, Listen: "(not running)", Logger: slog.New(slog.DiscardHandler)})
	if errors.Is(err, daemon.ErrFIPSModule) {
		inFIPSMode() // nothing was read from standard input yet
	}
	if err != nil {
		return nil, err
	}
	sh := adminshell.New(&a.Appliance, adminshell.LocalOperator(), term)
	return &executor{
		func(r adminshell.Request) (int, error) { return sh.Run(context.Background(), r), nil },
		a.Close,
	}, nil
}

func command(dir string, words []string) int {
	term := newConsole()
	ex, err := newExecutor(dir, term)
	if err != nil {
		return fail(err)
	}
	code, err := runLine(ex, words)
	if err := errors.Join(err, ex.close()); err != nil {
		return fail(err)
	}
	return code
}

// shell runs command lines from standard input; a login lasts until the end.
// It stops at the first command that fails, and exits with its result.
func shell(dir string) int {
	term := newConsole()
	ex, err := newExecutor(dir, term)
	if err != nil {
		return fail(err)
	}
	defer ex.close()
	for {
		line, err := term.readLine("moonsh:> ")
		if errors.Is(err, io.EOF) {
			return 0
		} else if err != nil {
			return fail(err)
		}
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if line == "exit" || line == "quit" {
			return 0
		}
		words, err := adminshell.Words(line)
		code := 1
		if err != nil {
			fail(err)
		} else if code, err = runLine(ex, words); err != nil {
			return fail(err)
		}
		if code != 0 && !term.interactive {
			return code
		}
	}
}

// runLine reads the files that the line names and runs it. The exit code is 1
// for every failure: a process has only 8 bits for 65535. The error says that
// the HSM could not be talked to.
func runLine(ex *executor, words []string) (int, error) {
	req := adminshell.Request{Words: words, Files: map[string][]byte{}}
	for option, path := range adminshell.FileOptions(words) {
		content, err := os.ReadFile(path)
		if err != nil {
			return fail(fmt.Errorf("-%s: %w", option, err)), nil
		}
		if len(content) > maxFile {
			return fail(fmt.Errorf("-%s: %s has %d bytes, at most %d", option, path, len(content), maxFile)), nil
		}
		req.Files[option] = content
	}
	result, err := ex.run(req)
	if err != nil || result != 0 {
		return 1, err
	}
	return 0, nil
}

// maxFile bounds a file that an option names: a certificate.
const maxFile = 64 << 10
