package audit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
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
//
// Nothing is opened on a disk that cannot be written.
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
		close(l.stop)
		<-l.stopped
		l.closeFiles() // the error that led here is the one to tell
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
	if found.tallyErr != nil {
		unknown := Event{Kind: Admin, Action: actionUncounted, Outcome: OK, Detail: "how many key uses went on without a record cannot be told: " + found.tallyErr.Error()}
		if err := l.AppendDurable(context.Background(), unknown); err != nil {
			return err
		}
		if err := l.tallyFile.rebuild(); err != nil {
			return err
		}
	} else if !found.tally.empty() {
		event := found.tally.event()
		if err := l.AppendDurable(context.Background(), event); err != nil {
			return err
		}
		if err := l.tallyFile.reset(); err != nil {
			return err
		}
	}
	if detail := found.recovery(); detail != "" {
		l.logger.Warn("audit log recovered after an unclean stop", "dir", l.dir, "detail", detail)
		if err := l.AppendDurable(context.Background(), Event{Kind: Admin, Action: actionRecovered, Outcome: OK, Detail: detail}); err != nil {
			return err
		}
	}
	// The segments before the newest are covered, unless somebody cut the file
	// of checkpoints: what mends a failure counts on it.
	if found.coveredSegment != found.segment && found.latest.tree.N != found.begin {
		return l.SignCheckpoint(context.Background())
	}
	return nil
}

// open makes what is missing, mends what a crash left and builds the log.
func (s *state) open(dir string, opts Options, lock *durable.Lock) (*Log, error) {
	d := opts.disk
	if d == nil {
		d = osDisk{}
	}
	signer, err := s.create(dir, opts.Origin, d)
	if err != nil {
		return nil, fmt.Errorf("creating audit log: %w", err)
	}
	if s.coveredSegment != s.segment {
		s.covered.size = 0
	}
	l := &Log{
		dir: dir, now: opts.Now, logger: opts.Logger, signer: signer, verifier: s.verifierKey, lock: lock, disk: d,
		anchorNow: opts.Anchor, segmentBytes: opts.segmentBytes,
		syncInterval:       cmp.Or(max(opts.SyncInterval, 0), 100*time.Millisecond),
		checkpointInterval: cmp.Or(max(opts.CheckpointInterval, 0), 10*time.Second),
		signInterval:       cmp.Or(opts.signInterval, time.Second),
		retry:              cmp.Or(opts.retry, time.Second),
		tree:               s.tree, size: s.size, segment: s.segment, begin: s.begin, policy: s.policy,
		next: s.tree.n, synced: s.tree.n, latest: s.latest,
		checkpointsSize: s.checkpointsSize, permanent: mark{s.tree, s.size}, covered: s.covered,
		wrote: make(chan struct{}, 1), hurry: make(chan struct{}, 1), full: make(chan struct{}, 1), trouble: make(chan struct{}, 1),
		demands: make(chan chan<- error), stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	l.batch = l.newBatch()
	if l.now == nil {
		l.now = time.Now
	}
	l.limit = l.segmentLimit(s.policy)
	l.reservation = reservation{path: filepath.Join(dir, reservedName), disk: l.disk, block: minReserve}
	l.tallyFile = tallyFile{path: filepath.Join(dir, uncountedName), disk: l.disk}
	if err := s.openFiles(l); err != nil {
		return nil, err
	}
	err = l.reservation.prepare(s.tree.n)
	if err == nil {
		err = l.makeSpare()
	}
	if err == nil && s.policy.OnFull == Count {
		err = l.tallyFile.create()
	}
	if err != nil {
		return nil, errors.Join(err, l.closeFiles())
	}
	return l, nil
}

// create makes what a new log begins with, in this order: the signer key, the
// checkpoint over no records, the verifier key. So a crash on the way can be
// told from a loss of checkpoints.
func (s *state) create(dir, origin string, d disk) (note.Signer, error) {
	if s.signerKey == "" {
		var err error
		if s.signerKey, s.verifierKey, err = note.GenerateKey(rand.Reader, origin); err != nil {
			return nil, fmt.Errorf("generating key: %w", err)
		}
		if err := d.writeFile(filepath.Join(dir, privateName), []byte(s.signerKey+"\n"), 0o600); err != nil {
			return nil, err
		}
		s.writePublic = true
	}
	signer, err := note.NewSigner(s.signerKey)
	if err != nil {
		return nil, fmt.Errorf("reading signer key: %w", err)
	}
	if s.latest.note == nil {
		if err := s.writeFirst(dir, signer, d); err != nil {
			return nil, err
		}
	}
	if s.writePublic {
		if err := d.writeFile(filepath.Join(dir, publicName), []byte(s.verifierKey+"\n"), 0o644); err != nil {
			return nil, err
		}
	}
	return signer, nil
}

// writeFirst signs the checkpoint over no records.
func (s *state) writeFirst(dir string, signer note.Signer, d disk) error {
	if err := s.latest.sign(signer); err != nil {
		return fmt.Errorf("signing first checkpoint: %w", err)
	}
	data := append(bytes.Clone(s.latest.note), '\n')
	s.checkpointsSize = int64(len(data))
	return d.writeFile(filepath.Join(dir, checkpointsName), data, 0o600)
}

// openFiles opens the files for appending, cut to what is sound.
func (s *state) openFiles(l *Log) error {
	hashesSize := hashBytes(s.latest.tree.N)
	if s.rebuilt {
		hashesSize = hashBytes(s.tree.n)
		if err := l.disk.rename(filepath.Join(l.dir, newHashesName), filepath.Join(l.dir, hashesName)); err != nil {
			return err
		}
	}
	var opened []appendFile
	fail := func(err error) error {
		for _, f := range opened {
			err = errors.Join(err, f.Close())
		}
		return err
	}
	for _, file := range []struct {
		path string
		size int64
	}{
		{segmentPath(l.dir, s.segment), s.size},
		{filepath.Join(l.dir, hashesName), hashesSize},
		{filepath.Join(l.dir, checkpointsName), s.checkpointsSize},
	} {
		f, err := l.disk.openAppend(file.path)
		if err != nil {
			return fail(err)
		}
		opened = append(opened, f)
		// Fsynced as well: what a process that died had written may not be yet.
		if err := f.Truncate(file.size); err != nil {
			return fail(err)
		}
	}
	if _, err := opened[1].Write(s.tail); err != nil {
		return fail(fmt.Errorf("writing audit hashes: %w", err))
	}
	proofs, err := os.Open(filepath.Join(l.dir, hashesName))
	if err != nil {
		return fail(err)
	}
	l.records, l.hashes, l.checkpoints, l.proofs = opened[0], opened[1], opened[2], proofs
	return nil
}
