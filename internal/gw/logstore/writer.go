package logstore

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	flushAfter = 100 * time.Millisecond
	batchRows  = 512
	// tendEvery is how often old entries are looked for when nothing is written.
	tendEvery = 5 * time.Second
	// retryAfter is how long a database that could not be opened is left alone.
	retryAfter = time.Second
)

// item is what waits for a writer.
type item struct {
	what any        // *flow.Record, *Event or *Change
	done chan error // not nil: somebody waits for it to be durable
}

// writer owns a database: one goroutine writes it and deletes its oldest
// entries.
type writer struct {
	family
	logger *slog.Logger
	sync   bool // commits wait for the disk
	encode func(what any, now time.Time) ([]any, []byte, error)
	// wrote is given what was received, whether it could be stored or not.
	wrote func([]row)
	tell  func(Event) // into the system log; never waits
	// reserve is the free space in bytes below which the database does not grow.
	reserve int64

	queue   chan item
	suspect chan struct{} // a reader found the database corrupt
	closing chan struct{}
	done    chan struct{}
	stop    sync.Once
	err     error // of closing; owned by run until done

	keep    atomic.Pointer[Keep]
	lost    atomic.Uint64 // since Open
	untold  atomic.Uint64 // of these, not told of yet
	stored  atomic.Uint64
	deleted atomic.Uint64
	bytes   atomic.Int64 // of the file
	failure atomic.Pointer[string]

	// Owned by run.
	d      *database // nil while it cannot be opened
	tried  time.Time
	batch  []item
	next   int64 // number of the next entry, while d is nil too
	broken bool  // the last write failed, and that was told of
	told   time.Time
	fresh  int  // entries written since old ones were looked for
	stuck  bool // old entries could not be deleted, and that was logged
}

// start opens the database and begins to write. All writers of a store have
// their queues before the first one starts: it may tell of something.
func (w *writer) start() {
	w.open()
	go w.run()
}

// put queues without waiting; where the queue is full it counts a loss.
func (w *writer) put(it item) bool {
	select {
	case <-w.closing:
	default:
		select {
		case w.queue <- it:
			return true
		default:
		}
	}
	w.lose(1)
	return false
}

func (w *writer) lose(n int) {
	w.lost.Add(uint64(n))
	w.untold.Add(uint64(n))
}

// ErrClosed says that the store is closed.
var ErrClosed = errors.New("the log store is closed")

// patience bounds how long a durable entry waits.
const patience = 15 * time.Second

// durable writes entries, in their order, and waits until all are on the disk.
func (w *writer) durable(entries ...any) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	items := make([]item, len(entries))
	for i, what := range entries {
		items[i] = item{what, make(chan error, 1)}
		timer.Reset(patience) // of each: there may be many
		select {
		case w.queue <- items[i]:
		case <-w.closing:
			return ErrClosed
		case <-timer.C:
			return fmt.Errorf("writing the %s log: nothing was written for %v", w.name, patience)
		}
	}
	for _, it := range items {
		timer.Reset(patience)
		if err := w.written(it, timer); err != nil {
			return err
		}
	}
	return nil
}

// written waits until an entry is on the disk, or for timer.
func (w *writer) written(it item, timer *time.Timer) error {
	select {
	case err := <-it.done:
		return err
	case <-w.done:
		select {
		case err := <-it.done:
			return err
		default:
			return ErrClosed
		}
	case <-timer.C:
		return fmt.Errorf("writing the %s log: not written within %v", w.name, patience)
	}
}

func (w *writer) close() error {
	w.stop.Do(func() { close(w.closing) })
	<-w.done
	return w.err
}

func (w *writer) run() {
	defer close(w.done)
	flush := time.NewTimer(flushAfter)
	flush.Stop()
	tend := time.NewTimer(0)
	defer tend.Stop()
	for {
		select {
		case it := <-w.queue:
			if len(w.batch) == 0 {
				flush.Reset(flushAfter)
			}
			w.batch = append(w.batch, it)
			urgent := it.done != nil
			for more := true; more && len(w.batch) < batchRows; {
				select {
				case it := <-w.queue:
					w.batch = append(w.batch, it)
					urgent = urgent || it.done != nil
				default:
					more = false
				}
			}
			if urgent || len(w.batch) >= batchRows {
				w.flush()
				flush.Stop()
			}
		case <-flush.C:
			w.flush()
		case <-tend.C:
			w.flushLoss()
			if w.tend() {
				tend.Reset(time.Millisecond) // there is more to delete
			} else {
				tend.Reset(tendEvery)
			}
		case <-w.suspect:
			w.inspect()
		case <-w.closing:
			w.finish()
			return
		}
	}
}

func (w *writer) finish() {
	for more := true; more; {
		select {
		case it := <-w.queue:
			w.batch = append(w.batch, it)
		default:
			more = false
		}
		if !more || len(w.batch) >= batchRows {
			w.flush()
		}
	}
	if w.d != nil {
		w.err = w.d.close()
	}
}

// flush writes the batch, and tells of what was lost before.
func (w *writer) flush() {
	if len(w.batch) == 0 {
		return
	}
	now := time.Now()
	w.open()
	rows := make([]row, 0, len(w.batch))
	for _, it := range w.batch {
		values, record, err := w.encode(it.what, now)
		if err != nil {
			w.lose(1)
			w.logger.Error("encoding an entry of a log", "log", w.name, "cause", err)
			continue
		}
		rows = append(rows, row{w.next, values, record})
		w.next++
	}
	err := w.write(rows)
	if err != nil {
		w.lose(len(rows))
	} else {
		w.stored.Add(uint64(len(rows)))
		w.fresh += len(rows)
	}
	for _, it := range w.batch {
		if it.done != nil {
			it.done <- err
		}
	}
	if w.wrote != nil {
		w.wrote(rows)
	}
	clear(w.batch)
	w.batch = w.batch[:0]
	w.report(err)
	if err == nil {
		w.flushLoss()
		w.tend()
	}
}

// write stores rows; a database that turns out to be corrupt is put aside.
func (w *writer) write(rows []row) error {
	if w.d == nil {
		if cause := w.failure.Load(); cause != nil {
			return fmt.Errorf("the %s log cannot be written: %s", w.name, *cause)
		}
		return fmt.Errorf("the %s log cannot be written", w.name)
	}
	if len(rows) == 0 {
		return nil
	}
	err := w.d.write(rows)
	if isCorrupt(err) {
		if w.putAside(err); w.d != nil {
			err = w.d.write(rows)
		}
	}
	if err != nil {
		return fmt.Errorf("writing the %s log: %w", w.name, err)
	}
	return nil
}

// report tells of a failure when it begins and when it ends.
func (w *writer) report(err error) {
	switch {
	case err != nil && !w.broken:
		w.broken = true
		w.logger.Error("entries of a log are being lost", "log", w.name, "cause", err)
		w.tell(Event{Severity: Critical, Type: "log", EventID: "log-write-failed", Object: w.name, Description: "Entries are being lost: " + err.Error()})
	case err == nil && w.broken:
		w.broken = false
		w.logger.Info("a log can be written again", "log", w.name)
		w.tell(Event{Severity: Informational, Type: "log", EventID: "log-write-restored", Object: w.name, Description: "The log can be written again."})
	}
	if err == nil {
		w.failure.Store(nil)
		return
	}
	cause := err.Error()
	w.failure.Store(&cause)
}

// tellEvery keeps the events of losses apart.
const tellEvery = 10 * time.Second

// flushLoss tells how many entries were lost, once they can be told of.
func (w *writer) flushLoss() {
	if w.broken || w.untold.Load() == 0 || time.Since(w.told) < tellEvery {
		return
	}
	w.told = time.Now()
	n := w.untold.Swap(0)
	w.logger.Warn("entries of a log were lost: they came faster than they could be written, or could not be", "log", w.name, "entries", n)
	w.tell(Event{Severity: High, Type: "log", EventID: "log-entries-lost", Object: w.name,
		Description: fmt.Sprintf("%d entries were lost: they came faster than they could be written, or could not be.", n)})
}

// open opens the database if it is not open; one whose file was deleted, too.
func (w *writer) open() {
	if w.d != nil || time.Since(w.tried) < retryAfter {
		return
	}
	w.tried = time.Now()
	n, err := w.newest()
	if err == nil {
		w.d, err = openDatabase(w.family, max(n, 1), w.sync, max(w.next, 1))
	}
	if isCorrupt(err) {
		w.begin(n, err)
		return
	}
	w.opened(err)
}

func (w *writer) opened(err error) {
	if err != nil {
		w.report(fmt.Errorf("opening the %s log: %w", w.name, err))
		return
	}
	w.next = max(w.next, w.d.next)
}

// putAside closes a corrupt database and begins its successor.
func (w *writer) putAside(cause error) {
	n := w.d.n
	if err := w.d.close(); err != nil {
		w.logger.Warn("closing a corrupt log", "log", w.name, "cause", err)
	}
	w.d = nil
	w.begin(n, cause)
}

// begin begins the successor of a corrupt database.
func (w *writer) begin(n int, cause error) {
	first := w.next
	if first == 0 {
		// No number may come again, and which there were is not known. There
		// were fewer than milliseconds since 1970.
		first = time.Now().UnixMilli()
	}
	var err error
	w.d, err = openDatabase(w.family, n+1, w.sync, first)
	w.opened(err)
	if err != nil {
		return
	}
	path := w.path(n)
	w.logger.Error("a log was corrupt; it was put aside and a new one begun", "log", w.name, "file", path, "cause", cause)
	w.tell(Event{Severity: Critical, Type: "log", EventID: "log-corrupt", Object: w.name,
		Description: fmt.Sprintf("The database of the log was corrupt (%v). It stays in %s until the next one is; a new one was begun.", cause, path)})
	if err := w.sweep(n + 1); err != nil {
		w.logger.Warn("deleting an old log that was put aside", "log", w.name, "cause", err)
	}
}

// inspect reads the whole database after a reader found it corrupt.
func (w *writer) inspect() {
	if w.d == nil {
		return
	}
	if err := w.d.sound(); isCorrupt(err) {
		w.putAside(err)
	}
}

// tend deletes a step of what is too old or too much, and gives a step of
// free pages back. It reports whether there is more to do.
func (w *writer) tend() bool {
	w.open()
	if w.d == nil {
		return false
	}
	if _, err := os.Stat(w.path(w.d.n)); errors.Is(err, os.ErrNotExist) {
		w.vanished()
		return false
	}
	more, err := w.trim()
	if isCorrupt(err) {
		w.putAside(err)
	} else if err != nil && !w.stuck {
		w.logger.Error("deleting old entries of a log", "log", w.name, "cause", err)
	}
	w.stuck = err != nil
	return more && err == nil
}

// vanished begins anew where somebody deleted the file.
func (w *writer) vanished() {
	n := w.d.n
	if err := w.d.close(); err != nil {
		w.logger.Warn("closing a log whose file was deleted", "log", w.name, "cause", err)
	}
	d, err := openDatabase(w.family, n+1, w.sync, w.next)
	w.d = d
	w.opened(err)
	w.tell(Event{Severity: High, Type: "log", EventID: "log-deleted", Object: w.name,
		Description: fmt.Sprintf("Somebody deleted the database %s; a new one was begun.", w.path(n))})
}

func (w *writer) trim() (more bool, err error) {
	keep := w.keep.Load()
	var gone int64
	if keep.Age > 0 {
		if gone, err = w.d.deleteOldest(deleteStep, time.Now().Add(-keep.Age)); err != nil {
			return false, err
		}
	}
	file, used, err := w.d.size()
	if err != nil {
		return false, err
	}
	w.bytes.Store(file)
	if n := w.excess(used, keep.Size); n > 0 && gone < deleteStep {
		extra, err := w.d.deleteOldest(n, time.Time{})
		if err != nil {
			return false, err
		}
		gone += extra
	}
	w.fresh = 0
	w.deleted.Add(uint64(gone))
	if file > keep.Size && file-used >= vacuumStep*pageSize {
		if err := w.d.vacuum(); err != nil {
			return false, err
		}
		more = true
	}
	return more || gone >= deleteStep, w.d.checkpoint()
}

// excess is how many entries there are too many, as far as one step goes.
// Where the disk is nearly full, those just written replace the oldest ones.
func (w *writer) excess(used, size int64) int {
	switch {
	case used > size:
		return deleteStep
	case w.fresh > 0 && w.lowSpace():
		return w.fresh
	}
	return 0
}

// lowSpace says whether the file system has less than the reserve left.
func (w *writer) lowSpace() bool {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(w.dir, &fs); err != nil {
		return false
	}
	return int64(fs.Bavail)*fs.Bsize < w.reserve
}
