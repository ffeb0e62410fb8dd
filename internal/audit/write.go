package audit

import (
	"bytes"
	"context"
	"fmt"
	"sync"
)

// Records are written in batches. A caller adds his line to the batch that is
// being filled, and whoever gets to writing first writes for all who have come
// by then. Append gets there at once; Note leaves that to the holder of its
// receipt, so that the uses whose answers are sent together are written
// together, in one system call.

// lineBuffers holds *[]byte for encoding outside of the locks.
var lineBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

// A Receipt is that of a record which may not be written yet. The zero Receipt
// is of one that is.
type Receipt struct{ batch *batch }

// Written returns nil once the record is written, which it sees to. An error
// is as of [Log.Append].
func (r Receipt) Written() error {
	b := r.batch
	if b == nil {
		return nil
	}
	b.log.await(b)
	return b.noteErr
}

// Note takes down a key use that nobody knows the outcome of yet: it must stay
// so until Written of the receipt has returned nil. The record is written
// then, or with other records, and in any case within Options.SyncInterval.
// Where the policy is strict the record is fsynced when Note returns. All else
// is as with [Log.Append].
func (l *Log) Note(ev Event) (Receipt, error) {
	b, t, err := l.add(&ev, true)
	if err == nil && !t.strict {
		return Receipt{b}, nil
	}
	if err == nil {
		l.await(b)
		if b.err != nil {
			return Receipt{}, b.noteErr
		}
		err = l.waitSynced(context.Background(), t)
	}
	if err != nil && l.countUse(ev.Action, err) {
		err = nil
	}
	return Receipt{}, l.refusing(err)
}

func (l *Log) append(ev *Event) (ticket, error) {
	b, t, err := l.add(ev, false)
	if err != nil {
		return t, err
	}
	l.await(b)
	return t, b.err
}

// add adds a record to the batch that is being filled.
func (l *Log) add(ev *Event, note bool) (*batch, ticket, error) {
	if ev.Kind == "" || ev.Action == "" || ev.Outcome == "" {
		return nil, ticket{}, errIncomplete
	}
	buf := lineBuffers.Get().(*[]byte)
	defer lineBuffers.Put(buf)
	body := ev.appendBody((*buf)[:0])
	*buf = body

	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return nil, ticket{}, err
	}
	b, t := l.batch, ticket{seq: l.next, epoch: l.epoch, strict: l.policy.Strict}
	b.lines = appendHead(b.lines, t.seq, l.now())
	b.lines = append(b.lines, body...)
	b.lines = append(b.lines, '\n')
	if note {
		b.noted = append(b.noted, ev.Action)
	}
	l.next++
	if !l.fresh {
		l.fresh = true
		signal(l.wrote)
	}
	return b, t, nil
}

// await returns when a batch is written, or failed. It writes the batch if
// nobody else has.
func (l *Log) await(b *batch) {
	if b.done.Load() {
		return
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	if !b.done.Load() {
		l.writeBatch()
	}
}

// usable says why nothing can be recorded. The caller holds mu.
func (l *Log) usable() error {
	if l.failing {
		return l.failed
	}
	if l.closed {
		return ErrClosed
	}
	return nil
}

// writeBatch writes the batch being filled and adds it to the tree. The caller
// holds writing.
func (l *Log) writeBatch() {
	l.mu.Lock()
	b, end := l.batch, l.next
	var err error
	if l.failing {
		err = l.failed
	}
	l.batch = l.newBatch()
	l.mu.Unlock()

	if err == nil && len(b.lines) > 0 {
		err = l.writeLines(b.lines, end)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endBatch(b, err)
}

// newBatch returns an empty one, which has the memory of the latest that
// ended. The caller holds writing.
func (l *Log) newBatch() *batch {
	b := &batch{log: l, lines: l.spare.lines, noted: l.spare.noted}
	l.spare = spare{}
	return b
}

// endBatch tells those who wait for a batch what became of it. Key uses that Note
// took are counted where the policy says so: nobody else knows of them all. The
// caller holds writing and mu.
func (l *Log) endBatch(b *batch, err error) {
	b.err, b.noteErr = err, err
	switch {
	case err == nil:
	case l.policy.OnFull == Count:
		b.noteErr = nil
		for _, action := range b.noted {
			l.tally.count(action, l.now())
		}
	default:
		l.refused += int64(len(b.noted))
	}
	if cap(b.lines) <= maxSpare {
		l.spare = spare{b.lines[:0], b.noted[:0]}
	}
	b.lines, b.noted = nil, nil
	b.done.Store(true)
}

// spare is memory for a batch.
type spare struct {
	lines []byte
	noted []string
}

// maxSpare bounds the memory that a burst leaves behind.
const maxSpare = 4 << 20

// writeLines appends lines to the file, so that the log has end records, and
// adds them to the tree. The caller holds writing.
func (l *Log) writeLines(lines []byte, end int64) error {
	if err := l.reservation.cover(end); err != nil {
		return l.fail(err)
	}
	if _, err := l.records.Write(lines); err != nil {
		return l.fail(fmt.Errorf("writing audit records: %w", err))
	}
	l.grow(lines)
	if l.size >= l.limit {
		signal(l.full)
	}
	return nil
}

// grow adds lines that are in the file to the tree. The caller holds writing.
func (l *Log) grow(lines []byte) {
	l.size += int64(len(lines))
	for len(lines) > 0 {
		text, rest, _ := bytes.Cut(lines, []byte("\n"))
		l.pending = l.tree.push(leafHash(text, &l.scratch), l.pending)
		lines = rest
	}
}
