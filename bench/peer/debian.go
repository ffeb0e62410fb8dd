package peer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"
)

// installWithin bounds one run of apt-get.
const installWithin = 5 * time.Minute

// policyFile decides for Debian's invoke-rc.d(8) whether a package may start
// its service; status 101 forbids it.
const (
	policyFile = "/usr/sbin/policy-rc.d"
	policy     = "#!/bin/sh\n# Written by a benchmark while it installs packages.\nexit 101\n"
)

// Versions returns the installed version of each Debian package; missing ones
// have none.
func Versions(ctx context.Context, packages ...string) (map[string]string, error) {
	versions := map[string]string{}
	for _, name := range packages {
		out, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", name).Output()
		if exit := new(exec.ExitError); errors.As(err, &exit) {
			continue // never heard of
		} else if err != nil {
			return nil, fmt.Errorf("asking dpkg for %s (the peers come from Debian): %w", name, err)
		}
		if status, version, _ := strings.Cut(string(out), " "); status == "installed" {
			versions[name] = version
		}
	}
	return versions, nil
}

// Install installs those of the packages that are missing, and starts none of
// their services.
func Install(ctx context.Context, packages ...string) error {
	versions, err := Versions(ctx, packages...)
	if err != nil {
		return err
	}
	var missing []string
	for _, name := range packages {
		if versions[name] == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("missing Debian packages: run `apt-get install %s`, or this as root", strings.Join(missing, " "))
	}
	remove, err := forbidServices(policyFile)
	if err != nil {
		return err
	}
	defer remove()
	ctx, cancel := context.WithTimeout(ctx, installWithin)
	defer cancel()
	install := append([]string{"install", "-qq", "-y", "--no-install-recommends"}, missing...)
	if first := aptGet(ctx, install...); first == nil {
		return nil
	}
	// A fresh image has no package lists, an old one stale ones.
	if err := aptGet(ctx, "update", "-qq"); err != nil {
		return err
	}
	return aptGet(ctx, install...)
}

func aptGet(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	// An interrupted apt-get is given the time to leave dpkg in order.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// forbidServices keeps packages from starting services until remove is called.
// A policy that is there already is the administrator's, or the container
// image's, and stays.
func forbidServices(path string) (remove func(), err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return func() {}, nil
	} else if err != nil {
		return nil, fmt.Errorf("forbidding services to start: %w", err)
	}
	remove = func() { os.Remove(path) }
	if _, err := file.WriteString(policy); err != nil {
		file.Close()
		remove()
		return nil, fmt.Errorf("forbidding services to start: %w", err)
	}
	if err := file.Close(); err != nil {
		remove()
		return nil, fmt.Errorf("forbidding services to start: %w", err)
	}
	return remove, nil
}
