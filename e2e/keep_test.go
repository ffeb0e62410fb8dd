package e2e

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"moongate/e2e/world"
)

// typed runs a program with lines on its standard input.
func typed(t *testing.T, lines, program string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdin = strings.NewReader(lines)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// mayEnter asks a gateway for an API key.
func mayEnter(t *testing.T, api, password string) bool {
	t.Helper()
	out := command(t, "curl", "-sSk", "--noproxy", "*", "--data-urlencode", "type=keygen", "--data-urlencode", "user=admin",
		"--data-urlencode", "password="+password, api)
	return strings.Contains(out, "<key>")
}

var webAddress = regexp.MustCompile(`(?m)^gateway +(https://\S+/) .*XML API at /(api/)`)

// TestKeepingAGateway is what an administrator does on the gateway's machine
// when something went wrong: nobody knows the password, the machine is gone.
func TestKeepingAGateway(t *testing.T) {
	t.Parallel()
	program, err := world.Program(t.Context(), "moongate")
	must(t, err)
	top := world.T(t).Dir()
	dir := filepath.Join(top, "data")
	gateway := filepath.Join(dir, "gateway")
	u := startUp(t, program, dir)
	web := webAddress.FindStringSubmatch(strings.Join(u.said, "\n"))
	if web == nil {
		t.Fatalf("`moongate up` does not say where the XML API is:\n%s", strings.Join(u.said, "\n"))
	}
	api := web[1] + web[2]
	cred := command(t, program, "credentials", "-data", dir)
	_, first, _ := strings.Cut(cred, "gateway-admin=")
	if first = strings.TrimSpace(first); !mayEnter(t, api, first) {
		t.Fatal("the password of `moongate credentials` does not open the gateway")
	}

	// Nobody knows the password: while it runs, and while it does not.
	reset := func(password string) {
		t.Helper()
		if out, err := typed(t, password+"\n", program, "admin", "reset", "admin", "-data", gateway); err != nil || strings.Contains(out, password) {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	reset("the second password")
	if mayEnter(t, api, first) || !mayEnter(t, api, "the second password") {
		t.Error("the reset of a running gateway's password does not count")
	}
	file := filepath.Join(top, "gateway.backup")
	if out, err := typed(t, "the backup's passphrase\n", program, "backup", "-out", file, "-data", gateway, "-logs"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	owner := owners(t, gateway)
	u.stop()
	reset("the third password")
	if now := owners(t, gateway); len(now) != 1 || now[0] != owner[0] {
		t.Errorf("the files belonged to %v, and now to %v", owner, now)
	}
	u = startUp(t, program, dir)
	if !mayEnter(t, api, "the third password") {
		t.Error("the reset of a stopped gateway's password does not count")
	}
	u.stop()

	// The machine is gone: the backup makes the same gateway of an empty one.
	fresh := filepath.Join(top, "new", "gateway")
	if out, err := typed(t, "another passphrase\n", program, "restore", file, "-data", fresh); err == nil {
		t.Errorf("another passphrase was taken\n%s", out)
	}
	if out, err := typed(t, "the backup's passphrase\n", program, "restore", file, "-data", fresh); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	serve := exec.CommandContext(ctx, program, "serve", "-data", fresh)
	serve.Cancel = func() error { return serve.Process.Signal(syscall.SIGTERM) }
	serve.WaitDelay = 20 * time.Second
	var said bytes.Buffer
	out, err := serve.StdoutPipe()
	must(t, err)
	serve.Stderr = &said
	must(t, serve.Start())
	line := make([]byte, 4<<10)
	n, err := out.Read(line) // where the management is
	must(t, err)
	if !strings.Contains(string(line[:n]), api) || !mayEnter(t, api, "the second password") {
		t.Errorf("the restored gateway is not the one that was backed up: %s\n%s", line[:n], said.String())
	}
	go func() { // the pipe must not fill
		for {
			if _, err := out.Read(line); err != nil {
				return
			}
		}
	}()
	cancel()
	if err := serve.Wait(); err != nil && ctx.Err() == nil {
		t.Errorf("the restored gateway ended with %v\n%s", err, said.String())
	}
}

// owners are the users that the files of a directory belong to.
func owners(t *testing.T, dir string) []uint32 {
	t.Helper()
	seen := map[uint32]bool{}
	var list []uint32
	must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if os.IsNotExist(err) {
			return nil // a temporary file
		} else if err != nil {
			return err
		}
		if uid := info.Sys().(*syscall.Stat_t).Uid; !seen[uid] {
			seen[uid] = true
			list = append(list, uid)
		}
		return nil
	}))
	return list
}
