package durable_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"moongate/internal/durable"
	"moongate/internal/durable/failing"
)

// failEnv makes the test binary a child that changes files in a directory while
// the disk fails: "what directory nth errno how".
const failEnv = "DURABLE_TEST_FAIL"

const oldText, newText = "the old contents\n", "the new contents, which are longer\n"

// failingChild says "end" where the fault did not come up any more, else "ok"
// or "failed".
func failingChild(args string) error {
	var what, dir, how string
	var nth, errno int
	if _, err := fmt.Sscan(args, &what, &dir, &nth, &errno, &how); err != nil {
		return err
	}
	path := filepath.Join(dir, "file")
	f, err := durable.OpenAppend(filepath.Join(dir, "log"), 0o600)
	if err != nil {
		return err
	}
	calls, err := failing.Install(failing.Fault{Dir: dir, Nth: nth, Errno: syscall.Errno(errno), Sticky: how == "sticky"})
	if err != nil {
		return err
	}
	switch what {
	case "write":
		err = durable.WriteFile(path, []byte(newText), 0o600)
	case "rename":
		err = durable.Rename(path, filepath.Join(dir, "sub", "file"))
	case "truncate":
		err = durable.Truncate(f, 4)
	case "append":
		if _, err = f.WriteString("two\n"); err == nil {
			err = durable.SyncData(f)
		}
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
	return nil
}

// Each call that a writer makes fails once, and with all that follow: the error
// is reported, the old contents or the new ones are there, whole, and nothing is
// left that RemoveTemps does not take away.
func TestWritersOnAFailingDisk(t *testing.T) {
	t.Parallel()
	for what, least := range map[string]int{"write": 4, "rename": 3, "truncate": 2, "append": 2} {
		for how, errno := range map[string]syscall.Errno{"once": syscall.EIO, "sticky": syscall.ENOSPC} {
			t.Run(what+" "+how, func(t *testing.T) {
				t.Parallel()
				seen := 0
				for nth := 1; ; nth++ {
					dir := t.TempDir()
					prepareFiles(t, dir)
					said := failAt(t, what, dir, nth, errno, how)
					if said == "end\n" {
						break
					}
					seen++
					if !strings.HasPrefix(said, "failed") {
						t.Errorf("call %d failed, and the child says %q", nth, said)
					}
					checkFailed(t, what, dir)
				}
				if seen < least {
					t.Errorf("only %d calls failed, expected %d", seen, least)
				}
			})
		}
	}
}

func prepareFiles(t *testing.T, dir string) {
	t.Helper()
	err := errors.Join(os.WriteFile(filepath.Join(dir, "file"), []byte(oldText), 0o600),
		os.WriteFile(filepath.Join(dir, "log"), []byte("one\ntorn"), 0o600), os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	if err != nil {
		t.Fatal(err)
	}
}

func checkFailed(t *testing.T, what, dir string) {
	t.Helper()
	var texts []string
	for _, path := range []string{filepath.Join(dir, "file"), filepath.Join(dir, "sub", "file")} {
		if raw, err := os.ReadFile(path); err == nil {
			texts = append(texts, string(raw))
		}
	}
	if len(texts) != 1 || texts[0] != oldText && (what != "write" || texts[0] != newText) {
		t.Errorf("the file is %q", texts)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil || !strings.HasPrefix(string(raw), "one\n") {
		t.Errorf("the log is %q, %v", raw, err)
	}
	if err := durable.RemoveTemps(dir); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

func failAt(t *testing.T, what, dir string, nth int, errno syscall.Errno, how string) string {
	t.Helper()
	child := exec.Command(os.Args[0])
	// Under the race detector, a program waits a second before it ends.
	child.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", failEnv+"="+fmt.Sprintf("%s %s %d %d %s", what, dir, nth, errno, how))
	var stderr bytes.Buffer
	child.Stderr = &stderr
	out, err := child.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("child: %v: %s", err, &stderr)
	}
	return string(out)
}
