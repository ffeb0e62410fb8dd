package daemon

import (
	"path/filepath"
)

// Files are where an HSM keeps what it has, below its data directory (0700).
type Files struct{ dir string }

// In returns the files of the data directory.
func In(dir string) Files { return Files{dir} }

// Dir is the data directory.
func (f Files) Dir() string { return f.dir }

// RootKey is the device root key: without it the store opens for nobody.
func (f Files) RootKey() string { return filepath.Join(f.dir, "device.key") }

// Audit is the directory of the audit log.
func (f Files) Audit() string { return filepath.Join(f.dir, "audit") }

// Certificate and CertificateKey are the server's, on the client port. The
// certificate is what clients pin.
func (f Files) Certificate() string    { return filepath.Join(f.dir, "server.pem") }
func (f Files) CertificateKey() string { return filepath.Join(f.dir, "server.key") }

// Inbox is where clients' certificates are delivered.
func (f Files) Inbox() string { return filepath.Join(f.dir, "inbox") }

// Socket is where local administration comes in.
func (f Files) Socket() string { return filepath.Join(f.dir, "admin.sock") }
