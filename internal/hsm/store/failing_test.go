package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"moongate/internal/durable/failing"
)

// FailEnv makes the test binary a child that does something to a store while
// the disk fails: "what directory nth errno how".
const FailEnv = "STORE_TEST_FAIL"

// grown is as long as makes the file grow, by ftruncate and fsync.
var grown = bytes.Repeat([]byte("grown"), 60<<10)

// FailingChild is the child's part. It says "ok" or "failed", and "end" where
// the fault did not come up any more.
func FailingChild(args string) error {
	var what, dir, how string
	var nth, errno int
	if _, err := fmt.Sscan(args, &what, &dir, &nth, &errno, &how); err != nil {
		return err
	}
	key := filepath.Join(dir, "device.key")
	root, err := LoadRootKey(key)
	if err != nil && what != "key" {
		return err
	}
	s := new(Store)
	if what != "key" && what != "create" {
		if s, err = Open(dir, root, Options{KeyFile: PlainKeyFile(key)}); err != nil {
			return err
		}
		if err := s.Update(put("before")); err != nil {
			return err
		}
		fmt.Println("before")
	}
	calls, err := failing.Install(failing.Fault{Dir: dir, Nth: nth, Errno: syscall.Errno(errno), Short: how == "short", Sticky: how == "sticky"})
	if err != nil {
		return err
	}
	switch what {
	case "update":
		err = s.Update(func(tx *Tx) error {
			return errors.Join(put("during")(tx), tx.PutRecord("k", "grown", grown))
		})
		// Whatever happened, nothing is acknowledged that comes after it, and
		// reading goes on.
		if err != nil {
			rerr := s.View(func(tx *Tx) error { _, err := tx.Record("k", "before"); return err })
			if s.Update(put("after")) == nil || rerr != nil {
				return fmt.Errorf("after a failed commit: updates go on, or reading does not: %v", rerr)
			}
		}
	case "erase":
		err = s.Erase()
	case "create":
		_, err = Open(dir, root, Options{})
	case "key":
		_, err = LoadOrCreateRootKey(key)
	case "seal":
		err = PlainKeyFile(key).Seal(quick{"1"}, nil, []byte("open sesame"))
	default:
		return errors.New("no such child")
	}
	switch {
	case calls.Failed() == 0 && err == nil:
		fmt.Println("end")
	case err == nil:
		fmt.Println("ok")
	default:
		fmt.Println("failed", err)
	}
	return nil // without closing: as a kill
}

// failAt runs the child and returns what it said.
func failAt(t *testing.T, what, dir string, nth int, errno syscall.Errno, how string) string {
	t.Helper()
	child := exec.Command(os.Args[0])
	// Under the race detector, a program waits a second before it ends.
	child.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", FailEnv+"="+fmt.Sprintf("%s %s %d %d %s", what, dir, nth, errno, how))
	var stderr bytes.Buffer
	child.Stderr = &stderr
	out, err := child.Output()
	if stderr.Len() > 0 || len(out) == 0 {
		t.Fatalf("child %s %d: %v: %s", what, nth, err, &stderr)
	}
	return string(out)
}

// everyFault runs a test for each call that a child makes and each way that it
// can fail, each on a directory of its own, until the child sees no fault.
func everyFault(t *testing.T, what string, prepare func(dir string), check func(t *testing.T, dir, said string)) {
	t.Parallel()
	for name, fault := range map[string]struct {
		errno syscall.Errno
		how   string
	}{
		"EIO": {syscall.EIO, "once"}, "a broken disk": {syscall.EIO, "sticky"}, "ENOSPC": {syscall.ENOSPC, "sticky"}, "short": {syscall.ENOSPC, "short"},
	} {
		if what != "update" && fault.how == "sticky" && fault.errno == syscall.EIO {
			continue // as ENOSPC
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seen := 0
			for nth := 1; ; nth++ {
				if testing.Short() && nth > 3 {
					return
				}
				dir := t.TempDir()
				prepare(dir)
				said := failAt(t, what, dir, nth, fault.errno, fault.how)
				if strings.Contains(said, "end\n") {
					break
				}
				check(t, dir, said)
				if t.Failed() {
					t.Fatalf("call %d: the child said %q", nth, said)
				}
				seen++
			}
			if seen < 3 {
				t.Errorf("only %d calls failed; nothing was tested", seen)
			}
			t.Logf("%d calls failed, one after the other", seen)
		})
	}
}

func makeStore(t *testing.T) func(dir string) {
	return func(dir string) {
		root, err := LoadOrCreateRootKey(filepath.Join(dir, "device.key"))
		if err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir, root, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func reopen(t *testing.T, dir string) *Store {
	t.Helper()
	root, err := LoadRootKey(filepath.Join(dir, "device.key"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(dir, root, Options{KeyFile: PlainKeyFile(filepath.Join(dir, "device.key"))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// What Update acknowledged is there, and what it did not is there whole or not
// at all.
func TestUpdateOnAFailingDisk(t *testing.T) {
	everyFault(t, "update", makeStore(t), func(t *testing.T, dir, said string) {
		s := reopen(t, dir)
		if !s.has(t, "before") || s.has(t, "after") {
			t.Errorf("before: %v, after: %v", s.has(t, "before"), s.has(t, "after"))
		}
		if s.has(t, "during") != s.has(t, "grown") {
			t.Error("half of an update is there")
		}
		if strings.Contains(said, "ok\n") && !s.has(t, "during") {
			t.Error("what was acknowledged is lost")
		}
		if err := s.Update(put("again")); err != nil {
			t.Errorf("it takes no updates: %v", err)
		}
	})
}

func TestEraseOnAFailingDisk(t *testing.T) {
	everyFault(t, "erase", makeStore(t), func(t *testing.T, dir, said string) {
		finished, err := FinishErase(dir, filepath.Join(dir, "device.key"))
		if err != nil {
			t.Fatal(err)
		}
		s := reopen(t, dir)
		begun := strings.Contains(said, "ok\n") || strings.Contains(said, ErrErasing.Error())
		if begun && s.has(t, "before") {
			t.Error("the erasure was begun, and what was to be destroyed is there")
		}
		if !begun && !finished && !s.has(t, "before") {
			t.Error("the erasure was refused, and what was there is gone")
		}
		if err := s.Update(put("again")); err != nil {
			t.Errorf("it takes no updates: %v", err)
		}
		if names, err := filepath.Glob(filepath.Join(dir, "*.*.*")); err != nil || len(names) > 0 {
			t.Errorf("left behind: %v, %v", names, err)
		}
	})
}

func TestCreationOnAFailingDisk(t *testing.T) {
	prepare := func(dir string) {
		if _, err := LoadOrCreateRootKey(filepath.Join(dir, "device.key")); err != nil {
			t.Fatal(err)
		}
	}
	everyFault(t, "create", prepare, func(t *testing.T, dir, _ string) {
		if err := reopen(t, dir).Update(put("again")); err != nil {
			t.Errorf("it takes no updates: %v", err)
		}
	})
}

func TestRootKeyOnAFailingDisk(t *testing.T) {
	everyFault(t, "key", func(string) {}, func(t *testing.T, dir, said string) {
		path := filepath.Join(dir, "device.key")
		before, berr := LoadRootKey(path)
		if strings.Contains(said, "ok\n") && berr != nil {
			t.Errorf("what was acknowledged is not there: %v", berr)
		}
		if after, err := LoadOrCreateRootKey(path); err != nil || berr == nil && before != after {
			t.Errorf("the next start: %v", err)
		}
	})
}

// At any moment the file opens the old way or the new.
func TestSealingOnAFailingDisk(t *testing.T) {
	everyFault(t, "seal", makeStore(t), func(t *testing.T, dir, said string) {
		k, root, err := OpenKeyFile(filepath.Join(dir, "device.key"), quick{}, say("open sesame"))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(said, "ok\n") && k.Sealed() == nil {
			t.Error("what was acknowledged is not there")
		}
		s, err := Open(dir, root, Options{MustExist: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A disk that is really full, where root can mount one.
func TestUpdateOnAFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=512k"); errors.Is(err, syscall.EPERM) {
		t.Skip("only root can mount a small disk")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, 0) })
	makeStore(t)(dir)
	s := reopen(t, dir)
	t.Cleanup(func() { s.Close() })
	var acknowledged []string
	for i := 0; ; i++ {
		id := fmt.Sprint(i)
		err := s.Update(func(tx *Tx) error { return tx.PutRecord("k", id, grown[:20<<10]) })
		if errors.Is(err, syscall.ENOSPC) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		acknowledged = append(acknowledged, id)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, dir)
	if len(acknowledged) == 0 || slices.ContainsFunc(acknowledged, func(id string) bool { return !s.has(t, id) }) {
		t.Errorf("of %d that were acknowledged some are gone", len(acknowledged))
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=2m"); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(put("again")); err != nil {
		t.Errorf("with room again: %v", err)
	}
}
