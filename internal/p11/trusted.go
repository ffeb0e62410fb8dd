package p11

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// CheckModule refuses a module that others than root and this process's user
// could have put there: it is code that runs with the token's PIN. The file, and
// every directory on the way to it, must be root's or ours, and not open to
// everybody; one with the sticky bit may be.
func CheckModule(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("the module %s is not named by its absolute path", path)
	}
	path = filepath.Clean(path)
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no module %s", path)
	} else if err != nil {
		return fmt.Errorf("looking for the module: %w", err)
	}
	info, err := os.Lstat(real)
	if err != nil {
		return fmt.Errorf("looking for the module: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("the module %s is no file", path)
	}
	for _, at := range []string{path, real} {
		for ; ; at = filepath.Dir(at) {
			if err := checkOwner(at, path); err != nil {
				return err
			}
			if at == filepath.Dir(at) {
				break
			}
		}
	}
	return nil
}

func checkOwner(at, module string) error {
	info, err := os.Lstat(at)
	if err != nil {
		return fmt.Errorf("looking for the module: %w", err)
	}
	stat, is := info.Sys().(*syscall.Stat_t)
	if !is || stat.Uid != 0 && int(stat.Uid) != os.Getuid() {
		return fmt.Errorf("the module %s is not loaded: %s belongs to another user than root and this process's; chown it to root", module, at)
	}
	open := info.Mode().Perm()&0o002 != 0 && info.Mode()&(fs.ModeSymlink|fs.ModeSticky) == 0
	if open {
		return fmt.Errorf("the module %s is not loaded: everybody can write to %s; chmod o-w it", module, at)
	}
	return nil
}
