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

// Group is where the record of the HSMs' group is remembered (hsmlink): with it
// the gateway opens the group at once, and need not find it first.
func (f Files) Group(name string) string { return filepath.Join(f.HSM(), "ha-"+name+".json") }

// Partition holds the label of the gateway's partition, Password the password
// of its Crypto Officer (mode 0600).
func (f Files) Partition() string { return filepath.Join(f.HSM(), "partition") }
func (f Files) Password() string  { return filepath.Join(f.HSM(), "password") }

// Log is the directory of the logs.
func (f Files) Log() string { return filepath.Join(f.dir, "log") }

// Vault holds the keys that the gateway's secrets are sealed under.
func (f Files) Vault() string { return filepath.Join(f.dir, "vault") }

// Revisions are the configuration over time: candidate, running, versions.
func (f Files) Revisions() string { return filepath.Join(f.dir, "revisions") }

// Imported is the configuration file after the first start took it over.
func (f Files) Imported() string { return f.Config() + ".imported" }

// Jobs is the table of long operations.
func (f Files) Jobs() string { return filepath.Join(f.dir, "jobs.json") }

// Guard holds lock-outs and the hashes of API keys.
func (f Files) Guard() string { return filepath.Join(f.dir, "guard") }

// Management holds what the management proves itself by.
func (f Files) Management() string { return filepath.Join(f.dir, "management") }

// WebKey is the certificate that the gateway makes for the HTTPS listener, with
// its key, sealed; WebCertificate is a copy of the certificate, for clients.
func (f Files) WebKey() string         { return filepath.Join(f.Management(), "web.key") }
func (f Files) WebCertificate() string { return filepath.Join(f.Management(), "web.pem") }

// Serial is the gateway's serial number.
func (f Files) Serial() string { return filepath.Join(f.dir, "serial") }

// FirstHash is the hash of the password that the first administrator is to
// have, where somebody has chosen it; FirstPassword is the password that the
// first start made up otherwise (mode 0600).
func (f Files) FirstHash() string     { return filepath.Join(f.dir, "first-admin.hash") }
func (f Files) FirstPassword() string { return filepath.Join(f.dir, "first-admin-password") }

// Console is the socket for what is done on the machine itself.
func (f Files) Console() string { return filepath.Join(f.dir, "console.sock") }

// Lock keeps a second gateway away.
func (f Files) Lock() string { return filepath.Join(f.dir, "lock") }
