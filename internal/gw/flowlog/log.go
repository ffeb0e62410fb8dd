// Package flowlog keeps the records of flows as lines of JSON in a file, the
// flow.Sink of the gateway.
//
//	DIR/decryption.jsonl     the newest records
//	DIR/decryption.jsonl.1   those before, and so on to .N, the oldest
//
// Each line is one flow.Record. Where records were lost, because they came
// faster than the disk took them or because it took none, a line says how many:
//
//	{"lost":12,"time":"2026-11-23T15:04:05.123456789Z"}
//
// The data plane never waits for the log: Write queues, one goroutine encodes
// and writes in batches. A record is in the file 200 ms after its flow ended at
// the latest. The file is not fsynced but at Close: a crash of the gateway
// loses what was not in the file yet, a crash of the machine what the kernel had
// not written back. What must survive that is in the HSM's audit.
package flowlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"moongate/internal/durable"
	"moongate/internal/gw/flow"
)

// Name is the name of the file in its directory.
const Name = "decryption.jsonl"

const (
	flushAfter = 100 * time.Millisecond
	batchSize  = 128 << 10 // bytes after which a batch does not wait
)

// Options say where and how much. Dir and Logger are required.
type Options struct {
	// Dir exists; the files are made in it with mode 0600.
	Dir    string
	Logger *slog.Logger
	// MaxSize is the size in bytes at which a file is put aside; 0 is 64 MiB.
	// A file exceeds it only by a single batch that is larger itself.
	MaxSize int64
	// Keep is how many files are kept beside the current one; 0 is 8.
	Keep int
	// Queue is how many records may wait; 0 is 16,384.
	Queue int
}

// Log is an open log. It is safe for concurrent use.
type Log struct {
	path    string
	logger  *slog.Logger
	maxSize int64
	keep    int

	queue   chan *flow.Record
	lost    atomic.Uint64 // records not written and not reported yet
	total   atomic.Uint64 // records not written, since Open
	closing chan struct{}
	done    chan struct{} // closed when the writer has ended
	close   sync.Once
	err     error // of Close; owned by the writer until done

	// Owned by the writer.
	file    *os.File
	size    int64
	batch   bytes.Buffer
	encode  *json.Encoder // into batch
	pending int           // records in batch
	broken  bool          // the last write failed, and that was logged
	stuck   bool          // so did the last rotation
}

// Open opens the log, or begins one, and starts its writer. A line that a crash
// left incomplete is cut off.
func Open(o Options) (*Log, error) {
	if o.Logger == nil {
		return nil, errors.New("flowlog: no logger")
	}
	l := &Log{
		path:    filepath.Join(o.Dir, Name),
		logger:  o.Logger,
		maxSize: o.MaxSize,
		keep:    o.Keep,
		closing: make(chan struct{}),
		done:    make(chan struct{}),
	}
	if l.maxSize <= 0 {
		l.maxSize = 64 << 20
	}
	if l.keep <= 0 {
		l.keep = 8
	}
	if o.Queue <= 0 {
		o.Queue = 16_384
	}
	l.queue = make(chan *flow.Record, o.Queue)
	l.encode = json.NewEncoder(&l.batch)
	l.encode.SetEscapeHTML(false)
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("opening the flow log: %w", err)
	}
	go l.run()
	return l, nil
}

// Write queues a record, which must not be changed afterwards. It never waits:
// where the queue is full, or the log closed, the record is lost and counted.
func (l *Log) Write(r *flow.Record) {
	select {
	case <-l.closing:
		l.lose(1)
		return
	default:
	}
	select {
	case l.queue <- r:
	default:
		l.lose(1)
	}
}

func (l *Log) lose(n int) {
	l.lost.Add(uint64(n))
	l.total.Add(uint64(n))
}

// Lost returns the number of records that were not written since Open.
func (l *Log) Lost() uint64 { return l.total.Load() }

// Close writes what is queued, fsyncs and closes the file. Nobody may be
// writing any more; records that come later are lost.
func (l *Log) Close() error {
	l.close.Do(func() { close(l.closing) })
	<-l.done
	return l.err
}

// run is the writer.
func (l *Log) run() {
	defer close(l.done)
	timer := time.NewTimer(flushAfter)
	timer.Stop()
	for {
		select {
		case r := <-l.queue:
			if l.pending == 0 {
				timer.Reset(flushAfter)
			}
			l.add(r)
		case <-timer.C:
			l.flush()
		case <-l.closing:
			l.err = l.finish()
			return
		}
	}
}

func (l *Log) add(r *flow.Record) {
	before := l.batch.Len()
	if err := l.encode.Encode(r); err != nil {
		l.batch.Truncate(before)
		l.lose(1)
		l.logger.Error("encoding a flow record", slog.String("id", r.ID), slog.Any("cause", err))
		return
	}
	l.pending++
	if l.batch.Len() >= batchSize {
		l.flush()
	}
}

func (l *Log) finish() error {
	for {
		select {
		case r := <-l.queue:
			l.add(r)
			continue
		default:
		}
		break
	}
	l.flush()
	if l.file == nil {
		return nil
	}
	if err := l.file.Sync(); err != nil {
		l.file.Close()
		return fmt.Errorf("syncing the flow log: %w", err)
	}
	return l.file.Close()
}

// loss is the line that stands for records that are not there.
type loss struct {
	Lost uint64    `json:"lost"`
	Time time.Time `json:"time"`
}

// flush writes the batch, and after it how many records are missing in it.
func (l *Log) flush() {
	n := l.lost.Swap(0)
	if n > 0 {
		l.logger.Warn("flow records were lost: they came faster than they could be written", slog.Uint64("records", n))
		if err := l.encode.Encode(loss{Lost: n, Time: time.Now().UTC()}); err != nil {
			l.logger.Error("encoding a loss of flow records", slog.Any("cause", err))
		}
	}
	if l.batch.Len() == 0 {
		return
	}
	if err := l.write(l.batch.Bytes()); err != nil {
		// The lost ones are told of when there is a place for it.
		l.lost.Add(n)
		l.lose(l.pending)
		if !l.broken {
			l.logger.Error("writing the flow log", slog.Any("cause", err))
		}
		l.broken = true
	} else {
		l.broken = false
	}
	l.pending = 0
	l.batch.Reset()
}

// write appends whole lines; after an error the file is as it was, as far as
// the system lets it.
func (l *Log) write(b []byte) error {
	if l.file != nil && l.size > 0 && l.size+int64(len(b)) > l.maxSize {
		l.rotate()
	}
	if l.file == nil {
		if err := l.open(); err != nil {
			return err
		}
	}
	if _, err := l.file.Write(b); err != nil {
		if cut := l.file.Truncate(l.size); cut != nil {
			// Open finds the incomplete line and cuts it off.
			l.file.Close()
			l.file = nil
		}
		return err
	}
	l.size += int64(len(b))
	return nil
}

// rotate closes the file and puts it aside. Where that fails, a file that grows
// too long is better than records that are lost: open finds it again.
func (l *Log) rotate() {
	err := l.file.Close()
	l.file = nil
	for n := l.keep; n > 0 && err == nil; n-- {
		from := l.path
		if n > 1 {
			from = aside(l.path, n-1)
		}
		if err = os.Rename(from, aside(l.path, n)); errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	}
	if err != nil && !l.stuck {
		l.logger.Error("putting a full flow log aside", slog.Any("cause", err))
	}
	l.stuck = err != nil
}

// aside is the name of the nth file before the current one.
func aside(path string, n int) string { return path + "." + strconv.Itoa(n) }

// open opens the current file at the end of its last complete line.
func (l *Log) open() error {
	f, err := durable.OpenAppend(l.path, 0o600)
	if err != nil {
		return err
	}
	size, err := lastLine(f)
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil {
		f.Close()
		return err
	}
	l.file, l.size = f, size
	return nil
}

// lastLine returns the offset after the last line end.
func lastLine(f *os.File) (int64, error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 4096)
	for end > 0 {
		n := min(end, int64(len(buf)))
		if _, err := f.ReadAt(buf[:n], end-n); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return end - n + int64(i) + 1, nil
		}
		end -= n
	}
	return 0, nil
}
