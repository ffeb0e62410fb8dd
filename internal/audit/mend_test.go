package audit

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// waitMended returns when recording goes on.
func waitMended(t testing.TB, l *Log) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); l.Err() != nil; time.Sleep(100 * time.Microsecond) {
		if time.Now().After(limit) {
			t.Fatalf("not mended: %v", l.Err())
		}
	}
}

func faultOptions(d *faultDisk) Options {
	opts := segmentedOptions()
	opts.disk, opts.retry, opts.SyncInterval = d, 200*time.Microsecond, time.Millisecond
	return opts
}

// A scenario does everything that writes, and notes what was acknowledged.
type scenario struct {
	dir, archive string
	d            *faultDisk
	durable      []string // acknowledged by AppendDurable
	written      []string // acknowledged by Append
	failures     int
}

func (s *scenario) append(l *Log, name string, durable bool) {
	ev := Event{Kind: Use, Action: "key.sign", Client: name, Outcome: OK}
	if durable {
		if err := l.AppendDurable(context.Background(), ev); err == nil {
			s.durable = append(s.durable, name)
		} else {
			s.failures++
		}
	} else if err := l.Append(ev); err == nil {
		s.written = append(s.written, name)
	} else {
		s.failures++
	}
}

// run works on a log, which may not open, and closes it, which may fail.
func (s *scenario) run(t *testing.T, round string, opts Options) {
	t.Helper()
	l, err := Open(s.dir, opts)
	if damage := (*LossError)(nil); errors.As(err, &damage) {
		t.Fatalf("%s: %v", round, err)
	} else if err != nil {
		s.failures++
		s.d.heal()
		l = openTest(t, s.dir, opts)
	}
	note := func(err error) {
		if err != nil {
			s.failures++
		}
	}
	for i := range 24 {
		s.append(l, fmt.Sprintf("%s-%d", round, i), i%3 == 0)
		switch i {
		case 8:
			note(l.SignCheckpoint(context.Background()))
		case 14:
			note(l.SetPolicy(context.Background(), Policy{OnFull: Stop, SegmentBytes: minSegmentBytes, Strict: true}))
		case 20:
			_, err := l.Archive(context.Background(), s.archive)
			note(err)
		}
		if s.failures > 0 && l.Err() != nil && i%4 == 0 {
			waitMended(t, l) // so that more than refusals is tried
		}
	}
	if l.Err() != nil {
		waitMended(t, l)
	}
	s.append(l, round+"-last", true)
	if err := l.SignCheckpoint(context.Background()); err == nil {
		for old := int64(0); old < l.Len(); old += 7 {
			if _, _, err := l.ProveFrom(context.Background(), old); err != nil {
				t.Errorf("%s: a proof from %d on: %v", round, old, err)
			}
		}
	}
	note(l.Close())
}

// check finds everything acknowledged, once, and the log sound.
func (s *scenario) check(t *testing.T, opts Options, mayLose bool) {
	t.Helper()
	l := openTest(t, s.dir, opts)
	key := l.VerifierKey()
	closeLog(t, l)
	r := verifyAll(t, s.dir, key, s.archive)
	if !r.OK() || r.Warnings != nil { // which damaged hashes would be
		t.Fatalf("%q, warnings %q", findings(r), r.Warnings)
	}
	found := map[string]int{}
	gaps, seen := 0, int64(0)
	for _, dir := range []string{s.archive, s.dir} {
		for _, e := range readAll(t, dir, seen) { // from where the archive ended
			seen = e.Seq + 1
			found[e.Client]++
			if e.Action == actionGap && strings.Contains(e.Detail, "are lost") {
				gaps++
			}
		}
	}
	for _, name := range s.durable {
		if found[name] != 1 {
			t.Errorf("%s, which was durable, is there %d times", name, found[name])
		}
	}
	lost := 0
	for _, name := range s.written {
		if found[name] == 0 {
			lost++
		}
	}
	if lost > 0 && (!mayLose || gaps == 0) {
		t.Errorf("%d acknowledged records are lost, and %d gaps on record say so", lost, gaps)
	}
}

// Whichever step of writing fails, and however: nothing that was durable is
// lost, nothing torn stays, the log takes records again without being opened
// anew, and says what happened.
func TestAnyStepFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		errno  error
		length int
		forget bool
	}{
		{"full, once", syscall.ENOSPC, 1, false},
		{"full, for a while", syscall.ENOSPC, 9, false},
		{"broken, once", syscall.EIO, 1, false},
		{"broken and forgetful", syscall.EIO, 1, true},
		{"broken and forgetful, for a while", syscall.EIO, 5, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			total := faultRun(t, -1, c.length, c.errno, c.forget)
			if total < 60 {
				t.Fatalf("only %d steps", total)
			}
			failed := 0
			for step := 0; step < total && !t.Failed(); step++ {
				if faultRun(t, step, c.length, c.errno, c.forget) > 0 {
					failed++
				}
				runtime.Gosched()
			}
			if failed < total/2 {
				t.Errorf("of %d steps only %d made anything fail", total, failed)
			}
		})
	}
}

// faultRun fails one step, and returns how many calls failed; or, with step
// -1, how many steps there are.
func faultRun(t *testing.T, step, length int, errno error, forget bool) int {
	t.Helper()
	base := memoryDir(t)
	d := newFaultDisk()
	d.forget = forget
	s := &scenario{dir: filepath.Join(base, "audit"), archive: filepath.Join(base, "archive"), d: d}
	if step >= 0 {
		d.failAt(step, length, errno)
	}
	s.run(t, "first", faultOptions(d))
	total := d.steps
	if step < 0 {
		return total
	}
	failures := s.failures
	d.powerCut(t)
	d.heal()
	s.run(t, "second", faultOptions(d))
	d.powerCut(t)
	s.check(t, faultOptions(d), forget)
	if t.Failed() {
		t.Logf("with step %d of %d failing: %d failures", step, total, failures)
	}
	return failures
}

// fullOptions have 1000 bytes left on the disk, and what the log keeps free.
func fullOptions(t *testing.T, d *faultDisk, policy Policy) (*Log, string, *time.Time) {
	t.Helper()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	opts := testOptions()
	opts.disk, opts.retry, opts.SyncInterval = d, time.Millisecond, time.Millisecond
	opts.Now = func() time.Time { return now }
	dir := filepath.Join(memoryDir(t), "audit")
	l := openTest(t, dir, opts)
	if err := l.SetPolicy(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	sign(t, l)
	d.mu.Lock()
	d.free = 1000
	d.mu.Unlock()
	return l, dir, &now
}

func actions(events []Event) []string {
	var list []string
	for _, e := range events {
		if e.Action != "key.sign" && e.Action != actionPolicy {
			list = append(list, e.Action)
		}
	}
	return list
}

// A disk that fills: everything is refused until there is room, or key uses
// are counted; either way the beginning and the end are on record.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	for _, onFull := range []OnFull{Stop, Count} {
		t.Run(string(onFull), func(t *testing.T) {
			t.Parallel()
			d := newFaultDisk()
			l, dir, _ := fullOptions(t, d, Policy{OnFull: onFull, SegmentBytes: minSegmentBytes})
			key := l.VerifierKey()
			acknowledged := int64(0)
			for l.Err() == nil {
				if l.AppendDurable(t.Context(), use(0)) == nil {
					acknowledged++
				}
			}
			var failure *WriteError
			if err := l.Err(); !errors.As(err, &failure) || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "since 2026-01-02T03:04:05Z") {
				t.Fatalf("the error is %v", err)
			}
			// The notice is on record while the disk is full.
			for limit := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
				events := readAll(t, dir, 0)
				if events[len(events)-1].Action == actionStopped {
					break
				}
				if time.Now().After(limit) {
					t.Fatalf("no notice: %+v", events[len(events)-1])
				}
			}
			for range 7 {
				if err := l.Append(use(1)); (err == nil) != (onFull == Count) {
					t.Errorf("a key use: %v", err)
				}
			}
			denied := Event{Kind: Denied, Action: "key.sign", Outcome: "NO"}
			for name, err := range map[string]error{
				"a refusal": l.Append(denied), "a login": l.AppendDurable(t.Context(), Event{Kind: Login, Action: "login", Outcome: OK}),
				"a durable use": l.AppendDurable(t.Context(), use(1)), "a policy": l.SetPolicy(t.Context(), DefaultPolicy()), "a checkpoint": l.SignCheckpoint(t.Context()),
			} {
				if !errors.As(err, &failure) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if note, err := l.FreshCheckpoint(t.Context()); err != nil || len(note) == 0 {
				t.Errorf("clients get no checkpoint: %v", err)
			}
			d.heal()
			waitMended(t, l)
			if err := l.AppendDurable(t.Context(), use(2)); err != nil {
				t.Error(err)
			}
			closeLog(t, l)
			events := readAll(t, dir, 0)
			want := []string{actionStopped, actionResumed}
			if onFull == Count {
				want = []string{actionStopped, actionUncounted, actionResumed}
			}
			if got := actions(events); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("recorded %q, want %q", got, want)
			}
			for _, e := range events {
				if e.Action == actionUncounted && e.Detail != "7 key uses without a record from 2026-01-02T03:04:05Z to 2026-01-02T03:04:05Z: key.sign=7" {
					t.Errorf("the count says %q", e.Detail)
				}
			}
			r := verify(t, dir, key)
			// The record whose caller got the error may be there.
			least := acknowledged + 2 + int64(len(want)) + 1
			if !r.OK() || r.Records < least || r.Records > least+1 || r.Recoveries != 0 {
				t.Errorf("%d acknowledged: %+v", acknowledged, r)
			}
		})
	}
}

// The count outlives the process that counted.
func TestCountSurvives(t *testing.T) {
	t.Parallel()
	d := newFaultDisk()
	l, dir, _ := fullOptions(t, d, Policy{OnFull: Count, SegmentBytes: minSegmentBytes})
	for l.Err() == nil {
		l.AppendDurable(t.Context(), use(0))
	}
	for range 5 {
		if err := l.Append(use(1)); err != nil {
			t.Fatal(err)
		}
	}
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if kept, err := l.tallyFile.read(); err == nil && kept.total() >= 5 {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("the count was not kept")
		}
	}
	d.heal()
	d.failAt(0, 1<<30, syscall.EIO) // for good
	crash(l)
	for round, want := range []int64{1, 1} { // told once, not at each start
		l = openTest(t, dir, testOptions())
		key := l.VerifierKey()
		if p := l.Policy(); p.OnFull != Count {
			t.Errorf("policy %v", p)
		}
		closeLog(t, l)
		if r := verify(t, dir, key); !r.OK() || r.Uncounted != want {
			t.Errorf("round %d: %+v", round, r)
		}
	}
	// A count that cannot be read is told as that.
	l = openTest(t, dir, testOptions())
	key := l.VerifierKey()
	closeLog(t, l)
	zero(filepath.Join(dir, uncountedName), 3, 9)
	closeLog(t, openTest(t, dir, testOptions()))
	if r := verify(t, dir, key); !r.OK() || r.Uncounted != 2 {
		t.Errorf("%+v", r)
	}
}

// After an fsync that failed the log says what that may have taken, and
// whether it did; who waited for the fsync is told that it failed.
func TestGap(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		forget bool
		want   string
		left   int64 // of the five
	}{
		"lost":     {true, "an fsync failed, and 6 records from number 3 on", 0},
		"restored": {false, "an fsync failed; records 3 to 8, written since the last good one, could be read back", 6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newFaultDisk()
			d.forget = c.forget
			opts := testOptions()
			opts.disk, opts.SyncInterval = d, time.Hour
			dir := filepath.Join(memoryDir(t), "audit")
			l := openTest(t, dir, opts)
			key := l.VerifierKey()
			appendN(t, l, 3)
			sign(t, l)
			ev := use(9)
			late, err := l.append(&ev) // of somebody who waits for its fsync too late
			if err != nil {
				t.Fatal(err)
			}
			appendN(t, l, 4)
			d.mu.Lock()
			d.errno = syscall.EIO
			from := d.steps + 1 // the write, then the fsync
			d.fail = func(step int) bool { return step == from }
			d.mu.Unlock()
			if err := l.AppendDurable(t.Context(), use(5)); !errors.Is(err, syscall.EIO) {
				t.Errorf("the durable record: %v", err)
			}
			waitMended(t, l)
			if err := l.waitSynced(t.Context(), late); !errors.Is(err, syscall.EIO) {
				t.Errorf("a record written before the failure, whose number may be another's: %v", err)
			}
			appendN(t, l, 2)
			d.powerCut(t)
			crash(l)
			d.powerCut(t)
			closeLog(t, openTest(t, dir, opts))
			var gap Event
			for _, e := range readAll(t, dir, 0) {
				if e.Action == actionGap {
					gap = e
				}
			}
			if !strings.HasPrefix(gap.Detail, c.want) {
				t.Errorf("recorded %q, want %q", gap.Detail, c.want)
			}
			// 3, what is left, stopped, gap, resumed, and those after it that no fsync was asked for.
			if r := verify(t, dir, key); !r.OK() || r.Gaps != 1 || r.Records < 3+c.left+3 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// In a strict log, a use is fsynced before it is answered; callers share.
func TestStrict(t *testing.T) {
	t.Parallel()
	opts := testOptions()
	opts.SyncInterval = time.Hour
	l := openTest(t, memoryDir(t), opts)
	p := DefaultPolicy()
	p.Strict = true
	if err := l.SetPolicy(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	g := gate(l)
	g.hold = make(chan struct{})
	done := make(chan error)
	go func() { done <- l.Append(use(0)) }()
	<-g.hold
	select {
	case err := <-done:
		t.Fatalf("it was answered before the fsync: %v", err)
	default:
	}
	go func() {
		g.hold <- struct{}{}
		for range g.hold {
			g.hold <- struct{}{}
		}
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
	closeLog(t, l)
	close(g.hold)
}
