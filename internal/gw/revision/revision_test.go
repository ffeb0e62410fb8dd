package revision

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"moongate/internal/gw/config"
)

func options(dir string) Options {
	return Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)}
}

func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const hostnamePath = config.DevicePath + "/deviceconfig/system/hostname"

// named is the edit that gives the gateway a name.
func named(t testing.TB, name string) config.Edit {
	t.Helper()
	e, err := config.SetEdit(hostnamePath, name)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func nameIn(t testing.TB, root *config.Node) string {
	t.Helper()
	found, err := config.Select(root, hostnamePath)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		return ""
	}
	return found[0].Text
}

func candidateName(t testing.TB, s *Store) string {
	t.Helper()
	root, _ := s.Candidate()
	return nameIn(t, root)
}

func edit(t testing.TB, s *Store, name string) uint64 {
	t.Helper()
	n, err := s.Edit(t.Context(), 0, named(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func commit(t testing.TB, s *Store, by string, confirmBy time.Time) Version {
	t.Helper()
	root, _ := s.Candidate()
	v, err := s.Commit(t.Context(), Meta{Admin: by, Description: "as " + by, At: time.Now()}, root, confirmBy)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestEditAndCommit(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "config")
	s := open(t, options(dir))
	if _, v := s.Running(); v.Number != 1 || v.Admin != "system" {
		t.Errorf("begins with %+v", v)
	}
	first := edit(t, s, "one")
	if _, err := s.Edit(t.Context(), first-1+2, named(t, "two")); !errors.Is(err, ErrConflict) {
		t.Errorf("an edit of an older candidate: %v", err)
	}
	// All or nothing.
	bad := config.Edit{Op: config.OpDelete, Path: config.VsysPath + "/rulebase/decryption/rules/entry[@name='none']"}
	if _, err := s.Edit(t.Context(), first, named(t, "three"), bad); !errors.Is(err, config.ErrNotPresent) || candidateName(t, s) != "one" {
		t.Errorf("after half an edit: %q, %v", candidateName(t, s), err)
	}
	root, _ := s.Candidate()
	edit(t, s, "later") // while the commit is under way
	v, err := s.Commit(t.Context(), Meta{Admin: "ann", At: time.Now()}, root, time.Time{})
	if err != nil || v.Number != 2 {
		t.Fatalf("%+v, %v", v, err)
	}
	for again := range 2 {
		running, v := s.Running()
		if nameIn(t, running) != "one" || v.Number != 2 || v.Admin != "ann" || candidateName(t, s) != "later" {
			t.Errorf("opened %d times: %q, %+v, %q", again, nameIn(t, running), v, candidateName(t, s))
		}
		s = open(t, options(dir))
	}
	old, err := s.Version(1)
	if err != nil || nameIn(t, old) != "" {
		t.Errorf("version 1 is called %q, %v", nameIn(t, old), err)
	}
	if _, err := s.Version(3); !errors.Is(err, ErrNoVersion) {
		t.Errorf("version 3: %v", err)
	}
	if err := s.Replace(t.Context(), old); err != nil || candidateName(t, s) != "" {
		t.Errorf("replaced: %q, %v", candidateName(t, s), err)
	}
	read, v, err := ReadRunning(dir)
	if err != nil || v.Number != 2 || nameIn(t, read) != "one" {
		t.Errorf("read from outside: %+v, %v", v, err)
	}
}

func TestImport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "config.xml")
	root, err := config.Apply(config.Default(), named(t, "from-file"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, config.Encode(root), 0o600); err != nil {
		t.Fatal(err)
	}
	o := options(filepath.Join(dir, "config"))
	o.Import = file
	s := open(t, o)
	edit(t, s, "changed")
	commit(t, s, "ann", time.Time{})
	s = open(t, o) // now it is not looked at
	if running, v := s.Running(); nameIn(t, running) != "changed" || v.Number != 2 {
		t.Errorf("%q, %+v", nameIn(t, running), v)
	}
	o.Dir += "2"
	if err := os.WriteFile(file, []byte("<config><x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a damaged file: %v", err)
	}
}

// TestFold: many edits, stored whole now and then, are the same after a start.
func TestFold(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "config")
	s := open(t, options(dir))
	for i := range 2*foldAfter + 5 {
		edit(t, s, fmt.Sprint("h", i))
	}
	_, edits := s.Candidate()
	files, err := os.ReadDir(filepath.Join(dir, "candidate.d"))
	if err != nil || len(files) != 5 {
		t.Errorf("%d edits are kept, %v", len(files), err)
	}
	s = open(t, options(dir))
	if _, again := s.Candidate(); again != edits || candidateName(t, s) != fmt.Sprint("h", 2*foldAfter+4) {
		t.Errorf("edit %d of %d, %q", again, edits, candidateName(t, s))
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	o := options(filepath.Join(t.TempDir(), "config"))
	o.Keep = 3
	s := open(t, o)
	for range 3 {
		commit(t, s, "ann", time.Time{})
	}
	by := time.Now().Add(time.Hour)
	for range 5 {
		commit(t, s, "ann", by) // each goes back to 4
	}
	var numbers []int
	for _, v := range s.Versions() {
		numbers = append(numbers, v.Number)
		if _, err := s.Version(v.Number); err != nil {
			t.Error(err)
		}
	}
	if fmt.Sprint(numbers) != "[4 8 9]" {
		t.Errorf("kept %v", numbers)
	}
	files, err := os.ReadDir(filepath.Join(o.Dir, "version"))
	if err != nil || len(files) != 3 {
		t.Errorf("%d files, %v", len(files), err)
	}
	if pending, ok := s.Pending(); !ok || pending.Previous != 4 || pending.Version != 9 || !pending.Deadline.Equal(by) {
		t.Errorf("pending %+v", pending)
	}
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "config")
	s := open(t, options(dir))
	if err := s.Confirm(t.Context()); !errors.Is(err, ErrNothingPending) {
		t.Errorf("nothing to confirm: %v", err)
	}
	commit(t, s, "ann", time.Now().Add(time.Minute))
	s = open(t, options(dir)) // it survives
	if p, ok := s.Pending(); !ok || p.Admin != "ann" || p.Previous != 1 {
		t.Errorf("pending %+v, %v", p, ok)
	}
	if err := s.Confirm(t.Context()); err != nil {
		t.Error(err)
	}
	if _, ok := s.Pending(); ok {
		t.Error("still pending")
	}
	commit(t, s, "ann", time.Now().Add(time.Minute))
	commit(t, s, "bob", time.Time{})
	if _, ok := s.Pending(); ok {
		t.Error("a commit does not confirm the one before")
	}
}

func TestLocks(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "config")
	s := open(t, options(dir))
	ctx := t.Context()
	for range 2 {
		if err := s.Lock(ctx, LockConfig, "ann", "mine"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Lock(ctx, LockConfig, "bob", ""); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "ann") {
		t.Errorf("bob: %v", err)
	}
	if err := s.Lock(ctx, LockCommit, "bob", ""); err != nil {
		t.Error(err)
	}
	s = open(t, options(dir))
	if l, ok := s.Holder(LockConfig); !ok || l.Admin != "ann" || l.Comment != "mine" || len(s.Locks()) != 2 {
		t.Errorf("held: %+v", s.Locks())
	}
	if err := s.Unlock(ctx, LockConfig, "bob"); !errors.Is(err, ErrNotLocked) {
		t.Errorf("bob gives ann's back: %v", err)
	}
	if err := s.Unlock(ctx, LockConfig, "ann"); err != nil {
		t.Error(err)
	}
	if err := s.Lock(ctx, LockConfig, "bob", ""); err != nil {
		t.Error(err)
	}
}

// TestDamage: what is damaged is told by its file, and a candidate that cannot
// be read is not the end.
func TestDamage(t *testing.T) {
	t.Parallel()
	fresh := func() string {
		dir := filepath.Join(t.TempDir(), "config")
		s := open(t, options(dir))
		edit(t, s, "running")
		commit(t, s, "ann", time.Time{})
		edit(t, s, "candidate")
		if err := s.Lock(t.Context(), LockConfig, "ann", ""); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for file, opens := range map[string]bool{
		"state": false, "version/2.xml": false, "version/1.xml": true, "candidate": true, "candidate.d/2": true, "locks": true,
	} {
		dir := fresh()
		path := filepath.Join(dir, file)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, raw[:len(raw)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(options(dir))
		if !opens {
			if err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %v", file, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if running, _ := s.Running(); nameIn(t, running) != "running" {
			t.Errorf("%s: running %q", file, nameIn(t, running))
		}
		edit(t, s, "goes-on")
		if s = open(t, options(dir)); candidateName(t, s) != "goes-on" {
			t.Errorf("%s: the candidate does not go on", file)
		}
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	s := open(t, options(filepath.Join(t.TempDir(), "config")))
	ctx, cancel := context.WithCancel(t.Context())
	events, keys := s.Watch(ctx), s.backend.Watch(ctx)
	edit(t, s, "x")
	commit(t, s, "ann", time.Time{})
	if err := s.Lock(ctx, LockConfig, "ann", ""); err != nil {
		t.Fatal(err)
	}
	for _, want := range []What{CandidateChanged, RunningChanged, LocksChanged} {
		if got := <-events; got.What != want {
			t.Errorf("told of %s, want %s", got.What, want)
		}
	}
	for _, want := range []string{"candidate/1", "version/2", "state", "locks"} {
		if got := <-keys; got != want {
			t.Errorf("key %s, want %s", got, want)
		}
	}
	cancel()
	for range events {
	}
	for range keys {
	}
}

func TestCompareAndSwap(t *testing.T) {
	t.Parallel()
	f, err := OpenFiles(filepath.Join(t.TempDir(), "config"))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if _, _, err := f.Get("state"); !errors.Is(err, ErrNoValue) {
		t.Errorf("nothing there: %v", err)
	}
	if _, err := f.Swap(ctx, "state", 7, nil); !errors.Is(err, ErrConflict) {
		t.Errorf("in the place of what is not there: %v", err)
	}
	rev, err := f.Swap(ctx, "state", 0, []byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Swap(ctx, "state", 0, []byte("b")); !errors.Is(err, ErrConflict) {
		t.Errorf("as if it were new: %v", err)
	}
	if rev, err = f.Swap(ctx, "state", rev, []byte("b")); err != nil {
		t.Fatal(err)
	}
	if value, got, err := f.Get("state"); err != nil || string(value) != "b" || got != rev {
		t.Errorf("%q, %d, %v", value, got, err)
	}
}

func BenchmarkEdit(b *testing.B) {
	for _, rules := range []int{10, 10_000} {
		b.Run(fmt.Sprint(rules), func(b *testing.B) {
			s := open(b, options(filepath.Join(b.TempDir(), "config")))
			list := &config.Node{Name: "rules"}
			for i := range rules {
				list.Children = append(list.Children, &config.Node{Name: "entry", Entry: fmt.Sprint("rule-", i), Children: []*config.Node{
					{Name: "action", Text: "no-decrypt"}, {Name: "source", Children: []*config.Node{{Name: "member", Text: "192.0.2.1"}}},
				}})
			}
			if _, err := s.Edit(b.Context(), 0, config.Edit{Op: config.OpSet, Path: config.VsysPath + "/rulebase/decryption", Elements: []*config.Node{list}}); err != nil {
				b.Fatal(err)
			}
			i := 0
			for b.Loop() {
				i++
				edit(b, s, fmt.Sprint("h", i))
			}
		})
	}
}
