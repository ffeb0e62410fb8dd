package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"moongate/internal/durable"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Options of a log. Origin and Logger are required.
type Options struct {
	// Origin names the log in its checkpoints and keys, for as long as it
	// lives: "moongate-hsm/<serial>". No white space and no "+".
	Origin string
	Logger *slog.Logger

	SyncInterval       time.Duration    // longest wait of a written record for its fsync; default 100 ms
	CheckpointInterval time.Duration    // between checkpoints of a log that grows; default 10 s
	Now                func() time.Time // default time.Now

	// AcceptLoss is the operator's word that a log which Open refuses with a
	// *LossError shall be put aside, in a directory lost.NNNNNN within the
	// log's, and be followed by a new one with a new key, whose first record
	// says so. It changes nothing when the log is sound.
	AcceptLoss bool
}

// ErrClosed is returned by a log that was closed.
var ErrClosed = errors.New("audit log is closed")

// A Log is open for appending, by this process alone. All methods are safe for
// concurrent use.
//
// After the first failure to write or sync, every call that would record
// something fails with that same error until the log is opened again: what
// cannot be recorded must not be done.
type Log struct {
	dir      string
	now      func() time.Time
	logger   *slog.Logger
	signer   note.Signer
	verifier string
	lock     *durable.Lock

	syncInterval, checkpointInterval time.Duration

	// writing is held by whoever writes a batch; it guards the fields below.
	// It is taken before mu.
	writing sync.Mutex
	records appendFile
	tree    frontier // over the records written
	pending []byte   // stored hashes of records written that are not in the hash file yet
	spare   []byte   // memory for a batch
	dirty   bool     // something was written since the committer last looked

	// mu guards the fields below.
	mu      sync.Mutex
	batch   *batch // being filled
	next    int64  // number of the next record
	synced  int64  // records below it are fsynced
	waiters *waiters
	latest  checkpoint
	err     error // the first failure, for good
	closed  bool

	reservation reservation

	// Owned by the committer's goroutine, see commit.go.
	hashes      appendFile
	checkpoints appendFile
	spareHashes []byte

	proofs *os.File // the hash file, for ReadAt

	wrote   chan struct{} // capacity 1: the first record since a sync was written
	hurry   chan struct{} // capacity 1: somebody waits for a sync
	demands chan chan<- error
	stop    chan struct{} // closed by Close
	stopped chan struct{} // closed by the committer when it returns
}

// An appendFile is what the log needs of its files: each Write lands whole at
// the end or fails, and Sync makes permanent what was written before.
type appendFile interface {
	io.WriteCloser
	Sync() error
}

// diskFile syncs an *os.File without waiting for its time stamps.
type diskFile struct{ *os.File }

func (f diskFile) Sync() error { return durable.SyncData(f.File) }

// A batch collects the lines of callers that arrive while another writes.
type batch struct {
	lines []byte // guarded by Log.mu while it is Log.batch, then the writer's
	done  bool   // written, or failed; guarded by Log.writing
	err   error  // guarded by Log.writing
}

// waiters share one fsync.
type waiters struct {
	done chan struct{} // closed after err was set
	err  error
}

// A checkpoint is a signed note and the tree that it is about.
type checkpoint struct {
	tree tlog.Tree
	note []byte
}

// lineBuffers holds *[]byte for encoding outside of the locks.
var lineBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

// Append records ev. When it returns nil the record is written, so that it
// survives the death of this process, and will be fsynced within
// Options.SyncInterval. Seq and Time of ev are ignored. An event without kind,
// action or outcome is refused and nothing is recorded.
func (l *Log) Append(ev Event) error {
	_, err := l.append(&ev)
	return err
}

// AppendDurable records ev as Append does and returns when it is fsynced;
// callers that wait at the same time share one fsync. If ctx ends before,
// AppendDurable returns its error: the record is there, but a crash may still
// take it.
func (l *Log) AppendDurable(ctx context.Context, ev Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	seq, err := l.append(&ev)
	if err != nil {
		return err
	}
	return l.waitSynced(ctx, seq)
}

func (l *Log) append(ev *Event) (int64, error) {
	if ev.Kind == "" || ev.Action == "" || ev.Outcome == "" {
		return 0, errIncomplete
	}
	buf := lineBuffers.Get().(*[]byte)
	defer lineBuffers.Put(buf)
	body := ev.appendBody((*buf)[:0])
	*buf = body

	l.mu.Lock()
	if err := l.usable(); err != nil {
		l.mu.Unlock()
		return 0, err
	}
	b, seq := l.batch, l.next
	b.lines = appendHead(b.lines, seq, l.now())
	b.lines = append(b.lines, body...)
	b.lines = append(b.lines, '\n')
	l.next++
	l.mu.Unlock()

	// Whoever gets here first writes for all who have come by then; the others
	// find their batch done.
	l.writing.Lock()
	defer l.writing.Unlock()
	if !b.done {
		l.writeBatch()
	}
	return seq, b.err
}

// usable says why nothing can be recorded. The caller holds mu.
func (l *Log) usable() error {
	if l.err != nil {
		return l.err
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
	b, end, err := l.batch, l.next, l.err
	l.batch = &batch{lines: l.spare}
	l.mu.Unlock()
	l.spare = nil

	if err == nil && len(b.lines) > 0 {
		err = l.writeLines(b.lines, end)
	}
	b.done, b.err = true, err
	if cap(b.lines) <= maxSpare {
		l.spare = b.lines[:0]
	}
	b.lines = nil
}

// writeLines appends lines to the file, so that it has end records, and adds
// them to the tree. The caller holds writing.
func (l *Log) writeLines(lines []byte, end int64) error {
	if err := l.reservation.cover(end); err != nil {
		return l.fail(err)
	}
	if _, err := l.records.Write(lines); err != nil {
		return l.fail(fmt.Errorf("writing audit records: %w", err))
	}
	for len(lines) > 0 {
		text, rest, _ := bytes.Cut(lines, []byte("\n"))
		l.pending = l.tree.push(tlog.RecordHash(text), l.pending)
		lines = rest
	}
	if !l.dirty {
		l.dirty = true
		signal(l.wrote)
	}
	return nil
}

// maxSpare bounds the memory that a burst leaves behind.
const maxSpare = 1 << 20

// fail breaks the log with its first error, which it returns.
func (l *Log) fail(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = fmt.Errorf("audit log is broken: %w", err)
		l.logger.Error("audit log is broken; nothing more will be recorded until it is opened again", "dir", l.dir, "err", err)
	}
	return l.err
}

// waitSynced returns when record seq, which is written, is fsynced.
func (l *Log) waitSynced(ctx context.Context, seq int64) error {
	l.mu.Lock()
	if l.synced > seq || l.err != nil {
		defer l.mu.Unlock()
		if l.synced > seq {
			return nil
		}
		return l.err
	}
	if l.waiters == nil {
		l.waiters = &waiters{done: make(chan struct{})}
	}
	w := l.waiters
	l.mu.Unlock()

	signal(l.hurry)
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// signal sets a flag that is a channel of capacity one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Err is the error that broke the log, or nil.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Len is the number of records.
func (l *Log) Len() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// VerifierKey is the public key that checks the log's checkpoints, in the
// encoding of [note.NewVerifier]: the line in audit.pub.
func (l *Log) VerifierKey() string { return l.verifier }

// Checkpoint is the latest signed checkpoint. Whoever keeps it can later
// demand a [Log.ProveTree] from it on, and so notice rewritten history.
func (l *Log) Checkpoint() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.latest.note)
}

// ProveTree proves that the tree of size records, which must not exceed the
// latest checkpoint's, begins with the tree of old records. Check the proof
// with [tlog.CheckTree].
func (l *Log) ProveTree(size, old int64) (tlog.TreeProof, error) {
	if err := l.provable(size); err != nil {
		return nil, err
	}
	return tlog.ProveTree(size, old, hashFile{l.proofs})
}

// ProveRecord proves that record seq is in the tree of size records, which
// must not exceed the latest checkpoint's. Check the proof with
// [tlog.CheckRecord] and the [tlog.RecordHash] of the line.
func (l *Log) ProveRecord(size, seq int64) (tlog.RecordProof, error) {
	if err := l.provable(size); err != nil {
		return nil, err
	}
	return tlog.ProveRecord(size, seq, hashFile{l.proofs})
}

func (l *Log) provable(size int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if size > l.latest.tree.N {
		return fmt.Errorf("no checkpoint covers %d records yet", size)
	}
	return nil
}

// SignCheckpoint signs a checkpoint now, over all that was recorded before the
// call, if the latest one does not cover it.
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

// Close syncs what was written, signs a checkpoint over it and gives the log
// up. Records of calls that had begun before are kept; later ones fail with
// [ErrClosed]. A broken log is closed too; the error is then what broke it.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	l.closed = true
	l.mu.Unlock()

	// Lines of callers that have not got to writing yet: nothing is added to
	// the batch any more, so after this all is written that ever will be.
	l.writing.Lock()
	l.writeBatch()
	l.writing.Unlock()

	close(l.stop)
	<-l.stopped
	err := l.Err()
	if err == nil {
		err = l.reservation.release(l.Len())
	}
	return errors.Join(err, l.closeFiles())
}

func (l *Log) closeFiles() error {
	var errs []error
	for _, f := range []io.Closer{l.records, l.hashes, l.checkpoints, l.proofs} {
		errs = append(errs, f.Close())
	}
	return errors.Join(append(errs, l.lock.Unlock())...)
}
