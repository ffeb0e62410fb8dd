package adminshell

import (
	"context"
	"time"
)

// Control is what commands ask of the process that serves the HSM. It is nil
// where none does, and the files were opened by the command itself.
type Control interface {
	// Services lists what the process runs: ntls (the client port), ssh,
	// metrics, syslog.
	Services() []Service
	// RestartNTLS ends the clients' connections and opens the client port
	// anew, with the certificate that is on disk.
	RestartNTLS(ctx context.Context) error
	// BindNTLS moves the client port, and keeps the choice for later starts.
	BindNTLS(ctx context.Context, address string) error
	// RegenerateCertificate makes the server a new key and certificate for the
	// hosts, or for the old ones' where none is named, and returns its
	// SHA-256. Clients must pin it anew; it is used from the next RestartNTLS.
	RegenerateCertificate(ctx context.Context, hosts []string) (string, error)
	// Log returns the newest lines of the process's own log, oldest first.
	Log(lines int) []string
	// Figures are the numbers that metrics and `status` both show.
	Figures() Figures
}

// Service is one thing that the process serves.
type Service struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Running bool   `json:"running"`
	// Detail says why it does not run, or what is worth knowing.
	Detail string `json:"detail,omitempty"`
}

// Figures are an HSM's vital signs at one moment.
type Figures struct {
	Started     time.Time `json:"started"`
	Connections int       `json:"connections"`
	Sessions    int       `json:"sessions"`
	Queued      int       `json:"queued"`
	InFlight    int       `json:"in_flight"`
	// Operations since the start, and those that were refused or failed.
	Operations uint64 `json:"operations"`
	Failed     uint64 `json:"failed"`
	// StoreBytes and AuditBytes are on disk; FreeBytes is left there.
	StoreBytes int64  `json:"store_bytes"`
	AuditBytes int64  `json:"audit_bytes"`
	FreeBytes  uint64 `json:"free_bytes"`
	// Records are those of the audit log; Checkpoint is when its newest signed
	// checkpoint was made.
	Records    uint64    `json:"audit_records"`
	Checkpoint time.Time `json:"audit_checkpoint"`
}
