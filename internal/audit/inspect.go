package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A state is what inspect found in a directory, nothing of it changed yet.
type state struct {
	signerKey   string // to be made if empty
	verifierKey string
	writePublic bool

	latest          checkpoint // its note is nil if the first is to be made
	checkpointsSize int64      // up to the end of the latest entry
	checkpointsTorn int64      // bytes behind that

	tree     frontier // over the records
	size     int64    // of the records, without a torn tail
	torn     int64    // bytes behind that
	reserved int64    // -1: cannot be told

	rebuilt bool   // hashes.new holds all hashes
	tail    []byte // else: the hashes behind the latest checkpoint
}

// inspect reads the directory and judges it. Damage is a *LossError.
func inspect(dir, origin string) (*state, error) {
	s := &state{}
	s.latest.tree = s.tree.tree() // of no records, until there is a checkpoint
	if err := s.readKeys(dir, origin); err != nil {
		return nil, err
	}
	if err := s.readLatest(dir); err != nil {
		return nil, err
	}
	var err error
	if s.reserved, err = readReserved(dir); err != nil {
		return nil, err
	}
	if err := s.readRecords(dir); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *state) loss(dir, format string, args ...any) error {
	return &LossError{Dir: dir, What: fmt.Sprintf(format, args...), Checkpoint: s.latest.tree}
}

func (s *state) readKeys(dir, origin string) error {
	private, err := readOptional(dir, privateName)
	if err != nil {
		return err
	}
	public, err := readOptional(dir, publicName)
	if err != nil {
		return err
	}
	if private == nil {
		for _, name := range []string{publicName, checkpointsName, firstSegment} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				return s.loss(dir, "%s is there and %s is not", name, privateName)
			}
		}
		return nil
	}
	s.signerKey = strings.TrimSuffix(string(private), "\n")
	s.verifierKey, err = verifierKeyOf(s.signerKey)
	if err != nil {
		return s.loss(dir, "%s is no signer key", privateName)
	}
	if name, _, _ := strings.Cut(s.verifierKey, "+"); name != origin {
		return fmt.Errorf("opening audit log %s: it is the log of %q, not of %q", dir, name, origin)
	}
	if public == nil {
		s.writePublic = true
	} else if string(public) != s.verifierKey+"\n" {
		return s.loss(dir, "%s does not belong to %s", publicName, privateName)
	}
	return nil
}

// readOptional reads a small file; nil if there is none.
func readOptional(dir, name string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("opening audit log: %w", err)
	}
	return data, nil
}

// readLatest reads the latest checkpoint and finds a torn tail behind it.
func (s *state) readLatest(dir string) error {
	f, err := os.Open(filepath.Join(dir, checkpointsName))
	if errors.Is(err, fs.ErrNotExist) {
		// The first checkpoint is made right after the key, before all else.
		for _, name := range []string{publicName, firstSegment, reservedName} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				return s.loss(dir, "%s is there and %s is not", name, checkpointsName)
			}
		}
		return nil
	} else if err != nil {
		return fmt.Errorf("opening audit log: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("opening audit log: %w", err)
	}
	verifier, err := note.NewVerifier(s.verifierKey)
	if err != nil {
		return fmt.Errorf("opening audit log: %w", err)
	}
	// The end of the file has the latest entry, and the end of one before it.
	offset := max(info.Size()-2*maxCheckpoint, 0)
	entries := newCheckpointReader(io.NewSectionReader(f, offset, math.MaxInt64-offset), verifier.Name())
	for {
		e, err := entries.next()
		if err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		offset += e.size
		if e.whole {
			s.latest.note = bytes.Clone(e.note())
			s.checkpointsSize = offset
		}
	}
	s.checkpointsTorn = offset - s.checkpointsSize
	if s.latest.note == nil {
		return s.loss(dir, "no checkpoint can be read")
	}
	if s.latest.tree, err = openCheckpoint(s.latest.note, verifier); err != nil {
		return s.loss(dir, "the latest checkpoint is not signed by %s", privateName)
	}
	return nil
}

// readRecords builds the tree over the records and checks it against the
// latest checkpoint: from the hashes stored under that, if they are sound,
// else from the first record on.
func (s *state) readRecords(dir string) error {
	paths, err := segments(dir)
	if err != nil {
		return s.loss(dir, "%v", err)
	}
	if len(paths) > 1 {
		return fmt.Errorf("opening audit log %s: it has segments that only a later version can append to", dir)
	}
	if quick, err := s.readTail(dir, paths); err != nil || quick {
		return err
	}
	return s.readAll(dir, paths)
}

// readTail is the quick way. It says false, with no error, if it is not open.
func (s *state) readTail(dir string, paths []string) (bool, error) {
	covered := s.latest.tree.N
	if covered == 0 {
		var hashes bytes.Buffer
		err := s.scan(dir, newLineReader(paths), &hashes)
		s.tail = hashes.Bytes()
		return true, err
	}
	f, err := os.Open(filepath.Join(dir, hashesName))
	if err != nil {
		return false, nil
	}
	defer f.Close()
	stored := hashFile{f}
	if s.tree, err = readFrontier(covered, stored); err != nil || s.tree.root() != s.latest.tree.Hash {
		return false, nil
	}
	leaf, err := stored.ReadHashes([]int64{tlog.StoredHashIndex(0, covered-1)})
	if err != nil {
		return false, nil
	}
	lines, err := seekRecord(paths, covered-1)
	if err != nil {
		return false, err
	}
	defer lines.close()
	for {
		record, err := lines.next()
		if err == io.EOF {
			return false, nil
		} else if err != nil {
			return false, err
		}
		seq, ok := parseSeq(record.text)
		if !ok || seq > covered-1 {
			return false, nil
		}
		if seq == covered-1 {
			if !record.whole || tlog.RecordHash(record.text) != leaf[0] {
				return false, nil
			}
			break
		}
	}
	s.size = lines.offset
	var hashes bytes.Buffer // of ten seconds or so
	err = s.scan(dir, lines, &hashes)
	s.tail = hashes.Bytes()
	return true, err
}

// readAll is the thorough way: it leaves the hashes in the file hashes.new.
func (s *state) readAll(dir string, paths []string) error {
	f, err := os.OpenFile(filepath.Join(dir, newHashesName), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("recomputing audit hashes: %w", err)
	}
	s.tree, s.size, s.rebuilt = frontier{}, 0, true
	w := bufio.NewWriterSize(f, 1<<16)
	err = s.scan(dir, newLineReader(paths), w)
	if err == nil {
		err = errors.Join(w.Flush(), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// scan adds the rest of lines to the tree, which stands at their first, and
// writes the hashes that come of it. It tells a torn tail from damage.
func (s *state) scan(dir string, lines *lineReader, hashes io.Writer) error {
	defer lines.close()
	covered := s.latest.tree
	var stored []byte
	for {
		if s.tree.n == covered.N && s.tree.root() != covered.Hash {
			return s.loss(dir, "the first %d records are not those of the checkpoint over them", covered.N)
		}
		record, err := lines.next()
		if err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		event, err := ParseRecord(record.text)
		if err == nil && record.whole && event.Seq != s.tree.n {
			return s.loss(dir, "record %d stands in the place of record %d", event.Seq, s.tree.n)
		}
		if err != nil || !record.whole {
			s.torn = record.size
			if err := s.scanTorn(dir, lines); err != nil {
				return err
			}
			break
		}
		stored = s.tree.push(tlog.RecordHash(record.text), stored[:0])
		if _, err := hashes.Write(stored); err != nil {
			return fmt.Errorf("recomputing audit hashes: %w", err)
		}
		s.size = lines.offset
	}
	if s.tree.n < covered.N {
		return s.loss(dir, "a checkpoint covers %d records, and only %d can be read", covered.N, s.tree.n)
	}
	return nil
}

// scanTorn looks behind a line that is no record. A crash may have left that
// one so, and more like it, but no records behind.
func (s *state) scanTorn(dir string, lines *lineReader) error {
	for {
		record, err := lines.next()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if _, err := ParseRecord(record.text); err == nil {
			return s.loss(dir, "record %d cannot be read, and there are records behind it", s.tree.n)
		}
		s.torn += record.size
	}
}

// recovery says what an unclean stop did, or "" if the log was closed as it
// should be, or is new.
func (s *state) recovery() string {
	var parts []string
	n := s.tree.n
	switch {
	case s.reserved < 0 && n > 0:
		parts = append(parts, fmt.Sprintf("unclean stop; how many records were lost after the first %d cannot be told", n))
	case s.reserved > n:
		parts = append(parts, fmt.Sprintf("unclean stop; %d records are there, and up to %d more may be lost", n, s.reserved-n))
	case s.reserved >= 0 && s.reserved < n:
		parts = append(parts, fmt.Sprintf("more records than the %d that were reserved", s.reserved))
	}
	if s.torn > 0 {
		parts = append(parts, fmt.Sprintf("cut %d bytes of unfinished records", s.torn))
	}
	if s.checkpointsTorn > 0 {
		parts = append(parts, fmt.Sprintf("cut %d bytes of an unfinished checkpoint", s.checkpointsTorn))
	}
	if s.rebuilt {
		parts = append(parts, "recomputed all hashes")
	}
	return strings.Join(parts, "; ")
}
