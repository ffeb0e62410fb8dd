package audit

import (
	"bytes"
	"context"
	"fmt"
	"time"
)

// commitLoop is the committer: the one goroutine that fsyncs records, writes
// their hashes, signs checkpoints, begins segments and mends what a failure
// left. It returns when stop is closed, after a last sync and checkpoint.
func (l *Log) commitLoop() {
	defer close(l.stopped)
	ticker := time.NewTicker(l.checkpointInterval)
	defer ticker.Stop()
	timer, signing, retry := stoppedTimer(), stoppedTimer(), stoppedTimer()
	defer timer.Stop()
	defer signing.Stop()
	defer retry.Stop()
	var asking []chan<- error // those who want a checkpoint
	answer := func(err error) {
		for _, c := range asking {
			c <- err // it has room
		}
		asking = nil
	}
	for {
		select {
		case <-l.wrote:
			timer.Reset(l.syncInterval)
		case <-timer.C:
			l.commit()
		case <-l.hurry:
			l.commit()
		case <-l.full:
			l.rotate()
		case <-ticker.C:
			l.recordTally()
			l.checkpoint()
		case c := <-l.demands:
			asking = append(asking, c)
			if wait := l.untilDue(); wait <= 0 {
				answer(l.checkpoint())
			} else if len(asking) == 1 {
				signing.Reset(wait)
			}
		case <-signing.C:
			answer(l.checkpoint())
		case <-l.trouble:
			l.beginRepair()
			if !l.mendOnce() {
				retry.Reset(l.retry)
			}
		case <-retry.C:
			if !l.mendOnce() {
				retry.Reset(l.retry)
			}
		case <-l.stop:
			answer(l.finish())
			return
		}
	}
}

func stoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// finish is the last work of the committer.
func (l *Log) finish() error {
	l.recordTally()
	err := l.checkpoint()
	if err != nil {
		l.saveTally()
	}
	return err
}

// untilDue is how long a demand for a checkpoint must wait for its turn.
func (l *Log) untilDue() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.latest.tree.N == l.next || l.failing {
		return 0
	}
	return l.signInterval - time.Since(l.signed)
}

// A round is what a commit makes permanent.
type round struct {
	mark
	hashes  []byte
	waiting *waiters
	err     error
}

// take begins a round, with what is to be written yet. The caller holds
// writing: whoever waits has written before, and so the mark covers his record.
func (l *Log) take() round {
	l.mu.Lock()
	l.fresh = false
	some := len(l.batch.lines) > 0
	l.mu.Unlock()
	if some {
		l.writeBatch()
	}
	r := round{mark: mark{l.tree, l.size}, hashes: l.pending}
	l.pending = l.spareHashes[:0]
	l.spareHashes = nil
	l.mu.Lock()
	defer l.mu.Unlock()
	r.waiting = l.waiters
	l.waiters = nil
	if l.failing {
		r.err = l.failed
	}
	return r
}

// commit makes permanent what is written, tells those who wait for it, and
// writes the hashes. It returns what is permanent now.
func (l *Log) commit() (mark, error) {
	l.writing.Lock()
	r := l.take()
	l.writing.Unlock()
	return r.mark, l.flush(r)
}

func (l *Log) flush(r round) error {
	err := r.err
	if err == nil && r.tree.n > l.permanent.tree.n {
		err = l.syncRecords(r.mark)
	}
	if r.waiting != nil {
		r.waiting.err = err
		close(r.waiting.done)
	}
	if err == nil && len(r.hashes) > 0 {
		if _, err = l.hashes.Write(r.hashes); err != nil {
			err = l.fail(fmt.Errorf("writing audit hashes: %w", err))
		}
	}
	if err == nil {
		if err = l.reservation.prepare(r.tree.n); err != nil {
			err = l.fail(err)
		}
	}
	if cap(r.hashes) <= maxSpare {
		l.spareHashes = r.hashes
	}
	return err
}

func (l *Log) syncRecords(m mark) error {
	if err := l.records.Sync(); err != nil {
		l.unsynced = true
		return l.fail(fmt.Errorf("syncing audit records: %w", err))
	}
	l.permanent = m
	l.mu.Lock()
	defer l.mu.Unlock()
	l.synced = m.tree.n
	return nil
}

// checkpoint commits, and signs the tree if it grew since the last time.
func (l *Log) checkpoint() error {
	m, err := l.commit()
	if err != nil {
		return err
	}
	return l.seal(m)
}

// seal signs the tree at m, whose records are fsynced and whose hashes are
// written. The order is the promise: records, their hashes, then the signature
// over them.
func (l *Log) seal(m mark) error {
	if m.tree.n == l.covered.tree.n {
		return nil
	}
	if err := l.hashes.Sync(); err != nil {
		return l.fail(fmt.Errorf("syncing audit hashes: %w", err))
	}
	c := checkpoint{tree: m.tree.tree()}
	c.anchor, c.anchored = l.nextAnchor()
	if err := c.sign(l.signer); err != nil {
		return l.fail(fmt.Errorf("signing audit checkpoint: %w", err))
	}
	size, err := appendCheckpoint(l.checkpoints, c.note)
	if err != nil {
		return l.fail(err)
	}
	l.checkpointsSize += size
	l.covered = m
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latest, l.signed = c, time.Now()
	return nil
}

// nextAnchor is the anchor of the next checkpoint. It does not fall by itself:
// else a start that was refused because of it would sign it away.
func (l *Log) nextAnchor() (uint64, bool) {
	var now uint64
	if l.anchorNow != nil {
		now = l.anchorNow()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.anchorNow == nil {
		return l.latest.anchor, l.latest.anchored
	}
	if l.latest.anchored && !l.mayFall {
		now = max(now, l.latest.anchor)
	}
	return now, true
}

// appendCheckpoint writes an entry of the file of checkpoints and syncs it; it
// returns the entry's size.
func appendCheckpoint(f appendFile, signed []byte) (int64, error) {
	entry := append(bytes.Clone(signed), '\n')
	if _, err := f.Write(entry); err != nil {
		return 0, fmt.Errorf("writing audit checkpoint: %w", err)
	}
	if err := f.Sync(); err != nil {
		return 0, fmt.Errorf("syncing audit checkpoint: %w", err)
	}
	return int64(len(entry)), nil
}

// rotate closes the segment, under a checkpoint that covers exactly it and
// those before, and begins the next one. Nobody can record meanwhile, for a
// few fsyncs.
func (l *Log) rotate() error {
	if _, err := l.commit(); err != nil { // most of the work, which holds nobody up
		return err
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.size < l.limit {
		return nil
	}
	r := l.take()
	if err := l.flush(r); err != nil {
		return err
	}
	if err := l.seal(r.mark); err != nil {
		return err
	}
	l.nextSegment()
	return nil
}

// nextSegment begins a segment. If it cannot, the old one goes on for a while.
// The caller holds writing, and all records are fsynced.
func (l *Log) nextSegment() {
	l.mu.Lock()
	number, policy := l.segment+1, l.policy
	l.mu.Unlock()
	limit := l.segmentLimit(policy)
	if number > maxSegment {
		l.limit = l.size + limit
		return
	}
	f, err := l.disk.openAppend(segmentPath(l.dir, number))
	if err != nil {
		l.limit = l.size + limit/16 + 1
		l.logger.Warn("the audit log's next segment cannot be begun; the old one goes on", "segment", number, "err", err)
		return
	}
	if err := l.records.Close(); err != nil {
		l.logger.Warn("closing an audit segment", "segment", number-1, "err", err) // it is fsynced
	}
	l.records, l.size, l.limit = f, 0, limit
	l.permanent.size, l.covered.size = 0, 0
	l.mu.Lock()
	defer l.mu.Unlock()
	l.segment, l.begin = number, l.tree.n
}

func (l *Log) segmentLimit(p Policy) int64 {
	if l.segmentBytes > 0 {
		return l.segmentBytes
	}
	return p.SegmentBytes
}

// SignCheckpoint signs a checkpoint over all that was recorded before the
// call, if the latest one does not cover it. At most one is signed a second,
// however many ask: it may take as long as that.
func (l *Log) SignCheckpoint(ctx context.Context) error {
	answer := make(chan error, 1)
	select {
	case l.demands <- answer:
	case <-l.stopped:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
