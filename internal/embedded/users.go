package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// Users of their own keep the two programs apart where the supervisor is root:
// the gateway then can read neither the HSM's files nor its memory. Where the
// system has users of these names they are taken; otherwise numbers that no
// distribution gives to anybody (the range that systemd keeps for dynamic
// users), so that nothing has to be set up.
const (
	hsmUser       = "moongate-hsm"
	gatewayUser   = "moongate"
	hsmUserID     = 65170
	gatewayUserID = 65171
)

type user struct{ uid, gid uint32 }

// userFor returns the user that a program shall run as with its data directory,
// or nil and why not.
func userFor(name string, fallback uint32, dir, program string) (*user, string) {
	if os.Getuid() != 0 {
		return nil, "the supervisor is not root"
	}
	u := &user{fallback, fallback}
	if known, err := osuser.Lookup(name); err == nil {
		uid, uerr := strconv.ParseUint(known.Uid, 10, 32)
		gid, gerr := strconv.ParseUint(known.Gid, 10, 32)
		if uerr == nil && gerr == nil {
			u = &user{uint32(uid), uint32(gid)}
		}
	}
	for _, path := range []string{dir, program} {
		if blocked := closedTo(path); blocked != "" {
			return nil, fmt.Sprintf("%s is closed to other users", blocked)
		}
	}
	if info, err := os.Stat(program); err != nil || info.Mode().Perm()&0o001 == 0 {
		return nil, fmt.Sprintf("%s may not be run by other users", program)
	}
	return u, ""
}

// closedTo returns the first directory on the way to path that a stranger may
// not pass, or "".
func closedTo(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	for dir := filepath.Dir(abs); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return dir
		}
		if dir == "/" {
			return ""
		}
	}
}

// give hands a directory tree to a user; nil is the supervisor's own. Whoever
// had it before may have tried to point elsewhere with it: no link is followed,
// and a file with a second name, which may be anywhere, is left alone.
func give(dir string, u *user) error {
	if os.Getuid() != 0 {
		return nil
	}
	if u == nil {
		u = &user{}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // an HSM that is still running keeps temporary files
		} else if err != nil {
			return err
		}
		if s := info.Sys().(*syscall.Stat_t); !info.IsDir() && s.Nlink > 1 {
			return nil
		}
		return root.Lchown(path, int(u.uid), int(u.gid))
	})
}
