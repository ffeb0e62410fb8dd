package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"moongate/internal/durable"
	"moongate/internal/gw/backup"
	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/vault"
)

// vaultEntry is the vault's keys in a backup: an export of their own.
const vaultEntry = "vault.export"

// backupSource is a gateway that can be backed up: one that runs, or the files
// of one that does not.
type backupSource struct {
	p *parts
	m *mgmt.Manager
}

// write writes a backup: all that makes this gateway the one it is, and its
// logs where they are asked for. Nothing is changed meanwhile.
func (b *backupSource) write(ctx context.Context, w io.Writer, req BackupRequest) error {
	if err := backup.CheckPassphrase(req.Passphrase); err != nil {
		return err
	}
	out, err := backup.NewWriter(w, req.Passphrase)
	if err != nil {
		return err
	}
	export, err := b.p.vault.Export(req.Passphrase)
	if err != nil {
		return err
	}
	if err := out.Add(vaultEntry, 0o600, time.Now(), export); err != nil {
		return err
	}
	if err := b.m.Still(func() error { return b.files(out) }); err != nil {
		return err
	}
	if req.Logs {
		if err := b.logs(ctx, out); err != nil {
			return err
		}
	}
	return out.Close()
}

// logs writes the logs as they are at this moment.
func (b *backupSource) logs(ctx context.Context, out *backup.Writer) (err error) {
	copied, err := os.MkdirTemp(b.p.files.Dir(), ".backup-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(copied)) }()
	if err := b.p.logs.Copy(ctx, copied); err != nil {
		return err
	}
	return out.AddTree(filepath.Base(b.p.files.Log()), copied, func(string) bool { return false })
}

// files writes everything but the vault and the logs.
func (b *backupSource) files(out *backup.Writer) error {
	f := b.p.files
	skipped := map[string]bool{
		f.Lock(): true, f.Console(): true, f.Vault(): true, f.Log(): true, f.FirstPassword(): true, f.FirstHash(): true,
	}
	return out.AddTree("", f.Dir(), func(path string) bool {
		below, err := filepath.Rel(f.Dir(), path)
		top, _, _ := strings.Cut(below, string(filepath.Separator))
		return err != nil || strings.HasPrefix(top, ".") || skipped[filepath.Join(f.Dir(), top)] || strings.HasPrefix(filepath.Base(path), ".") || filepath.Base(path) == "lock"
	})
}

// CreateBackup writes a backup of the gateway in a data directory, running or
// not, to a new file (mode 0600), and reads it back to see that it is whole. It
// returns how many files are in it.
func CreateBackup(ctx context.Context, dir, path string, req BackupRequest) (files int, err error) {
	if err := backup.CheckPassphrase(req.Passphrase); err != nil {
		return 0, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	if err := asOwner(dir, func() error { return streamBackup(ctx, dir, f, req) }); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	if files, err = backup.Verify(f, req.Passphrase); err != nil {
		return 0, fmt.Errorf("the backup that was just made: %w", err)
	}
	return files, durable.SyncDir(filepath.Dir(path))
}

// streamBackup asks the gateway that runs, or else reads its files.
func streamBackup(ctx context.Context, dir string, w io.Writer, req BackupRequest) error {
	answer, err := callConsole(ctx, In(dir), backupPath, req)
	if err == nil {
		defer answer.Close()
		_, err := io.Copy(w, answer)
		return err
	} else if !errors.Is(err, errNoConsole) {
		return err
	}
	return offline(dir, func(p *parts, m *mgmt.Manager) error { return (&backupSource{p, m}).write(ctx, w, req) })
}

// Restore makes the data directory of a gateway from a backup: one that is not
// there, or empty. It is complete or not there at all.
func Restore(path, dir string, passphrase []byte) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s holds something already (%s): name a data directory that is empty or not there yet", dir, entries[0].Name())
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	fresh, err := os.MkdirTemp(parent, ".restoring-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(fresh))
		}
	}()
	if err := restoreInto(f, fresh, passphrase); err != nil {
		return err
	}
	if err := takePlace(fresh, dir); err != nil {
		return err
	}
	return durable.SyncDir(parent)
}

// takePlace renames a directory to where nothing is, or an empty directory,
// whose owner it then has.
func takePlace(fresh, dir string) error {
	if info, err := os.Stat(dir); err == nil {
		if err := giveTree(fresh, info); err != nil {
			return err
		}
	}
	return os.Rename(fresh, dir)
}

func restoreInto(r io.Reader, dir string, passphrase []byte) error {
	var export []byte
	err := backup.Extract(r, passphrase, dir, map[string]func([]byte) error{
		vaultEntry: func(text []byte) error { export = bytes.Clone(text); return nil },
	})
	if err != nil {
		return err
	}
	if export == nil {
		return errors.New("the backup holds no vault: it is no backup of a gateway")
	}
	return vault.Import(In(dir).Vault(), export, passphrase)
}
