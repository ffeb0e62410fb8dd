package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"moongate/internal/durable"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"
)

const testOrigin = "moongate-hsm/test"

// testOptions sign no checkpoint but those that a test asks for.
func testOptions() Options {
	return Options{Origin: testOrigin, Logger: slog.New(slog.DiscardHandler), CheckpointInterval: time.Hour, signInterval: time.Nanosecond, retry: 2 * time.Millisecond}
}

func openTest(t testing.TB, dir string, opts Options) *Log {
	t.Helper()
	l, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// crash drops the log as the death of its process would: nothing is synced,
// signed or released, and the lock is free.
func crash(l *Log) {
	l.mu.Lock()
	l.failed, l.failing = &WriteError{Err: errors.New("crashed by the test")}, true // and nobody is told to mend it
	l.mu.Unlock()
	l.Close()
}

func use(i int) Event {
	return Event{Kind: Use, Action: "key.sign", Client: fmt.Sprintf("client-%d", i), Partition: "p1", Mechanism: "ECDSA_SHA256", Outcome: OK}
}

func appendN(t testing.TB, l *Log, n int) {
	t.Helper()
	for i := range n {
		if err := l.Append(use(i)); err != nil {
			t.Fatal(err)
		}
	}
}

func sign(t testing.TB, l *Log) {
	t.Helper()
	if err := l.SignCheckpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func closeLog(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func verify(t testing.TB, dir, key string) Report {
	t.Helper()
	r, err := Verify(dir, key)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func readAll(t testing.TB, dir string, from int64) []Event {
	t.Helper()
	var events []Event
	for e, err := range Records(dir, from) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

func TestAppendReadVerify(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(memoryDir(t), "audit")
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))
	opts := testOptions()
	opts.Now = func() time.Time { return now }
	l := openTest(t, dir, opts)
	want := []Event{
		{Kind: Login, Action: "login", Client: "web-1", Remote: "10.0.0.7:40112", Partition: "p1", Role: "co", Outcome: "PIN_INCORRECT"},
		{Kind: Change, Action: "key.generate", Op: [16]byte{1, 0xab}, Object: [16]byte{0xfe, 15: 7}, Mechanism: "RSA_2048", Outcome: OK, Detail: "made"},
		{Kind: Use, Action: "key.sign", Client: "line\nbreak \"q\" \\ \x1b[31m é 🌙 \xff", Outcome: OK},
	}
	if err := l.Append(want[0]); err != nil {
		t.Fatal(err)
	}
	if err := l.AppendDurable(t.Context(), want[1]); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(want[2]); err != nil {
		t.Fatal(err)
	}
	for i := range want {
		want[i].Seq, want[i].Time = int64(i), now.UTC()
	}
	want[2].Client = strings.ToValidUTF8(want[2].Client, "\uFFFD")
	if diff := cmp.Diff(want, readAll(t, dir, 0)); diff != "" {
		t.Errorf("while it is open (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want[2:], readAll(t, dir, 2)); diff != "" {
		t.Errorf("from record 2 (-want +got):\n%s", diff)
	}
	if got := readAll(t, dir, 3); got != nil {
		t.Errorf("from the end: %v", got)
	}
	key := l.VerifierKey()
	closeLog(t, l)

	got := verify(t, dir, key)
	if !got.OK() || got.Records != 3 || got.Signed != 3 || got.Checkpoints != 2 || got.Warnings != nil {
		t.Errorf("report %+v", got)
	}
	public, err := ReadVerifierKey(dir)
	if err != nil || public != key {
		t.Errorf("audit.pub holds %q, %v; want %q", public, err, key)
	}
	for name, mode := range map[string]os.FileMode{privateName: 0o600, publicName: 0o644, firstSegment: 0o600, hashesName: 0o600, checkpointsName: 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: mode %v, %v; want %v", name, info.Mode(), err, mode)
		}
	}

	// The records and the files are of one tree by tlog's own account.
	lines, err := os.ReadFile(filepath.Join(dir, firstSegment))
	if err != nil {
		t.Fatal(err)
	}
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var hashes []tlog.Hash
		for _, i := range indexes {
			hashes = append(hashes, stored[i])
		}
		return hashes, nil
	})
	for i, text := range bytes.Split(bytes.TrimSuffix(lines, []byte("\n")), []byte("\n")) {
		more, err := tlog.StoredHashes(int64(i), text, reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, more...)
	}
	root, err := tlog.TreeHash(3, reader)
	if err != nil || root != got.Latest.Hash {
		t.Errorf("tlog's root is %v, %v; ours %v", root, err, got.Latest.Hash)
	}
}

func TestReopenContinues(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	var key string
	total := 0
	for round, n := range []int{0, 1, 6, 0, 300, 1} {
		l := openTest(t, dir, testOptions())
		if round > 0 && l.VerifierKey() != key {
			t.Fatalf("round %d: another key", round)
		}
		key = l.VerifierKey()
		appendN(t, l, n)
		total += n
		if l.Len() != int64(total) {
			t.Fatalf("round %d: %d records, want %d", round, l.Len(), total)
		}
		closeLog(t, l)
		if r := verify(t, dir, key); !r.OK() || r.Records != int64(total) || r.Recoveries != 0 || r.Warnings != nil {
			t.Fatalf("round %d: %+v", round, r)
		}
	}
}

func TestProofs(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	l := openTest(t, dir, testOptions())
	appendN(t, l, 37)
	sign(t, l)
	early, err := ParseCheckpoint(l.Checkpoint(), l.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	appendN(t, l, 100)
	if _, err := l.ProveTree(137, 37); err == nil {
		t.Error("a proof for a tree that no checkpoint covers")
	}
	sign(t, l)
	late, err := ParseCheckpoint(l.Checkpoint(), l.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	proof, err := l.ProveTree(late.N, early.N)
	if err != nil {
		t.Fatal(err)
	}
	if err := tlog.CheckTree(proof, late.N, late.Hash, early.N, early.Hash); err != nil {
		t.Error(err)
	}
	for e, err := range Records(dir, 0) {
		if err != nil {
			t.Fatal(err)
		}
		proof, err := l.ProveRecord(late.N, e.Seq)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(proof, late.N, late.Hash, e.Seq, tlog.RecordHash(e.AppendJSON(nil))); err != nil {
			t.Errorf("record %d: %v", e.Seq, err)
		}
	}
	closeLog(t, l)
}

func TestConcurrentAppenders(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	opts := testOptions()
	opts.SyncInterval, opts.CheckpointInterval = time.Millisecond, 3*time.Millisecond
	l := openTest(t, dir, opts)
	const goroutines, each = 32, 50
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				ev := use(g*each + i)
				var err error
				if i%5 == 0 {
					err = l.AppendDurable(t.Context(), ev)
				} else {
					err = l.Append(ev)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	key := l.VerifierKey()
	closeLog(t, l)
	if r := verify(t, dir, key); !r.OK() || r.Records != goroutines*each || r.Signed != goroutines*each {
		t.Fatalf("%+v", r)
	}
	// Every record once, each goroutine's in its order.
	last := map[int]int{}
	for _, e := range readAll(t, dir, 0) {
		var n int
		if _, err := fmt.Sscanf(e.Client, "client-%d", &n); err != nil {
			t.Fatal(err)
		}
		if g := n / each; n%each != last[g] {
			t.Fatalf("goroutine %d: its event %d where %d should be", g, n%each, last[g])
		} else {
			last[g]++
		}
	}
}

// gateFile lets a test hold, count and fail what the log does to a file.
type gateFile struct {
	appendFile
	syncs    atomic.Int64
	hold     chan struct{} // if not nil: a Sync announces itself here, then waits on it
	failSync atomic.Pointer[error]
	failFrom atomic.Int64 // if > 0: a Write writes that many bytes less one and fails
}

func (g *gateFile) Sync() error {
	g.syncs.Add(1)
	if g.hold != nil {
		g.hold <- struct{}{}
		<-g.hold
	}
	if err := g.failSync.Load(); err != nil {
		return *err
	}
	return g.appendFile.Sync()
}

func (g *gateFile) Write(b []byte) (int, error) {
	if n := g.failFrom.Load(); n > 0 {
		n, _ := g.appendFile.Write(b[:n-1])
		return n, io.ErrShortWrite
	}
	return g.appendFile.Write(b)
}

// gate puts a gateFile under a log on which nothing was called yet.
func gate(l *Log) *gateFile {
	l.writing.Lock()
	defer l.writing.Unlock()
	g := &gateFile{appendFile: l.records}
	l.records = g
	return g
}

func TestGroupCommit(t *testing.T) {
	t.Parallel()
	opts := testOptions()
	opts.SyncInterval = time.Hour
	l := openTest(t, memoryDir(t), opts)
	g := gate(l)
	g.hold = make(chan struct{})
	var wg sync.WaitGroup
	durably := func(n int) {
		for i := range n {
			wg.Go(func() {
				if err := l.AppendDurable(context.Background(), use(i)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	durably(1)
	<-g.hold // the first sync has begun; those who come now need another
	const others = 40
	durably(others)
	for waiting := 0; waiting < others; {
		l.mu.Lock()
		waiting = int(l.next - 1)
		if l.waiters == nil {
			waiting = 0
		}
		l.mu.Unlock()
		runtime.Gosched()
	}
	g.hold <- struct{}{}
	// Whoever had not got to waiting by then needs a third sync.
	go func() {
		for range g.hold {
			g.hold <- struct{}{}
		}
	}()
	wg.Wait()
	if n := g.syncs.Load(); n < 2 || n > others/4 {
		t.Errorf("%d syncs for 1 and then %d durable records, want 2 or little more", n, others)
	}
	closeLog(t, l)
	close(g.hold)
}

func TestSyncInterval(t *testing.T) {
	t.Parallel()
	opts := testOptions()
	opts.SyncInterval = time.Millisecond
	l := openTest(t, memoryDir(t), opts)
	g := gate(l)
	g.hold = make(chan struct{})
	appendN(t, l, 3)
	<-g.hold // a sync happens though nobody asked for one
	g.hold <- struct{}{}
	go func() {
		for range g.hold {
			g.hold <- struct{}{}
		}
	}()
	closeLog(t, l)
	close(g.hold)
}

func TestDurableHonoursContext(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	l := openTest(t, dir, testOptions())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.AppendDurable(ctx, use(0)); !errors.Is(err, context.Canceled) || l.Len() != 0 {
		t.Errorf("ended before: %v and %d records", err, l.Len())
	}
	g := gate(l)
	g.hold = make(chan struct{})
	ctx, cancel = context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- l.AppendDurable(ctx, use(1)) }()
	<-g.hold
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("ended during the sync: %v", err)
	}
	go func() {
		g.hold <- struct{}{}
		for range g.hold {
			g.hold <- struct{}{}
		}
	}()
	closeLog(t, l)
	close(g.hold)
	if got := readAll(t, dir, 0); len(got) != 1 {
		t.Errorf("%d records, want the one that was written", len(got))
	}
}

// The number in the reservation is never behind the records.
func TestReservationLeads(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	opts := testOptions()
	opts.SyncInterval = time.Hour // the writer is on its own
	l := openTest(t, dir, opts)
	for i := range 2000 {
		appendN(t, l, 1)
		reserved, err := readReserved(dir)
		if err != nil || reserved <= int64(i) {
			t.Fatalf("%d reserved, %v, after record %d was written", reserved, err, i)
		}
	}
	closeLog(t, l)
	if reserved, err := readReserved(dir); err != nil || reserved != 2000 {
		t.Errorf("%d reserved, %v, by a closed log of 2000 records", reserved, err)
	}
}

// A reader beside the writer sees whole records only, and Verify no tampering.
func TestReadersBesideWriter(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	opts := testOptions()
	opts.CheckpointInterval = time.Millisecond
	l := openTest(t, dir, opts)
	key := l.VerifierKey()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 20_000 {
			ev := use(i)
			ev.Detail = strings.Repeat("x", 900) // to cross pages often
			if err := l.Append(ev); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for writing := true; writing; {
		select {
		case <-done:
			writing = false
		default:
		}
		if r := verify(t, dir, key); !r.OK() {
			t.Fatalf("%+v", r)
		}
		readAll(t, dir, max(l.Len()-200, 0))
	}
	closeLog(t, l)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	l := openTest(t, dir, testOptions())
	for _, ev := range []Event{{Action: "a", Outcome: OK}, {Kind: Use, Outcome: OK}, {Kind: Use, Action: "a"}} {
		if err := l.Append(ev); !errors.Is(err, errIncomplete) {
			t.Errorf("%+v: %v", ev, err)
		}
	}
	if _, err := Open(dir, testOptions()); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("second Open: %v, want ErrLocked", err)
	}
	closeLog(t, l)
	if err := l.Append(use(0)); !errors.Is(err, ErrClosed) {
		t.Errorf("Append after Close: %v", err)
	}
	if err := l.SignCheckpoint(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("SignCheckpoint after Close: %v", err)
	}
	if err := l.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	other := testOptions()
	other.Origin = "moongate-hsm/other"
	if _, err := Open(dir, other); err == nil || !strings.Contains(err.Error(), testOrigin) {
		t.Errorf("another origin: %v", err)
	}
	for _, origin := range []string{"", "a b", "a+b", "a\nb", "é"} {
		bad := testOptions()
		bad.Origin = origin
		if _, err := Open(memoryDir(t), bad); err == nil {
			t.Errorf("origin %q was accepted", origin)
		}
	}
}
