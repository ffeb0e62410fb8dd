package daemon

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/crypto/ssh"

	"moongate/internal/gw/api"
	"moongate/internal/gw/cli"
	"moongate/internal/gw/config"
	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/web"
	"moongate/internal/httpd"
	"moongate/internal/sshd"
)

// names of the management's services.
const (
	httpsService   = "HTTPS"
	sshService     = "SSH"
	metricsService = "metrics"
)

// httpsServer is the web UI and the XML API over HTTPS.
func httpsServer(m *mgmt.Manager, pages *web.Handler, identity *webIdentity, logger *slog.Logger) service {
	handler := api.New(api.Options{Manager: m, Logger: logger})
	mux := http.NewServeMux()
	mux.Handle("/", pages)
	for _, path := range api.Paths {
		mux.Handle(path, handler)
	}
	health(mux, m)
	return service{
		name:    httpsService,
		address: func(s *config.Snapshot) string { return addressOf(s.Management.Address, s.Management.HTTPSPort) },
		serve: func(ctx context.Context, l net.Listener) error {
			return httpd.Serve(ctx, tls.NewListener(l, identity.config()), &http.Server{
				Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 2 * time.Minute, WriteTimeout: 5 * time.Minute,
				IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
				ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
			})
		},
	}
}

// sshServer is the command line over SSH.
func sshServer(m *mgmt.Manager, keys []ssh.Signer, version string, logger *slog.Logger) (service, error) {
	door, err := cli.New(cli.Options{Manager: m, Logger: logger, Version: version, Hostname: m.Hostname})
	if err != nil {
		return service{}, err
	}
	server, err := sshd.New(sshd.Options{
		HostKeys: keys, Authenticator: door, Logger: logger, Software: "Moongate_" + version, Limits: sshd.Limits{FileSize: mgmt.MaxFile},
		Idle: func() time.Duration {
			if idle := m.IdleTimeout(); idle > 0 {
				return idle
			}
			return noIdle
		},
	})
	if err != nil {
		return service{}, err
	}
	return service{
		name:    sshService,
		address: func(s *config.Snapshot) string { return addressOf(s.Management.Address, s.Management.SSHPort) },
		serve:   server.Serve,
	}, nil
}

// noIdle is for sessions that may do nothing for any time.
const noIdle = 10 * 365 * 24 * time.Hour

// metricsServer gives figures and health, in the clear.
func metricsServer(m *mgmt.Manager, figures prometheus.Gatherer, logger *slog.Logger) service {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(figures, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelWarn), MaxRequestsInFlight: 4, Timeout: 10 * time.Second,
	}))
	health(mux, m)
	return service{
		name:    metricsService,
		address: func(s *config.Snapshot) string { return addressOf(s.Management.Address, s.Management.MetricsPort) },
		serve: func(ctx context.Context, l net.Listener) error {
			return httpd.Serve(ctx, l, &http.Server{
				Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 20 * time.Second,
				IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
				ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
			})
		},
	}
}

func addressOf(address netip.Addr, port uint16) string {
	return net.JoinHostPort(address.String(), fmt.Sprint(port))
}
