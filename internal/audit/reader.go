package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
)

// Names in a log's directory.
const (
	segmentPrefix   = "records."
	firstSegment    = segmentPrefix + "000000"
	hashesName      = "hashes"
	newHashesName   = "hashes.new" // hashes being recomputed
	checkpointsName = "checkpoints"
	reservedName    = "reserved"
	publicName      = "audit.pub"
	privateName     = "audit.key"
	lockName        = "lock"
)

// segments lists the record files of a log in order, without gaps.
func segments(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir) // sorted
	if err != nil {
		return nil, fmt.Errorf("listing records: %w", err)
	}
	var paths []string
	for _, e := range entries {
		if !isSegment(e.Name()) {
			continue
		}
		if want := fmt.Sprintf("%s%06d", segmentPrefix, len(paths)); e.Name() != want {
			return nil, fmt.Errorf("listing records: %s is missing", want)
		}
		paths = append(paths, filepath.Join(dir, e.Name()))
	}
	return paths, nil
}

// isSegment reports whether name is records.NNNNNN.
func isSegment(name string) bool {
	number, found := strings.CutPrefix(name, segmentPrefix)
	return found && len(number) == 6 && strings.Trim(number, "0123456789") == ""
}

// Records iterates over the records of the log in dir, from record number from
// on, in order. It takes no lock: it may run while the log is written, in this
// process or another, and ends at the last record that was complete when it
// began, or with an error at the first line that is not the record that should
// be there, an unfinished last line excepted. It checks form and numbers, not hashes: for those see
// [Verify].
func Records(dir string, from int64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if err := eachRecord(dir, from, func(e Event) bool { return yield(e, nil) }); err != nil {
			yield(Event{}, err)
		}
	}
}

// eachRecord calls fn for the records from number from on until it says false.
func eachRecord(dir string, from int64, fn func(Event) bool) error {
	from = max(from, 0)
	paths, err := segments(dir)
	if err != nil {
		return err
	}
	lines, err := seekRecord(paths, from)
	if err != nil {
		return err
	}
	defer lines.close()
	for expected := int64(-1); ; {
		line, err := lines.next()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if !line.whole && len(lines.paths) == 0 {
			return nil // unfinished, or being written now
		}
		event, err := ParseRecord(line.text)
		if err != nil {
			return fmt.Errorf("reading record after %d: %w", max(expected, from)-1, err)
		}
		if expected >= 0 && event.Seq != expected {
			return fmt.Errorf("reading record %d: record %d stands in its place", expected, event.Seq)
		}
		expected = event.Seq + 1
		if event.Seq >= from && !fn(event) {
			return nil
		}
	}
}

// seekRecord positions a reader at or a little before record number seq.
func seekRecord(paths []string, seq int64) (*lineReader, error) {
	start := 0
	for i, path := range paths {
		if first, ok, err := firstSeq(path); err != nil {
			return nil, err
		} else if ok && first <= seq {
			start = i
		}
	}
	lines := newLineReader(paths[min(start, len(paths)):])
	if len(paths) == 0 {
		return lines, nil
	}
	if err := lines.open(); err != nil {
		return nil, err
	}
	offset, err := bisect(lines.file, seq)
	if err != nil {
		return nil, errors.Join(err, lines.close())
	}
	if err := lines.seek(offset); err != nil {
		return nil, errors.Join(err, lines.close())
	}
	return lines, nil
}

func firstSeq(path string) (seq int64, ok bool, err error) {
	lines := newLineReader([]string{path})
	defer lines.close()
	line, err := lines.next()
	if err == io.EOF {
		return 0, false, nil
	} else if err != nil {
		return 0, false, err
	}
	seq, ok = parseSeq(line.text)
	return seq, ok, nil
}

// bisectSpan is where bisect stops: what is left is read through.
const bisectSpan = 1 << 16

// bisect finds the offset of a line at or before record seq and not far from
// it. Where it meets what is no record it gives up and says 0: reading from
// there will come upon the damage in order.
func bisect(f *os.File, seq int64) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("seeking record: %w", err)
	}
	low, high := int64(0), info.Size()
	window := make([]byte, 2*maxLine)
	for high-low > bisectSpan {
		middle := low + (high-low)/2
		n, err := f.ReadAt(window, middle)
		if err != nil && err != io.EOF {
			return 0, fmt.Errorf("seeking record: %w", err)
		}
		newline := bytes.IndexByte(window[:n], '\n')
		found, ok := parseSeq(window[newline+1 : n])
		switch {
		case newline < 0 || !ok:
			return 0, nil
		case found <= seq:
			low = middle + int64(newline) + 1
		default:
			high = middle
		}
	}
	return low, nil
}

// A line of a record file.
type line struct {
	text  []byte // without its newline, and cut to maxLine bytes; valid until the next call
	size  int64  // in the file, with its newline
	whole bool   // it ended with a newline
}

// A lineReader reads the lines of several files in order.
type lineReader struct {
	paths []string // still to be opened
	file  *os.File // being read, or nil
	r     *bufio.Reader
	text  []byte

	size   int64 // of file when it was opened
	offset int64 // in file: behind the line that next returned
}

func newLineReader(paths []string) *lineReader {
	return &lineReader{paths: paths, r: bufio.NewReaderSize(nil, 1<<16)}
}

// open opens the next file, to be read up to the size that it has now: a
// reader must not chase a writer.
func (l *lineReader) open() error {
	f, err := os.Open(l.paths[0])
	if err != nil {
		return fmt.Errorf("reading records: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("reading records: %w", err), f.Close())
	}
	l.file, l.paths, l.size = f, l.paths[1:], info.Size()
	return l.seek(0)
}

// seek moves within the open file to where a line begins.
func (l *lineReader) seek(offset int64) error {
	if _, err := l.file.Seek(offset, io.SeekStart); err != nil {
		return fmt.Errorf("seeking record: %w", err)
	}
	l.r.Reset(io.LimitReader(l.file, l.size-offset))
	l.offset = offset
	return nil
}

// next is the next line, or io.EOF after the last of the last file.
func (l *lineReader) next() (line, error) {
	for {
		if l.file == nil && len(l.paths) == 0 {
			return line{}, io.EOF
		}
		if l.file == nil {
			if err := l.open(); err != nil {
				return line{}, err
			}
		}
		got, err := l.read()
		l.offset += got.size
		if err != nil && err != io.EOF || got.whole {
			return got, err
		}
		// The end of this file.
		if err := l.close(); err != nil {
			return line{}, fmt.Errorf("reading records: %w", err)
		}
		if got.size > 0 {
			return got, nil
		}
	}
}

// read is next within one file.
func (l *lineReader) read() (line, error) {
	l.text = l.text[:0]
	for size := int64(0); ; {
		part, err := l.r.ReadSlice('\n')
		size += int64(len(part))
		l.text = append(l.text, part[:min(len(part), maxLine-len(l.text))]...)
		switch {
		case err == nil:
			return line{text: bytes.TrimSuffix(l.text, []byte("\n")), size: size, whole: true}, nil
		case err == io.EOF && size > 0:
			return line{text: l.text, size: size}, nil
		case err != bufio.ErrBufferFull:
			if err != io.EOF {
				err = fmt.Errorf("reading records: %w", err)
			}
			return line{}, err
		}
	}
}

func (l *lineReader) close() error {
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}
