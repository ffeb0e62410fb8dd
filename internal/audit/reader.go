package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
)

// Records iterates over the records of the log in dir, from record number from
// on, in order; where that one is archived, from the first that is not. It
// takes no lock: it may run while the log is written, in this process or
// another, and ends at the last record that was complete when it began, or with
// an error at the first line that is not the record that should be there, an
// unfinished last line excepted. It checks form and numbers, not hashes: for
// those see [Verify].
func Records(dir string, from int64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if err := eachRecord(dir, from, func(e Event) bool { return yield(e, nil) }); err != nil {
			yield(Event{}, err)
		}
	}
}

// Tail iterates over the newest n records of the log in dir, oldest first, or
// over fewer where fewer are there. It reads little more than these, however
// long the log is; otherwise it is like [Records].
func Tail(dir string, n int) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		files, err := segments(dir)
		if err != nil {
			yield(Event{}, err)
			return
		}
		last, err := lastSeq(files)
		if err != nil {
			yield(Event{}, err)
			return
		}
		if n > 0 {
			Records(dir, last-int64(n)+1)(yield)
		}
	}
}

// eachRecord calls fn for the records from number from on until it says false.
func eachRecord(dir string, from int64, fn func(Event) bool) error {
	from = max(from, 0)
	files, err := segments(dir)
	if err != nil {
		return err
	}
	lines, err := seekRecord(files, from)
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
		if !line.whole && lines.atLast() {
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

// A line of a record file.
type line struct {
	text  []byte // without its newline, and cut to maxLine bytes; valid until the next call
	size  int64  // in the file, with its newline
	whole bool   // it ended with a newline
}

// A lineReader reads the lines of several files in order.
type lineReader struct {
	files []segmentFile // still to be opened
	file  *os.File      // being read, or nil
	r     *bufio.Reader
	text  []byte

	number int   // of the segment that next returned a line of, or looked into
	size   int64 // of file when it was opened
	offset int64 // in file: behind the line that next returned
}

func newLineReader(files []segmentFile) *lineReader {
	return &lineReader{files: files, r: bufio.NewReaderSize(nil, 1<<16)}
}

// atLast reports whether no file follows the one that is read.
func (l *lineReader) atLast() bool { return len(l.files) == 0 }

// open opens the next file, to be read up to the size that it has now: a
// reader must not chase a writer.
func (l *lineReader) open() error {
	f, err := os.Open(l.files[0].path)
	if err != nil {
		return fmt.Errorf("reading records: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("reading records: %w", err), f.Close())
	}
	l.file, l.number, l.files, l.size = f, l.files[0].number, l.files[1:], info.Size()
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
		if l.file == nil && len(l.files) == 0 {
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
