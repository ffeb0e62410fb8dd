package audit

import (
	"fmt"
	"time"
)

// commitLoop is the committer: the one goroutine that fsyncs records, writes
// their hashes and signs checkpoints. It returns when stop is closed, after a
// last sync and checkpoint.
func (l *Log) commitLoop() {
	defer close(l.stopped)
	ticker := time.NewTicker(l.checkpointInterval)
	defer ticker.Stop()
	timer := time.NewTimer(l.syncInterval)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-l.wrote:
			timer.Reset(l.syncInterval)
		case <-timer.C:
			l.commit()
		case <-l.hurry:
			l.commit()
		case <-ticker.C:
			l.checkpoint()
		case answer := <-l.demands:
			answer <- l.checkpoint()
		case <-l.stop:
			l.checkpoint()
			return
		}
	}
}

// commit makes permanent what is written, tells those who wait for it, and
// writes the hashes. It returns the tree that is permanent now.
func (l *Log) commit() (frontier, error) {
	// Who waits has written before: the tree taken afterwards has his record.
	l.mu.Lock()
	waiting, err, before := l.waiters, l.err, l.synced
	l.waiters = nil
	l.mu.Unlock()

	l.writing.Lock()
	grown := l.tree
	hashes := l.pending
	l.pending = l.spareHashes[:0]
	l.dirty = false
	l.writing.Unlock()

	if err == nil && grown.n > before {
		err = l.syncRecords(grown.n)
	}
	if waiting != nil {
		waiting.err = err
		close(waiting.done)
	}
	if err == nil && len(hashes) > 0 {
		if _, err = l.hashes.Write(hashes); err != nil {
			err = l.fail(fmt.Errorf("writing audit hashes: %w", err))
		}
	}
	if err == nil {
		if err = l.reservation.prepare(grown.n); err != nil {
			err = l.fail(err)
		}
	}
	l.spareHashes = nil
	if cap(hashes) <= maxSpare {
		l.spareHashes = hashes
	}
	return grown, err
}

func (l *Log) syncRecords(n int64) error {
	if err := l.records.Sync(); err != nil {
		return l.fail(fmt.Errorf("syncing audit records: %w", err))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.synced = n
	return nil
}

// checkpoint commits, and signs the tree if it grew since the last time. The
// order is the promise: records, their hashes, then the signature over them.
func (l *Log) checkpoint() error {
	grown, err := l.commit()
	if err != nil {
		return err
	}
	l.mu.Lock()
	covered := l.latest.tree.N
	l.mu.Unlock()
	if grown.n == covered {
		return nil
	}
	tree := grown.tree()
	if err := l.hashes.Sync(); err != nil {
		return l.fail(fmt.Errorf("syncing audit hashes: %w", err))
	}
	signed, err := signCheckpoint(tree, l.signer)
	if err != nil {
		return l.fail(fmt.Errorf("signing audit checkpoint: %w", err))
	}
	if err := appendCheckpoint(l.checkpoints, signed); err != nil {
		return l.fail(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latest = checkpoint{tree: tree, note: signed}
	return nil
}

// appendCheckpoint writes an entry of the file of checkpoints and syncs it.
func appendCheckpoint(f appendFile, signed []byte) error {
	if _, err := f.Write(append(signed[:len(signed):len(signed)], '\n')); err != nil {
		return fmt.Errorf("writing audit checkpoint: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("syncing audit checkpoint: %w", err)
	}
	return nil
}
