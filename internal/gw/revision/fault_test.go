package revision

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"moongate/internal/durable/failing"
	"moongate/internal/gw/config"
)

// failArgs makes this test's program change what a directory holds while the
// disk fails: "nth errno how more directory", with more the changes that follow
// the first call that failed.
const failArgs = "REVISION_TEST_FAIL"

// step is one change. Each gives the gateway another name in the candidate, or
// makes the candidate run.
type step struct {
	name string
	do   func(context.Context, *Store) error
}

func rename(to string) step {
	return step{"edit " + to, func(ctx context.Context, s *Store) error {
		e, err := config.SetEdit(hostnamePath, to)
		if err != nil {
			return err
		}
		_, err = s.Edit(ctx, 0, e)
		return err
	}}
}

func replaceBy(name string) step {
	return step{"edit " + name, func(ctx context.Context, s *Store) error {
		e, err := config.SetEdit(hostnamePath, name)
		if err != nil {
			return err
		}
		root, err := config.Apply(config.Default(), e)
		if err != nil {
			return err
		}
		return s.Replace(ctx, root)
	}}
}

func commitAs(name string, wait time.Duration) step {
	return step{"commit " + name, func(ctx context.Context, s *Store) error {
		e, err := config.SetEdit(hostnamePath, name)
		if err != nil {
			return err
		}
		root, err := config.Apply(config.Default(), e)
		if err != nil {
			return err
		}
		var by time.Time
		if wait > 0 {
			by = time.Now().Add(wait)
		}
		_, err = s.Commit(ctx, Meta{Admin: "child", At: time.Now()}, root, by)
		return err
	}}
}

var steps = []step{
	rename("a"), replaceBy("b"), rename("c"), commitAs("k", 0), rename("d"), commitAs("l", time.Hour),
	{"confirm -", func(ctx context.Context, s *Store) error {
		if _, waits := s.Pending(); !waits {
			return nil
		}
		return s.Confirm(ctx)
	}},
	{"lock -", func(ctx context.Context, s *Store) error { return s.Lock(ctx, LockConfig, "ann", "") }},
	replaceBy("e"), commitAs("m", 0), rename("f"), rename("g"), commitAs("n", 0),
}

// changeOnFailingDisk makes every step, and says of each whether it failed.
func changeOnFailingDisk(args string) error {
	var nth, errno, more int
	var how, dir string
	if _, err := fmt.Sscan(args, &nth, &errno, &how, &more, &dir); err != nil {
		return err
	}
	s, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler), Keep: 3})
	if err != nil {
		return err
	}
	calls, err := failing.Install(failing.Fault{Dir: dir, Nth: nth, Errno: syscall.Errno(errno), Sticky: how == "sticky"})
	if err != nil {
		return err
	}
	for _, step := range steps {
		result := "ok"
		if err := step.do(context.Background(), s); err != nil {
			result = "failed"
		}
		fmt.Println(result, step.name)
		if calls.Failed() > 0 {
			if more--; more < 0 {
				break
			}
		}
	}
	if calls.Failed() == 0 {
		fmt.Println("end")
	}
	return nil // as a kill: a Store is not closed
}

// outcome is which names the candidate or the running configuration may have:
// that of the last step that was acknowledged, or of one after it that was not.
type outcome []string

func (o *outcome) step(result, name string) {
	if result == "ok" {
		*o = outcome{name}
	} else {
		*o = append(*o, name)
	}
}

func (o outcome) allows(name string) bool {
	for _, n := range o {
		if n == name {
			return true
		}
	}
	return false
}

// TestFailingDisk has each call on a file fail in turn, alone and with all that
// follow: what was acknowledged is there at the next start, what was refused
// before that is not, and the store goes on.
func TestFailingDisk(t *testing.T) {
	t.Parallel()
	for _, fault := range []struct {
		how   string
		errno syscall.Errno
		more  int
	}{{"once", syscall.EIO, 1}, {"sticky", syscall.ENOSPC, len(steps)}} {
		t.Run(fmt.Sprint(fault.how, " ", fault.more), func(t *testing.T) {
			t.Parallel()
			for nth := 1; ; nth++ {
				if nth > 400 {
					t.Fatal("the calls come to no end")
				}
				dir := filepath.Join(t.TempDir(), "config")
				open(t, options(dir))
				child := exec.CommandContext(t.Context(), os.Args[0])
				child.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d %s %d %s", failArgs, nth, fault.errno, fault.how, fault.more, dir))
				out, err := child.CombinedOutput()
				if err != nil {
					t.Fatalf("call %d: %v: %s", nth, err, out)
				}
				if checkAfterFault(t, nth, fault.how, dir, strings.TrimSpace(string(out))) {
					if nth < 40 {
						t.Errorf("only %d calls could fail", nth-1)
					}
					return
				}
			}
		})
	}
}

// checkAfterFault reports whether no call failed any more.
func checkAfterFault(t *testing.T, nth int, how, dir, said string) (end bool) {
	t.Helper()
	candidate, running := outcome{""}, outcome{""}
	failures := 0
	for line := range strings.Lines(said) {
		var result, what, name string
		if _, err := fmt.Sscan(line, &result, &what, &name); err != nil {
			end = strings.TrimSpace(line) == "end"
			continue
		}
		if result != "ok" {
			failures++
		}
		switch what {
		case "edit":
			candidate.step(result, name)
		case "commit":
			running.step(result, name)
		}
	}
	if how == "once" && failures > 1 {
		t.Errorf("call %d: one failure had more than one change refused:\n%s", nth, said)
	}
	s := open(t, options(dir))
	if name := candidateName(t, s); !candidate.allows(name) {
		t.Errorf("call %d: the candidate is %q, not one of %q, after\n%s", nth, name, candidate, said)
	}
	root, v := s.Running()
	if name := nameIn(t, root); !running.allows(name) {
		t.Errorf("call %d: version %d runs with %q, not one of %q, after\n%s", nth, v.Number, name, running, said)
	}
	for _, v := range s.Versions() {
		if _, err := s.Version(v.Number); err != nil {
			t.Errorf("call %d: %v", nth, err)
		}
	}
	edit(t, s, "goes-on")
	commit(t, s, "ann", time.Time{})
	again := open(t, options(dir))
	if root, _ := again.Running(); nameIn(t, root) != "goes-on" || candidateName(t, again) != "goes-on" {
		t.Errorf("call %d: it does not go on", nth)
	}
	return end
}
