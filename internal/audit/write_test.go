package audit

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// countingFile counts the writes of records.
type countingFile struct {
	appendFile
	writes atomic.Int64
}

func (c *countingFile) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.appendFile.Write(b)
}

func counting(l *Log) *countingFile {
	l.writing.Lock()
	defer l.writing.Unlock()
	c := &countingFile{appendFile: l.records}
	l.records = c
	return c
}

func noteUse(t *testing.T, l *Log, i int) Receipt {
	t.Helper()
	r, err := l.Note(use(i))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestNotesAreWrittenTogether: nothing is written before somebody asks; then
// all that was noted is, in one write and in the order of the notes, and it
// survives the death of the process.
func TestNotesAreWrittenTogether(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	opts := testOptions()
	opts.SyncInterval = time.Hour
	l := openTest(t, dir, opts)
	file := counting(l)
	size := func() int64 {
		info, err := os.Stat(segmentPath(dir, 0))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	before := size()
	const n = 50
	var receipts []Receipt
	for i := range n {
		receipts = append(receipts, noteUse(t, l, i))
	}
	if size() != before || file.writes.Load() != 0 {
		t.Errorf("%d writes before anybody asked", file.writes.Load())
	}
	for _, i := range []int{n / 2, 0, n - 1, n / 2} {
		if err := receipts[i].Written(); err != nil {
			t.Fatal(err)
		}
	}
	if got := file.writes.Load(); got != 1 {
		t.Errorf("%d writes for %d notes, want 1", got, n)
	}
	last := noteUse(t, l, n)
	appendN(t, l, 1) // writes the note before it, too
	if err := last.Written(); err != nil || file.writes.Load() != 2 {
		t.Errorf("%v after %d writes, want nil after 2", err, file.writes.Load())
	}
	if err := (Receipt{}).Written(); err != nil {
		t.Errorf("the receipt of nothing: %v", err)
	}
	crash(l)
	events := readAll(t, dir, 0)
	if len(events) != n+2 {
		t.Fatalf("%d records, want %d", len(events), n+2)
	}
	for i, e := range events[:n+1] {
		if e.Client != fmt.Sprintf("client-%d", i) {
			t.Errorf("record %d is of %s", i, e.Client)
		}
	}
}

// TestNotesThatNobodyAsksFor are written and fsynced in time all the same, and
// by Close.
func TestNotesThatNobodyAsksFor(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	opts := testOptions()
	opts.SyncInterval = time.Millisecond
	l := openTest(t, dir, opts)
	noteUse(t, l, 0)
	for l.permanentLen() == 0 {
		time.Sleep(time.Millisecond)
	}
	closeLog(t, l)

	opts.SyncInterval = time.Hour
	l = openTest(t, dir, opts)
	noteUse(t, l, 1)
	noteUse(t, l, 2)
	sign(t, l) // covers all that was noted before
	if r := verify(t, dir, l.VerifierKey()); !r.OK() || r.Signed != 3 {
		t.Errorf("after a checkpoint: %+v", r)
	}
	r := noteUse(t, l, 3)
	closeLog(t, l)
	if err := r.Written(); err != nil {
		t.Errorf("the receipt after Close: %v", err)
	}
	if _, err := l.Note(use(4)); !errors.Is(err, ErrClosed) {
		t.Errorf("a note after Close: %v", err)
	}
	if r := verify(t, dir, l.VerifierKey()); !r.OK() || r.Records != 4 || r.Signed != 4 {
		t.Errorf("after Close: %+v", r)
	}
}

// TestNotesOfAFullDisk: each is refused, or each is counted once, as the policy
// says; also where the log has mended itself before anybody asked.
func TestNotesOfAFullDisk(t *testing.T) {
	t.Parallel()
	for _, policy := range []OnFull{Stop, Count} {
		for _, asked := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/asked=%v", policy, asked), func(t *testing.T) {
				t.Parallel()
				d := newFaultDisk()
				opts := testOptions()
				opts.disk = d
				opts.SyncInterval = time.Hour
				l := openTest(t, memoryDir(t), opts)
				defer l.Close()
				p := DefaultPolicy()
				p.OnFull = policy
				if err := l.SetPolicy(t.Context(), p); err != nil {
					t.Fatal(err)
				}
				d.failAt(0, 1<<30, syscall.EIO)
				receipts := []Receipt{noteUse(t, l, 0), noteUse(t, l, 1), noteUse(t, l, 2)}
				if asked {
					for range 2 {
						for _, r := range receipts {
							checkNote(t, policy, r.Written())
						}
					}
				} else if err := l.Append(Event{Kind: Admin, Action: "other", Outcome: OK}); err == nil {
					t.Error("what is no use went on")
				}
				_, err := l.Note(use(3))
				checkNote(t, policy, err)
				if want := map[OnFull]int64{Stop: 0, Count: 4}[policy]; l.Uncounted() != want {
					t.Errorf("%d uses counted, want %d", l.Uncounted(), want)
				}
				d.heal()
				for l.Err() != nil {
					time.Sleep(time.Millisecond)
				}
				events := readAll(t, l.dir, 0)
				resumed, want := events[len(events)-1], map[OnFull]int{Stop: 4, Count: 0}[policy]
				if !asked {
					want++ // the other one
				}
				if text := fmt.Sprintf("calls refused meanwhile: %d", want); !strings.HasSuffix(resumed.Detail, text) {
					t.Errorf("%q does not end with %q", resumed.Detail, text)
				}
				for _, r := range receipts {
					checkNote(t, policy, r.Written()) // and not of the log that is well again
				}
				if err := noteUse(t, l, 4).Written(); err != nil {
					t.Errorf("after the failure: %v", err)
				}
			})
		}
	}
}

func checkNote(t *testing.T, policy OnFull, err error) {
	t.Helper()
	if policy == Count && err != nil {
		t.Errorf("it is to be counted: %v", err)
	} else if broken := (*WriteError)(nil); policy == Stop && !errors.As(err, &broken) {
		t.Errorf("it is to be refused: %v", err)
	}
}

// TestStrictNotes are fsynced when Note returns.
func TestStrictNotes(t *testing.T) {
	t.Parallel()
	opts := testOptions()
	opts.SyncInterval = time.Hour
	l := openTest(t, memoryDir(t), opts)
	defer l.Close()
	p := DefaultPolicy()
	p.Strict = true
	if err := l.SetPolicy(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		r := noteUse(t, l, i)
		if l.permanentLen() != l.Len() {
			t.Errorf("note %d is not fsynced: %d of %d records are", i, l.permanentLen(), l.Len())
		}
		if err := r.Written(); err != nil {
			t.Error(err)
		}
	}
}
