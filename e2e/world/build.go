package world

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// built are the programs that this process has looked up, by name.
var built sync.Map // of func() (string, error)

// Program returns the path of one of the product's programs ("moongate-hsm"):
// the one in $MOONGATE_BIN, or one that is built of the present source, once
// for each process.
func Program(ctx context.Context, name string) (string, error) {
	if dir := os.Getenv("MOONGATE_BIN"); dir != "" {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("finding %s in $MOONGATE_BIN: %w", name, err)
		}
		return path, nil
	}
	// A context that ends must not become everybody's answer.
	ctx = context.WithoutCancel(ctx)
	find, _ := built.LoadOrStore(name, sync.OnceValues(func() (string, error) { return build(ctx, name) }))
	return find.(func() (string, error))()
}

// build leaves the program in a cache of the user's, one for each checkout. go
// build does nothing where the program there is up to date.
func build(ctx context.Context, name string) (string, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("building %s: %w", name, err)
	}
	dir := filepath.Join(cache, "moongate-e2e", fmt.Sprintf("%x", sha256.Sum256([]byte(root)))[:16])
	fresh, ready := filepath.Join(dir, "build", name), filepath.Join(dir, "bin", name)
	for _, path := range []string{fresh, ready} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return "", fmt.Errorf("building %s: %w", name, err)
		}
	}
	// Test programs of several packages run at once.
	unlock, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return "", fmt.Errorf("building %s: %w", name, err)
	}
	defer unlock()
	cmd := exec.CommandContext(ctx, "go", "build", "-o", fresh, "./cmd/"+name)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if name == "moongate-p11" { // it loads modules in C
		cmd.Env = append(cmd.Env, "CGO_ENABLED=1")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", name, err, out)
	}
	if err := place(ctx, fresh, ready); err != nil {
		return "", fmt.Errorf("building %s: %w", name, err)
	}
	return ready, nil
}

// place puts a copy of fresh at ready, unless it is there: what go build
// writes to, nobody may be running. cp writes it, and not this process, whose
// children might be started with the file open, and the kernel refuses to run a
// file that somebody can write to.
func place(ctx context.Context, fresh, ready string) error {
	from, err := os.Stat(fresh)
	if err != nil {
		return err
	}
	to, err := os.Stat(ready)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case to.Size() == from.Size() && to.ModTime().Equal(from.ModTime()):
		return nil
	}
	if out, err := exec.CommandContext(ctx, "cp", "-p", fresh, ready+".new").CombinedOutput(); err != nil {
		return fmt.Errorf("copying: %w\n%s", err, out)
	}
	return os.Rename(ready+".new", ready)
}

func moduleRoot(ctx context.Context) (string, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", "env", "GOMOD")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("finding the module: %w\n%s", err, &stderr)
	}
	file := strings.TrimSpace(string(out))
	if file == "" || file == os.DevNull {
		return "", errors.New("finding the module: run this within its checkout, or set $MOONGATE_BIN to the programs' directory")
	}
	return filepath.Dir(file), nil
}

// lock waits for the lock.
func lock(path string) (func(), error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if err != syscall.EINTR {
			return nil, errors.Join(fmt.Errorf("locking %s: %w", path, err), f.Close())
		}
	}
}
