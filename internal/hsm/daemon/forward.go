package daemon

import (
	"context"
	"fmt"
	"log/slog"

	"moongate/internal/audit"
	"moongate/internal/syslog"
)

// Collector is where the audit log is forwarded to; an empty Address is none.
type Collector struct {
	Address    string // host:port, RFC 5424 over TLS
	CA         string // PEM file
	ServerName string
	// Certificate and Key are PEM files; empty shows no certificate.
	Certificate, Key string
}

// collectorSink joins the audit log to a collector: the two are strangers.
type collectorSink struct{ *syslog.Sender }

// auditElement names the structured data of a record (RFC 5424, section 6.3.2).
// 32473 is the number for documentation (RFC 5612): we have none of our own.
const auditElement = "audit@32473"

func (s collectorSink) Send(ctx context.Context, n audit.Notice) error {
	params := make([]syslog.Param, len(n.Fields))
	for i, f := range n.Fields {
		params[i] = syslog.Param(f)
	}
	return s.Sender.Send(ctx, syslog.Message{
		Mark: n.Seq, Severity: n.Severity, Time: n.Time, ID: n.Action, Text: n.Text,
		Data: []syslog.Element{{ID: auditElement, Params: params}},
	})
}

// newForwarder makes what forwards the audit log. Where it has come to is kept
// in the data directory.
func newForwarder(a *Appliance, c Collector, log *slog.Logger) (*audit.Forwarder, *syslog.Sender, error) {
	sender, err := syslog.New(syslog.Options{
		Address: c.Address, ServerName: c.ServerName, CAFile: c.CA, Certificate: c.Certificate, Key: c.Key,
		App: "moongate-hsm", Logger: log,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("forwarding the audit log: %w", err)
	}
	return &audit.Forwarder{Log: a.Journal, Sink: collectorSink{sender}, State: a.files.forwarded(), Logger: log}, sender, nil
}
