package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"

	"moongate/internal/audit"
	"moongate/internal/durable"
	"moongate/internal/hsm/adminshell"
	"moongate/internal/hsm/server"
	"moongate/internal/ownsocket"
	"moongate/internal/sshd"
	"moongate/internal/syslog"
)

// Run serves an HSM until ctx is done: clients on opts.Listen, administrators
// over SSH and, from this machine, on the socket, figures over HTTP. What it
// cannot serve it says before it serves anything.
func Run(ctx context.Context, opts Options) (err error) {
	a, err := Open(opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()

	n := newNTLS(server.Options{
		Backend: backend{a.HSM, a.Journal}, Software: "moongate-hsm " + opts.Version, Logger: opts.Logger,
		MaxConnections: opts.Connections, MaxSessions: opts.Sessions,
	}, a.files.loadCertificate, a.HSM.Serial)
	a.HSM.OnDisconnect(n.disconnect)
	d := &served{appliance: a, ntls: n, started: time.Now(), log: opts.Lines}
	a.Control = d

	local, err := ownsocket.Listen(a.files.Socket(), "administration")
	if err != nil {
		return err
	}
	defer local.Close()
	first, err := n.open(ctx, opts.Listen)
	if err != nil {
		return err
	}
	defer first.listener.Close()
	n.set(first)
	metrics, err := listen(ctx, "figures", opts.Metrics)
	if err != nil {
		return err
	}
	admin, err := listen(ctx, "administrators", opts.SSH)
	if err != nil {
		return err
	}
	at := Addresses{NTLS: n.address()}
	var hostKeys []ssh.Signer
	if admin != nil {
		defer admin.Close()
		at.SSH = admin.Addr().String()
		if err := durable.Mkdir(a.files.HostKeys()); err != nil {
			return fmt.Errorf("making the directory of the shell's host keys: %w", err)
		}
		if hostKeys, err = sshd.HostKeys(a.files.HostKeys()); err != nil {
			return fmt.Errorf("opening the shell's host keys: %w", err)
		}
		a.HostKeys = sshd.Fingerprints(hostKeys)
	}
	a.Listen = at.NTLS
	if metrics != nil {
		defer metrics.Close()
		at.Metrics = metrics.Addr().String()
	}
	d.ssh, d.metrics, d.syslog = at.SSH, at.Metrics, opts.Collector.Address
	var forwarder *audit.Forwarder
	if opts.Collector.Address != "" {
		var sender *syslog.Sender
		if forwarder, sender, err = newForwarder(a, opts.Collector, opts.Logger); err != nil {
			return err
		}
		defer sender.Close()
		d.collector = sender
	}

	opts.Logger.Info("HSM ready", "listen", at.NTLS, "ssh", at.SSH, "metrics", at.Metrics, "serial", a.HSM.Serial(), "fingerprint", a.Fingerprint)
	if opts.Ready != nil {
		opts.Ready(at)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.run(ctx, first) })
	group.Go(func() error { return adminshell.ServeLocal(ctx, local, &a.Appliance) })
	if admin != nil {
		group.Go(func() error {
			return adminshell.ServeSSH(ctx, admin, &a.Appliance, adminshell.SSHOptions{HostKeys: hostKeys})
		})
	}
	if forwarder != nil {
		group.Go(func() error { return forwarder.Run(ctx) })
	}
	if metrics != nil {
		gatherer, err := d.gatherer(opts.Version)
		if err != nil {
			return err
		}
		group.Go(func() error { return serveMetrics(ctx, metrics, gatherer, opts.Logger) })
	}
	return group.Wait()
}

// listen opens a port for what; an empty address is no port.
func listen(ctx context.Context, what, address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening for %s on %s: %w", what, address, err)
	}
	return l, nil
}
