package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"
)

// readRecords builds the tree over the records and checks it against the
// latest checkpoint: from the hashes stored under that, if they are sound,
// else from the first record on that is not archived.
func (s *state) readRecords(dir string) error {
	files, err := segments(dir)
	if err != nil {
		return s.loss(dir, "%v", err)
	}
	if s.archived != nil {
		// What is archived may still be here: a crash before it was removed, or
		// somebody who put it back.
		for len(files) > 0 && files[0].number < s.archived.segment {
			files = files[1:]
		}
		s.segment = s.archived.segment
	}
	if first := s.segment; len(files) > 0 && files[0].number != first || len(files) == 0 && first > 0 {
		return s.loss(dir, "%s is missing", segmentName(first))
	}
	if len(files) > 0 {
		s.segment = files[len(files)-1].number
	}
	quick, err := s.readTail(dir, files)
	if err == nil && !quick {
		err = s.readAll(dir, files)
	}
	if err == nil {
		s.begin, err = s.beginning(files)
	}
	return err
}

// beginning is the number of the first record of the newest segment.
func (s *state) beginning(files []segmentFile) (int64, error) {
	if len(files) == 0 || s.size == 0 {
		return s.tree.n, nil
	}
	first, _, err := firstSeq(files[len(files)-1].path)
	return first, err
}

// start is the tree before the first record that is not archived.
func (s *state) start() frontier {
	if s.archived == nil {
		return frontier{}
	}
	return s.archived.tree
}

// readTail is the quick way. It says false, with no error, if it is not open.
func (s *state) readTail(dir string, files []segmentFile) (bool, error) {
	covered := s.latest.tree.N
	start := s.start()
	if covered > 0 {
		f, err := os.Open(filepath.Join(dir, hashesName))
		if err != nil {
			return false, nil
		}
		defer f.Close()
		stored := hashFile{f}
		tree, err := readFrontier(covered, stored)
		if err != nil || tree.root() != s.latest.tree.Hash {
			return false, nil
		}
		s.tree = tree
		if covered > start.n {
			lines, err := s.lastCovered(files, stored)
			if lines == nil || err != nil {
				return false, err
			}
			return true, s.scanTail(dir, lines)
		}
	}
	return true, s.scanTail(dir, newLineReader(files))
}

// lastCovered is a reader behind the last record that the latest checkpoint
// covers; nil if that record is not what its stored hash says.
func (s *state) lastCovered(files []segmentFile, stored hashFile) (*lineReader, error) {
	last := s.latest.tree.N - 1
	leaf, err := stored.ReadHashes([]int64{tlog.StoredHashIndex(0, last)})
	if err != nil {
		return nil, nil // the slow way will tell
	}
	lines, err := seekRecord(files, last)
	if err != nil {
		return nil, err
	}
	for {
		record, err := lines.next()
		if err != nil {
			lines.close()
			if err == io.EOF {
				err = nil
			}
			return nil, err
		}
		seq, ok := parseSeq(record.text)
		if ok && seq < last {
			continue
		}
		if !ok || seq > last || !record.whole || tlog.RecordHash(record.text) != leaf[0] {
			return nil, lines.close()
		}
		return lines, nil
	}
}

// scanTail is scan with the hashes kept: of ten seconds or so.
func (s *state) scanTail(dir string, lines *lineReader) error {
	var hashes bytes.Buffer
	err := s.scan(dir, lines, &hashes)
	s.tail = hashes.Bytes()
	return err
}

// readAll is the thorough way: it leaves the hashes in the file hashes.new.
// Those of archived records it takes over as they are, with what the frontier
// says of them.
func (s *state) readAll(dir string, files []segmentFile) error {
	f, err := os.OpenFile(filepath.Join(dir, newHashesName), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("recomputing audit hashes: %w", err)
	}
	s.tree, s.size, s.torn, s.rebuilt = s.start(), 0, 0, true
	w := bufio.NewWriterSize(f, 1<<16)
	err = copyHashes(f, dir, s.tree)
	if err == nil {
		err = s.scan(dir, newLineReader(files), w)
	}
	if err == nil {
		err = errors.Join(w.Flush(), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// copyHashes puts the stored hashes of archived records into f, and leaves it
// at their end. What is missing of them stays zero: proofs that need it will
// fail. The peaks are right in any case.
func copyHashes(f *os.File, dir string, archived frontier) error {
	size := hashBytes(archived.n)
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("recomputing audit hashes: %w", err)
	}
	if old, err := os.Open(filepath.Join(dir, hashesName)); err == nil {
		_, err = io.Copy(f, io.LimitReader(old, size))
		if err = errors.Join(err, old.Close()); err != nil {
			return fmt.Errorf("recomputing audit hashes: %w", err)
		}
	}
	for level, peak := range archived.peaks {
		if archived.n>>level&1 == 1 {
			index := tlog.StoredHashIndex(level, archived.n>>level-1)
			if _, err := f.WriteAt(peak[:], index*tlog.HashSize); err != nil {
				return fmt.Errorf("recomputing audit hashes: %w", err)
			}
		}
	}
	_, err := f.Seek(size, io.SeekStart)
	return err
}

// scan adds the rest of lines to the tree, which stands at their first, and
// writes the hashes that come of it. It tells a torn tail from damage.
func (s *state) scan(dir string, lines *lineReader, hashes io.Writer) error {
	defer lines.close()
	covered := s.latest.tree
	var stored []byte
	at, size := lines.number, lines.offset // of the last record in the tree
	for {
		if s.tree.n == covered.N {
			if s.tree.root() != covered.Hash {
				return s.loss(dir, "the first %d records are not those of the checkpoint over them", covered.N)
			}
			s.covered, s.coveredSegment = mark{s.tree, size}, at
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
		at, size = lines.number, lines.offset
	}
	if s.tree.n < covered.N {
		return s.loss(dir, "a checkpoint covers %d records, and only %d can be read", covered.N, s.tree.n)
	}
	if at == s.segment {
		s.size = size
	}
	return nil
}

// scanTorn looks behind a line that is no record. A crash may have left that
// one so, and more like it, but no records behind; and it leaves it in the
// newest segment, which was begun after all before it was fsynced.
func (s *state) scanTorn(dir string, lines *lineReader) error {
	for {
		if lines.number != s.segment {
			return s.loss(dir, "record %d cannot be read, in %s, which is not the newest segment", s.tree.n, segmentName(lines.number))
		}
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
