package admin

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"moongate/internal/passphrase"
)

// crashEnv makes the test binary a child that guesses a password until it is
// killed: "attempts hash directory".
const crashEnv = "ADMIN_TEST_CRASH"

func TestMain(m *testing.M) {
	if args := os.Getenv(crashEnv); args != "" {
		if err := guessUntilKilled(args); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// guessUntilKilled says "answered" for each guess that it has an answer to.
func guessUntilKilled(args string) error {
	var made uint32
	var hash, dir string
	if _, err := fmt.Sscan(args, &made, &hash, &dir); err != nil {
		return err
	}
	addresses.Store(made)
	g, err := Open(Options{Dir: dir, cost: passphrase.Least})
	if err != nil {
		return err
	}
	g.SetPolicy(Policy{FailedAttempts: 1 << 20})
	if err := g.SetAccounts([]Account{{Name: "root", Role: Superuser, PasswordHash: hash}}); err != nil {
		return err
	}
	for {
		if _, err := g.Password(context.Background(), somewhere(), "root", []byte("a wrong one")); err == nil {
			return fmt.Errorf("a wrong password came in")
		}
		fmt.Println("answered")
	}
}

// TestKilled: no guess that was answered is missing from the count, at whatever
// moment the process is killed; and the file can be read.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(memoryDir(t), "admin")
	hash := hashOf(t, password)
	answered := 0
	for range 40 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s %s", crashEnv, answered*4, hash, dir))
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		must(t, err)
		must(t, child.Start())
		lines := bufio.NewScanner(out)
		after := 1 + rand.IntN(4)
		for lines.Scan() {
			answered++
			if after--; after == 0 {
				time.AfterFunc(time.Duration(rand.IntN(5000))*time.Microsecond, func() { child.Process.Kill() })
			}
		}
		if err := child.Wait(); err == nil || !child.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
			t.Fatalf("the child ended by itself: %v", err)
		}
		g, err := Open(Options{Dir: dir})
		must(t, err)
		if n := g.Status("root").Failures; n < answered {
			t.Fatalf("%d guesses were answered, and %d are counted", answered, n)
		}
	}
}

// TestAnAttemptIsCountedFirst: the failure is on disk while the password is
// still being looked at, so that a kill gives no guess for nothing.
func TestAnAttemptIsCountedFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	slow, err := hashAt(passphrase.Cost{Memory: passphrase.Login.Memory, Time: 8, Threads: 1}, []byte(password))
	must(t, err)
	w.root.PasswordHash = slow
	must(t, w.SetAccounts([]Account{w.root}))
	answered := make(chan error)
	go func() {
		_, err := w.Password(t.Context(), here, "root", []byte(password))
		answered <- err
	}()
	for {
		select {
		case err := <-answered:
			t.Fatalf("an attempt was answered (%v) before it was counted", err)
		case <-time.After(time.Millisecond):
		}
		onDisk, err := openLogins(filepath.Join(w.dir, "logins.json"))
		must(t, err)
		if e := onDisk.get("root"); e.Strange.Count == 1 {
			break
		}
	}
	must(t, <-answered)
	onDisk, err := openLogins(filepath.Join(w.dir, "logins.json"))
	must(t, err)
	if e := onDisk.get("root"); e.Strange.Count != 0 || e.Last.IsZero() {
		t.Errorf("after the right password: %+v", e)
	}
}
