package durable_test

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"moongate/internal/durable"

	"github.com/google/go-cmp/cmp"
)

// holdEnv makes the test binary a child that holds the lock named by it.
const holdEnv = "DURABLE_TEST_HOLD"

func TestMain(m *testing.M) {
	if path := os.Getenv(holdEnv); path != "" {
		holdLock(path)
	}
	if args := os.Getenv(failEnv); args != "" {
		if err := failingChild(args); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func holdLock(path string) {
	if _, err := durable.NewLock(path); err != nil {
		os.Stdout.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	os.Stdout.WriteString("held\n")
	bufio.NewReader(os.Stdin).ReadByte() // until the parent kills us or goes away
	os.Exit(0)
}

func TestWriteFileReplaces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, step := range []struct {
		data string
		perm fs.FileMode
	}{{"first", 0o600}, {"", 0o644}, {"a longer one", 0o600}} {
		if err := durable.WriteFile(path, []byte(step.data), step.perm); err != nil {
			t.Fatal(err)
		}
		checkFile(t, path, step.data, step.perm)
	}
	checkNames(t, dir, "file")
}

func TestWriteFileFailureKeepsOld(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "taken")
	inner := filepath.Join(path, "inner")
	if err := os.MkdirAll(inner, 0o700); err != nil {
		t.Fatal(err)
	}
	// A file cannot be renamed over a directory, which even root cannot bend.
	if err := durable.WriteFile(path, []byte("x"), 0o600); err == nil {
		t.Fatal("WriteFile replaced a directory")
	}
	checkNames(t, dir, "taken")
	checkNames(t, path, "inner")

	if err := durable.WriteFile(filepath.Join(dir, "missing", "file"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a missing directory: %v, want fs.ErrNotExist", err)
	}
}

func TestWriteFileConcurrent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	contents := []string{"aaaaaaaaaaaaaaaa", "bbbb"}
	var wg sync.WaitGroup
	for _, data := range contents {
		wg.Go(func() {
			for range 20 {
				if err := durable.WriteFile(path, []byte(data), 0o600); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != contents[0] && string(got) != contents[1] {
		t.Errorf("a mixture was written: %q", got)
	}
	checkNames(t, dir, "file")
}

func TestRemoveTemps(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{".durable-file-123.tmp", "keep.tmp", ".durable-keep"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := durable.RemoveTemps(dir); err != nil {
		t.Fatal(err)
	}
	checkNames(t, dir, ".durable-keep", "keep.tmp")
}

func TestMkdir(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "d")
	for range 2 { // the second finds it there
		if err := durable.Mkdir(path + "/"); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("mode %v, want drwx------", info.Mode())
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := durable.Mkdir(file); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v, want fs.ErrExist", err)
	}
}

func TestAppendTruncateRename(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	f, err := durable.OpenAppend(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	write := func(s string) {
		t.Helper()
		if _, err := f.WriteString(s); err != nil {
			t.Fatal(err)
		}
		if err := durable.SyncData(f); err != nil {
			t.Fatal(err)
		}
	}
	write("one\ntwo\ntor")
	if err := durable.Truncate(f, 8); err != nil {
		t.Fatal(err)
	}
	write("three\n") // an append goes to the new end
	checkFile(t, path, "one\ntwo\nthree\n", 0o600)

	sub := filepath.Join(dir, "sub")
	if err := durable.Mkdir(sub); err != nil {
		t.Fatal(err)
	}
	if err := durable.Rename(path, filepath.Join(sub, "log")); err != nil {
		t.Fatal(err)
	}
	checkNames(t, dir, "sub")
	checkNames(t, sub, "log")
}

func TestSyncDataReportsFailure(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if err := durable.SyncData(w); err == nil { // EINVAL: a pipe has no storage
		t.Error("SyncData of a pipe succeeded")
	}
}

func TestLockExcludesThisProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	first, err := durable.NewLock(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = durable.NewLock(path)
	if locked := (*durable.LockedError)(nil); !errors.Is(err, durable.ErrLocked) || !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Fatalf("second lock: %v, want a LockedError with our PID %d", err, os.Getpid())
	}
	if err := first.Unlock(); err != nil {
		t.Fatal(err)
	}
	again, err := durable.NewLock(path)
	if err != nil {
		t.Fatalf("after unlock: %v", err)
	}
	if err := again.Unlock(); err != nil {
		t.Fatal(err)
	}
}

func TestLockDiesWithItsOwner(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), holdEnv+"="+path)
	stdin, err := child.StdinPipe() // kept open: the child waits on it
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "held\n" {
		t.Fatalf("child said %q, %v", line, err)
	}

	_, err = durable.NewLock(path)
	if locked := (*durable.LockedError)(nil); !errors.As(err, &locked) || locked.PID != child.Process.Pid {
		t.Errorf("while the child lives: %v, want a LockedError with PID %d", err, child.Process.Pid)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	child.Wait() // reports the kill
	lock, err := durable.NewLock(path)
	if err != nil {
		t.Fatalf("after the child died: %v", err)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
}

func checkFile(t *testing.T, path, want string, perm fs.FileMode) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s holds %q, want %q", path, got, want)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != perm {
		t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), perm)
	}
}

func checkNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names in %s (-want +got):\n%s", dir, diff)
	}
}
