package audit

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Verify checks a log, or a copy of its directory, with nothing but its
// verifier key (the line of audit.pub, which should come from elsewhere than
// the copy). It recomputes every leaf and root, checks every checkpoint's
// signature and root, and says which records were changed, dropped or moved:
// exactly, where the stored hashes are sound, and otherwise between which two
// checkpoints. The error is for what could not be read, never for what was
// found.
//
// archives are directories that [Log.Archive] moved segments to: with them the
// whole is verified. Without, verification begins at the frontier that the log
// keeps in their place, whose root is signed: Report.Archived records are not
// looked at. An archive's directory alone can be verified as well.
//
// It needs little memory and takes no lock. On a log in use it is right as
// well; of such a log, copy the checkpoints before the records, and not while
// segments are archived.
func Verify(dir, verifierKey string, archives ...string) (Report, error) {
	verifier, err := note.NewVerifier(verifierKey)
	if err != nil {
		return Report{}, fmt.Errorf("verifying audit log: parsing verifier key: %w", err)
	}
	for _, d := range append([]string{dir}, archives...) {
		if err := regularFiles(d); err != nil {
			return Report{}, fmt.Errorf("verifying audit log: %w", err)
		}
	}
	checkpoints, err := os.Open(filepath.Join(dir, checkpointsName))
	if err != nil {
		return Report{}, fmt.Errorf("verifying audit log: %w", err)
	}
	defer checkpoints.Close()
	// What the log writes from now on is not covered by these checkpoints.
	info, err := checkpoints.Stat()
	if err != nil {
		return Report{}, fmt.Errorf("verifying audit log: %w", err)
	}
	v := &verification{
		verifier: verifier,
		entries:  newCheckpointReader(io.LimitReader(checkpoints, info.Size()), verifier.Name()),

		witnessEnd: -1,
	}
	files, start, err := v.sources(append([]string{dir}, archives...))
	if err != nil {
		return Report{}, fmt.Errorf("verifying audit log: %w", err)
	}
	v.lines = newLineReader(files)
	v.tree, v.compare = start, start.n
	v.report.Archived, v.report.Segments = start.n, len(files)
	v.witness = openWitness(dir, files, start)
	if v.witness == nil {
		v.witnessEnd = start.n
	}
	defer v.witness.close()
	defer v.lines.close()
	if err := v.run(start.n); err != nil {
		return Report{}, fmt.Errorf("verifying audit log: %w", err)
	}
	return v.report, nil
}

// A verification walks records, stored hashes and checkpoints side by side.
//
// The records alone decide whether the log is sound: tree is built from them
// and compared with each checkpoint. The stored hashes are a witness: as long
// as the tree over their leaves has the root that was signed, each leaf is
// proven to be that of the true record, and a record that differs from it is
// the one that was changed.
type verification struct {
	verifier note.Verifier
	report   Report

	entries *checkpointReader
	due     checkpoint // the next one to be compared
	some    bool       // there is one
	entry   int64      // entries read

	lines *lineReader
	ahead line // one line of look-ahead
	text  [2][]byte
	more  bool

	tree    frontier
	astray  bool  // tree is not that of the log any more
	compare int64 // records up to here agree with a checkpoint, or their difference was told

	witness    *witness
	witnessEnd int64     // the first record that it had no sound hash for; -1 if that did not happen
	suspects   []Finding // records unlike the witness's leaves, behind compare
	unlisted   int64     // suspects beyond maxFindings
}

// run verifies from record number position on; it is the number that the next
// line should have.
func (v *verification) run(position int64) error {
	if err := v.nextCheckpoint(); err != nil {
		return err
	}
	for v.some && v.due.tree.N < position { // over archived records: the signature is all there is
		if err := v.nextCheckpoint(); err != nil {
			return err
		}
	}
	if err := v.checkRoots(position); err != nil {
		return err
	}
	if err := v.look(); err != nil {
		return err
	}
	for v.more {
		current := line{text: append(v.text[0][:0], v.ahead.text...), size: v.ahead.size, whole: v.ahead.whole}
		v.text[0] = current.text
		if err := v.look(); err != nil {
			return err
		}
		if !current.whole && !v.more {
			v.warn("the last line is unfinished: %d bytes", current.size)
			break
		}
		var err error
		if position, err = v.line(position, current); err != nil {
			return err
		}
	}
	return v.finish(position)
}

// look reads the line after the current one into v.ahead.
func (v *verification) look() error {
	got, err := v.lines.next()
	v.more = err == nil
	if err == io.EOF {
		return nil
	}
	v.ahead = got
	return err
}

// line judges a line where record number position should be, and returns the
// number that should come next.
func (v *verification) line(position int64, current line) (int64, error) {
	event, err := ParseRecord(current.text)
	after, known := int64(-1), false
	if v.more {
		after, known = parseSeq(v.ahead.text)
	}
	switch {
	case err == nil && event.Seq == position:
		v.report.Records++
		v.notice(event)
		return position + 1, v.leaf(position, current.text)

	case err != nil && known && after == position:
		v.find(position, position, "a line before it is no record")
		v.astray = true
		return position, nil

	case err != nil:
		v.find(position, position, "the line is no record")
		return position + 1, v.leaf(position, nil)

	case known && after == position+1:
		v.find(position, position, fmt.Sprintf("it has the number %d", event.Seq))
		return position + 1, v.leaf(position, nil)

	case event.Seq < position:
		v.find(event.Seq, event.Seq, fmt.Sprintf("it stands in the place of record %d", position))
		v.astray = true
		return position, nil

	default:
		v.find(position, event.Seq-1, fmt.Sprintf("missing from its place, where record %d stands", event.Seq))
		if err := v.skip(position, event.Seq); err != nil {
			return 0, err
		}
		v.report.Records++
		return event.Seq + 1, v.leaf(event.Seq, current.text)
	}
}

// notice counts what the log says of itself.
func (v *verification) notice(event Event) {
	switch {
	case event.Kind != Admin:
	case event.Action == actionRecovered:
		v.report.Recoveries++
	case event.Action == actionGap:
		v.report.Gaps++
	case event.Action == actionUncounted:
		v.report.Uncounted++
	case event.Action == actionLoss && event.Seq == 0:
		v.warn("this log was begun after a loss: %s", event.Detail)
	}
}

// skip goes over missing records. What nobody covers need not be counted up
// to, however large a number a forged record has.
func (v *verification) skip(from, to int64) error {
	v.astray = true
	for n := from; n < to && (v.some || v.witness != nil); n++ {
		if err := v.leaf(n, nil); err != nil {
			return err
		}
	}
	return nil
}

// leaf adds record n to the trees, then compares them with the checkpoints
// that are due. text is nil if the record is known not to be the true one.
func (v *verification) leaf(n int64, text []byte) error {
	var hash tlog.Hash
	if text == nil {
		v.astray = true
	} else {
		hash = tlog.RecordHash(text)
	}
	if !v.astray {
		v.tree.push(hash, nil)
	}
	if genuine, ok := v.witness.next(); !ok {
		if v.witness != nil {
			v.witnessEnd = n
		}
		v.dropWitness()
	} else if text != nil && genuine != hash {
		v.suspect(n)
	}
	return v.checkRoots(n + 1)
}

func (v *verification) suspect(n int64) {
	if last := len(v.suspects) - 1; last >= 0 && v.suspects[last].Last == n-1 {
		v.suspects[last].Last = n
	} else if len(v.suspects) < maxFindings {
		v.suspects = append(v.suspects, Finding{First: n, Last: n, What: "changed"})
	} else {
		v.unlisted++
	}
}

func (v *verification) dropWitness() {
	v.witness.close()
	v.witness, v.suspects, v.unlisted = nil, nil, 0
}

// checkRoots compares the trees with every checkpoint over size records.
func (v *verification) checkRoots(size int64) error {
	for v.some && v.due.tree.N == size {
		v.checkRoot()
		if err := v.nextCheckpoint(); err != nil {
			return err
		}
	}
	return nil
}

func (v *verification) checkRoot() {
	size, root := v.due.tree.N, v.due.tree.Hash
	sound := !v.astray && v.tree.root() == root
	if v.witness != nil && v.witness.tree.root() != root {
		if sound {
			v.warn("the stored hashes of the first %d records are damaged", size)
		}
		v.dropWitness()
	}
	switch {
	case sound:
		v.compare = size
		v.suspects, v.unlisted = v.suspects[:0], 0
	case v.witness != nil:
		// The leaves are proven: what is unlike them was changed.
		for _, s := range v.suspects {
			v.find(s.First, s.Last, s.What)
		}
		v.report.Omitted += v.unlisted
		v.suspects, v.unlisted = v.suspects[:0], 0
		v.tree, v.astray, v.compare = v.witness.tree, false, size
	case v.compare >= 0:
		v.find(v.compare, size-1, fmt.Sprintf("at least one is not what the checkpoint over %d records signed; without sound stored hashes nothing can be said of it or of what follows", size))
		v.astray, v.compare = true, -1
	}
}

// nextCheckpoint reads on to the next checkpoint that is signed and in order.
func (v *verification) nextCheckpoint() error {
	for {
		e, err := v.entries.next()
		if err == io.EOF {
			v.some = false
			return nil
		} else if err != nil {
			return err
		}
		v.entry++
		if !e.whole {
			if e.last {
				v.warn("the last checkpoint is unfinished")
				continue
			}
			v.find(-1, -1, fmt.Sprintf("checkpoint %d cannot be read", v.entry))
			continue
		}
		c, err := openCheckpoint(e.note(), v.verifier)
		if err != nil {
			v.find(-1, -1, fmt.Sprintf("checkpoint %d is not signed by the log: %v", v.entry, err))
			continue
		}
		v.report.Checkpoints++
		if v.some && c.tree.N < v.due.tree.N {
			v.find(-1, -1, fmt.Sprintf("checkpoint %d, over %d records, comes after one over %d", v.entry, c.tree.N, v.due.tree.N))
			continue
		}
		v.noticeAnchor(c)
		v.due, v.some = c, true
		v.report.Signed, v.report.Latest = c.tree.N, c.tree
		return nil
	}
}

// noticeAnchor keeps the newest anchor. One that fell says that the other
// store was put back to an earlier state while this log went on.
func (v *verification) noticeAnchor(c checkpoint) {
	if !c.anchored {
		return
	}
	if v.report.Anchored && c.anchor < v.report.Anchor {
		v.warn("checkpoint %d, over %d records, has the anchor %d, and one before it %d: the store that it is about was put back to an earlier state", v.entry, c.tree.N, c.anchor, v.report.Anchor)
	}
	v.report.Anchor, v.report.Anchored = c.anchor, true
}

// finish looks at what is left when the records have ended before number n.
func (v *verification) finish(n int64) error {
	if v.report.Checkpoints == 0 {
		v.find(-1, -1, "there is no checkpoint signed by the log")
		return nil
	}
	// The hashes of what is missing may still tell what was changed before it.
	missing := v.some
	for end := n; v.some && v.witness != nil; end++ {
		if err := v.leaf(end, nil); err != nil {
			return err
		}
	}
	for v.some {
		if err := v.nextCheckpoint(); err != nil {
			return err
		}
	}
	if v.report.Archived > v.report.Signed {
		v.find(-1, -1, fmt.Sprintf("%d records are archived, and the latest checkpoint covers %d", v.report.Archived, v.report.Signed))
	}
	for _, s := range v.suspects {
		v.warn("records %d to %d are unlike their stored hashes; no checkpoint says which are right", s.First, s.Last)
	}
	if missing {
		v.find(n, v.report.Signed-1, fmt.Sprintf("missing from the end; a checkpoint covers %d records", v.report.Signed))
	} else if n > v.report.Signed {
		v.warn("%d records after the latest checkpoint are not signed yet", n-v.report.Signed)
	}
	if v.witnessEnd >= 0 && v.witnessEnd < v.report.Signed {
		v.warn("there are no sound stored hashes for record %d and those after it", v.witnessEnd)
	}
	return nil
}

func (v *verification) find(first, last int64, what string) {
	if end := len(v.report.Findings) - 1; end >= 0 && first >= 0 && v.report.Findings[end].What == what && v.report.Findings[end].Last == first-1 {
		v.report.Findings[end].Last = last
		return
	}
	if len(v.report.Findings) == maxFindings {
		v.report.Omitted++
		return
	}
	v.report.Findings = append(v.report.Findings, Finding{First: first, Last: last, What: what})
}

// maxWarnings bounds the list in a Report.
const maxWarnings = 100

func (v *verification) warn(format string, args ...any) {
	if len(v.report.Warnings) == maxWarnings {
		return
	}
	v.report.Warnings = append(v.report.Warnings, fmt.Sprintf(format, args...))
}

// regularFiles refuses a directory with what is no regular file and has a log
// file's name: a copy that another made may hold a pipe, which never ends.
func regularFiles(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() && !e.Type().IsRegular() {
			return fmt.Errorf("%s is no regular file; copy the log's files themselves", filepath.Join(dir, e.Name()))
		}
	}
	return nil
}
