package mgmt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/gw/jobs"
	"moongate/internal/gw/logstore"
	"moongate/internal/gw/revision"
)

func writeFile(path string, text []byte) error { return os.WriteFile(path, text, 0o600) }

func TestChangeAndCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	if _, err := w.Commit(ctx, as("device"), CommitRequest{}); !errors.Is(err, ErrNoChanges) {
		t.Errorf("a commit of nothing: %v", err)
	}
	must(t, w.setHostname(as("device"), "gw1"))
	if got := w.hostname(Running); got != "" {
		t.Errorf("before the commit the running name is %q", got)
	}
	changes, err := w.Diff(ctx, as("reader"))
	must(t, err)
	if len(changes) != 1 || !strings.Contains(changes[0].After, "gw1") {
		t.Errorf("the difference is %+v", changes)
	}
	job := w.commit(as("device"), CommitRequest{Description: "a name"})
	if job.Result != jobs.Succeeded || job.Type != "Commit" || job.User != "device" || job.Details[len(job.Details)-1] != Committed {
		t.Fatalf("the job is %+v", job)
	}
	if got := w.hostname(Running); got != "gw1" || w.Hostname() != "gw1" {
		t.Errorf("after the commit the running name is %q, the one in use %q", got, w.Hostname())
	}
	versions, err := w.Versions(ctx, as("reader"))
	must(t, err)
	if versions[0].Number != 2 || versions[0].Admin != "device" || versions[0].Description != "a name" || versions[0].From != "192.0.2.7" {
		t.Errorf("the newest version is %+v", versions[0])
	}
	w.logged(logstore.Config, says("set", "device", "192.0.2.7", "cli", "hostname", "gw1", resultDone))
	w.logged(logstore.Config, says("commit", "device", "hostname", "gw1", "version 2"))
	w.logged(logstore.System, says("version 2", "device"))
}

func TestOthersChangesAreNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	must(t, w.setHostname(as("device"), "gw1"))
	w.restart() // whose changes they are is known afterwards, too
	must(t, w.Change(t.Context(), as("root"), set(t, config.DevicePath+"/deviceconfig/setting/management/idle-timeout", "7")))
	job := w.commit(as("root"), CommitRequest{})
	if job.Result != jobs.Succeeded || !slices.ContainsFunc(job.Details, func(l string) bool {
		return strings.Contains(l, "other administrators") && strings.Contains(l, "device") && !strings.Contains(l, "root")
	}) {
		t.Errorf("the job says %q", job.Details)
	}
	must(t, w.setHostname(as("root"), "gw2"))
	if job := w.commit(as("root"), CommitRequest{}); slices.ContainsFunc(job.Details, func(l string) bool { return strings.Contains(l, "other administrators") }) {
		t.Errorf("the next job says %q", job.Details)
	}
	if w.IdleTimeout() != 7*time.Minute {
		t.Errorf("the idle time is %v", w.IdleTimeout())
	}
}

// TestEditsMeanwhile: what is edited while a commit runs is not in it, and stays.
func TestEditsMeanwhile(t *testing.T) {
	t.Parallel()
	gate := &gate{entered: make(chan struct{}), open: make(chan struct{})}
	w := newWorld(t, gate)
	must(t, w.setHostname(as("device"), "first"))
	must(t, w.Change(t.Context(), as("root"), set(t, config.DevicePath+"/deviceconfig/setting/management/idle-timeout", "7")))
	gate.arm()
	id, err := w.Commit(t.Context(), as("device"), CommitRequest{})
	must(t, err)
	<-gate.entered
	must(t, w.setHostname(as("other"), "second"))
	close(gate.open)
	if job := w.wait(id); job.Result != jobs.Succeeded {
		t.Fatalf("the job is %+v", job)
	}
	if running, candidate := w.hostname(Running), w.hostname(Candidate); running != "first" || candidate != "second" {
		t.Errorf("running %q, candidate %q", running, candidate)
	}
	job := w.commit(as("device"), CommitRequest{})
	if !slices.ContainsFunc(job.Details, func(l string) bool { return strings.HasSuffix(l, ": other") }) {
		t.Errorf("the job says %q", job.Details)
	}
}

// gate is a follower at which a commit waits.
type gate struct {
	mu            sync.Mutex
	armed         bool // guarded by mu
	entered, open chan struct{}
}

func (g *gate) arm() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.armed = true
}

func (g *gate) Prepare(*config.Snapshot) (Prepared, error) {
	g.mu.Lock()
	armed := g.armed
	g.armed = false
	g.mu.Unlock()
	if armed {
		close(g.entered)
		<-g.open
	}
	return nothing{}, nil
}

func (g *gate) Begin(*config.Snapshot) error { return nil }

type nothing struct{}

func (nothing) Apply()   {}
func (nothing) Discard() {}

func TestCommitThatFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	rules := config.VsysPath + "/rulebase/decryption/rules/"
	must(t, w.Change(ctx, as("device"),
		set(t, rules+config.EntryStep("one")+"/profile", "nowhere"),
		set(t, rules+config.EntryStep("two")+"/profile", "nowhere-either"),
		set(t, hostnamePath, "gw1")))
	job := w.commit(as("device"), CommitRequest{})
	if job.Result != jobs.Failed || w.hostname(Running) != "" {
		t.Fatalf("the job is %+v, the running name %q", job, w.hostname(Running))
	}
	for _, word := range []string{"'one'", "'two'", "nowhere-either"} { // everything that is wrong
		if !slices.ContainsFunc(job.Details, func(l string) bool { return strings.Contains(l, word) }) {
			t.Errorf("the job does not say %s: %q", word, job.Details)
		}
	}
	id, err := w.Validate(ctx, as("device"))
	must(t, err)
	if job := w.wait(id); job.Result != jobs.Failed || job.Type != "Validate" {
		t.Errorf("validation is %+v", job)
	}
	w.logged(logstore.Config, says("commit", "device", resultFailed))
	must(t, w.Revert(ctx, as("device")))
	if got := w.hostname(Candidate); got != "" {
		t.Errorf("after the revert the candidate's name is %q", got)
	}

	// A port that cannot be had: nothing is stored.
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	proxy := config.DevicePath + "/deviceconfig/setting/proxy/inbound/" + config.EntryStep("x")
	must(t, w.Change(ctx, as("device"),
		set(t, proxy+"/address", "127.0.0.1"), set(t, proxy+"/port", fmt.Sprint(taken.Addr().(*net.TCPAddr).Port)),
		set(t, proxy+"/server-address", "192.0.2.1"), set(t, proxy+"/server-port", "443")))
	if job := w.commit(as("device"), CommitRequest{}); job.Result != jobs.Failed || !strings.Contains(strings.Join(job.Details, "\n"), "in use") {
		t.Errorf("the job is %+v", job)
	}
	if _, version := w.parts.Revisions.Running(); version.Number != 1 {
		t.Errorf("version %d runs", version.Number)
	}
}

func TestNobodyLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"root", "second"} {
		must(t, w.Change(t.Context(), as("root"), config.Edit{Op: config.OpDelete, Path: userPath(name)}))
	}
	if job := w.commit(as("root"), CommitRequest{}); job.Result != jobs.Failed || !strings.Contains(strings.Join(job.Details, "\n"), "superuser") {
		t.Errorf("a configuration that nobody could administer: %+v", job)
	}
}

func TestLocks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	must(t, w.Lock(ctx, as("device"), revision.LockConfig, "at work"))
	err := w.setHostname(as("other"), "gw1")
	if wantCode(t, "a change under another's lock", err, CodeNotPossible); err != nil && (!strings.Contains(err.Error(), "device") || !strings.Contains(err.Error(), "at work")) {
		t.Errorf("the refusal says %v", err)
	}
	for what, do := range map[string]func(Caller) error{
		"a lock": func(c Caller) error { return w.Lock(ctx, c, revision.LockConfig, "") },
		"load":   func(c Caller) error { return w.LoadVersion(ctx, c, 1) },
		"revert": func(c Caller) error { return w.Revert(ctx, c) },
	} {
		wantCode(t, what+" under another's lock", do(as("other")), CodeNotPossible)
	}
	must(t, w.setHostname(as("device"), "gw1"))
	must(t, w.Lock(ctx, as("root"), revision.LockCommit, ""))
	_, err = w.Commit(ctx, as("device"), CommitRequest{})
	wantCode(t, "a commit under another's lock", err, CodeNotPossible)
	if job := w.commit(as("root"), CommitRequest{}); job.Result != jobs.Succeeded {
		t.Errorf("the holder's commit is %+v", job)
	}
	wantCode(t, "releasing another's lock", w.Unlock(ctx, as("other"), revision.LockConfig, "device"), CodeDenied)
	must(t, w.Unlock(ctx, as("root"), revision.LockConfig, "device"))
	must(t, w.setHostname(as("other"), "gw2"))

	// An administrator that is gone leaves no lock.
	must(t, w.Lock(ctx, as("other"), revision.LockConfig, ""))
	must(t, w.Unlock(ctx, as("root"), revision.LockConfig, "other"))
	must(t, w.Change(ctx, as("root"), config.Edit{Op: config.OpDelete, Path: userPath("other")}))
	must(t, w.Lock(ctx, as("other"), revision.LockConfig, ""))
	if job := w.commit(as("root"), CommitRequest{}); job.Result != jobs.Succeeded {
		t.Fatalf("the job is %+v", job)
	}
	locks, err := w.Locks(ctx, as("root"))
	must(t, err)
	if slices.ContainsFunc(locks, func(l revision.Lock) bool { return l.Admin == "other" }) {
		t.Errorf("the locks are %+v", locks)
	}
}

// runs has the manager do what nobody asks for, until the test ends or stop is
// called.
func (w *world) runs() (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(stop)
	return stop
}

func TestCommitConfirmed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := w.runs()
	ctx := t.Context()

	// Confirmed: it stays.
	must(t, w.setHostname(as("device"), "stays"))
	w.commit(as("device"), CommitRequest{Confirm: time.Hour})
	pending, err := w.PendingConfirm(ctx, as("reader"))
	must(t, err)
	if pending == nil || pending.Version != 2 || pending.Previous != 1 {
		t.Fatalf("what waits is %+v", pending)
	}
	must(t, w.ConfirmCommit(ctx, as("device")))
	wantCode(t, "confirming nothing", w.ConfirmCommit(ctx, as("device")), CodeNotPossible)

	// Not confirmed: it goes back by itself.
	must(t, w.setHostname(as("device"), "goes"))
	w.commit(as("device"), CommitRequest{Confirm: 300 * time.Millisecond})
	w.until("stays")
	w.logged(logstore.System, says("commit-reverted", "back to version 2"))
	if got := w.hostname(Candidate); got != "goes" {
		t.Errorf("the candidate's name is %q: its changes are not given up", got)
	}

	// Not confirmed over a restart.
	w.commit(as("device"), CommitRequest{Confirm: time.Hour})
	if got := w.hostname(Running); got != "goes" {
		t.Fatalf("the running name is %q", got)
	}
	stop()
	w.clock.advance(2 * time.Hour)
	w.restart()
	w.runs()
	w.until("stays")
}

// until waits for the running name.
func (w *world) until(name string) {
	w.t.Helper()
	for end := time.Now().Add(10 * time.Second); w.hostname(Running) != name; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("the running name is %q, want %q", w.hostname(Running), name)
		}
	}
}

// TestTwoAtOnce: many change and commit at the same time; every change that was
// acknowledged is there, every version is whole.
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const each = 10
	var all sync.WaitGroup
	for _, name := range []string{"device", "other"} {
		all.Go(func() {
			for i := range each {
				entry := config.SharedPath + "/ssl-decrypt/ssl-exclude-cert/" + config.EntryStep(fmt.Sprintf("%s-%d.example", name, i))
				if err := w.Change(t.Context(), as(name), set(t, entry+"/description", name)); err != nil {
					t.Error(err)
				}
				if i%4 == 3 {
					if id, err := w.Commit(t.Context(), as(name), CommitRequest{}); err != nil && !errors.Is(err, ErrNoChanges) {
						t.Error(err)
					} else if err == nil {
						w.wait(id)
					}
				}
			}
		})
	}
	all.Wait()
	if id, err := w.Commit(t.Context(), as("root"), CommitRequest{}); err == nil {
		if job := w.wait(id); job.Result != jobs.Succeeded {
			t.Errorf("the last job is %+v", job)
		}
	}
	found, err := w.Get(t.Context(), as("reader"), Running, config.SharedPath+"/ssl-decrypt/ssl-exclude-cert/entry")
	must(t, err)
	if len(found) != 2*each {
		t.Errorf("%d entries run, want %d", len(found), 2*each)
	}
}
