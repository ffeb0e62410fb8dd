package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"moongate/internal/durable"
	"moongate/internal/hsm/adminshell"
	"moongate/internal/httpd"
	"moongate/internal/syslog"
)

// served is an appliance in service: what adminshell.Control asks of it.
type served struct {
	appliance *Appliance
	ntls      *ntls
	started   time.Time
	log       *LogRing // nil keeps no lines
	// Addresses of what is served besides ntls; empty is not served. They are
	// set before anybody asks.
	ssh, metrics, syslog string
	// collector is what forwards the audit log; nil where nothing does.
	collector *syslog.Sender
}

// Services implements adminshell.Control.
func (d *served) Services() []adminshell.Service {
	service := func(name, address, absent string) adminshell.Service {
		s := adminshell.Service{Name: name, Address: address, Running: address != ""}
		if !s.Running {
			s.Detail = absent
		}
		return s
	}
	collector := service("syslog", d.syslog, "no collector is configured (syslog.address)")
	if d.collector != nil {
		collector.Detail = collectorState(d.collector.Status(), d.collector.Settled())
	}
	return []adminshell.Service{
		service("ntls", d.ntls.address(), "the client port is closed"),
		service("ssh", d.ssh, "turned off (ssh.listen)"),
		service("metrics", d.metrics, "turned off (metrics.listen)"),
		collector,
	}
}

// collectorState says how the audit log's collector does. settled is the
// newest record that has arrived there since the start, or -1.
func collectorState(s syslog.Status, settled int64) string {
	state := "connected since " + s.Since.UTC().Format(time.RFC3339)
	switch {
	case s.Connected:
	case s.Since.IsZero():
		state = "NOT CONNECTED"
	default:
		state = "NOT CONNECTED since " + s.Since.UTC().Format(time.RFC3339)
	}
	if s.Err != nil && !s.Connected {
		state += ": " + s.Err.Error()
	}
	if settled < 0 {
		return state + "; nothing has arrived since the start"
	}
	return fmt.Sprintf("%s; record %d has arrived", state, settled)
}

// RestartNTLS implements adminshell.Control.
func (d *served) RestartNTLS(ctx context.Context) error {
	return d.ntls.restart(ctx, "")
}

// BindNTLS implements adminshell.Control.
func (d *served) BindNTLS(ctx context.Context, address string) error {
	if host, port, err := net.SplitHostPort(address); err != nil || port == "" {
		return fmt.Errorf("address %q: expected ADDRESS:PORT, an IPv6 address in square brackets", address)
	} else if host != "" && net.ParseIP(host) == nil {
		return fmt.Errorf("address %q: %s is no IP address of this machine", address, host)
	}
	if err := d.ntls.restart(ctx, address); err != nil {
		return err
	}
	if err := durable.WriteFile(d.appliance.files.Bound(), []byte(d.ntls.address()+"\n"), 0o600); err != nil {
		return fmt.Errorf("the client port has moved, but the next start will not know: %w", err)
	}
	return nil
}

// RegenerateCertificate implements adminshell.Control.
func (d *served) RegenerateCertificate(_ context.Context, hosts []string) (string, error) {
	if len(hosts) == 0 {
		old, err := d.appliance.files.loadCertificate()
		if err != nil {
			return "", err
		}
		hosts = append(hosts, old.Leaf.DNSNames...)
		for _, ip := range old.Leaf.IPAddresses {
			hosts = append(hosts, ip.String())
		}
	}
	if err := makeCertificate(d.appliance.files, hosts); err != nil {
		return "", err
	}
	fresh, err := d.appliance.files.loadCertificate()
	if err != nil {
		return "", err
	}
	return fingerprintOf(fresh), nil
}

// Log implements adminshell.Control.
func (d *served) Log(lines int) []string {
	if d.log == nil {
		return nil
	}
	return d.log.Newest(lines)
}

// BoundListen returns the address that `ntls bind` chose for the client port in
// a data directory, or nothing.
func BoundListen(dir string) (string, error) {
	raw, err := os.ReadFile(In(dir).Bound())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(raw)), err
}

// serveMetrics serves /metrics until ctx is done.
func serveMetrics(ctx context.Context, l net.Listener, g prometheus.Gatherer, log *slog.Logger) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(g, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), MaxRequestsInFlight: 4, Timeout: 10 * time.Second,
	}))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "The HSM's figures are at /metrics.\n")
	})
	return httpd.Serve(ctx, l, &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 20 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	})
}
