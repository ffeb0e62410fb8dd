package audit

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A boundary is where archived segments end: what lets the tree go on, and be
// verified, without them. It is kept in the file archived. It proves itself:
// its peaks give the root that its checkpoint signed.
type boundary struct {
	segment    int // the first one that is not archived
	tree       frontier
	checkpoint checkpoint // over exactly the records before that segment
}

const boundaryHeader = "moongate-audit-archived/1"

var errBoundary = errors.New("malformed frontier")

// encode is the file: a header, the lines "segment" and "records", the peaks
// in base64, the largest subtree's first, an empty line, and the checkpoint.
func (b *boundary) encode() []byte {
	text := fmt.Appendf(nil, "%s\nsegment %d\nrecords %d\n", boundaryHeader, b.segment, b.tree.n)
	for level := len(b.tree.peaks) - 1; level >= 0; level-- {
		if b.tree.n>>level&1 == 1 {
			text = fmt.Appendf(text, "%v\n", b.tree.peaks[level])
		}
	}
	text = append(text, '\n')
	return append(text, b.checkpoint.note...)
}

// parseBoundary accepts exactly what encode writes, signed by the log.
func parseBoundary(data []byte, verifier note.Verifier) (*boundary, error) {
	const maxBoundary = maxCheckpoint + 4096
	head, signed, found := bytes.Cut(data, []byte("\n\n"))
	if !found || len(data) > maxBoundary {
		return nil, errBoundary
	}
	lines := strings.Split(string(head), "\n")
	if len(lines) < 4 || lines[0] != boundaryHeader {
		return nil, errBoundary
	}
	b := &boundary{}
	segment, _ := strings.CutPrefix(lines[1], "segment ")
	var err error
	if b.segment, err = strconv.Atoi(segment); err != nil || b.segment < 1 || b.segment > maxSegment {
		return nil, errBoundary
	}
	records, _ := strings.CutPrefix(lines[2], "records ")
	if b.tree.n, err = strconv.ParseInt(records, 10, 64); err != nil || b.tree.n < 1 || b.tree.n > maxSeq {
		return nil, errBoundary
	}
	peaks := lines[3:]
	for level := len(b.tree.peaks) - 1; level >= 0; level-- {
		if b.tree.n>>level&1 == 0 {
			continue
		}
		if len(peaks) == 0 {
			return nil, errBoundary
		}
		if b.tree.peaks[level], err = tlog.ParseHash(peaks[0]); err != nil {
			return nil, errBoundary
		}
		peaks = peaks[1:]
	}
	if b.checkpoint, err = openCheckpoint(signed, verifier); err != nil {
		return nil, err
	}
	if b.checkpoint.tree != b.tree.tree() {
		return nil, errors.New("the frontier is not that of its checkpoint")
	}
	if !bytes.Equal(b.encode(), data) {
		return nil, errBoundary
	}
	return b, nil
}

// readBoundary reads the file archived in dir; nil if there is none.
func readBoundary(dir string, verifier note.Verifier) (*boundary, error) {
	data, err := readOptional(dir, archivedName)
	if data == nil || err != nil {
		return nil, err
	}
	b, err := parseBoundary(data, verifier)
	if err != nil {
		return nil, &boundaryError{err}
	}
	return b, nil
}

// A boundaryError is about what the file says, not about reading it.
type boundaryError struct{ error }

func (e *boundaryError) Unwrap() error { return e.error }
