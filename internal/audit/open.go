package audit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
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
	l, err := found.open(dir, opts, lock)
	if err != nil {
		return nil, err
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

// A state is what inspect found in a directory, nothing of it changed yet.
type state struct {
	signerKey   string // to be made if empty
	verifierKey string
	writePublic bool

	latest          checkpoint // its note is nil if the first is to be made
	checkpointsSize int64      // up to the end of the latest entry
	checkpointsTorn int64      // bytes behind that

	tree     frontier // over the records
	size     int64    // of the records, without a torn tail
	torn     int64    // bytes behind that
	reserved int64    // -1: cannot be told

	rebuilt bool   // hashes.new holds all hashes
	tail    []byte // else: the hashes behind the latest checkpoint
}

// inspect reads the directory and judges it. Damage is a *LossError.
func inspect(dir, origin string) (*state, error) {
	s := &state{}
	s.latest.tree = s.tree.tree() // of no records, until there is a checkpoint
	if err := s.readKeys(dir, origin); err != nil {
		return nil, err
	}
	if err := s.readLatest(dir); err != nil {
		return nil, err
	}
	var err error
	if s.reserved, err = readReserved(dir); err != nil {
		return nil, err
	}
	if err := s.readRecords(dir); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *state) loss(dir, format string, args ...any) error {
	return &LossError{Dir: dir, What: fmt.Sprintf(format, args...), Checkpoint: s.latest.tree}
}

func (s *state) readKeys(dir, origin string) error {
	private, err := readOptional(dir, privateName)
	if err != nil {
		return err
	}
	public, err := readOptional(dir, publicName)
	if err != nil {
		return err
	}
	if private == nil {
		for _, name := range []string{publicName, checkpointsName, firstSegment} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				return s.loss(dir, "%s is there and %s is not", name, privateName)
			}
		}
		return nil
	}
	s.signerKey = strings.TrimSuffix(string(private), "\n")
	s.verifierKey, err = verifierKeyOf(s.signerKey)
	if err != nil {
		return s.loss(dir, "%s is no signer key", privateName)
	}
	if name, _, _ := strings.Cut(s.verifierKey, "+"); name != origin {
		return fmt.Errorf("opening audit log %s: it is the log of %q, not of %q", dir, name, origin)
	}
	if public == nil {
		s.writePublic = true
	} else if string(public) != s.verifierKey+"\n" {
		return s.loss(dir, "%s does not belong to %s", publicName, privateName)
	}
	return nil
}

// readOptional reads a small file; nil if there is none.
func readOptional(dir, name string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("opening audit log: %w", err)
	}
	return data, nil
}

// readLatest reads the latest checkpoint and finds a torn tail behind it.
func (s *state) readLatest(dir string) error {
	f, err := os.Open(filepath.Join(dir, checkpointsName))
	if errors.Is(err, fs.ErrNotExist) {
		// The first checkpoint is made right after the key, before all else.
		for _, name := range []string{publicName, firstSegment, reservedName} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				return s.loss(dir, "%s is there and %s is not", name, checkpointsName)
			}
		}
		return nil
	} else if err != nil {
		return fmt.Errorf("opening audit log: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("opening audit log: %w", err)
	}
	verifier, err := note.NewVerifier(s.verifierKey)
	if err != nil {
		return fmt.Errorf("opening audit log: %w", err)
	}
	// The end of the file has the latest entry, and the end of one before it.
	offset := max(info.Size()-2*maxCheckpoint, 0)
	entries := newCheckpointReader(io.NewSectionReader(f, offset, math.MaxInt64-offset), verifier.Name())
	for {
		e, err := entries.next()
		if err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		offset += e.size
		if e.whole {
			s.latest.note = bytes.Clone(e.note())
			s.checkpointsSize = offset
		}
	}
	s.checkpointsTorn = offset - s.checkpointsSize
	if s.latest.note == nil {
		return s.loss(dir, "no checkpoint can be read")
	}
	if s.latest.tree, err = openCheckpoint(s.latest.note, verifier); err != nil {
		return s.loss(dir, "the latest checkpoint is not signed by %s", privateName)
	}
	return nil
}

// readRecords builds the tree over the records and checks it against the
// latest checkpoint: from the hashes stored under that, if they are sound,
// else from the first record on.
func (s *state) readRecords(dir string) error {
	paths, err := segments(dir)
	if err != nil {
		return s.loss(dir, "%v", err)
	}
	if len(paths) > 1 {
		return fmt.Errorf("opening audit log %s: it has segments that only a later version can append to", dir)
	}
	if quick, err := s.readTail(dir, paths); err != nil || quick {
		return err
	}
	return s.readAll(dir, paths)
}

// readTail is the quick way. It says false, with no error, if it is not open.
func (s *state) readTail(dir string, paths []string) (bool, error) {
	covered := s.latest.tree.N
	if covered == 0 {
		var hashes bytes.Buffer
		err := s.scan(dir, newLineReader(paths), &hashes)
		s.tail = hashes.Bytes()
		return true, err
	}
	f, err := os.Open(filepath.Join(dir, hashesName))
	if err != nil {
		return false, nil
	}
	defer f.Close()
	stored := hashFile{f}
	if s.tree, err = readFrontier(covered, stored); err != nil || s.tree.root() != s.latest.tree.Hash {
		return false, nil
	}
	leaf, err := stored.ReadHashes([]int64{tlog.StoredHashIndex(0, covered-1)})
	if err != nil {
		return false, nil
	}
	lines, err := seekRecord(paths, covered-1)
	if err != nil {
		return false, err
	}
	defer lines.close()
	for {
		record, err := lines.next()
		if err == io.EOF {
			return false, nil
		} else if err != nil {
			return false, err
		}
		seq, ok := parseSeq(record.text)
		if !ok || seq > covered-1 {
			return false, nil
		}
		if seq == covered-1 {
			if !record.whole || tlog.RecordHash(record.text) != leaf[0] {
				return false, nil
			}
			break
		}
	}
	s.size = lines.offset
	var hashes bytes.Buffer // of ten seconds or so
	err = s.scan(dir, lines, &hashes)
	s.tail = hashes.Bytes()
	return true, err
}

// readAll is the thorough way: it leaves the hashes in the file hashes.new.
func (s *state) readAll(dir string, paths []string) error {
	f, err := os.OpenFile(filepath.Join(dir, newHashesName), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("recomputing audit hashes: %w", err)
	}
	s.tree, s.size, s.rebuilt = frontier{}, 0, true
	w := bufio.NewWriterSize(f, 1<<16)
	err = s.scan(dir, newLineReader(paths), w)
	if err == nil {
		err = errors.Join(w.Flush(), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// scan adds the rest of lines to the tree, which stands at their first, and
// writes the hashes that come of it. It tells a torn tail from damage.
func (s *state) scan(dir string, lines *lineReader, hashes io.Writer) error {
	defer lines.close()
	covered := s.latest.tree
	var stored []byte
	for {
		if s.tree.n == covered.N && s.tree.root() != covered.Hash {
			return s.loss(dir, "the first %d records are not those of the checkpoint over them", covered.N)
		}
		record, err := lines.next()
		if err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		event, err := ParseRecord(record.text)
		if err == nil && record.whole && event.Seq != s.tree.n {
			return s.loss(dir, "record %d stands in the place of record %d", event.Seq, s.tree.n)
		}
		if err != nil || !record.whole {
			s.torn = record.size
			if err := s.scanTorn(dir, lines); err != nil {
				return err
			}
			break
		}
		stored = s.tree.push(tlog.RecordHash(record.text), stored[:0])
		if _, err := hashes.Write(stored); err != nil {
			return fmt.Errorf("recomputing audit hashes: %w", err)
		}
		s.size = lines.offset
	}
	if s.tree.n < covered.N {
		return s.loss(dir, "a checkpoint covers %d records, and only %d can be read", covered.N, s.tree.n)
	}
	return nil
}

// scanTorn looks behind a line that is no record. A crash may have left that
// one so, and more like it, but no records behind.
func (s *state) scanTorn(dir string, lines *lineReader) error {
	for {
		record, err := lines.next()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if _, err := ParseRecord(record.text); err == nil {
			return s.loss(dir, "record %d cannot be read, and there are records behind it", s.tree.n)
		}
		s.torn += record.size
	}
}

// recovery says what an unclean stop did, or "" if the log was closed as it
// should be, or is new.
func (s *state) recovery() string {
	var parts []string
	n := s.tree.n
	switch {
	case s.reserved < 0 && n > 0:
		parts = append(parts, fmt.Sprintf("unclean stop; how many records were lost after the first %d cannot be told", n))
	case s.reserved > n:
		parts = append(parts, fmt.Sprintf("unclean stop; %d records are there, and up to %d more may be lost", n, s.reserved-n))
	case s.reserved >= 0 && s.reserved < n:
		parts = append(parts, fmt.Sprintf("more records than the %d that were reserved", s.reserved))
	}
	if s.torn > 0 {
		parts = append(parts, fmt.Sprintf("cut %d bytes of unfinished records", s.torn))
	}
	if s.checkpointsTorn > 0 {
		parts = append(parts, fmt.Sprintf("cut %d bytes of an unfinished checkpoint", s.checkpointsTorn))
	}
	if s.rebuilt {
		parts = append(parts, "recomputed all hashes")
	}
	return strings.Join(parts, "; ")
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
