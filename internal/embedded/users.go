package embedded

import (
	"fmt"
	"io/fs"
	"os"
	osuser "os/user"
	"path/filepath"
	"strconv"
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

// userFor returns the user that a program shall run as, or nil and why not.
func userFor(name string, fallback uint32, needs ...string) (*user, string) {
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
	for _, path := range needs {
		if blocked := closedTo(path); blocked != "" {
			return nil, fmt.Sprintf("%s is closed to other users", blocked)
		}
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

// give hands a directory tree to a user; nil leaves it as it is.
func give(dir string, u *user) error {
	if os.Getuid() != 0 {
		return nil
	}
	if u == nil {
		u = &user{}
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(u.uid), int(u.gid))
	})
}
