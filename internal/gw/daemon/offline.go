package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"moongate/internal/gw/mgmt"
)

// offline opens the files of a gateway that does not run, and keeps others away
// meanwhile.
func offline(dir string, do func(*parts, *mgmt.Manager) error) (err error) {
	files := In(dir)
	if _, err := os.Stat(files.Revisions()); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no gateway in %s, or it was never started: name its directory with -data", dir)
	}
	lock, err := lockDirectory(files)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	p, err := openParts(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	m, err := p.manager()
	if err != nil {
		return err
	}
	return do(p, m)
}

// ResetAdministrator sets the password of an administrator at the console, of
// the gateway that runs on a data directory, or in its files.
func ResetAdministrator(ctx context.Context, dir string, req ResetRequest) error {
	return asOwner(dir, func() error {
		answer, err := callConsole(ctx, In(dir), resetPath, req)
		if err == nil {
			return answer.Close()
		} else if !errors.Is(err, errNoConsole) {
			return err
		}
		return offline(dir, func(_ *parts, m *mgmt.Manager) error {
			return m.ResetAdministrator(ctx, req.Name, req.Password, req.Create)
		})
	})
}

// asOwner does something as the user that a data directory belongs to, where
// this process is root: what it writes must be the gateway's to read. The
// process stays that user.
func asOwner(dir string, do func() error) error {
	if os.Getuid() == 0 {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t)
		if owner.Uid != 0 {
			if err := becomeUser(int(owner.Uid), int(owner.Gid)); err != nil {
				return fmt.Errorf("becoming the owner of %s: %w", dir, err)
			}
		}
	}
	return do()
}

func becomeUser(uid, gid int) error {
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := syscall.Setgid(gid); err != nil {
		return err
	}
	return syscall.Setuid(uid)
}

// giveTree gives a directory tree to the owner of another directory.
func giveTree(dir string, like fs.FileInfo) error {
	if os.Getuid() != 0 {
		return nil
	}
	owner := like.Sys().(*syscall.Stat_t)
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
}
