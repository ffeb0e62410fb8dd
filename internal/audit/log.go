package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"moongate/internal/durable"

	"golang.org/x/mod/sumdb/note"
)

// ErrClosed is returned by a log that was closed.
var ErrClosed = errors.New("audit log is closed")

// A Log is open for appending, by this process alone. All methods are safe for
// concurrent use.
//
// After a failure to write or sync, every call that would record something
// fails with a [*WriteError]: what cannot be recorded must not be done. Only
// key uses go on without a record where the policy says [Count]. The log tries
// once a second to mend what the failure left, and takes records again when it
// can; what happened meanwhile is on record then.
type Log struct {
	dir      string
	now      func() time.Time
	logger   *slog.Logger
	signer   note.Signer
	verifier string
	lock     *durable.Lock
	disk     disk

	anchorNow                                             func() uint64
	syncInterval, checkpointInterval, signInterval, retry time.Duration
	segmentBytes                                          int64 // of a test, or 0

	settings  sync.Mutex // held through SetPolicy; taken before writing
	archiving sync.Mutex // held through Archive; taken before writing

	// writing is held by whoever writes a batch; it guards the fields below.
	// It is taken before mu.
	writing sync.Mutex
	records appendFile // the newest segment
	size    int64      // bytes of records in it, without what a failed write left
	limit   int64      // the size at which it is closed
	tree    frontier   // over the records written
	pending []byte     // stored hashes of records written that are not in the hash file yet
	spare   spare
	scratch []byte // memory for a leaf

	// mu guards the fields below.
	mu      sync.Mutex
	batch   *batch // being filled
	fresh   bool   // something was added to a batch since the committer last looked
	next    int64  // number of the next record
	synced  int64  // records below it are fsynced
	waiters *waiters
	latest  checkpoint
	signed  time.Time   // when it was signed, by this process
	mayFall bool        // the next anchor may be lower than the latest
	segment int         // number of the newest segment
	begin   int64       // number of its first record
	failed  *WriteError // the latest failure
	failing bool        // it lasts
	epoch   int64       // failures so far
	refused int64       // calls refused since the latest failure
	closed  bool
	policy  Policy
	tally   tally // key uses without a record

	reservation reservation
	tallyFile   tallyFile

	// Owned by the committer's goroutine, see commit.go and mend.go.
	hashes          appendFile
	checkpoints     appendFile
	checkpointsSize int64  // size of the file of checkpoints
	permanent       mark   // what the last good fsync of records covers
	covered         mark   // what the latest checkpoint covers
	unsynced        bool   // an fsync of records failed since
	repair          repair // of the failure that lasts
	spareHashes     []byte

	proofs *os.File // the hash file, for ReadAt

	wrote   chan struct{} // capacity 1: the first record since a sync is in a batch
	hurry   chan struct{} // capacity 1: somebody waits for a sync
	full    chan struct{} // capacity 1: the segment has reached its limit
	trouble chan struct{} // capacity 1: a write failed
	demands chan chan<- error
	stop    chan struct{} // closed by Close
	stopped chan struct{} // closed by the committer when it returns
}

// A WriteError says that nothing can be recorded for the time being.
type WriteError struct {
	Since time.Time
	Err   error // the first failure
}

func (e *WriteError) Error() string {
	return fmt.Sprintf("audit log cannot be written since %s: %v", e.Since.UTC().Format(time.RFC3339), e.Err)
}

func (e *WriteError) Unwrap() error { return e.Err }

// A mark is a place in the newest segment: the tree over all records before
// it, and its offset.
type mark struct {
	tree frontier
	size int64
}

// A batch collects the lines of callers that arrive while another writes, and
// of those that wait for the write later. See write.go.
type batch struct {
	log   *Log
	lines []byte   // guarded by Log.mu while it is Log.batch, then the writer's
	noted []string // the actions of those that Note took; guarded likewise
	// done is set when the batch is written, or failed; what follows is not
	// changed then.
	done    atomic.Bool
	err     error
	noteErr error // what Receipt.Written says: nil too where they were counted
}

// waiters share one fsync.
type waiters struct {
	done chan struct{} // closed after err was set
	err  error
}

// A ticket is a record that was written.
type ticket struct {
	seq    int64
	epoch  int64 // failures before
	strict bool  // the policy, then
}

// Append records ev. When it returns nil the record is written, so that it
// survives the death of this process, and will be fsynced within
// Options.SyncInterval; where the policy is strict it is fsynced already. Seq
// and Time of ev are ignored. An event without kind, action or outcome is
// refused and nothing is recorded.
//
// Where the policy is [Count], Append returns nil too for a [Use] that could
// not be recorded, and counts it.
func (l *Log) Append(ev Event) error {
	t, err := l.append(&ev)
	if err == nil && t.strict {
		err = l.waitSynced(context.Background(), t)
	}
	if err != nil && ev.Kind == Use && l.countUse(ev.Action, err) {
		return nil
	}
	return l.refusing(err)
}

// AppendDurable records ev as Append does and returns when it is fsynced;
// callers that wait at the same time share one fsync. If ctx ends before,
// AppendDurable returns its error: the record is there, but a crash may still
// take it. After a [*WriteError] too the record may be there.
func (l *Log) AppendDurable(ctx context.Context, ev Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t, err := l.append(&ev)
	if err == nil {
		err = l.waitSynced(ctx, t)
	}
	return l.refusing(err)
}

// refusing counts a call that fails because nothing can be recorded, and
// returns its error.
func (l *Log) refusing(err error) error {
	if broken := (*WriteError)(nil); errors.As(err, &broken) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.refused++
	}
	return err
}

// fail stops recording, with the error that it returns.
func (l *Log) fail(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.failing {
		l.failed, l.failing = &WriteError{Since: l.now(), Err: err}, true
		l.epoch++
		l.refused = 0
		l.logger.Error("the audit log cannot be written; trying again each second", "dir", l.dir, "on-full", l.policy.OnFull, "err", err)
		signal(l.trouble)
	}
	return l.failed
}

// waitSynced returns when a record that is written is fsynced.
func (l *Log) waitSynced(ctx context.Context, t ticket) error {
	l.mu.Lock()
	if l.epoch != t.epoch {
		// A failure came between: the number may be another record's by now.
		defer l.mu.Unlock()
		return l.failed
	}
	if l.synced > t.seq {
		l.mu.Unlock()
		return nil
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

// Err is why nothing can be recorded at present, a [*WriteError], or nil.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.failing {
		return nil
	}
	return l.failed
}

// Len is the number of records.
func (l *Log) Len() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// permanentLen is the number of records that are fsynced.
func (l *Log) permanentLen() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.synced
}

// VerifierKey is the public key that checks the log's checkpoints, in the
// encoding of [note.NewVerifier]: the line in audit.pub.
func (l *Log) VerifierKey() string { return l.verifier }

// Close syncs what was written, signs a checkpoint over it and gives the log
// up. Records of calls that had begun before are kept; later ones fail with
// [ErrClosed]. A log that cannot be written is closed too; the error is then a
// [*WriteError].
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
	return errors.Join(err, l.closeFiles(), l.lock.Unlock())
}

func (l *Log) closeFiles() error {
	var errs []error
	for _, f := range []io.Closer{l.records, l.hashes, l.checkpoints, l.proofs} {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
