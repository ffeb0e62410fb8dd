// Command moongate is the TLS-inspecting gateway that holds no private key,
// and `moongate up`, which runs one beside its HSM.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"moongate/internal/embedded"
	gateway "moongate/internal/gw/daemon"
)

var version = "unknown" // set by the linker

const usage = `moongate is a TLS-inspecting gateway that never holds its private keys.

Usage:
  moongate up                HSMs (-hsms N) and a gateway on this machine, made on first start
  moongate serve             the gateway alone, from its data directory
  moongate check FILE        check a configuration file and say everything that is wrong
  moongate credentials       print the passwords that the first start made up
  moongate log LOG           print the gateway's traffic, decryption, system or config log
  moongate admin reset NAME  set the password of one of the gateway's administrators
  moongate master-key recover
                             enter the master key of a stopped gateway that lost its HSM
  moongate backup -out FILE  write the gateway into one file, under a passphrase
  moongate restore FILE      make a gateway of such a file, in an empty directory
  moongate version

Each takes -help. The data directory is -data, or $MOONGATE_DATA, or ./data.
`

func main() { os.Exit(run(os.Args[1:])) }

func run(argv []string) int {
	if len(argv) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	commands := map[string]func([]string) error{"up": up, "serve": serve, "check": check, "credentials": credentials, "log": printLog, "backup": backup, "restore": restore, "admin": administer, "master-key": masterKey}
	switch name := argv[0]; name {
	case "help", "-h", "-help", "--help":
		fmt.Print(usage)
		return 0
	case "version", "-version", "--version":
		fmt.Println("moongate", version)
		return 0
	default:
		command, known := commands[name]
		if !known {
			fmt.Fprintf(os.Stderr, "moongate: %q is not a command\n\n%s", name, usage)
			return 2
		}
		if err := command(argv[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "moongate:", err)
			return 1
		}
		return 0
	}
}

// dataDir is the default of -data.
func dataDir() string {
	if dir := os.Getenv("MOONGATE_DATA"); dir != "" {
		return dir
	}
	return "data"
}

func noMore(flags *flag.FlagSet) error {
	if flags.NArg() > 0 {
		return fmt.Errorf("%s: %q is not expected", flags.Name(), flags.Arg(0))
	}
	return nil
}

// interrupted ends with the first signal; the second one ends the program.
func interrupted() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

func up(argv []string) error {
	flags := flag.NewFlagSet("up", flag.ExitOnError)
	dir := flags.String("data", dataDir(), "data directory")
	listen := flags.String("listen", os.Getenv("MOONGATE_LISTEN"), "address that the proxy and the inbound listener are opened on, instead of 127.0.0.1 (or $MOONGATE_LISTEN)")
	hsms := flags.Int("hsms", 0, "how many HSMs, 1 to 16; several are one HA group (default: as many as there are, one at first)")
	ports := embedded.DefaultPorts
	for _, p := range []struct {
		name string
		port *int
		what string
	}{
		{"hsm-port", &ports.HSM, "HSM's client port"},
		{"hsm-ssh-port", &ports.HSMShell, "HSM's shell's port"},
		{"hsm-metrics-port", &ports.HSMFigures, "HSM's figures' port"},
		{"proxy-port", &ports.Proxy, "forward proxy's port"},
		{"inbound-port", &ports.Inbound, "inbound listener's port"},
		{"origin-port", &ports.Origin, "demonstration origin's port"},
		{"web-port", &ports.Web, "port of the gateway's XML API"},
		{"ssh-port", &ports.Shell, "port of the gateway's shell"},
		{"gateway-metrics-port", &ports.Figures, "port of the gateway's figures"},
	} {
		flags.IntVar(p.port, p.name, *p.port, p.what+"; 0 is a free one; for the first start")
	}
	flags.Parse(argv)
	if err := noMore(flags); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, stop := interrupted()
	defer stop()
	return embedded.Up(ctx, embedded.Options{
		Dir: *dir, Programs: filepath.Dir(self), Listen: *listen, HSMs: *hsms, Ports: ports, Out: os.Stdout,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
}

func serve(argv []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	dir := flags.String("data", filepath.Join(dataDir(), "gateway"), "the gateway's data directory")
	listen := flags.String("listen", "", "address for every proxy and inbound listener, instead of those configured")
	flags.Parse(argv)
	if err := noMore(flags); err != nil {
		return err
	}
	ctx, stop := interrupted()
	defer stop()
	context.AfterFunc(ctx, func() { _, _ = systemd.SdNotify(false, systemd.SdNotifyStopping) })
	return gateway.Run(ctx, gateway.Options{
		Dir: *dir, Listen: *listen, Version: version,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Ready: func(a gateway.Addresses) {
			fmt.Printf("management https://%s/api/, ssh -p %s, figures http://%s/metrics\n", a.HTTPS, portOf(a.SSH), a.Metrics)
			fmt.Println("listening", strings.Join(a.All(), " "))
			_, _ = systemd.SdNotify(false, systemd.SdNotifyReady)
		},
		Say: func(text string) { fmt.Println(text) },
	})
}

// portOf is the port of an address.
func portOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

func check(argv []string) error {
	if len(argv) != 1 || strings.HasPrefix(argv[0], "-") {
		return errors.New("check: name one configuration file")
	}
	warnings, err := gateway.Check(argv[0])
	for _, w := range warnings {
		fmt.Fprintln(os.Stderr, "warning:", w)
	}
	if err != nil {
		return err
	}
	fmt.Printf("%s is in order.\n", argv[0])
	return nil
}

func credentials(argv []string) error {
	flags := flag.NewFlagSet("credentials", flag.ExitOnError)
	dir := flags.String("data", dataDir(), "data directory")
	flags.Parse(argv)
	if err := noMore(flags); err != nil {
		return err
	}
	path := embedded.CredentialsFile(*dir)
	if _, err := embedded.ReadCredentials(path); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("there are none in %s: `moongate up` makes them at its first start", *dir)
		}
		return err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(raw)
	return err
}
