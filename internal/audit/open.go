package audit

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"moongate/internal/durable"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A LossError is the answer of [Open] to a directory that does not hold what
// its log once promised: records that a checkpoint covers are gone or altered,
// or the means to tell are. No crash does that; tampering does, an incomplete
// restore, or a disk that loses what it acknowledged. Nothing was changed.
// What to do: copy the directory, run [Verify] on the copy, and then open with
// Options.AcceptLoss.
type LossError struct {
	Dir        string
	What       string    // what differs, for people
	Checkpoint tlog.Tree // the latest that was found; all zero if there was none
}

func (e *LossError) Error() string {
	return fmt.Sprintf("audit log %s was altered or lost data: %s", e.Dir, e.What)
}

// Open opens the log in dir, or creates it there; the parent of dir must
// exist. It fails with an error that matches [durable.ErrLocked] while another
// process has the log, and with a [*LossError] if records are missing or
// changed. What a crash may leave behind, an unfinished last line or hashes
// that were not written, it mends, and records that as an event
// "log.recovered".
//
// Open reads the records since the latest checkpoint, and compares the stored
// hashes with that checkpoint; it reads all records only if these hashes are
// not sound. A record altered further back it does not see: [Verify] does.
func Open(dir string, opts Options) (*Log, error) {
	if opts.Logger == nil {
		return nil, errors.New("opening audit log: no logger")
	}
	if opts.Origin == "" || strings.ContainsFunc(opts.Origin, func(r rune) bool { return r <= ' ' || r == '+' || r > '~' }) {
		return nil, fmt.Errorf("opening audit log: origin %q is empty or has characters it may not have", opts.Origin)
	}
	if err := durable.Mkdir(dir); err != nil {
		return nil, fmt.Errorf("opening audit log: %w", err)
	}
	lock, err := durable.NewLock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("opening audit log: %w", err)
	}
	l, err := openLocked(dir, opts, lock)
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return l, nil
}

func openLocked(dir string, opts Options, lock *durable.Lock) (*Log, error) {
	if err := durable.RemoveTemps(dir); err != nil {
		return nil, err
	}
	loss, err := resumeLoss(dir)
	if err != nil {
		return nil, err
	}
	found, err := inspect(dir, opts.Origin)
	if damage := (*LossError)(nil); errors.As(err, &damage) && opts.AcceptLoss {
		opts.Logger.Warn("audit log: putting a damaged log aside, as told", "dir", dir, "what", damage.What)
		if loss, err = beginLoss(dir, damage); err != nil {
			return nil, err
		}
		found, err = inspect(dir, opts.Origin)
	}
	if err != nil {
		return nil, err
	}
	created := found.signerKey == ""
	l, err := found.open(dir, opts, lock)
	if err != nil {
		return nil, err
	}
	if created {
		opts.Logger.Info("audit log created; note its verifier key elsewhere", "dir", dir, "key", l.verifier)
	}
	go l.commitLoop()
	if err := l.recordOpening(found, loss); err != nil {
		l.abandon()
		return nil, err
	}
	return l, nil
}

// recordOpening records what an auditor must know of how the log was opened.
func (l *Log) recordOpening(found *state, loss *acceptedLoss) error {
	if loss != nil {
		if err := loss.record(l); err != nil {
			return err
		}
	}
	if detail := found.recovery(); detail != "" {
		l.logger.Warn("audit log recovered after an unclean stop", "dir", l.dir, "detail", detail)
		return l.AppendDurable(context.Background(), Event{Kind: Admin, Action: actionRecovered, Outcome: OK, Detail: detail})
	}
	return nil
}

// abandon stops the committer and closes the files but for the lock.
func (l *Log) abandon() {
	close(l.stop)
	<-l.stopped
	for _, f := range []io.Closer{l.records, l.hashes, l.checkpoints, l.proofs} {
		f.Close() // the error that led here is the one to tell
	}
}

// open makes what is missing, mends what a crash left and builds the log.
func (s *state) open(dir string, opts Options, lock *durable.Lock) (*Log, error) {
	signer, err := s.create(dir, opts.Origin)
	if err != nil {
		return nil, fmt.Errorf("creating audit log: %w", err)
	}
	l := &Log{
		dir: dir, now: opts.Now, logger: opts.Logger, signer: signer, verifier: s.verifierKey, lock: lock,
		syncInterval: opts.SyncInterval, checkpointInterval: opts.CheckpointInterval,
		tree: s.tree, batch: &batch{}, next: s.tree.n, synced: s.tree.n, latest: s.latest,
		reservation: reservation{path: filepath.Join(dir, reservedName), block: minReserve},
		wrote:       make(chan struct{}, 1), hurry: make(chan struct{}, 1), demands: make(chan chan<- error),
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	if l.now == nil {
		l.now = time.Now
	}
	if l.syncInterval <= 0 {
		l.syncInterval = 100 * time.Millisecond
	}
	if l.checkpointInterval <= 0 {
		l.checkpointInterval = 10 * time.Second
	}
	if err := s.openFiles(l); err != nil {
		return nil, err
	}
	if err := l.reservation.prepare(s.tree.n); err != nil {
		return nil, errors.Join(err, l.records.Close(), l.hashes.Close(), l.checkpoints.Close(), l.proofs.Close())
	}
	return l, nil
}

// create makes what a new log begins with, in this order: the signer key, the
// checkpoint over no records, the verifier key. So a crash on the way can be
// told from a loss of checkpoints.
func (s *state) create(dir, origin string) (note.Signer, error) {
	if s.signerKey == "" {
		var err error
		if s.signerKey, s.verifierKey, err = note.GenerateKey(rand.Reader, origin); err != nil {
			return nil, fmt.Errorf("generating key: %w", err)
		}
		if err := durable.WriteFile(filepath.Join(dir, privateName), []byte(s.signerKey+"\n"), 0o600); err != nil {
			return nil, err
		}
		s.writePublic = true
	}
	signer, err := note.NewSigner(s.signerKey)
	if err != nil {
		return nil, fmt.Errorf("reading signer key: %w", err)
	}
	if s.latest.note == nil {
		if err := s.writeFirst(dir, signer); err != nil {
			return nil, err
		}
	}
	if s.writePublic {
		if err := durable.WriteFile(filepath.Join(dir, publicName), []byte(s.verifierKey+"\n"), 0o644); err != nil {
			return nil, err
		}
	}
	return signer, nil
}

// writeFirst signs the checkpoint over no records.
func (s *state) writeFirst(dir string, signer note.Signer) error {
	var err error
	if s.latest.note, err = signCheckpoint(s.latest.tree, signer); err != nil {
		return fmt.Errorf("signing first checkpoint: %w", err)
	}
	data := append(bytes.Clone(s.latest.note), '\n')
	s.checkpointsSize = int64(len(data))
	return durable.WriteFile(filepath.Join(dir, checkpointsName), data, 0o600)
}

// openFiles opens the files for appending, cut to what is sound.
func (s *state) openFiles(l *Log) error {
	if s.rebuilt {
		if err := durable.Rename(filepath.Join(l.dir, newHashesName), filepath.Join(l.dir, hashesName)); err != nil {
			return err
		}
	}
	hashesSize := tlog.HashSize * tlog.StoredHashCount(s.tree.n)
	if !s.rebuilt {
		hashesSize = tlog.HashSize * tlog.StoredHashCount(s.latest.tree.N)
	}
	var opened []*os.File
	for _, file := range []struct {
		path string
		size int64
	}{
		{filepath.Join(l.dir, firstSegment), s.size},
		{filepath.Join(l.dir, hashesName), hashesSize},
		{filepath.Join(l.dir, checkpointsName), s.checkpointsSize},
	} {
		f, err := openCut(file.path, file.size)
		if err != nil {
			return errors.Join(append([]error{err}, closeAll(opened)...)...)
		}
		opened = append(opened, f)
	}
	if _, err := opened[1].Write(s.tail); err != nil {
		return errors.Join(append([]error{fmt.Errorf("writing audit hashes: %w", err)}, closeAll(opened)...)...)
	}
	l.records, l.hashes, l.checkpoints = diskFile{opened[0]}, diskFile{opened[1]}, diskFile{opened[2]}
	var err error
	if l.proofs, err = os.Open(filepath.Join(l.dir, hashesName)); err != nil {
		return errors.Join(append([]error{err}, closeAll(opened)...)...)
	}
	return nil
}

// openCut opens a file for appending that is size bytes long afterwards, and
// fsynced: what a process that died had written may not be yet.
func openCut(path string, size int64) (*os.File, error) {
	f, err := durable.OpenAppend(path, 0o600)
	if err != nil {
		return nil, err
	}
	if err := durable.Truncate(f, size); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func closeAll(files []*os.File) []error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.Close())
	}
	return errs
}
