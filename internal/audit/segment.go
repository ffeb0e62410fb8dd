package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// Names in a log's directory.
const (
	segmentPrefix   = "records."
	firstSegment    = segmentPrefix + "000000"
	hashesName      = "hashes"
	newHashesName   = "hashes.new" // hashes being recomputed
	hashesPrefix    = "hashes."    // in an archive: the hashes of one segment
	checkpointsName = "checkpoints"
	reservedName    = "reserved"
	archivedName    = "archived"
	policyName      = "policy"
	uncountedName   = "uncounted"
	spareName       = "spare"
	publicName      = "audit.pub"
	privateName     = "audit.key"
	lockName        = "lock"
)

// maxSegment is the highest number that a segment's name can hold.
const maxSegment = 999_999

// A segmentFile is one file of records.
type segmentFile struct {
	number int
	path   string
}

func segmentName(number int) string { return fmt.Sprintf("%s%06d", segmentPrefix, number) }

func segmentPath(dir string, number int) string { return filepath.Join(dir, segmentName(number)) }

// isSegment reports whether name is records.NNNNNN.
func isSegment(name string) bool {
	_, ok := segmentNumber(name)
	return ok
}

func segmentNumber(name string) (int, bool) {
	digits, found := strings.CutPrefix(name, segmentPrefix)
	if !found || len(digits) != 6 || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	number, err := strconv.Atoi(digits)
	return number, err == nil
}

// findSegments lists the record files in dir by number; there may be gaps.
func findSegments(dir string) ([]segmentFile, error) {
	entries, err := os.ReadDir(dir) // sorted
	if err != nil {
		return nil, fmt.Errorf("listing records: %w", err)
	}
	var files []segmentFile
	for _, e := range entries {
		if number, ok := segmentNumber(e.Name()); ok {
			files = append(files, segmentFile{number, filepath.Join(dir, e.Name())})
		}
	}
	return files, nil
}

// segments lists the record files of a log in order, without gaps. The first
// of them is not number 0 where earlier ones were archived.
func segments(dir string) ([]segmentFile, error) {
	files, err := findSegments(dir)
	if err != nil {
		return nil, err
	}
	for i, f := range files {
		if want := files[0].number + i; f.number != want {
			return nil, fmt.Errorf("listing records: %s is missing", segmentName(want))
		}
	}
	return files, nil
}

// seekRecord positions a reader at or a little before record number seq, or at
// the first record where seq is archived.
func seekRecord(files []segmentFile, seq int64) (*lineReader, error) {
	var failed error
	// The first segment that begins behind seq; the record is in the one before.
	// An empty one, which only the last can be, begins behind everything.
	after := sort.Search(len(files), func(i int) bool {
		first, ok, err := firstSeq(files[i].path)
		if err != nil {
			failed = err
		}
		return !ok || first > seq
	})
	if failed != nil {
		return nil, failed
	}
	lines := newLineReader(files[max(after-1, 0):])
	if len(files) == 0 {
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

// firstSeq is the number of the first record in a file. It says false of a
// file that begins with none.
func firstSeq(path string) (seq int64, ok bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false, fmt.Errorf("reading records: %w", err)
	}
	defer f.Close()
	head := make([]byte, 64)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return 0, false, fmt.Errorf("reading records: %w", err)
	}
	seq, ok = parseSeq(head[:n])
	return seq, ok, nil
}

// lastSeq is the number of the last whole record in the files, or -1.
func lastSeq(files []segmentFile) (int64, error) {
	for i := len(files) - 1; i >= 0; i-- {
		f, err := os.Open(files[i].path)
		if err != nil {
			return 0, fmt.Errorf("reading records: %w", err)
		}
		seq, err := lastSeqOf(f)
		f.Close()
		if seq >= 0 || err != nil {
			return seq, err
		}
	}
	return -1, nil
}

// lastSeqOf reads a file backwards, a window at a time, up to a whole line
// that is a record's.
func lastSeqOf(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("reading records: %w", err)
	}
	window := make([]byte, 2*maxLine)
	for end := info.Size(); end > 0; {
		start := max(end-int64(len(window)), 0)
		n, err := f.ReadAt(window[:end-start], start)
		if err != nil && err != io.EOF {
			return 0, fmt.Errorf("reading records: %w", err)
		}
		text := string(window[:n])
		for {
			newline := strings.LastIndexByte(text, '\n')
			if newline < 0 {
				break
			}
			begin := strings.LastIndexByte(text[:newline], '\n') + 1
			if begin == 0 && start > 0 {
				break // the line began before this window
			}
			if seq, ok := parseSeq([]byte(text[begin:newline])); ok {
				return seq, nil
			}
			text = text[:newline]
		}
		if start == 0 {
			break
		}
		end = start + maxLine // the windows overlap by the longest line
	}
	return -1, nil
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
