// Command moongate-p11 puts a third party's PKCS#11 module behind the HSM's
// client protocol, on a unix socket: in a process of its own, so that a module
// that hangs or crashes takes nothing else with it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"

	"moongate/internal/p11"
	"moongate/internal/p11/cryptoki"
	"moongate/internal/p11/handover"
)

var version = "unknown" // set by the linker

const usage = `moongate-p11 serves the keys of a PKCS#11 token (Thales Luna, SoftHSM2, ...) to moongate and cmu.

Usage:
  moongate-p11 serve  -module PATH [-token LABEL] [-socket PATH] [-pin-file FILE]
                      [-user-type N] [-sessions N] [-hang DURATION]
  moongate-p11 tokens -module PATH   what the module sees, and what it can do
  moongate-p11 version

serve reads the token's PIN from -pin-file, or from standard input: its first
line. It makes a directory of mode 0700 for the socket, and in it the
certificates of both sides and client.toml, with which cmu reaches the token:
  cmu list -config=DIRECTORY/client.toml
moongate starts this program by itself where its HSM provider is a PKCS#11 module.

The exit status is 0 for success, 2 for a usage error, 3 where the module cannot
be loaded, 4 where it sees no such token, 5 where the token refused the PIN (do
not try again: tokens lock), 6 where a call of the module's hung, 7 where the
token was lost, 1 for anything else.
`

func main() { os.Exit(run(os.Args[1:])) }

func run(argv []string) int {
	if len(argv) == 0 {
		fmt.Print(usage)
		return exitUsage
	}
	switch argv[0] {
	case "help", "-h", "-help", "--help":
		fmt.Print(usage)
		return 0
	case "version", "-version", "--version":
		fmt.Println("moongate-p11", version)
		return 0
	case "serve":
		return serve(argv[1:])
	case "tokens":
		return tokens(argv[1:])
	}
	return misused(fmt.Errorf("%q is no command; serve, tokens and version are", argv[0]))
}

const exitUsage = 2

func misused(err error) int {
	fmt.Fprintln(os.Stderr, "moongate-p11:", err)
	return exitUsage
}

// reasonOf says what of an error its supervisor acts on.
func reasonOf(err error) handover.Reason {
	if e, is := errors.AsType[*p11.PINError](err); is && e != nil {
		return handover.PINWrong
	}
	if e, is := errors.AsType[*p11.HungError](err); is && e != nil {
		return handover.ModuleHung
	}
	if e, is := errors.AsType[*p11.LostError](err); is && e != nil {
		return handover.TokenLost
	}
	if e, is := errors.AsType[*p11.TokenError](err); is && e != nil {
		return handover.NoToken
	}
	if errors.Is(err, errNoModule) {
		return handover.NoModule
	}
	return handover.Failed
}

var errNoModule = errors.New("no module")

// noModule marks the error of a module that cannot be loaded.
type noModule struct{ error }

func (e noModule) Is(target error) bool { return target == errNoModule }
func (e noModule) Unwrap() error        { return e.error }

func load(path string) (p11.Module, error) {
	if err := p11.CheckModule(path); err != nil {
		return nil, noModule{err}
	}
	m, err := cryptoki.Load(path)
	if err != nil {
		return nil, noModule{err}
	}
	return m, nil
}

// tokens prints what a module sees. It needs no PIN.
func tokens(argv []string) int {
	flags := flag.NewFlagSet("tokens", flag.ContinueOnError)
	path := flags.String("module", "", "the module's path")
	if err := flags.Parse(argv); err != nil {
		return exitUsage
	}
	if *path == "" || flags.NArg() > 0 {
		return misused(errors.New("tokens: -module PATH is expected, and nothing else"))
	}
	m, err := load(*path)
	if err != nil {
		return fail(err)
	}
	if err := p11.Describe(os.Stdout, m); err != nil {
		return fail(err)
	}
	return 0
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "moongate-p11:", err)
	return reasonOf(err).Status()
}

// logger writes for people, or for a supervisor that passes on what it reads.
func logger(supervised bool) *slog.Logger {
	if supervised {
		return slog.New(slog.NewJSONHandler(os.Stderr, nil))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, nil))
}
