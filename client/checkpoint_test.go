package client

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"moongate/internal/hsm/object"
)

// testLog is an audit log in memory.
type testLog struct {
	t        testing.TB
	signer   note.Signer
	verifier string
	hashes   []tlog.Hash // as tlog.StoredHashes lays them out
	size     int64
}

func newTestLog(t testing.TB, records ...string) *testLog {
	t.Helper()
	private, public, err := note.GenerateKey(rand.Reader, "moongate-hsm/4711")
	if err != nil {
		t.Fatal(err)
	}
	l := &testLog{t: t, verifier: public}
	if l.signer, err = note.NewSigner(private); err != nil {
		t.Fatal(err)
	}
	l.add(records...)
	return l
}

func (l *testLog) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		out[i] = l.hashes[at]
	}
	return out, nil
}

func (l *testLog) add(records ...string) {
	for _, r := range records {
		hashes, err := tlog.StoredHashes(l.size, []byte(r), l)
		if err != nil {
			l.t.Fatal(err)
		}
		l.hashes = append(l.hashes, hashes...)
		l.size++
	}
}

// cut returns the log as it was, to be continued otherwise.
func (l *testLog) cut(size int64) *testLog {
	shorter := *l
	shorter.size, shorter.hashes = size, l.hashes[:tlog.StoredHashCount(size):tlog.StoredHashCount(size)]
	return &shorter
}

func (l *testLog) checkpoint() object.AuditCheckpoint {
	var root tlog.Hash
	if l.size > 0 {
		var err error
		if root, err = tlog.TreeHash(l.size, l); err != nil {
			l.t.Error(err)
		}
	}
	return l.sign(fmt.Sprintf("%s\n%d\n%v\nanchor 7\n", l.signer.Name(), l.size, root))
}

func (l *testLog) sign(text string) object.AuditCheckpoint {
	signed, err := note.Sign(&note.Note{Text: text}, l.signer)
	if err != nil {
		l.t.Error(err)
	}
	return object.AuditCheckpoint{Note: signed, Verifier: l.verifier}
}

func (l *testLog) prove(size uint64) (object.AuditProof, error) {
	if size > uint64(l.size) {
		return object.AuditProof{}, object.Errorf(object.ErrArgumentsBad, "%d records", l.size)
	}
	hashes, err := tlog.ProveTree(l.size, int64(size), l)
	proof := object.AuditProof{Checkpoint: l.checkpoint()}
	for _, h := range hashes {
		proof.Hashes = append(proof.Hashes, h)
	}
	return proof, err
}

func records(n int, kind string) []string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprint(kind, i))
	}
	return list
}

// TestAuditLogMustContinue: what an HSM does to its past, and what a client
// that remembers says of it.
func TestAuditLogMustContinue(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		before int // records when the client first came
		change func(*testLog) *testLog
		err    string // empty: the connection stands
		fix    string
	}{
		{"it stands still", 7, func(l *testLog) *testLog { return l }, "", ""},
		{"it grew", 7, func(l *testLog) *testLog { l.add(records(6, "b")...); return l }, "", ""},
		{"it grew from nothing", 0, func(l *testLog) *testLog { l.add(records(5, "b")...); return l }, "", ""},
		{"it was rolled back", 7, func(l *testLog) *testLog { return l.cut(6) }, "rolled back: it has 6 signed records, and had 7", "evidence"},
		{"it was emptied", 7, func(l *testLog) *testLog { return l.cut(0) }, "rolled back", "evidence"},
		{"its last record was changed", 7, func(l *testLog) *testLog { l = l.cut(6); l.add("other"); return l }, "does not continue", "evidence"},
		{"it was forked and grew", 7, func(l *testLog) *testLog { l = l.cut(5); l.add(records(9, "c")...); return l }, "does not continue", "evidence"},
		{"it has another key", 7, func(l *testLog) *testLog { return newTestLog(l.t, records(20, "a")...) }, "another key", "declared a loss"},
		{"it is hidden", 7, func(*testLog) *testLog { return nil }, "does not show its audit log any more", "find out"},
		{"its signature is another's", 7, func(l *testLog) *testLog {
			other := *newTestLog(l.t, records(9, "a")...)
			other.verifier = l.verifier
			return &other
		}, "checkpoint", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			k := newToken(t)
			k.log = newTestLog(t, records(test.before, "a")...)
			k.run(t)
			config := k.config(t)
			var logged lockedBuffer
			config.Logger = slog.New(slog.NewTextHandler(&logged, nil))
			config.CheckpointFile = filepath.Join(t.TempDir(), "audit.note")
			dial(t, config).Close()
			first, err := os.ReadFile(config.CheckpointFile)
			if err != nil || !strings.Contains(logged.String(), "first sight") || !strings.Contains(logged.String(), k.log.verifier) {
				t.Fatalf("the first sight: %v; log: %s", err, logged.String())
			}
			k.set(func() { k.log = test.change(k.log) })

			c, err := Dial(t.Context(), config)
			if c != nil {
				c.Close()
			}
			results, verifyErr := Verify(t.Context(), config)
			if verifyErr != nil {
				t.Fatal(verifyErr)
			}
			var found StageResult
			for _, r := range results {
				if r.Stage == StageAudit {
					found = r
				}
			}
			second, readErr := os.ReadFile(config.CheckpointFile)
			if readErr != nil {
				t.Fatal(readErr)
			}
			if test.err == "" {
				if err != nil || !found.OK || found.Detail == "" {
					t.Errorf("Dial: %v, Verify: %+v", err, found)
				}
				if want := k.log.checkpoint().Note; !bytes.HasSuffix(second, want) {
					t.Errorf("remembered is\n%s\nwant\n%s", second, want)
				}
				return
			}
			if e, is := errors.AsType[*Error](err); !is || e.Stage != StageAudit || !strings.Contains(err.Error(), test.err) || !strings.Contains(e.Fix, test.fix) || !Unavailable(err) {
				t.Errorf("Dial: %v, want %q and %q", err, test.err, test.fix)
			}
			if found.OK || found.Skipped || found.Err == nil {
				t.Errorf("Verify: %+v", found)
			}
			if !bytes.Equal(first, second) {
				t.Error("what is remembered was replaced")
			}
			// Whoever knows why removes the file.
			if err := os.Remove(config.CheckpointFile); err != nil {
				t.Fatal(err)
			}
			if test.fix != "" {
				dial(t, config)
			}
		})
	}
}

// TestAuditIsCheckedAgain: a connection that lasts notices too.
func TestAuditIsCheckedAgain(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	k.log = newTestLog(t, "a", "b", "c")
	k.run(t)
	config := k.config(t)
	config.CheckpointFile = filepath.Join(t.TempDir(), "audit.note")
	config.CheckpointInterval = 10 * time.Millisecond
	c := dial(t, config)
	k.set(func() { k.log.add("d") })
	for deadline := time.Now().Add(testPatience); ; time.Sleep(time.Millisecond) {
		if s, err := loadCheckpoint(config.CheckpointFile); err != nil {
			t.Fatal(err)
		} else if s.tree.N == 4 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the new checkpoint was not fetched")
		}
	}
	if status := c.Status(); !status.Connected || status.Err != nil {
		t.Errorf("status %+v", status)
	}
	k.set(func() { k.log = k.log.cut(2) })
	for deadline := time.Now().Add(testPatience); c.Status().Stage != StageAudit; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nobody noticed: %+v", c.Status())
		}
	}
}

func TestNoAuditLogIsSaidOnce(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	stop := k.run(t)
	var logged lockedBuffer
	config := k.config(t)
	config.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	config.CheckpointFile = filepath.Join(t.TempDir(), "audit.note")
	c := dial(t, config)
	stop()
	k.run(t)
	if err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(logged.String(), "no audit checkpoint"); n != 1 {
		t.Errorf("it is said %d times", n)
	}
	if _, err := os.Stat(config.CheckpointFile); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a checkpoint was kept: %v", err)
	}
}

func TestCheckpointFileIsRead(t *testing.T) {
	t.Parallel()
	log := newTestLog(t, "a", "b")
	path := filepath.Join(t.TempDir(), "audit.note")
	state, err := verifyCheckpoint(log.checkpoint())
	if err != nil {
		t.Fatal(err)
	}
	if err := saveCheckpoint(path, state); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty":           "",
		"another version": strings.Replace(string(good), "checkpoint 1", "checkpoint 2", 1),
		"cut":             string(good[:len(good)-5]),
		"longer":          string(good) + "x",
		"changed":         strings.Replace(string(good), "\n2\n", "\n3\n", 1),
		"huge":            string(good) + strings.Repeat("x", maxCheckpoint),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := loadCheckpoint(path); err == nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
	// An older one does not replace a newer one.
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	older, err := verifyCheckpoint(log.cut(1).checkpoint())
	if err != nil {
		t.Fatal(err)
	}
	if err := saveCheckpoint(path, older); err != nil {
		t.Fatal(err)
	}
	if s, err := loadCheckpoint(path); err != nil || s.tree.N != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := loadCheckpoint(path + "x"); s != nil || err != nil {
		t.Errorf("no file: %+v, %v", s, err)
	}
	if err := saveCheckpoint(filepath.Join(path, "x"), state); err == nil || fixFor(StageAudit, err) == "" {
		t.Errorf("a file in a file: %v", err)
	}
}

// TestCheckpointText: a good signature does not make a checkpoint of any text.
func TestCheckpointText(t *testing.T) {
	t.Parallel()
	log := newTestLog(t)
	root := tlog.Hash{1}.String()
	for text, ok := range map[string]bool{
		"moongate-hsm/4711\n5\n" + root + "\n":                    true,
		"moongate-hsm/4711\n5\n" + root + "\nmore\nof it\n":       true,
		"moongate-hsm/4712\n5\n" + root + "\n":                    false,
		"moongate-hsm/4711\n05\n" + root + "\n":                   false,
		"moongate-hsm/4711\n-1\n" + root + "\n":                   false,
		"moongate-hsm/4711\n99999999999999999999\n" + root + "\n": false,
		"moongate-hsm/4711\n5\n" + root[1:] + "\n":                false,
		"moongate-hsm/4711\n5\n" + root + "\n\nmore\n":            false,
		"moongate-hsm/4711\n5\n":                                  false,
		"moongate-hsm/4711\n":                                     false,
	} {
		if s, err := verifyCheckpoint(log.sign(text)); (err == nil) != ok {
			t.Errorf("%q: %+v, %v", text, s, err)
		}
	}
}

// FuzzCheckpointFile: what is taken says the same when it is kept again.
func FuzzCheckpointFile(f *testing.F) {
	state, err := verifyCheckpoint(newTestLog(f, "a", "b").checkpoint())
	if err != nil {
		f.Fatal(err)
	}
	good := checkpointHeader + state.Verifier + "\n\n" + string(state.Note)
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add(strings.ReplaceAll(good, "2", "3"))
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseCheckpointFile(text)
		if err != nil {
			return
		}
		if again := checkpointHeader + s.Verifier + "\n\n" + string(s.Note); again != text {
			t.Errorf("%q is kept as %q", text, again)
		}
	})
}

// lockedBuffer is a log for many goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
