package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"moongate/internal/hsm/daemon"
	"moongate/internal/hsm/settings"
)

func newPatient(opts Options) *patient {
	p := &patient{files: daemon.In(opts.Dir), config: opts.Config, s: settings.Default()}
	if p.config == "" {
		p.config = filepath.Join(opts.Dir, settings.FileName)
	}
	if s, err := settings.Load(p.config); err == nil {
		p.s = s
	}
	if c, err := net.DialTimeout("unix", p.files.Socket(), time.Second); err == nil {
		c.Close()
		p.running = true
	}
	return p
}

func configuration(_ context.Context, p *patient) []Finding {
	_, err := settings.Load(p.config)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return one(ok("no file %s: every setting has its default", p.config))
	case err != nil:
		return one(failure("mend that line; `moongate-hsm config` prints a file with every key", "%v", err))
	}
	return one(ok("%s", p.config))
}

func dataDirectory(_ context.Context, p *patient) []Finding {
	dir := p.files.Dir()
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return one(failure("run `moongate-hsm -data "+dir+" init -label LABEL`", "%s is not there: no HSM was made", dir))
	} else if err != nil {
		return one(failure("run as the HSM's own user or as root", "%v", err))
	}
	if !info.IsDir() {
		return one(failure("name a directory with -data", "%s is not a directory", dir))
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return one(failure("chmod 700 "+dir, "%s has mode %04o: others can reach what is in it", dir, mode))
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	if owner == 0 {
		return one(warn("give it to a user of its own (chown -R), and run the HSM as that user", "%s belongs to root", dir))
	}
	if euid := uint32(os.Geteuid()); euid != 0 && euid != owner {
		return one(failure("run as that user or as root", "%s belongs to user %d, and this is user %d", dir, owner, euid))
	}
	return one(ok("%s belongs to user %d alone", dir, owner))
}

// Free space: below the first the HSM soon stops, below the second it is time
// to look.
const (
	littleSpace = 64 << 20
	someSpace   = 1 << 30
)

func fileSystem(_ context.Context, p *patient) []Finding {
	var s unix.Statfs_t
	if err := unix.Statfs(p.files.Dir(), &s); err != nil {
		return one(failure("see the data directory", "%v", err))
	}
	var found []Finding
	switch int64(s.Type) {
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		found = append(found, warn("move the data directory to a disk", "the data directory is in memory: its keys are gone at the next boot"))
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC:
		found = append(found, warn("move the data directory to a local disk", "the data directory is on a network file system: locks and flushes may not hold"))
	case unix.OVERLAYFS_SUPER_MAGIC:
		found = append(found, warn("mount a volume there", "the data directory is in a container's overlay: its keys are gone with the container"))
	}
	free := s.Bavail * uint64(s.Bsize)
	text := fmt.Sprintf("%d MiB are free", free>>20)
	switch {
	case free < littleSpace:
		found = append(found, failure("make room, or archive old audit segments", "%s: an HSM that cannot record does not sign", text))
	case free < someSpace:
		found = append(found, warn("make room, or archive old audit segments", "%s; a key use takes about 400 bytes of audit log", text))
	default:
		found = append(found, ok("%s", text))
	}
	if s.Ffree < 100 && s.Files > 0 {
		found = append(found, failure("delete files on it", "%d inodes are free", s.Ffree))
	}
	return found
}

// private looks at a file that its owner alone may reach.
func private(path, lost string) Finding {
	info, err := os.Stat(path)
	if err != nil {
		return failure(lost, "%v", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return failure("chmod 600 "+path+"; whoever could read it may have", "%s has mode %04o", path, mode)
	}
	return ok("%s", path)
}

func rootKey(_ context.Context, p *patient) []Finding {
	return one(private(p.files.RootKey(), "put it back from its copy: nothing else opens the store"))
}

func storeFile(_ context.Context, p *patient) []Finding {
	f := private(p.files.Store(), "restore a backup, or make a new HSM")
	if f.Level == OK && p.running {
		f.Found += " is in use by the HSM that runs"
	}
	return one(f)
}

// soon is when an expiry is worth a warning.
const soon = 30 * 24 * time.Hour

func certificate(_ context.Context, p *patient) []Finding {
	pair, err := tls.LoadX509KeyPair(p.files.Certificate(), p.files.CertificateKey())
	if err != nil {
		return one(failure("put both files back, or run `sysconf regenCert` and have every client pin the new one", "%v", err))
	}
	found := one(private(p.files.CertificateKey(), ""))
	left := time.Until(pair.Leaf.NotAfter)
	if left < soon {
		found = append(found, warn("`sysconf regenCert` makes a new one; clients pin it anew", "it ends on %s; clients do not look at that, other tools may", pair.Leaf.NotAfter.Format(time.DateOnly)))
	}
	return found
}

func accounts(_ context.Context, p *patient) []Finding {
	if p.s.SSH.Listen == settings.Off {
		return one(ok("SSH is turned off; administration is local"))
	}
	f := private(p.files.Users(), "`moongate-hsm user add -username admin -role admin` makes one")
	if f.Level == Fail {
		f.Level = Warn
		f.Found = "nobody can log in over SSH: " + f.Found
	}
	return one(f)
}

// stale is how old the newest checkpoint of an HSM that runs may be, once
// something was recorded after it; signing takes seconds.
const stale = 5 * time.Minute

func auditLog(_ context.Context, p *patient) []Finding {
	signed, err := os.Stat(filepath.Join(p.files.Audit(), "checkpoints"))
	if errors.Is(err, fs.ErrNotExist) {
		return one(warn("start the HSM; if it had served before, put the directory back", "%s holds no checkpoint yet", p.files.Audit()))
	} else if err != nil {
		return one(failure("run as the HSM's own user or as root", "%v", err))
	}
	newest, err := newestRecord(p.files.Audit())
	if err != nil {
		return one(failure("look at the directory", "%v", err))
	}
	if p.running && newest.Sub(signed.ModTime()) > stale {
		return one(failure("look at `status` and at the HSM's log: it may not be able to write", "the newest checkpoint was signed at %s, the newest record is of %s",
			signed.ModTime().Format(time.DateTime), newest.Format(time.DateTime)))
	}
	return one(ok("newest checkpoint of %s; `audit verify` checks the whole", signed.ModTime().Format(time.DateTime)))
}

func newestRecord(dir string) (time.Time, error) {
	names, err := filepath.Glob(filepath.Join(dir, "records.*"))
	if err != nil {
		return time.Time{}, err
	}
	var newest time.Time
	for _, name := range names {
		if info, err := os.Stat(name); err == nil && info.ModTime().After(newest) {
			newest = info.ModTime()
		}
	}
	return newest, nil
}
