package audit

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A sample is a closed log of 100 records with checkpoints over 0, 10, 20 to
// 90, and the 97 and 100 that it was closed with, twice opened.
type sample struct {
	dir, key string
	lines    [][]byte // the records' lines, with their newlines
}

func newSample(t *testing.T) *sample {
	t.Helper()
	s := &sample{dir: memoryDir(t)}
	l := openTest(t, s.dir, testOptions())
	for range 9 {
		appendN(t, l, 10)
		sign(t, l)
	}
	appendN(t, l, 7)
	closeLog(t, l)
	l = openTest(t, s.dir, testOptions())
	appendN(t, l, 3)
	s.key = l.VerifierKey()
	closeLog(t, l)
	s.lines = bytes.SplitAfter(s.read(t, firstSegment), []byte("\n"))
	s.lines = s.lines[:len(s.lines)-1]
	if r := verify(t, s.dir, s.key); !r.OK() || r.Records != 100 || r.Checkpoints != 12 || r.Warnings != nil || r.Recoveries != 0 {
		t.Fatalf("before any tampering: %+v", r)
	}
	return s
}

func (s *sample) read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (s *sample) write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *sample) writeLines(t *testing.T, lines [][]byte) {
	t.Helper()
	s.write(t, firstSegment, slices.Concat(lines...))
}

// entries are the notes in the file of checkpoints, with their empty lines.
func (s *sample) entries(t *testing.T) [][]byte {
	t.Helper()
	var list [][]byte
	for _, rest := range strings.Split(string(s.read(t, checkpointsName)), testOrigin+"\n")[1:] {
		list = append(list, []byte(testOrigin+"\n"+rest))
	}
	return list
}

// renumber makes the numbers of lines those of their places.
func renumber(t *testing.T, lines [][]byte) [][]byte {
	t.Helper()
	var out [][]byte
	for i, text := range lines {
		e, err := ParseRecord(bytes.TrimSuffix(text, []byte("\n")))
		if err != nil {
			t.Fatal(err)
		}
		e.Seq = int64(i)
		out = append(out, append(e.AppendJSON(nil), '\n'))
	}
	return out
}

func TestVerifyPinpoints(t *testing.T) {
	t.Parallel()
	with := func(at int, texts ...[]byte) func(*testing.T, *sample) [][]byte {
		return func(_ *testing.T, s *sample) [][]byte {
			return slices.Replace(slices.Clone(s.lines), at, at+1, texts...)
		}
	}
	edit := func(at int, from, to string) func(*testing.T, *sample) [][]byte {
		return func(t *testing.T, s *sample) [][]byte {
			changed := bytes.Replace(s.lines[at], []byte(from), []byte(to), 1)
			if bytes.Equal(changed, s.lines[at]) {
				t.Fatal("nothing was changed")
			}
			return with(at, changed)(t, s)
		}
	}
	for name, c := range map[string]struct {
		tamper func(*testing.T, *sample) [][]byte
		want   []string // the findings
		blind  []string // the findings without stored hashes
	}{
		"a field is changed": {
			tamper: edit(42, `"outcome":"ok"`, `"outcome":"no"`),
			want:   []string{"record 42: changed"},
			blind:  []string{"records 40 to 49: at least one is not what the checkpoint over 50 records signed; without sound stored hashes nothing can be said of it or of what follows"},
		},
		"a number is changed": {
			tamper: edit(42, `"seq":42`, `"seq":43`),
			want:   []string{"record 42: it has the number 43"},
		},
		"a number is made huge": {
			tamper: edit(42, `"seq":42`, `"seq":9007199254740991`),
			want:   []string{"record 42: it has the number 9007199254740991"},
		},
		"the last number is made huge": {
			tamper: edit(99, `"seq":99`, `"seq":9007199254740991`),
			want:   []string{"records 99 to 9007199254740990: missing from its place, where record 9007199254740991 stands"},
		},
		"a byte makes a line no JSON": {
			tamper: edit(42, `{`, `[`),
			want:   []string{"record 42: the line is no record"},
		},
		"a line is broken in two": {
			tamper: edit(42, `,"action"`, "\n"),
			want:   []string{"record 42: the line is no record", "record 43: a line before it is no record"},
		},
		"two lines are joined": {
			tamper: edit(42, "\n", " "),
			want:   []string{"record 42: the line is no record", "record 43: missing from its place, where record 44 stands"},
		},
		"a record is dropped": {
			tamper: with(42),
			want:   []string{"record 42: missing from its place, where record 43 stands"},
		},
		"the first is dropped": {
			tamper: with(0),
			want:   []string{"record 0: missing from its place, where record 1 stands"},
		},
		"many are dropped": {
			tamper: func(_ *testing.T, s *sample) [][]byte { return slices.Delete(slices.Clone(s.lines), 8, 55) },
			want:   []string{"records 8 to 54: missing from its place, where record 55 stands"},
		},
		"one is dropped and the rest renumbered": {
			tamper: func(t *testing.T, s *sample) [][]byte {
				return renumber(t, slices.Delete(slices.Clone(s.lines), 42, 43))
			},
			want: []string{"records 42 to 98: changed", "record 99: missing from the end; a checkpoint covers 100 records"},
		},
		"two neighbours are swapped": {
			tamper: func(_ *testing.T, s *sample) [][]byte {
				return slices.Concat(s.lines[:42], [][]byte{s.lines[43], s.lines[42]}, s.lines[44:])
			},
			want: []string{"record 42: missing from its place, where record 43 stands", "record 42: it stands in the place of record 44"},
		},
		"two far apart are swapped": {
			tamper: func(_ *testing.T, s *sample) [][]byte {
				lines := slices.Clone(s.lines)
				lines[5], lines[77] = lines[77], lines[5]
				return lines
			},
			want: []string{"record 5: it has the number 77", "record 77: it has the number 5"},
		},
		"the contents of two are swapped, not their numbers": {
			tamper: func(t *testing.T, s *sample) [][]byte {
				lines := slices.Clone(s.lines)
				lines[5], lines[77] = lines[77], lines[5]
				return renumber(t, lines)
			},
			want: []string{"record 5: changed", "record 77: changed"},
		},
		"a record is there twice": {
			tamper: func(_ *testing.T, s *sample) [][]byte { return slices.Insert(slices.Clone(s.lines), 43, s.lines[42]) },
			want:   []string{"record 42: it stands in the place of record 43"},
		},
		"a line is slipped in": {
			tamper: func(_ *testing.T, s *sample) [][]byte {
				return slices.Insert(slices.Clone(s.lines), 43, []byte("hello\n"))
			},
			want: []string{"record 43: a line before it is no record"},
		},
		"a line is made endless": {
			tamper: func(_ *testing.T, s *sample) [][]byte {
				return slices.Insert(slices.Clone(s.lines), 43, append(bytes.Repeat([]byte("x"), 1<<20), '\n'))
			},
			want: []string{"record 43: a line before it is no record"},
		},
		"the tail is cut off": {
			tamper: func(_ *testing.T, s *sample) [][]byte { return s.lines[:95] },
			want:   []string{"records 95 to 99: missing from the end; a checkpoint covers 100 records"},
		},
		"the tail is cut off within a line": {
			tamper: func(_ *testing.T, s *sample) [][]byte {
				return slices.Concat(s.lines[:95], [][]byte{s.lines[95][:20]})
			},
			want: []string{"records 95 to 99: missing from the end; a checkpoint covers 100 records"},
		},
		"all is cut off": {
			tamper: func(*testing.T, *sample) [][]byte { return nil },
			want:   []string{"records 0 to 99: missing from the end; a checkpoint covers 100 records"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSample(t)
			s.writeLines(t, c.tamper(t, s))
			checkFindings(t, verify(t, s.dir, s.key), c.want)
			if err := os.Remove(filepath.Join(s.dir, hashesName)); err != nil {
				t.Fatal(err)
			}
			if r := verify(t, s.dir, s.key); r.OK() || c.blind != nil && !slices.Equal(findings(r), c.blind) {
				t.Errorf("without stored hashes: found %q, want %q", findings(r), c.blind)
			}
		})
	}
}

func findings(r Report) []string {
	var list []string
	for _, f := range r.Findings {
		list = append(list, f.String())
	}
	return list
}

func checkFindings(t *testing.T, r Report, want []string) {
	t.Helper()
	if got := findings(r); !slices.Equal(got, want) {
		t.Errorf("findings:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// Whatever byte is changed, in records or checkpoints: it is found, and if it
// is in a record, that record is named.
func TestVerifyFindsAnyByte(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	rng := mathrand.New(mathrand.NewPCG(1, 2))
	records, checkpoints := s.read(t, firstSegment), s.read(t, checkpointsName)
	for range 150 {
		at := rng.IntN(len(records))
		bad := bytes.Clone(records)
		bad[at] ^= byte(1 + rng.IntN(255))
		s.write(t, firstSegment, bad)
		number := int64(bytes.Count(records[:at], []byte("\n")))
		r := verify(t, s.dir, s.key)
		// An altered line end is a matter of two lines.
		if !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.First <= number && number <= f.Last+1 }) || len(r.Findings) > 3 {
			t.Errorf("byte %d, %q to %q, in record %d: %q", at, records[at], bad[at], number, findings(r))
		}
	}
	s.write(t, firstSegment, records)
	last := len(s.entries(t)[11])
	for range 100 {
		at := rng.IntN(len(checkpoints) - 1)
		bad := bytes.Clone(checkpoints)
		bad[at] ^= byte(1 + rng.IntN(255))
		s.write(t, checkpointsName, bad)
		r := verify(t, s.dir, s.key)
		unfinished := at >= len(checkpoints)-last && len(r.Warnings) > 0 // as if it had been cut off
		if r.OK() && !unfinished {
			t.Errorf("checkpoints: byte %d, %q to %q, was not found", at, checkpoints[at], bad[at])
		}
	}
}

func TestVerifyHashesAreNoTruth(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	hashes := s.read(t, hashesName)
	for name, bad := range map[string][]byte{
		"cut":     hashes[:1000],
		"empty":   {},
		"damaged": append(append(bytes.Clone(hashes[:1000]), hashes[1000]^1), hashes[1001:]...),
		"zeroed":  make([]byte, len(hashes)),
	} {
		s.write(t, hashesName, bad)
		if r := verify(t, s.dir, s.key); !r.OK() || len(r.Warnings) == 0 {
			t.Errorf("%s: %+v, want no findings and a warning", name, r)
		}
	}

	// Who alters a record and its stored hash alike is found all the same.
	bad := slices.Clone(s.lines)
	bad[42] = bytes.Replace(bad[42], []byte("ECDSA"), []byte("EDDSA"), 1)
	s.writeLines(t, bad)
	var tree frontier
	var forged []byte
	for _, text := range bad {
		forged = tree.push(tlog.RecordHash(bytes.TrimSuffix(text, []byte("\n"))), forged)
	}
	s.write(t, hashesName, forged)
	if r := verify(t, s.dir, s.key); r.OK() || r.Findings[0].First != 40 || r.Findings[0].Last != 49 {
		t.Errorf("forged hashes: %q", findings(r))
	}
}

func TestVerifyCheckpoints(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	entries := s.entries(t)
	if len(entries) != 12 {
		t.Fatalf("%d entries", len(entries))
	}
	otherKey, _, err := note.GenerateKey(rand.Reader, testOrigin)
	if err != nil {
		t.Fatal(err)
	}
	forger, err := note.NewSigner(otherKey)
	if err != nil {
		t.Fatal(err)
	}
	forged := signTest(t, checkpoint{tree: tlog.Tree{N: 100}}, forger)
	for name, c := range map[string]struct {
		entries [][]byte
		want    []string
		warn    string
	}{
		"reordered": {
			slices.Concat(entries[:4], [][]byte{entries[5], entries[4]}, entries[6:]),
			[]string{"checkpoint 6, over 40 records, comes after one over 50"}, "",
		},
		"of another key": {
			slices.Concat(entries[:11], [][]byte{append(forged, '\n')}),
			[]string{"checkpoint 12 is not signed by the log: opening checkpoint: note has no verifiable signatures"}, "3 records after the latest checkpoint are not signed yet",
		},
		"mangled": {
			slices.Concat(entries[:4], [][]byte{[]byte(testOrigin + "\nrubbish\n")}, entries[4:]),
			[]string{"checkpoint 5 cannot be read"}, "",
		},
		"torn":    {slices.Concat(entries, [][]byte{entries[11][:50]}), nil, "the last checkpoint is unfinished"},
		"dropped": {slices.Concat(entries[:1], entries[11:]), nil, ""},
		"none":    {nil, []string{"there is no checkpoint signed by the log"}, ""},
	} {
		s.write(t, checkpointsName, slices.Concat(c.entries...))
		r := verify(t, s.dir, s.key)
		if !slices.Equal(findings(r), c.want) {
			t.Errorf("%s: found %q, want %q", name, findings(r), c.want)
		}
		if c.warn != "" && !slices.Contains(r.Warnings, c.warn) {
			t.Errorf("%s: warned of %q, want %q", name, r.Warnings, c.warn)
		}
	}
}

func TestVerifyBoundsFindings(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	l := openTest(t, dir, testOptions())
	const records = 500
	appendN(t, l, records)
	key := l.VerifierKey()
	closeLog(t, l)
	path := filepath.Join(dir, firstSegment)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	for i := 0; i < records; i += 2 { // every other one
		lines[i] = bytes.Replace(lines[i], []byte("ECDSA"), []byte("EDDSA"), 1)
	}
	if err := os.WriteFile(path, slices.Concat(lines...), 0o600); err != nil {
		t.Fatal(err)
	}
	r := verify(t, dir, key)
	if len(r.Findings) != maxFindings || r.Omitted != records/2-maxFindings {
		t.Errorf("%d findings and %d omitted, want %d and %d", len(r.Findings), r.Omitted, maxFindings, records/2-maxFindings)
	}
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	if _, err := Verify(s.dir, "no key"); err == nil {
		t.Error("a bad verifier key was accepted")
	}
	if _, err := Verify(filepath.Join(s.dir, "none"), s.key); err == nil {
		t.Error("a missing directory was accepted")
	}
	_, wrong, err := note.GenerateKey(rand.Reader, testOrigin)
	if err != nil {
		t.Fatal(err)
	}
	if r := verify(t, s.dir, wrong); r.OK() || r.Checkpoints != 0 {
		t.Errorf("the wrong key: %+v", r)
	}
}

// The frontier is tlog's tree, hash for hash, at every size.
func TestFrontierIsTlog(t *testing.T) {
	t.Parallel()
	var f frontier
	var stored []byte
	for n := range int64(300) {
		reader := hashFile{bytes.NewReader(stored)}
		want, err := tlog.TreeHash(n, reader)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.root(); got != want {
			t.Fatalf("root over %d: %v, want %v", n, got, want)
		}
		again, err := readFrontier(n, reader)
		if err != nil || again.root() != want {
			t.Fatalf("frontier read at %d: %v, %v", n, again.root(), err)
		}
		hashes, err := tlog.StoredHashes(n, big.NewInt(n).Bytes(), reader)
		if err != nil {
			t.Fatal(err)
		}
		before := len(stored)
		stored = f.push(hashes[0], stored)
		if got := fmt.Sprintf("%x", stored[before:]); got != fmt.Sprintf("%x", slices.Concat(asBytes(hashes)...)) {
			t.Fatalf("hashes of leaf %d: %s", n, got)
		}
		if int64(len(stored)) != tlog.HashSize*tlog.StoredHashCount(n+1) {
			t.Fatalf("%d bytes stored after leaf %d", len(stored), n)
		}
	}
}

func asBytes(hashes []tlog.Hash) [][]byte {
	var list [][]byte
	for i := range hashes {
		list = append(list, hashes[i][:])
	}
	return list
}
