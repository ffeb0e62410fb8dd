package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Mending a failure takes these steps, each of which can be taken again; all
// but the last two are tried once a second until they succeed.
//
//  1. The file spare is removed, so that there is room for a record.
//  2. Of the records, what a failed fsync may have taken is read back and
//     written anew, and what a failed write left is cut off. Hashes behind the
//     latest checkpoint are computed anew, and an unfinished checkpoint is cut
//     off. After that the files are as if nothing had happened.
//  3. "log.stopped" is recorded, durably.
//  4. The file spare is made anew: the disk takes writes again.
//  5. "log.gap", "log.uncounted" and "log.resumed" are recorded, durably.
//  6. Recording goes on.

// A repair is the mending of one failure. The committer owns it.
type repair struct {
	cause    *WriteError
	stopped  bool  // step 3 is done
	from     int64 // the first record that an fsync failed for
	restored int64 // so many were read back
	lost     int64 // so many were not
}

// spareSize is the room that is kept free for the record of a failure.
const spareSize = 64 << 10

// beginRepair begins the mending of a failure.
func (l *Log) beginRepair() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.repair = repair{cause: l.failed, from: -1}
}

// mendOnce tries to mend the failure, and reports whether that is done.
func (l *Log) mendOnce() bool {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.turnAway()
	if err := l.mend(); err != nil {
		l.logger.Debug("the audit log still cannot be written", "dir", l.dir, "err", err)
		l.saveTally()
		return false
	}
	return true
}

// turnAway answers everybody who came before the failure and still waits.
func (l *Log) turnAway() {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.batch
	l.batch = l.newBatch()
	l.endBatch(b, l.failed)
	l.next = l.tree.n // what was turned away has no number
	if l.waiters != nil {
		l.waiters.err = l.failed
		close(l.waiters.done)
		l.waiters = nil
	}
}

// mend takes all steps. The caller holds writing.
func (l *Log) mend() error {
	if !l.repair.stopped {
		if err := l.disk.remove(filepath.Join(l.dir, spareName)); err != nil {
			return err
		}
	}
	if err := l.mendRecords(); err != nil {
		return err
	}
	if err := l.mendHashes(); err != nil {
		return err
	}
	if err := l.checkpoints.Truncate(l.checkpointsSize); err != nil {
		return err
	}
	if !l.repair.stopped {
		stopped := Event{Kind: Admin, Action: actionStopped, Outcome: OK, Detail: fmt.Sprintf("%v; on-full=%s", l.repair.cause, l.Policy().OnFull)}
		if err := l.writeOwn(stopped); err != nil {
			return err
		}
		l.repair.stopped = true
	}
	if err := l.makeSpare(); err != nil {
		return err
	}
	return l.resume()
}

func (l *Log) makeSpare() error {
	path := filepath.Join(l.dir, spareName)
	if info, err := os.Stat(path); err == nil && info.Size() == spareSize {
		return nil
	}
	return l.disk.writeFile(path, make([]byte, spareSize), 0o600)
}

// mendRecords makes the newest segment end with its last record, and all of it
// permanent.
func (l *Log) mendRecords() error {
	if l.unsynced {
		if err := l.restore(); err != nil {
			return err
		}
	}
	if err := l.records.Truncate(l.size); err != nil {
		l.unsynced = true // its fsync may be what failed
		return err
	}
	l.permanent = mark{l.tree, l.size}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.synced = l.tree.n
	return nil
}

// restore writes anew what was written since the last good fsync. After one
// that failed the kernel may have dropped these pages, or keep them marked as
// clean, so that a second fsync would say nothing of them.
func (l *Log) restore() error {
	if l.repair.from < 0 {
		l.repair.from = l.permanent.tree.n
	}
	path := segmentPath(l.dir, l.segmentNumber())
	same, err := l.readBack(path)
	if err != nil {
		return err
	}
	if !same {
		// What is gone is gone: the log goes on from what it knows.
		l.repair.lost += l.tree.n - l.permanent.tree.n
		l.tree, l.size = l.permanent.tree, l.permanent.size
		l.unsynced = false
		return nil
	}
	if err := l.rewrite(path); err != nil {
		return fmt.Errorf("writing audit records anew: %w", err)
	}
	l.repair.restored = max(l.repair.restored, l.tree.n-l.repair.from)
	l.unsynced = false
	return nil
}

// readBack reports whether the records since the last good fsync can be read
// as they were written.
func (l *Log) readBack(path string) (bool, error) {
	lines, err := linesBetween(path, l.permanent.size, l.size)
	if err != nil {
		return false, err
	}
	defer lines.close()
	tree := l.permanent.tree
	for {
		record, err := lines.next()
		if err == io.EOF {
			return tree.n == l.tree.n && tree.root() == l.tree.root(), nil
		} else if err != nil {
			return false, err
		}
		if !record.whole {
			return false, nil
		}
		tree.push(leafHash(record.text, &l.scratch), nil)
	}
}

// rewrite writes the bytes since the last good fsync where they are, from what
// can be read of them, and fsyncs them.
func (l *Log) rewrite(path string) error {
	source, err := os.Open(path)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := l.disk.openInPlace(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.NewOffsetWriter(target, l.permanent.size), io.NewSectionReader(source, l.permanent.size, l.size-l.permanent.size))
	if err == nil {
		err = target.Sync()
	}
	return errors.Join(err, target.Close())
}

// mendHashes computes the hashes behind the latest checkpoint anew: those
// before it were fsynced when it was signed.
func (l *Log) mendHashes() error {
	if err := l.hashes.Truncate(hashBytes(l.covered.tree.n)); err != nil {
		return err
	}
	l.pending = nil
	lines, err := linesBetween(segmentPath(l.dir, l.segmentNumber()), l.covered.size, l.size)
	if err != nil {
		return err
	}
	defer lines.close()
	tree := l.covered.tree
	var hashes []byte
	for {
		record, err := lines.next()
		if err != nil && err != io.EOF {
			return err
		}
		if err == io.EOF || len(hashes) > 1<<20 {
			if _, werr := l.hashes.Write(hashes); werr != nil {
				return werr
			}
			hashes = hashes[:0]
		}
		if err == io.EOF {
			break
		}
		hashes = tree.push(leafHash(record.text, &l.scratch), hashes)
	}
	if tree.n != l.tree.n || tree.root() != l.tree.root() {
		return fmt.Errorf("records since the latest checkpoint, over %d, read differently from what was written", l.covered.tree.n)
	}
	return nil
}

// linesBetween reads the lines of a file from one offset to another.
func linesBetween(path string, from, to int64) (*lineReader, error) {
	lines := newLineReader([]segmentFile{{path: path}})
	if err := lines.open(); err != nil {
		return nil, err
	}
	lines.size = min(lines.size, to)
	if err := lines.seek(min(from, lines.size)); err != nil {
		return nil, errors.Join(err, lines.close())
	}
	return lines, nil
}

// resume takes the last two steps.
func (l *Log) resume() error {
	l.mu.Lock()
	counted, refused := l.tally, l.refused
	l.tally = tally{}
	l.mu.Unlock()
	r := l.repair
	var events []Event
	if r.from >= 0 {
		events = append(events, Event{Kind: Admin, Action: actionGap, Outcome: OK, Detail: r.gap()})
	}
	if !counted.empty() {
		events = append(events, counted.event())
	}
	events = append(events, Event{
		Kind: Admin, Action: actionResumed, Outcome: OK,
		Detail: fmt.Sprintf("after %s: %v; calls refused meanwhile: %d", l.now().Sub(r.cause.Since).Round(time.Millisecond), r.cause, refused),
	})
	err := l.writeOwn(events...)
	if err == nil {
		err = l.reservation.prepare(l.tree.n)
	}
	if err == nil && !counted.empty() {
		err = l.tallyFile.reset()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		// If the records are there after all, then twice: better than not.
		counted.add(l.tally)
		l.tally = counted
		return err
	}
	l.next = l.tree.n
	l.failing = false
	l.repair = repair{}
	l.logger.Info("the audit log is written again", "dir", l.dir, "since", r.cause.Since, "refused", refused, "uncounted", counted.total())
	return nil
}

// gap says what a failed fsync did.
func (r *repair) gap() string {
	last := r.from + r.restored - 1
	switch {
	case r.lost > 0:
		return fmt.Sprintf("an fsync failed, and %d records from number %d on, which were written and acknowledged as such since the last good one, are lost; other records have their numbers now", r.lost, r.from)
	case r.restored == 0:
		return fmt.Sprintf("an fsync failed; no record had been written since the last good one, up to record %d", r.from-1)
	default:
		return fmt.Sprintf("an fsync failed; records %d to %d, written since the last good one, could be read back and were written anew", r.from, last)
	}
}

// writeOwn records what the log says of itself while nobody else can record,
// durably. The caller holds writing.
func (l *Log) writeOwn(events ...Event) error {
	var lines []byte
	end := l.tree.n
	for i := range events {
		events[i].Seq, events[i].Time = end, l.now()
		lines = append(events[i].AppendJSON(lines), '\n')
		end++
	}
	if err := l.reservation.cover(end); err != nil {
		return err
	}
	if _, err := l.records.Write(lines); err != nil {
		return fmt.Errorf("writing audit records: %w", err)
	}
	l.grow(lines)
	if err := l.records.Sync(); err != nil {
		l.unsynced = true
		return fmt.Errorf("syncing audit records: %w", err)
	}
	l.permanent = mark{l.tree, l.size}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.synced = l.tree.n
	return nil
}

func (l *Log) segmentNumber() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.segment
}

// recordTally records key uses that were counted and have no record of that
// yet: those that came while the log was just being mended, and those of an
// earlier run.
func (l *Log) recordTally() {
	l.mu.Lock()
	counted := l.tally
	if l.failing || counted.empty() {
		l.mu.Unlock()
		return
	}
	l.tally = tally{}
	l.mu.Unlock()
	event := counted.event()
	t, err := l.append(&event)
	if err == nil {
		_, err = l.commit()
	}
	if err == nil {
		err = l.tallyFile.reset()
	}
	if err != nil {
		l.logger.Warn("recording the uncounted key uses", "record", t.seq, "err", err)
		l.mu.Lock()
		defer l.mu.Unlock()
		counted.add(l.tally)
		l.tally = counted
	}
}

// saveTally keeps the count on disk, in room that is there.
func (l *Log) saveTally() {
	l.mu.Lock()
	counted := l.tally
	l.mu.Unlock()
	if counted.empty() {
		return
	}
	if err := l.tallyFile.save(&counted); err != nil {
		l.logger.Warn("keeping the count of key uses without a record", "err", err)
	}
}

// countUse counts a key use that could not be recorded because of err, and
// reports whether it may go on.
func (l *Log) countUse(action string, err error) bool {
	if broken := (*WriteError)(nil); !errors.As(err, &broken) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.policy.OnFull != Count {
		return false
	}
	l.tally.count(action, l.now())
	return true
}

// Uncounted is how many key uses went on without a record and are not on
// record as such yet.
func (l *Log) Uncounted() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tally.total()
}
