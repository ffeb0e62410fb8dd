package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// A state is what inspect found in a directory, nothing of it changed yet.
type state struct {
	signerKey   string // to be made if empty
	verifierKey string
	writePublic bool
	policy      Policy

	latest          checkpoint // its note is nil if the first is to be made
	checkpointsSize int64      // up to the end of the latest entry
	checkpointsTorn int64      // bytes behind that

	archived *boundary // nil if no segment was

	tree     frontier // over the records
	segment  int      // the newest one
	begin    int64    // number of its first record
	size     int64    // of its records, without a torn tail
	torn     int64    // bytes behind that
	reserved int64    // -1: cannot be told

	covered        mark // by the latest checkpoint
	coveredSegment int  // where that is

	rebuilt bool   // hashes.new holds all hashes
	tail    []byte // else: the hashes behind the latest checkpoint

	tally    tally // of an earlier run
	tallyErr error // it cannot be told
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
	if s.policy, err = readPolicy(dir); err != nil {
		return nil, err
	}
	if s.reserved, err = readReserved(dir); err != nil {
		return nil, err
	}
	s.tally, s.tallyErr = tallyFile{path: filepath.Join(dir, uncountedName)}.read()
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
		for _, name := range []string{publicName, checkpointsName, archivedName, firstSegment} {
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

// readLatest reads the latest checkpoint and finds a torn tail behind it.
func (s *state) readLatest(dir string) error {
	f, err := os.Open(filepath.Join(dir, checkpointsName))
	if errors.Is(err, fs.ErrNotExist) {
		// The first checkpoint is made right after the key, before all else.
		for _, name := range []string{publicName, archivedName, firstSegment, reservedName} {
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
	var signed []byte
	for {
		e, err := entries.next()
		if err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		offset += e.size
		if e.whole {
			signed = bytes.Clone(e.note())
			s.checkpointsSize = offset
		}
	}
	s.checkpointsTorn = offset - s.checkpointsSize
	if signed == nil {
		return s.loss(dir, "no checkpoint can be read")
	}
	latest, err := openCheckpoint(signed, verifier)
	if err != nil {
		return s.loss(dir, "the latest checkpoint is not signed by %s", privateName)
	}
	s.latest = latest
	return s.readArchived(dir, verifier)
}

func (s *state) readArchived(dir string, verifier note.Verifier) error {
	var err error
	s.archived, err = readBoundary(dir, verifier)
	if wrong := (*boundaryError)(nil); errors.As(err, &wrong) {
		return s.loss(dir, "%s: %v", archivedName, wrong)
	} else if err != nil {
		return err
	}
	if s.archived != nil && s.archived.tree.n > s.latest.tree.N {
		return s.loss(dir, "%d records are archived, and the latest checkpoint covers %d", s.archived.tree.n, s.latest.tree.N)
	}
	return nil
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
