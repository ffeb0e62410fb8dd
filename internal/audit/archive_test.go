package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// segmentedOptions close a segment at 2000 bytes: about ten records.
func segmentedOptions() Options {
	opts := testOptions()
	opts.segmentBytes = 2000
	return opts
}

// newSegmented is a log of several segments, with 200 records or more.
func newSegmented(t testing.TB, opts Options) (*Log, string) {
	t.Helper()
	dir := filepath.Join(memoryDir(t), "audit")
	l := openTest(t, dir, opts)
	for range 40 {
		appendN(t, l, 5)
		sign(t, l)
	}
	settle(t, l)
	return l, dir
}

// settle returns when no rotation is due.
func settle(t testing.TB, l *Log) {
	t.Helper()
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Microsecond) {
		l.writing.Lock()
		done := l.size < l.limit
		l.writing.Unlock()
		if done {
			return
		}
		if time.Now().After(limit) {
			t.Fatal("no segment was begun")
		}
	}
}

func segmentNames(t testing.TB, dir string) []string {
	t.Helper()
	files, err := findSegments(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, filepath.Base(f.path))
	}
	return names
}

func verifyAll(t testing.TB, dir, key string, archives ...string) Report {
	t.Helper()
	r, err := Verify(dir, key, archives...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func archive(t testing.TB, l *Log, to string) []Segment {
	t.Helper()
	moved, err := l.Archive(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	return moved
}

func TestRotation(t *testing.T) {
	t.Parallel()
	l, dir := newSegmented(t, segmentedOptions())
	key := l.VerifierKey()
	list, err := l.Archivable()
	if err != nil {
		t.Fatal(err)
	}
	names := segmentNames(t, dir)
	if len(list) != len(names)-1 || len(list) < 5 {
		t.Fatalf("%d segments of %q can be archived", len(list), names)
	}
	next := int64(0)
	for i, s := range list {
		if s.Name != names[i] || s.First != next || s.Records < 5 || s.Bytes < 2000 {
			t.Errorf("segment %d: %+v, want it to begin with record %d", i, s, next)
		}
		next += s.Records
	}
	for _, from := range []int64{0, 1, next - 1, next, 199, 200} {
		if events := readAll(t, dir, from); int64(len(events)) != 200-from || len(events) > 0 && events[0].Seq != from {
			t.Errorf("from %d: %d records", from, len(events))
		}
	}
	for _, n := range []int{0, 1, 3, 150, 500} {
		var got []Event
		for e, err := range Tail(dir, n) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e)
		}
		if want := min(n, 200); len(got) != want || want > 0 && got[want-1].Seq != 199 {
			t.Errorf("tail of %d: %d records", n, len(got))
		}
	}
	closeLog(t, l)
	if r := verify(t, dir, key); !r.OK() || r.Records != 200 || r.Segments != len(names) || r.Warnings != nil {
		t.Errorf("%+v", r)
	}
	// Closed, and killed, and closed: always the same tree.
	l = openTest(t, dir, segmentedOptions())
	appendN(t, l, 7)
	crash(l)
	l = openTest(t, dir, segmentedOptions())
	appendN(t, l, 30)
	closeLog(t, l)
	if r := verify(t, dir, key); !r.OK() || r.Records != 238 || r.Recoveries != 1 {
		t.Errorf("%+v", r)
	}
}

// A crash may leave the next segment empty, and nothing else undone.
func TestEmptySegment(t *testing.T) {
	t.Parallel()
	for name, clean := range map[string]bool{"closed": true, "killed": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, dir := newSegmented(t, segmentedOptions())
			key := l.VerifierKey()
			l.writing.Lock()
			l.limit = 1
			l.writing.Unlock()
			appendN(t, l, 1)
			settle(t, l)
			names := segmentNames(t, dir)
			if clean {
				closeLog(t, l)
			} else {
				crash(l)
			}
			path := filepath.Join(dir, names[len(names)-1])
			if info, err := os.Stat(path); err != nil || info.Size() != 0 {
				t.Fatalf("%s is not empty: %v, %v", path, info.Size(), err)
			}
			if r := verify(t, dir, key); !r.OK() || r.Records != 201 {
				t.Errorf("as it was left: %+v", r)
			}
			l = openTest(t, dir, segmentedOptions())
			appendN(t, l, 3)
			closeLog(t, l)
			if r := verify(t, dir, key); !r.OK() {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestArchive(t *testing.T) {
	t.Parallel()
	l, dir := newSegmented(t, segmentedOptions())
	key := l.VerifierKey()
	first, err := ParseCheckpoint(l.Checkpoint(), key)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(memoryDir(t), "archive")
	whole := readAll(t, dir, 0)
	moved := archive(t, l, to)
	last := moved[len(moved)-1]
	archived := last.First + last.Records
	// One more may have been begun for the record of it.
	if names := segmentNames(t, dir); len(names) > 2 || names[0] != segmentName(len(moved)) {
		t.Errorf("%q are left", names)
	}
	if got := readAll(t, dir, 0); len(got) == 0 || got[0].Seq != archived {
		t.Errorf("the log begins with %+v, want record %d", got[0], archived)
	}
	events := readAll(t, dir, archived)
	if n := len(events); n < 2 || events[n-2].Action != actionArchive || events[n-2].Outcome != intent || events[n-1].Outcome != OK || !strings.Contains(events[n-1].Detail, to) {
		t.Errorf("recorded %+v", events)
	}
	// What is left, the archive alone, and both together.
	sign(t, l)
	rest := verifyAll(t, dir, key)
	if !rest.OK() || rest.Archived != archived || rest.Records != l.Len()-archived || rest.Warnings != nil {
		t.Errorf("the rest: %+v", rest)
	}
	alone := verifyAll(t, to, key)
	if !alone.OK() || alone.Archived != 0 || alone.Records != archived || alone.Signed != archived || alone.Warnings != nil {
		t.Errorf("the archive: %+v", alone)
	}
	both := verifyAll(t, dir, key, to)
	if !both.OK() || both.Archived != 0 || both.Records != l.Len() || both.Warnings != nil {
		t.Errorf("both: %+v", both)
	}
	if diff := slices.Compare(names(readAll(t, to, 0)), names(whole[:archived])); diff != 0 {
		t.Error("the archive has other records")
	}

	// The tree goes on, and proofs from and of what is archived are given.
	appendN(t, l, 50)
	sign(t, l)
	note, proof, err := l.ProveFrom(t.Context(), first.N)
	if err != nil {
		t.Fatal(err)
	}
	latest, err := ParseCheckpoint(note, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := tlog.CheckTree(proof, latest.N, latest.Hash, first.N, first.Hash); err != nil {
		t.Error(err)
	}
	file, err := ProveFile(dir, key, 3, to)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := VerifyProof(file, key); err != nil || e != whole[3] {
		t.Errorf("proof of an archived record: %+v, %v", e, err)
	}
	if _, err := ProveFile(dir, key, 3); err == nil || !strings.Contains(err.Error(), "archived") {
		t.Errorf("without the archive: %v", err)
	}

	// Opened again, cleanly and after a crash, and archived again: once to the
	// same directory and once to another.
	closeLog(t, l)
	l = openTest(t, dir, segmentedOptions())
	if r := verifyAll(t, dir, key); !r.OK() || r.Archived != archived {
		t.Errorf("opened again: %+v", r)
	}
	appendN(t, l, 20)
	settle(t, l)
	archive(t, l, to)
	crash(l)
	l = openTest(t, dir, segmentedOptions())
	for range 5 {
		appendN(t, l, 10)
		sign(t, l)
	}
	second := filepath.Join(filepath.Dir(to), "second")
	if moved := archive(t, l, second); len(moved) == 0 {
		t.Fatal("nothing was moved")
	}
	total := l.Len()
	closeLog(t, l)
	if r := verifyAll(t, second, key); !r.OK() || r.Archived < archived || r.Warnings != nil {
		t.Errorf("the second archive: %+v", r)
	}
	for _, archives := range [][]string{{to, second}, {second, to}} {
		if r := verifyAll(t, dir, key, archives...); !r.OK() || r.Records != total || r.Archived != 0 || r.Recoveries != 1 || r.Warnings != nil {
			t.Errorf("all: %+v", r)
		}
	}
	if r := verifyAll(t, dir, key, to); r.OK() {
		t.Errorf("without the second archive, but with the first, nothing is missing: %+v", r)
	}
	if r := verifyAll(t, dir, key, second); !r.OK() || r.Archived == 0 {
		t.Errorf("without the first archive: %+v", r)
	}
}

func names(events []Event) []string {
	var list []string
	for _, e := range events {
		list = append(list, fmt.Sprint(e.Seq, e.Time, e.Client))
	}
	return list
}

func TestArchiveRefuses(t *testing.T) {
	t.Parallel()
	l, dir := newSegmented(t, segmentedOptions())
	other, _ := newSegmented(t, segmentedOptions())
	taken := filepath.Join(memoryDir(t), "taken")
	archive(t, other, taken)
	closeLog(t, other)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		to   string
		want string
	}{
		"the log's own directory": {t.Context(), dir, "another directory"},
		"another log's archive":   {t.Context(), taken, "the archive of another log"},
		"no parent":               {t.Context(), filepath.Join(dir, "none", "none"), "no such file"},
		"ended":                   {ctx, filepath.Join(memoryDir(t), "a"), "canceled"},
	} {
		if moved, err := l.Archive(c.ctx, c.to); err == nil || !strings.Contains(err.Error(), c.want) || len(moved) > 0 {
			t.Errorf("%s: moved %v, %v; want an error with %q", name, moved, err, c.want)
		}
	}
	// A segment that was altered is not moved, nor anything behind it.
	path := segmentPath(dir, 2)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(data, []byte("ECDSA"), []byte("EDDSA"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	moved, err := l.Archive(t.Context(), filepath.Join(memoryDir(t), "altered"))
	if err == nil || len(moved) != 2 || !strings.Contains(err.Error(), "not those of the checkpoint") {
		t.Errorf("an altered segment: moved %v, %v", moved, err)
	}
	if names := segmentNames(t, dir); names[0] != segmentName(2) {
		t.Errorf("left: %q", names)
	}
	closeLog(t, l)
}

// Whatever is done to a log of several segments is found, and named.
func TestVerifySegments(t *testing.T) {
	t.Parallel()
	change := func(t *testing.T, path, from, to string) {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(data, []byte(from)) {
			t.Fatalf("%s has no %q", path, from)
		}
		if err := os.WriteFile(path, bytes.Replace(data, []byte(from), []byte(to), 1), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// Every case has segments 0 to 9 or so; "to" has those before the newest.
	for name, c := range map[string]struct {
		tamper func(t *testing.T, dir, to string, list []Segment)
		want   func(list []Segment) string // begins with
		rest   bool                        // it is found without the archive too
	}{
		"a record in the archive is changed": {
			func(t *testing.T, dir, to string, list []Segment) {
				change(t, filepath.Join(to, list[3].Name), "ECDSA", "EDDSA")
			},
			func(list []Segment) string { return fmt.Sprintf("record %d: changed", list[3].First) }, false,
		},
		"a segment of the archive is gone": {
			func(t *testing.T, dir, to string, list []Segment) {
				must(t, os.Remove(filepath.Join(to, list[3].Name)))
			},
			func(list []Segment) string {
				return fmt.Sprintf("records %d to %d: missing from its place, where record %d stands", list[3].First, list[4].First-1, list[4].First)
			}, false,
		},
		"two segments are swapped": {
			func(t *testing.T, dir, to string, list []Segment) {
				a, b := filepath.Join(to, list[3].Name), filepath.Join(to, list[4].Name)
				must(t, errors.Join(os.Rename(a, a+".x"), os.Rename(b, a), os.Rename(a+".x", b)))
			},
			func(list []Segment) string { return fmt.Sprintf("records %d to %d", list[3].First, list[4].First-1) }, false,
		},
		"a segment is cut": {
			func(t *testing.T, dir, to string, list []Segment) {
				path := filepath.Join(to, list[3].Name)
				data, err := os.ReadFile(path)
				must(t, err)
				must(t, os.WriteFile(path, data[:bytes.LastIndexByte(data[:len(data)-1], '\n')+1], 0o600))
			},
			func(list []Segment) string { return fmt.Sprintf("record %d: missing", list[4].First-1) }, false,
		},
		"the first segment after the archive is gone": {
			func(t *testing.T, dir, to string, list []Segment) {
				must(t, os.Remove(filepath.Join(dir, fmt.Sprintf("%s%06d", segmentPrefix, len(list)))))
			},
			func(list []Segment) string {
				return fmt.Sprintf("records %d to ", list[len(list)-1].First+list[len(list)-1].Records)
			}, true,
		},
		"the frontier is changed": {
			func(t *testing.T, dir, to string, list []Segment) {
				change(t, filepath.Join(dir, archivedName), "records ", "records 1")
			},
			func([]Segment) string { return "" }, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, dir := newSegmented(t, segmentedOptions())
			key := l.VerifierKey()
			to := filepath.Join(memoryDir(t), "archive")
			list := archive(t, l, to)
			appendN(t, l, 3)
			closeLog(t, l)
			if r := verifyAll(t, dir, key, to); !r.OK() {
				t.Fatalf("before: %+v", r)
			}
			c.tamper(t, dir, to, list)
			r := verifyAll(t, dir, key, to)
			found := findings(r)
			if len(found) == 0 || !slices.ContainsFunc(found, func(f string) bool { return strings.HasPrefix(f, c.want(list)) }) {
				t.Errorf("found %q, want %q", found, c.want(list))
			}
			if r := verifyAll(t, dir, key); r.OK() == c.rest {
				t.Errorf("without the archive: %q", findings(r))
			}
		})
	}
}
