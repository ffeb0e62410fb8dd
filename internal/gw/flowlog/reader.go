package flowlog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"moongate/internal/gw/flow"
)

// maxLine bounds a line; a record's longest fields are names of servers'
// certificates.
const maxLine = 1 << 20

// pollEvery is how often a Reader looks for more.
const pollEvery = 20 * time.Millisecond

// Reader reads the records of a log in their order, and follows it while it is
// written and its files are put aside. It begins with the current file. One
// that falls behind by a whole file misses what was between.
type Reader struct {
	path string
	file *os.File // nil until it exists
	in   *bufio.Reader
	part []byte // of a line whose end is not written yet
	lost uint64
}

// NewReader returns a Reader for the log in a directory, which need not be
// there yet.
func NewReader(dir string) *Reader {
	return &Reader{path: filepath.Join(dir, Name)}
}

// Next returns the next record, and waits for it until ctx is done.
func (r *Reader) Next(ctx context.Context) (*flow.Record, error) {
	for {
		line, err := r.line()
		switch {
		case err != nil:
			return nil, fmt.Errorf("reading the flow log: %w", err)
		case line != nil:
			record, err := r.decode(line)
			if record != nil || err != nil {
				return record, err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

// Lost is the number of records that lines read so far tell to be lost.
func (r *Reader) Lost() uint64 { return r.lost }

// Close closes the file.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

// decode returns nil for a line that tells of a loss.
func (r *Reader) decode(line []byte) (*flow.Record, error) {
	var entry struct {
		flow.Record
		Lost uint64 `json:"lost"`
	}
	if err := json.Unmarshal(line, &entry); err != nil {
		return nil, fmt.Errorf("decoding a line of the flow log: %w", err)
	}
	if entry.Lost > 0 {
		r.lost += entry.Lost
		return nil, nil
	}
	return &entry.Record, nil
}

// line returns the next complete line, or nil if there is none now.
func (r *Reader) line() ([]byte, error) {
	if r.file == nil {
		if err := r.open(); err != nil || r.file == nil {
			return nil, err
		}
	}
	// Asked before the read: what is in a file that was put aside is complete.
	aside, err := r.wasPutAside()
	if err != nil {
		return nil, err
	}
	b, err := r.in.ReadBytes('\n')
	r.part = append(r.part, b...)
	switch {
	case err == nil:
		line := bytes.Clone(r.part)
		r.part = r.part[:0]
		return line, nil
	case !errors.Is(err, io.EOF):
		return nil, err
	case len(r.part) > maxLine:
		return nil, fmt.Errorf("a line is longer than %d bytes", maxLine)
	case aside:
		r.file.Close()
		r.file, r.part = nil, r.part[:0]
		return r.line()
	}
	return nil, nil
}

func (r *Reader) open() error {
	f, err := os.Open(r.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	r.file, r.in = f, bufio.NewReader(f)
	return nil
}

func (r *Reader) wasPutAside() (bool, error) {
	ours, err := r.file.Stat()
	if err != nil {
		return false, err
	}
	current, err := os.Stat(r.path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // put aside, and the next is not there yet
	}
	if err != nil {
		return false, err
	}
	return !os.SameFile(ours, current), nil
}
