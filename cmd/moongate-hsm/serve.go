package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"moongate/internal/hsm/daemon"
	"moongate/internal/hsm/settings"
)

func serve(dir string, argv []string) int {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	file := flags.String("config", "", "configuration file; "+settings.FileName+" in the data directory, where there is one, by default")
	listen := flags.String("listen", "", "address and port of the client protocol")
	ssh := flags.String("ssh-listen", "", "address and port of the appliance shell; off for none")
	metrics := flags.String("metrics-listen", "", "address and port of /metrics; off for none")
	accept := flags.Bool("accept-audit-loss", false, "put a damaged audit log aside and begin a new one")
	rollback := flags.Bool("accept-rollback", false, "go on with a store that was put back to an older state")
	flags.Parse(argv)
	if flags.NArg() > 0 {
		return fail(fmt.Errorf("serve: %q is not expected", flags.Arg(0)))
	}
	s, err := configure(dir, *file, overrides{listen: *listen, ssh: *ssh, metrics: *metrics})
	if err != nil {
		return fail(err)
	}
	spareProcessors()
	lines := daemon.NewLogRing(os.Stderr)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() {
		stop() // a second signal ends it at once
		_, _ = systemd.SdNotify(false, systemd.SdNotifyStopping)
	})
	err = daemon.Run(ctx, daemon.Options{
		Dir: dir, Version: version, AcceptAuditLoss: *accept, AcceptRollback: *rollback, Logger: newLogger(s, lines), Lines: lines,
		Listen: s.NTLS.Listen, SSH: unlessOff(s.SSH.Listen), Metrics: unlessOff(s.Metrics.Listen),
		Collector: daemon.Collector{
			Address: s.Syslog.Address, CA: s.Syslog.CA, ServerName: s.Syslog.ServerName, Certificate: s.Syslog.Certificate, Key: s.Syslog.Key,
		},
		Connections: s.Limits.Connections, Sessions: s.Limits.Sessions,
		Passphrase: passphrase(s, newConsole()), Ready: ready,
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

// spareProcessors lets the runtime run more threads than the server has workers
// (two for each processor, at least four). One client's flood keeps every worker
// busy; were they as many as the runtime's threads, it would look at the network
// every 10 ms only, and a request of another client would wait that long at each
// step. With some to spare, the kernel shares the processors instead.
func spareProcessors() { runtime.GOMAXPROCS(max(4, 2*runtime.NumCPU()) + 2) }

// overrides are addresses that the command line gives; empty ones it does not.
type overrides struct{ listen, ssh, metrics string }

// configure reads the configuration file, lays over it what the shell's `ntls
// bind` chose, and over that what the command line says.
func configure(dir, file string, o overrides) (settings.Settings, error) {
	load := settings.Load
	if file == "" {
		file, load = filepath.Join(dir, settings.FileName), settings.LoadOrDefault
	}
	s, err := load(file)
	if errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("serve: -config: %w", err)
	} else if err != nil {
		return s, err
	}
	bound, err := daemon.BoundListen(dir)
	if err != nil {
		return s, err
	}
	for _, over := range []struct {
		value *string
		with  string
	}{{&s.NTLS.Listen, bound}, {&s.NTLS.Listen, o.listen}, {&s.SSH.Listen, o.ssh}, {&s.Metrics.Listen, o.metrics}} {
		if over.with != "" {
			*over.value = over.with
		}
	}
	return s, s.Check()
}

func unlessOff(address string) string {
	if address == settings.Off {
		return ""
	}
	return address
}

func newLogger(s settings.Settings, out *daemon.LogRing) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(s.Log.Level)) // checked by Settings.Check
	options := &slog.HandlerOptions{Level: level}
	if s.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(out, options))
	}
	return slog.New(slog.NewTextHandler(out, options))
}

// ready says where the HSM listens, a service a line, and tells systemd, whose
// absence is no error.
func ready(at daemon.Addresses) {
	_, _ = systemd.SdNotify(false, systemd.SdNotifyReady)
	if at.SSH != "" {
		fmt.Printf("ssh %s\n", at.SSH)
	}
	if at.Metrics != "" {
		fmt.Printf("metrics %s\n", at.Metrics)
	}
	fmt.Printf("listening %s\n", at.NTLS)
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
