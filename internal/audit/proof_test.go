package audit

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func TestProofFile(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(memoryDir(t), "audit")
	opts := testOptions()
	opts.Anchor = func() uint64 { return 7 }
	l := openTest(t, dir, opts)
	key := l.VerifierKey()
	appendN(t, l, 20)
	sign(t, l)
	appendN(t, l, 1)
	events := readAll(t, dir, 0)
	for seq := range int64(20) {
		file, err := ProveFile(dir, key, seq)
		if err != nil {
			t.Fatal(err)
		}
		got, err := VerifyProof(file, key)
		if err != nil || got != events[seq] {
			t.Errorf("record %d: %+v, %v", seq, got, err)
		}
	}
	if _, err := ProveFile(dir, key, 20); err == nil || !strings.Contains(err.Error(), "covers records 0 to 19") {
		t.Errorf("a record that no checkpoint covers: %v", err)
	}
	file, err := ProveFile(dir, key, 11)
	if err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	// Every other byte than a proof's is no proof.
	for i := range file {
		bad := bytes.Clone(file)
		bad[i] ^= 1
		if e, err := VerifyProof(bad, key); err == nil {
			t.Errorf("byte %d, %q, changed: %+v", i, file[i], e)
		}
	}
	other := openTest(t, memoryDir(t), testOptions())
	if _, err := VerifyProof(file, other.VerifierKey()); err == nil {
		t.Error("it passed with another log's key")
	}
	closeLog(t, other)
	swapped := bytes.Replace(file, []byte(base64.StdEncoding.EncodeToString(events[11].AppendJSON(nil))), []byte(base64.StdEncoding.EncodeToString(events[12].AppendJSON(nil))), 1)
	if _, err := VerifyProof(swapped, key); err == nil || !strings.Contains(err.Error(), "holds record 12") {
		t.Errorf("with another record's line: %v", err)
	}
}

func TestConsistencyFile(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(memoryDir(t), "audit")
	l := openTest(t, dir, testOptions())
	key := l.VerifierKey()
	kept := [][]byte{l.Checkpoint()}
	for range 6 {
		appendN(t, l, 5)
		sign(t, l)
		kept = append(kept, l.Checkpoint())
	}
	for i, early := range kept {
		file, err := ConsistencyFile(dir, key, early)
		if err != nil {
			t.Fatal(err)
		}
		before, after, err := VerifyConsistency(file, key)
		if err != nil || before.N != int64(5*i) || after.N != 30 {
			t.Errorf("from %d: %d to %d, %v", 5*i, before.N, after.N, err)
		}
		for at := range file {
			if i != 1 {
				break // one file's bytes are enough
			}
			bad := bytes.Clone(file)
			bad[at] ^= 1
			if _, _, err := VerifyConsistency(bad, key); err == nil {
				t.Errorf("byte %d, %q, changed", at, file[at])
			}
		}
	}
	closeLog(t, l)
	// A log whose history is another is not continued by it.
	forged := signTest(t, checkpoint{tree: tlog.Tree{N: 10, Hash: tlog.Hash{1}}}, l.signer)
	if _, err := ConsistencyFile(dir, key, forged); err == nil || !strings.Contains(err.Error(), "rewritten") {
		t.Errorf("a checkpoint of another history: %v", err)
	}
}

// However many ask for a checkpoint, few are signed.
func TestCheckpointFlood(t *testing.T) {
	t.Parallel()
	opts := testOptions()
	opts.signInterval = 50 * time.Millisecond
	l := openTest(t, filepath.Join(memoryDir(t), "audit"), opts)
	key := l.VerifierKey()
	var wg sync.WaitGroup
	var asked atomic.Int64
	start := time.Now()
	for range 8 {
		wg.Go(func() {
			for time.Since(start) < 300*time.Millisecond {
				if err := l.AppendDurable(t.Context(), use(0)); err != nil {
					t.Error(err)
				}
				before := l.Len()
				if err := l.SignCheckpoint(t.Context()); err != nil {
					t.Error(err)
				}
				if c, err := ParseCheckpoint(l.Checkpoint(), key); err != nil || c.N < before {
					t.Errorf("a checkpoint over %d of %d records, %v", c.N, before, err)
				}
				for range 50 {
					if _, err := l.FreshCheckpoint(t.Context()); err != nil {
						t.Error(err)
					}
					asked.Add(1)
				}
			}
		})
	}
	wg.Wait()
	most := int64(time.Since(start)/opts.signInterval) + 3
	dir := l.dir
	closeLog(t, l)
	if r := verify(t, dir, key); !r.OK() || r.Checkpoints > most+1 {
		t.Errorf("%d checkpoints for %d demands, want at most %d: %q", r.Checkpoints, asked.Load(), most+1, findings(r))
	}
}

func TestFreshCheckpoint(t *testing.T) {
	t.Parallel()
	l := openTest(t, filepath.Join(memoryDir(t), "audit"), testOptions())
	defer l.Close()
	size := func() int64 {
		note, proof, err := l.ProveFrom(t.Context(), 0)
		if err != nil || len(proof) > 0 {
			t.Fatal(err)
		}
		c, err := ParseCheckpoint(note, l.VerifierKey())
		if err != nil {
			t.Fatal(err)
		}
		return c.N
	}
	appendN(t, l, 3)
	if n := size(); n != 3 {
		t.Errorf("the first covers %d", n)
	}
	appendN(t, l, 2)
	if n := size(); n != 3 {
		t.Errorf("a fresh one was replaced by one over %d", n)
	}
	l.mu.Lock()
	l.signed = l.signed.Add(-freshFor)
	l.mu.Unlock()
	if n := size(); n != 5 {
		t.Errorf("a stale one was given: over %d", n)
	}
	if _, _, err := l.ProveFrom(t.Context(), 6); err == nil || !strings.Contains(err.Error(), "covers 5 records, fewer than 6") {
		t.Errorf("from a log that is longer: %v", err)
	}
}

func TestAnchor(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(memoryDir(t), "audit")
	opts := testOptions()
	var commits atomic.Uint64
	opts.Anchor = commits.Load
	l := openTest(t, dir, opts)
	key := l.VerifierKey()
	if _, found := l.Anchor(); found {
		t.Error("a new log has an anchor")
	}
	reopen := func(opts Options) {
		closeLog(t, l)
		l = openTest(t, dir, opts)
	}
	commits.Store(41)
	appendN(t, l, 1)
	sign(t, l)
	if got, found, err := CheckpointAnchor(l.Checkpoint(), key); got != 41 || !found || err != nil {
		t.Errorf("the checkpoint's anchor: %d, %v, %v", got, found, err)
	}
	commits.Store(42)
	appendN(t, l, 1)
	reopen(opts)
	if got, found := l.Anchor(); got != 42 || !found {
		t.Errorf("opened again: %d, %v", got, found)
	}
	// Whoever opens the log without a store keeps what it has.
	reopen(testOptions())
	appendN(t, l, 1)
	reopen(opts)
	if got, found := l.Anchor(); got != 42 || !found {
		t.Errorf("after it was opened without a store: %d, %v", got, found)
	}
	appendN(t, l, 1)
	closeLog(t, l)
	if r := verify(t, dir, key); !r.OK() || r.Warnings != nil || r.Anchor != 42 || !r.Anchored {
		t.Errorf("%+v", r)
	}
	commits.Store(7) // put back
	for range 2 {    // refused, and tried again: what was signed is not signed away
		l = openTest(t, dir, opts)
		if got, _ := l.Anchor(); got != 42 {
			t.Errorf("the anchor fell to %d", got)
		}
		appendN(t, l, 1)
		closeLog(t, l)
	}
	if r := verify(t, dir, key); !r.OK() || r.Warnings != nil || r.Anchor != 42 {
		t.Errorf("%+v", r)
	}
	l = openTest(t, dir, opts)
	l.AcceptAnchor()
	appendN(t, l, 1)
	closeLog(t, l)
	l = openTest(t, dir, opts)
	if got, _ := l.Anchor(); got != 7 {
		t.Errorf("after it was accepted: %d", got)
	}
	closeLog(t, l)
	if r := verify(t, dir, key); !r.OK() || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "put back to an earlier state") {
		t.Errorf("%+v", r)
	}
}

// fuzzSigner is the same in every process.
func fuzzSigner(f *testing.F) (note.Signer, string) {
	signerKey, verifierKey, err := note.GenerateKey(zeroes{}, testOrigin)
	if err != nil {
		f.Fatal(err)
	}
	signer, err := note.NewSigner(signerKey)
	if err != nil {
		f.Fatal(err)
	}
	return signer, verifierKey
}

func FuzzProofFile(f *testing.F) {
	signer, key := fuzzSigner(f)
	ev := fullEvent()
	ev.Seq = 0
	line := ev.AppendJSON(nil)
	var tree frontier
	var stored []byte
	stored = tree.push(tlog.RecordHash(line), stored)
	one := signTest(f, checkpoint{tree: tree.tree()}, signer)
	stored = tree.push(tlog.RecordHash([]byte("another")), stored)
	two := signTest(f, checkpoint{tree: tree.tree()}, signer)
	sibling := tlog.Hash(stored[tlog.HashSize:])
	f.Add(append(fmt.Appendf(nil, "%s\nextra %s\nindex 0\n%v\n\n", proofHeader, base64.StdEncoding.EncodeToString(line), sibling), two...))
	f.Add(append(fmt.Appendf(nil, "%s\nextra %s\nindex 0\n\n", proofHeader, base64.StdEncoding.EncodeToString(line)), one...))
	f.Add(append(append(fmt.Appendf(nil, "%s\n%v\n\n", consistencyHeader, sibling), append(bytes.Clone(one), '\n')...), two...))
	f.Fuzz(func(t *testing.T, file []byte) {
		if e, err := VerifyProof(file, key); err == nil && !bytes.Equal(e.AppendJSON(nil), line) {
			t.Errorf("proved a record that nobody signed: %+v", e)
		}
		if before, after, err := VerifyConsistency(file, key); err == nil && before.N > after.N {
			t.Errorf("%v continues %v", after, before)
		}
	})
}

func FuzzBoundary(f *testing.F) {
	signer, key := fuzzSigner(f)
	verifier, err := note.NewVerifier(key)
	if err != nil {
		f.Fatal(err)
	}
	b := boundary{segment: 3}
	for i := range 13 {
		b.tree.push(tlog.Hash{byte(i)}, nil)
	}
	b.checkpoint.tree = b.tree.tree()
	if err := b.checkpoint.sign(signer); err != nil {
		f.Fatal(err)
	}
	if _, err := parseBoundary(b.encode(), verifier); err != nil {
		f.Fatal(err)
	}
	f.Add(b.encode())
	f.Add([]byte(boundaryHeader + "\nsegment 1\nrecords 1\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parseBoundary(data, verifier)
		if err == nil && (got.tree.tree() != b.tree.tree() || !bytes.Equal(got.encode(), data)) {
			t.Errorf("accepted %q", data)
		}
	})
}
