// A frozen cryptographic module (GOFIPS140, see the Makefile) would be in FIPS
// 140-3 mode always; here that is the HSM's choice, made by `init -fips`.
//go:debug fips140=off

// Command moongate-hsm is the network HSM: it makes one, serves one, and
// administers one on this machine.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"moongate/internal/hsm/adminshell"
	"moongate/internal/hsm/daemon"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/settings"
)

var version = "unknown" // set by the linker

const usage = `moongate-hsm is a network HSM: partitions of keys that never leave it.

Usage:
  moongate-hsm [-data DIR] init   -label LABEL [-host NAME-OR-ADDRESS]... [-passphrase] [-fips]
  moongate-hsm [-data DIR] serve  [-config FILE] [-listen ADDRESS:PORT]
                                  [-ssh-listen ADDRESS:PORT|off] [-metrics-listen ADDRESS:PORT|off]
                                  [-accept-audit-loss] [-accept-rollback]
  moongate-hsm [-data DIR] root-key seal|unseal   under a passphrase, or plain again
  moongate-hsm [-data DIR] doctor [-config FILE] [-json]   what is wrong with this machine
  moongate-hsm config             print a configuration file with every default
  moongate-hsm [-data DIR] shell  commands from standard input, one a line
  moongate-hsm [-data DIR] COMMAND...   one administration command, below
  moongate-hsm audit verify DIR -key FILE [-archive DIR]...   check a copy of an audit log
  moongate-hsm audit verify-proof FILE -key FILE              check the proof of one record
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
	case "root-key":
		return rootKey(dir, argv[1:])
	case "doctor":
		return examine(dir, argv[1:])
	case "config":
		fmt.Print(settings.Manual())
		return 0
	}
	if argv[0] == "audit" && len(argv) > 1 {
		switch offline := len(argv) > 2 && argv[2] != "-json"; {
		case argv[1] == "verify-copy", argv[1] == "verify" && offline:
			return verifyCopy(argv[2:])
		case argv[1] == "verify-proof":
			return verifyProof(argv[2:])
		}
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

func initialize(dir string, argv []string) int {
	flags := flag.NewFlagSet("init", flag.ExitOnError)
	label := flags.String("label", "", "name of the HSM")
	passphrase := flags.Bool("passphrase", false, "seal the device root key under a passphrase, asked for at each start")
	fips := flags.Bool("fips", false, "allow approved algorithms only, for ever")
	hosts := list{}
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
	var sealing string
	if *passphrase {
		if sealing, err = term.askTwice("Please enter a passphrase for the device root key: "); err != nil {
			return fail(err)
		}
	}
	if len(hosts) == 0 {
		hosts = list{"localhost", "127.0.0.1"}
	}
	serial, err := daemon.Init(daemon.InitOptions{Dir: dir, Label: *label, Hosts: hosts, FIPS: *fips, Officer: []byte(pw), Passphrase: []byte(sealing)})
	if err != nil {
		return fail(err)
	}
	fmt.Printf("HSM %q is initialised. Serial number %s.\n", *label, serial)
	fmt.Printf("Its device root key is %s: without it every key is lost; with it and a password they are not safe.\n", daemon.In(dir).RootKey())
	return 0
}
