package daemon

import "path/filepath"

// Files are where a gateway keeps what it has, below its data directory
// (0700).
type Files struct{ dir string }

// In returns the files of the data directory.
func In(dir string) Files { return Files{dir} }

// Dir is the data directory.
func (f Files) Dir() string { return f.dir }

// Config is the running configuration, XML.
func (f Files) Config() string { return filepath.Join(f.dir, "config.xml") }

// HSM is the directory of what belongs to this device's link to its HSM and
// is never part of the configuration.
func (f Files) HSM() string { return filepath.Join(f.dir, "hsm") }

// ClientCertificate and ClientKey are the gateway's own on the HSM's client
// port.
func (f Files) ClientCertificate() string { return filepath.Join(f.HSM(), "client.pem") }
func (f Files) ClientKey() string         { return filepath.Join(f.HSM(), "client.key") }

// ServerCertificate is the pinned certificate of the configured HSM server.
func (f Files) ServerCertificate(server string) string {
	return filepath.Join(f.HSM(), "server-"+server+".pem")
}

// Partition holds the label of the gateway's partition, Password the password
// of its Crypto Officer (mode 0600).
func (f Files) Partition() string { return filepath.Join(f.HSM(), "partition") }
func (f Files) Password() string  { return filepath.Join(f.HSM(), "password") }

// Log is the directory of the flow records.
func (f Files) Log() string { return filepath.Join(f.dir, "log") }
