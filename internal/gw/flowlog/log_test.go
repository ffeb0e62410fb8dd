package flowlog

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"moongate/internal/gw/flow"
)

func record(id string) *flow.Record {
	return &flow.Record{
		ID: id, Start: time.Date(2026, 11, 23, 15, 4, 5, 6, time.UTC), Duration: flow.Millis(1500 * time.Microsecond),
		Kind: flow.Forward, Target: "a.example:443", Action: "decrypt", Reason: "default", Verdict: flow.Trusted,
		Revocation: "not-checked", FailureCause: "a <cause> & \"more\"\n", BytesUp: 5,
		ServerLeg: &flow.Leg{Version: "TLS 1.3", Certificate: &flow.Certificate{Subject: "CN=a"}},
	}
}

func open(t testing.TB, o Options) *Log {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// read returns the next n records.
func read(t testing.TB, r *Reader, n int) []*flow.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var list []*flow.Record
	for len(list) < n {
		record, err := r.Next(ctx)
		if err != nil {
			t.Fatalf("after %d of %d records: %v", len(list), n, err)
		}
		list = append(list, record)
	}
	return list
}

func TestWriteAndRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := NewReader(dir)
	defer r.Close()
	l := open(t, Options{Dir: dir})
	start := time.Now()
	l.Write(record("1"))
	got := read(t, r, 1)
	if took := time.Since(start); took > 2*time.Second { // 200 ms on a machine that has time
		t.Errorf("a record took %v to the file", took)
	}
	if diff := cmp.Diff([]*flow.Record{record("1")}, got); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	l.Write(record("2"))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, r, 1); got[0].ID != "2" {
		t.Errorf("got %q", got[0].ID)
	}
	info, err := os.Stat(filepath.Join(dir, Name))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	l.Write(record("late"))
	if l.Lost() != 1 {
		t.Errorf("%d lost after Close, want 1", l.Lost())
	}
	if err := l.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
}

// TestRotation: no record is lost or torn where files change, to a reader that
// keeps up, and no more files are kept than asked for.
func TestRotation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, Options{Dir: dir, MaxSize: 20_000, Keep: 3})
	r := NewReader(dir)
	defer r.Close()
	for round := range 20 {
		for i := range 20 {
			l.Write(record(fmt.Sprint(round, "/", i)))
		}
		for i, got := range read(t, r, 20) {
			if want := fmt.Sprint(round, "/", i); got.ID != want {
				t.Fatalf("got record %s, want %s", got.ID, want)
			}
		}
	}
	l.Close()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(names) != 4 {
		t.Fatalf("files %v, %v", names, err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil || len(b) > 20_000 || len(b) == 0 || b[len(b)-1] != '\n' {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
		for line := range bytes.Lines(b) {
			if !json.Valid(line) {
				t.Errorf("%s: %q", name, line)
			}
		}
	}
}

// TestNeverWaits: where the disk is too slow, records are lost, counted and
// told of; nobody waits.
func TestNeverWaits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var told syncBuffer
	l := open(t, Options{Dir: dir, Queue: 10, Logger: slog.New(slog.NewTextHandler(&told, nil))})
	const writers, each = 8, 5_000
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range each {
				l.Write(record("x"))
			}
		})
	}
	all.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, Name))
	if err != nil {
		t.Fatal(err)
	}
	r := NewReader(dir)
	defer r.Close()
	lost := int(l.Lost())
	if lost == 0 {
		t.Skip("this machine's writer was never behind")
	}
	read(t, r, writers*each-lost)
	if _, err := r.line(); err != nil || int(r.Lost()) > lost {
		t.Errorf("lines tell of %d lost, %v", r.Lost(), err)
	}
	for line := range bytes.Lines(b) {
		var l loss
		if json.Unmarshal(line, &l) == nil {
			lost -= int(l.Lost)
		}
	}
	if lost != 0 {
		t.Errorf("%d lost records are in no line", lost)
	}
	if !strings.Contains(told.String(), "flow records were lost") {
		t.Errorf("the log was told %q", told.String())
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestTornLine: what a crash left of a line is cut off, and the log goes on.
func TestTornLine(t *testing.T) {
	t.Parallel()
	whole, err := json.Marshal(record("before"))
	if err != nil {
		t.Fatal(err)
	}
	for _, torn := range []string{"", "{", `{"id":"torn`, strings.Repeat("x", 10_000)} {
		for _, before := range []string{"", string(whole) + "\n"} {
			dir := t.TempDir()
			path := filepath.Join(dir, Name)
			if err := os.WriteFile(path, []byte(before+torn), 0o600); err != nil {
				t.Fatal(err)
			}
			l := open(t, Options{Dir: dir})
			l.Write(record("after"))
			l.Close()
			b, err := os.ReadFile(path)
			if err != nil || !bytes.HasPrefix(b, []byte(before+`{"id":"after"`)) {
				t.Errorf("torn %.10q after %d bytes: %.200q, %v", torn, len(before), b, err)
			}
		}
	}
}

// TestDiskFails: records that cannot be written are lost and told of when they
// can be again.
func TestDiskFails(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "log")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l := open(t, Options{Dir: dir, MaxSize: 1})
	l.Write(record("good"))
	r := NewReader(dir)
	defer r.Close()
	read(t, r, 1)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	l.Write(record("bad"))
	for deadline := time.Now().Add(20 * time.Second); l.Lost() == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l.Write(record("good again"))
	got := read(t, r, 1)
	l.Write(record("and again"))
	read(t, r, 1)
	if got[0].ID != "good again" || r.Lost() != 1 || l.Lost() != 1 {
		t.Errorf("got %q, %d lost by the lines, %d by the log", got[0].ID, r.Lost(), l.Lost())
	}
}

// TestRotationFails: a file that cannot be put aside is written on.
func TestRotationFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var told syncBuffer
	l := open(t, Options{Dir: dir, MaxSize: 1, Keep: 1, Logger: slog.New(slog.NewTextHandler(&told, nil))})
	if err := os.MkdirAll(filepath.Join(dir, Name+".1", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := NewReader(dir)
	defer r.Close()
	for i := range 3 {
		l.Write(record(fmt.Sprint(i)))
		if got := read(t, r, 1); got[0].ID != fmt.Sprint(i) {
			t.Fatalf("got %q, want %d", got[0].ID, i)
		}
	}
	l.Close()
	if l.Lost() != 0 || strings.Count(told.String(), "putting") != 1 {
		t.Errorf("%d lost; the log was told %q", l.Lost(), told.String())
	}
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	if _, err := Open(Options{Dir: filepath.Join(t.TempDir(), "missing"), Logger: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("opened a log in a directory that is not there")
	}
	if _, err := Open(Options{Dir: t.TempDir()}); err == nil {
		t.Error("opened a log without a logger")
	}
}

func BenchmarkWrite(b *testing.B) {
	l := open(b, Options{Dir: b.TempDir(), Queue: 1 << 20})
	r := record("0123456789abcdef0123456789abcdef")
	for b.Loop() {
		l.Write(r)
	}
	l.Close()
	b.ReportMetric(float64(l.Lost()), "lost")
}
