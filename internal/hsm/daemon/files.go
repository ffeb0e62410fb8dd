package daemon

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"moongate/internal/hsm/store"
)

// Files are where an HSM keeps what it has, below its data directory (0700).
type Files struct{ dir string }

// In returns the files of the data directory.
func In(dir string) Files { return Files{dir} }

// Dir is the data directory.
func (f Files) Dir() string { return f.dir }

// RootKey is the device root key: without it the store opens for nobody.
func (f Files) RootKey() string { return filepath.Join(f.dir, "device.key") }

// Store is the file of records and objects.
func (f Files) Store() string { return filepath.Join(f.dir, store.FileName) }

// Audit is the directory of the audit log.
func (f Files) Audit() string { return filepath.Join(f.dir, "audit") }

// Certificate and CertificateKey are the server's, on the client port. The
// certificate is what clients pin.
func (f Files) Certificate() string    { return filepath.Join(f.dir, "server.pem") }
func (f Files) CertificateKey() string { return filepath.Join(f.dir, "server.key") }

// loadCertificate reads the server's certificate and key.
func (f Files) loadCertificate() (tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(f.Certificate(), f.CertificateKey())
	if err != nil {
		return c, fmt.Errorf("reading the server's certificate, which clients pin, and its key (%s, %s): %w; put both back", f.Certificate(), f.CertificateKey(), err)
	}
	return c, nil
}

// checkpoints is the audit log's file of signed checkpoints.
func (f Files) checkpoints() string { return filepath.Join(f.Audit(), "checkpoints") }

// Users is the file of the appliance's accounts.
func (f Files) Users() string { return filepath.Join(f.dir, "users.json") }

// HostKeys is the directory of the SSH server's keys.
func (f Files) HostKeys() string { return filepath.Join(f.dir, "ssh") }

// Bound holds the address that `ntls bind` chose.
func (f Files) Bound() string { return filepath.Join(f.dir, "ntls.listen") }

// forwarded holds how far the audit log was sent to its collector.
func (f Files) forwarded() string { return filepath.Join(f.dir, "forwarded") }

// Inbox is where clients' certificates are delivered.
func (f Files) Inbox() string { return filepath.Join(f.dir, "inbox") }

// Socket is where local administration comes in.
func (f Files) Socket() string { return filepath.Join(f.dir, "admin.sock") }

// handBack gives what root has made in the data directory of another user to
// that user, who could not write it otherwise: root administers an HSM that is
// not running, and then its own user shall run it. Files with a second name are
// left alone: that may be anywhere.
func handBack(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	if owner.Uid == 0 {
		return nil
	}
	err = fs.WalkDir(root.FS(), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		if s := info.Sys().(*syscall.Stat_t); s.Uid != 0 || !info.IsDir() && s.Nlink > 1 {
			return nil
		}
		return root.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
	if err != nil {
		return fmt.Errorf("giving the data directory's files to its owner: %w", err)
	}
	return nil
}
