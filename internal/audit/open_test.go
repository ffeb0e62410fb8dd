package audit

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// A crashed sample has 50 records, a checkpoint over 40 of them, and no clean
// end: what a kill -9 leaves.
func newCrashed(t *testing.T) *sample {
	t.Helper()
	s := &sample{dir: memoryDir(t)}
	l := openTest(t, s.dir, testOptions())
	s.key = l.VerifierKey()
	appendN(t, l, 40)
	sign(t, l)
	appendN(t, l, 10)
	crash(l)
	s.lines = bytes.SplitAfter(s.read(t, firstSegment), []byte("\n"))
	s.lines = s.lines[:len(s.lines)-1]
	if len(s.lines) != 50 {
		t.Fatalf("%d records", len(s.lines))
	}
	return s
}

func (s *sample) append(t *testing.T, name string, data []byte) {
	t.Helper()
	s.write(t, name, append(s.read(t, name), data...))
}

func TestRecovery(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage  func(*testing.T, *sample)
		records int      // before the event
		detail  []string // of the event
	}{
		"killed": {
			func(*testing.T, *sample) {}, 50,
			[]string{"unclean stop; 50 records are there, and up to 206 more may be lost"},
		},
		"torn tail": {
			func(t *testing.T, s *sample) { s.append(t, firstSegment, s.lines[49][:30]) }, 50,
			[]string{"unclean stop", "cut 30 bytes of unfinished records"},
		},
		"torn before its newline": {
			func(t *testing.T, s *sample) {
				data := s.read(t, firstSegment)
				s.write(t, firstSegment, data[:len(data)-1])
			}, 49,
			[]string{"49 records are there, and up to 207 more may be lost", "unfinished records"},
		},
		"tail of zeros": {
			func(t *testing.T, s *sample) { s.append(t, firstSegment, make([]byte, 9000)) }, 50,
			[]string{"cut 9000 bytes of unfinished records"},
		},
		"tail of rubbish lines": {
			func(t *testing.T, s *sample) { s.append(t, firstSegment, []byte("\x00\x00\n\n{\"seq\":51,\n")) }, 50,
			[]string{"cut 15 bytes of unfinished records"},
		},
		"unsigned tail lost": {
			func(t *testing.T, s *sample) { s.writeLines(t, s.lines[:40]) }, 40,
			[]string{"40 records are there, and up to 216 more may be lost"},
		},
		"hashes lost behind the checkpoint": {
			func(t *testing.T, s *sample) {
				s.write(t, hashesName, s.read(t, hashesName)[:tlog.HashSize*tlog.StoredHashCount(40)])
			}, 50,
			[]string{"unclean stop"},
		},
		"hashes garbled behind the checkpoint": {
			func(t *testing.T, s *sample) {
				keep := s.read(t, hashesName)[:tlog.HashSize*tlog.StoredHashCount(40)]
				s.write(t, hashesName, append(keep, make([]byte, 5000)...))
			}, 50,
			[]string{"unclean stop"},
		},
		"hashes cut": {
			func(t *testing.T, s *sample) { s.write(t, hashesName, s.read(t, hashesName)[:100]) }, 50,
			[]string{"recomputed all hashes"},
		},
		"hashes gone": {
			func(t *testing.T, s *sample) {
				if err := os.Remove(filepath.Join(s.dir, hashesName)); err != nil {
					t.Fatal(err)
				}
			}, 50,
			[]string{"recomputed all hashes"},
		},
		"hashes changed": {
			func(t *testing.T, s *sample) {
				hashes := s.read(t, hashesName)
				hashes[len(hashes)/8] ^= 1
				for i := range tlog.HashSize { // a peak of the tree over 40
					hashes[tlog.HashSize*tlog.StoredHashIndex(5, 0)+int64(i)] ^= 1
				}
				s.write(t, hashesName, hashes)
			}, 50,
			[]string{"recomputed all hashes"},
		},
		"torn checkpoint": {
			func(t *testing.T, s *sample) { s.append(t, checkpointsName, []byte(testOrigin+"\n50\n")) }, 50,
			[]string{"cut 21 bytes of an unfinished checkpoint"},
		},
		"no reservation": {
			func(t *testing.T, s *sample) { s.write(t, reservedName, nil) }, 50,
			[]string{"unclean stop; how many records were lost after the first 50 cannot be told"},
		},
		"no public key": {
			func(t *testing.T, s *sample) {
				if err := os.Remove(filepath.Join(s.dir, publicName)); err != nil {
					t.Fatal(err)
				}
			}, 50,
			[]string{"unclean stop"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newCrashed(t)
			c.damage(t, s)
			l := openTest(t, s.dir, testOptions())
			if l.VerifierKey() != s.key {
				t.Error("the key is another")
			}
			appendN(t, l, 5)
			// The hashes must be right again, not only the root.
			sign(t, l)
			latest, err := ParseCheckpoint(l.Checkpoint(), s.key)
			if err != nil {
				t.Fatal(err)
			}
			events := readAll(t, s.dir, 0)
			for _, e := range events {
				proof, err := l.ProveRecord(latest.N, e.Seq)
				if err != nil {
					t.Fatal(err)
				}
				if err := tlog.CheckRecord(proof, latest.N, latest.Hash, e.Seq, tlog.RecordHash(e.AppendJSON(nil))); err != nil {
					t.Errorf("record %d: %v", e.Seq, err)
				}
			}
			closeLog(t, l)
			if len(events) != c.records+1+5 {
				t.Fatalf("%d records, want %d, the event and 5", len(events), c.records)
			}
			event := events[c.records]
			if event.Action != actionRecovered || event.Kind != Admin {
				t.Fatalf("the event is %+v", event)
			}
			for _, part := range c.detail {
				if !strings.Contains(event.Detail, part) {
					t.Errorf("detail %q lacks %q", event.Detail, part)
				}
			}
			if r := verify(t, s.dir, s.key); !r.OK() || r.Recoveries != 1 || r.Warnings != nil {
				t.Errorf("%+v", r)
			}
			// It was recovered once, not for ever.
			l = openTest(t, s.dir, testOptions())
			if l.Len() != int64(len(events)) {
				t.Errorf("%d records after a clean close, had %d", l.Len(), len(events))
			}
			closeLog(t, l)
		})
	}
}

// Wherever the file of records ends after a crash, and in whatever garbage:
// behind the latest checkpoint that is mended, before it that is refused.
func TestAnyCut(t *testing.T) {
	t.Parallel()
	s := newCrashed(t)
	records, reserved := s.read(t, firstSegment), s.read(t, reservedName)
	others := map[string][]byte{hashesName: s.read(t, hashesName), checkpointsName: s.read(t, checkpointsName)}
	signed := len(slices.Concat(s.lines[:40]...))
	rng := rand.New(rand.NewPCG(3, 4))
	for range 60 {
		cut := signed - 500 + rng.IntN(len(records)-signed+501)
		garbage := make([]byte, rng.IntN(2)*rng.IntN(300))
		for i := range garbage {
			garbage[i] = byte(rng.Uint32())
		}
		s.write(t, firstSegment, slices.Concat(records[:cut], garbage))
		s.write(t, reservedName, reserved)
		for name, data := range others {
			s.write(t, name, data)
		}
		l, err := Open(s.dir, testOptions())
		if cut < signed {
			if damage := (*LossError)(nil); !errors.As(err, &damage) {
				t.Fatalf("cut at %d, %d bytes before the end of what was signed: %v", cut, signed-cut, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("cut at %d, %d bytes behind what was signed: %v", cut, cut-signed, err)
		}
		closeLog(t, l)
		whole := int64(bytes.Count(records[:cut], []byte("\n")))
		if r := verify(t, s.dir, s.key); !r.OK() || r.Records != whole+1 || r.Recoveries != 1 {
			t.Fatalf("cut at %d: %+v", cut, r)
		}
	}
}

func TestLossIsRefusedThenAccepted(t *testing.T) {
	t.Parallel()
	remove := func(names ...string) func(*testing.T, *sample) {
		return func(t *testing.T, s *sample) {
			for _, name := range names {
				if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for name, c := range map[string]struct {
		damage func(*testing.T, *sample)
		what   string
	}{
		"signed tail cut": {
			func(t *testing.T, s *sample) { s.writeLines(t, s.lines[:39]) },
			"a checkpoint covers 40 records, and only 39 can be read",
		},
		"signed tail torn": {
			func(t *testing.T, s *sample) { s.writeLines(t, append(slices.Clone(s.lines[:39]), s.lines[39][:9])) },
			"a checkpoint covers 40 records, and only 39 can be read",
		},
		"records gone": {remove(firstSegment), "a checkpoint covers 40 records, and only 0 can be read"},
		"last signed record changed": {
			func(t *testing.T, s *sample) {
				s.lines[39] = bytes.Replace(s.lines[39], []byte("ECDSA"), []byte("EDDSA"), 1)
				s.writeLines(t, s.lines)
			},
			"the first 40 records are not those of the checkpoint over them",
		},
		"early record changed and hashes gone": {
			func(t *testing.T, s *sample) {
				remove(hashesName)(t, s)
				s.lines[3] = bytes.Replace(s.lines[3], []byte("ECDSA"), []byte("EDDSA"), 1)
				s.writeLines(t, s.lines)
			},
			"the first 40 records are not those of the checkpoint over them",
		},
		"record dropped": {
			func(t *testing.T, s *sample) {
				s.writeLines(t, slices.Delete(s.lines, 12, 13))
				remove(hashesName)(t, s)
			},
			"record 13 stands in the place of record 12",
		},
		"unsigned record dropped": {
			func(t *testing.T, s *sample) { s.writeLines(t, slices.Delete(s.lines, 45, 46)) },
			"record 46 stands in the place of record 45",
		},
		"unsigned record unreadable": {
			func(t *testing.T, s *sample) {
				s.lines[45][0] = '['
				s.writeLines(t, s.lines)
			},
			"record 45 cannot be read, and there are records behind it",
		},
		"checkpoints gone":          {remove(checkpointsName), "audit.pub is there and checkpoints is not"},
		"checkpoints and pub gone":  {remove(checkpointsName, publicName), "records.000000 is there and checkpoints is not"},
		"all but keys gone":         {remove(checkpointsName, firstSegment, hashesName, reservedName), "audit.pub is there and checkpoints is not"},
		"key gone":                  {remove(privateName), "audit.pub is there and audit.key is not"},
		"key and public key gone":   {remove(privateName, publicName), "checkpoints is there and audit.key is not"},
		"key is rubbish":            {func(t *testing.T, s *sample) { s.write(t, privateName, []byte("rubbish\n")) }, "audit.key is no signer key"},
		"public key of another log": {func(t *testing.T, s *sample) { s.write(t, publicName, []byte("x+00000000+AAAA\n")) }, "audit.pub does not belong to audit.key"},
		"checkpoints rubbish":       {func(t *testing.T, s *sample) { s.write(t, checkpointsName, make([]byte, 5000)) }, "no checkpoint can be read"},
		"latest checkpoint forged": {
			func(t *testing.T, s *sample) {
				entries := s.entries(t)
				s.append(t, checkpointsName, bytes.Replace(entries[1], []byte("\n40\n"), []byte("\n30\n"), 1))
			},
			"the latest checkpoint is not signed by audit.key",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newCrashed(t)
			c.damage(t, s)
			before := snapshot(t, s.dir)
			_, err := Open(s.dir, testOptions())
			damage := (*LossError)(nil)
			if !errors.As(err, &damage) || damage.What != c.what {
				t.Fatalf("Open: %v, want a LossError: %s", err, c.what)
			}
			if after := snapshot(t, s.dir); after != before {
				t.Errorf("Open changed the directory:\n%s\nbefore:\n%s", after, before)
			}

			opts := testOptions()
			opts.AcceptLoss = true
			l := openTest(t, s.dir, opts)
			appendN(t, l, 3)
			key := l.VerifierKey()
			if key == s.key {
				t.Error("the new log signs with the old key")
			}
			closeLog(t, l)
			events := readAll(t, s.dir, 0)
			if len(events) != 4 || events[0].Action != actionLoss || !strings.Contains(events[0].Detail, c.what) || !strings.Contains(events[0].Detail, "lost.000000") {
				t.Errorf("the new log begins with %+v", events[0])
			}
			if r := verify(t, s.dir, key); !r.OK() || r.Recoveries != 0 {
				t.Errorf("the new log: %+v", r)
			}
			if _, err := os.Stat(filepath.Join(s.dir, "lost.000000", privateName)); err == nil {
				t.Error("the old private key was kept")
			}
			// Accepting is no standing order: a sound log is left alone.
			l = openTest(t, s.dir, opts)
			if l.Len() != 4 || l.VerifierKey() != key {
				t.Errorf("a sound log was put aside")
			}
			closeLog(t, l)
		})
	}
}

// snapshot is the contents of a directory, but for the lock.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range entries {
		if e.Name() == lockName {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %d %x\n", e.Name(), len(data), tlog.RecordHash(data))
	}
	return b.String()
}

// A loss being accepted may be cut short by a crash after any step.
func TestLossResumes(t *testing.T) {
	t.Parallel()
	for name, interrupt := range map[string]func(t *testing.T, s *sample){
		"after the decision": func(t *testing.T, s *sample) {
			part := filepath.Join(s.dir, lossPart)
			if err := errors.Join(os.Mkdir(part, 0o700), os.WriteFile(filepath.Join(part, lossReason), []byte("because\n"), 0o600)); err != nil {
				t.Fatal(err)
			}
		},
		"among the moves": func(t *testing.T, s *sample) {
			part := filepath.Join(s.dir, lossPart)
			if err := errors.Join(os.Mkdir(part, 0o700), os.WriteFile(filepath.Join(part, lossReason), []byte("because\n"), 0o600),
				os.Remove(filepath.Join(s.dir, privateName)), os.Rename(filepath.Join(s.dir, firstSegment), filepath.Join(part, firstSegment))); err != nil {
				t.Fatal(err)
			}
		},
		"after the moves": func(t *testing.T, s *sample) {
			if _, err := beginLoss(s.dir, &LossError{What: "because"}); err != nil {
				t.Fatal(err)
			}
		},
		"after the event": func(t *testing.T, s *sample) {
			if _, err := beginLoss(s.dir, &LossError{What: "because"}); err != nil {
				t.Fatal(err)
			}
			l := openTest(t, s.dir, testOptions())
			closeLog(t, l)
			if err := os.Rename(filepath.Join(s.dir, "lost.000000"), filepath.Join(s.dir, lossPart)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newCrashed(t)
			interrupt(t, s)
			l := openTest(t, s.dir, testOptions()) // decided already: no need to say it again
			key := l.VerifierKey()
			closeLog(t, l)
			events := readAll(t, s.dir, 0)
			if len(events) != 1 || events[0].Action != actionLoss || !strings.Contains(events[0].Detail, "because") {
				t.Errorf("records %+v", events)
			}
			if r := verify(t, s.dir, key); !r.OK() || r.Records != 1 {
				t.Errorf("%+v", r)
			}
			// What was put aside is all there, to be verified with the old key.
			if r := verify(t, filepath.Join(s.dir, "lost.000000"), s.key); !r.OK() || r.Records != 50 {
				t.Errorf("put aside: %+v", r)
			}
		})
	}
}

// An open that was cut short while it created the log is taken up again.
func TestCreationResumes(t *testing.T) {
	t.Parallel()
	whole := memoryDir(t)
	closeLog(t, openTest(t, whole, testOptions()))
	for _, have := range [][]string{
		{privateName},
		{privateName, checkpointsName},
		{privateName, checkpointsName, publicName},
		{privateName, checkpointsName, publicName, firstSegment},
		{privateName, checkpointsName, publicName, firstSegment, hashesName},
	} {
		dir := memoryDir(t)
		for _, name := range have {
			data, err := os.ReadFile(filepath.Join(whole, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		l := openTest(t, dir, testOptions())
		appendN(t, l, 2)
		key := l.VerifierKey()
		closeLog(t, l)
		if r := verify(t, dir, key); !r.OK() || r.Records != 2 || r.Recoveries != 0 {
			t.Errorf("with %v: %+v", have, r)
		}
	}
}

// Long logs are entered in the middle.
func TestSeek(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	l := openTest(t, dir, testOptions())
	const records = 3000
	for i := range records {
		ev := use(i)
		ev.Detail = strings.Repeat("x", i%900) // 1.5 MB in all
		if err := l.Append(ev); err != nil {
			t.Fatal(err)
		}
	}
	for _, from := range []int64{-1, 0, 1, 2, 777, 1500, 2998, 2999, 3000, 99999} {
		want := int64(records) - min(max(from, 0), records)
		events := readAll(t, dir, from)
		if int64(len(events)) != want || want > 0 && events[0].Seq != max(from, 0) {
			t.Errorf("from %d: %d records, want %d", from, len(events), want)
		}
	}
	path := filepath.Join(dir, firstSegment)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if offset, err := bisect(f, 2000); err != nil || offset == 0 {
		t.Errorf("bisect did not bisect: %d, %v", offset, err)
	}
	closeLog(t, l)
	l = openTest(t, dir, testOptions()) // finds the last signed record by bisection
	if l.Len() != records {
		t.Errorf("%d records after opening again", l.Len())
	}
	closeLog(t, l)

	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] = '\n'
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var last int64
	for e, err := range Records(dir, 0) {
		if err != nil {
			if last < records/4 || last > records-records/4 {
				t.Errorf("the damage was reported after record %d: %v", last, err)
			}
			return
		}
		last = e.Seq
	}
	t.Error("the damage was not reported")
}
